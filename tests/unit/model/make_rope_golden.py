"""Writes rope_golden.h: inverse RoPE frequencies as transformers computes them, as f32 bits.

Made with transformers 5.16.1 and torch 2.13.0; run again:
    python make_rope_golden.py > rope_golden.h
"""
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)
CASES = {
    "plain": (64, dict(rope_type="default", rope_theta=1e4)),
    "far": (128, dict(rope_type="default", rope_theta=1e6)),
    "linear": (16, dict(rope_type="linear", rope_theta=1e4, factor=2.5)),
    "llama3_8": (128, dict(LLAMA3, factor=8.0)),
    "llama3_32": (64, dict(LLAMA3, factor=32.0)),
    "llama3_blended": (128, dict(LLAMA3, factor=8.0, low_freq_factor=0.5, high_freq_factor=2.0)),
}

print("/* Written by make_rope_golden.py; do not edit. */")
print("#ifndef POOLRANK_TESTS_UNIT_MODEL_ROPE_GOLDEN_H")
print("#define POOLRANK_TESTS_UNIT_MODEL_ROPE_GOLDEN_H\n")
print("#include <stdint.h>")
for name, (head_dim, parameters) in CASES.items():
    config = LlamaConfig(hidden_size=2 * head_dim, num_attention_heads=2,
                         max_position_embeddings=131072, rope_parameters=parameters)
    frequencies = LlamaRotaryEmbedding(config).inv_freq
    bits = [f"0x{v & 0xffffffff:08X}" for v in frequencies.view(torch.int32).tolist()]
    print(f"\nstatic const uint32_t rope_{name}[{len(bits)}] = {{")
    for i in range(0, len(bits), 8):
        print("    " + ", ".join(bits[i:i + 8]) + ",")
    print("};")
print("\n#endif")
