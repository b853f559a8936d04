#!/usr/bin/env python3
"""Tokens/s in each --matmul-precision beside the f32 of AVX-512, and where the time goes.

    precision.py [--threads N] [--rounds N] [--models minilm,qwen] [--isa amx] [--base avx512]
                 [--cache DIR] [--profile]

All engines are in one process and take turns on the same texts, so that a busy machine slows them
alike: the ratios count. The Qwen2-0.5B shape has random weights and a bf16 checkpoint. --profile
counts samples of `poolrank embed` with perf and groups them by what the function is for; it needs
perf. Needs a Python with torch, transformers and sentence-transformers for models and texts.
"""
import argparse
import collections
import os
import re
import statistics
import subprocess
import tempfile
import time

import compare

PARTS = (("products: tiles", r"^(tile_|bf16_\d|tile$)|tile_rows"),
         ("products: x prepared", r"^(pack_x|pack_rows|pack_specials|pr_cpu_gemm_copy_x)"),
         ("products: bias, gate, store, the rest", r"^(add_bias|split|store|run_|begin|end|finish)"),
         ("activations", r"gelu|silu|activate|gated|erf|tanh"),
         ("attention", r"attention|softmax|score|values|keys|span|block_"),
         ("norms, rope, tables", r"norm|rope|embed|mean|gather|rows_task|rowwise"),
         ("weights read and packed", r"pack_w|store_pairs|write_|widen|pack_panel|to_f32"),
         ("tokens", r"token|wordpiece|bpe|json|unicode|normaliz|hash|trie"),
         ("pool", r"spin|take_task|thread_main|relax|now_ns|has_work|is_done"))


def qwen_bf16(folder):
    """Random weights in the shape of Qwen2-0.5B as its checkpoint has them: bf16."""
    import torch
    from safetensors.torch import load_file, save_file
    compare.qwen(folder)
    path = f"{folder}/model.safetensors"
    if not os.path.exists(path):
        path = f"{folder}/0_Transformer/model.safetensors"
    tensors = {k: v.to(torch.bfloat16) for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


MODELS = {"minilm": ("all-MiniLM-L6-v2, f32 checkpoint", compare.minilm, 512),
          "qwen": ("Qwen2-0.5B shape, bf16 checkpoint", qwen_bf16, 1024)}


def throughput(args, folder, loads):
    from poolrank_ctypes import Engine
    ways = [(args.base, "highest")] + [(args.isa, p) for p in ("highest", "high", "medium")]
    engines = {w: Engine(args.library, model=folder, threads=args.threads, task="embed",
                         cpu_isa=w[0], matmul_precision=w[1]) for w in ways}
    for name, texts in loads.items():
        seconds, vectors = collections.defaultdict(list), {}
        for i in range(args.rounds + 1):
            for way, engine in engines.items():
                begin = time.monotonic()
                vectors[way], n_tokens = engine.embed(texts)
                if i > 0:
                    seconds[way].append(time.monotonic() - begin)
        for way in ways:
            ratios = [b / a for a, b in zip(seconds[way], seconds[ways[0]])]
            cosine = min(sum(a * b for a, b in zip(u, v))
                         for u, v in zip(vectors[way], vectors[ways[0]]))
            print(f"  {name:30s} {way[0]:7s} {way[1]:8s} {n_tokens / min(seconds[way]):8.0f} "
                  f"tokens/s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
                  f"{max(ratios):.2f}), least cosine {cosine:.7f}", flush=True)
    for engine in engines.values():
        engine.close()


def part_of(symbol):
    for part, pattern in PARTS:
        if re.search(pattern, symbol):
            return part
    return "other"


def profile(args, folder, loads, work):
    texts = f"{work}/texts.txt"
    with open(texts, "w", encoding="utf-8") as f:
        f.write("\n".join(t for several in loads.values() for t in several * 4) + "\n")
    for isa, precision in ((args.base, "highest"), *((args.isa, p)
                                                     for p in ("highest", "high", "medium"))):
        subprocess.check_call(["perf", "record", "-q", "-o", f"{work}/perf", args.program, "embed",
                               "--model", folder, "--threads", str(args.threads), "--quiet",
                               "--cpu-isa", isa, "--matmul-precision", precision, "--input",
                               texts], stdout=subprocess.DEVNULL)
        report = subprocess.check_output(
            ["perf", "report", "-i", f"{work}/perf", "--stdio", "--no-children", "-F",
             "overhead,sym"], text=True, stderr=subprocess.DEVNULL)
        shares = collections.Counter()
        for share, where, symbol in re.findall(r"^ +([\d.]+)% +\[(.)\] (\S+)", report, re.M):
            shares["kernel of the system" if where == "k" else part_of(symbol)] += float(share)
        text = ", ".join(f"{part} {share:.0f} %" for part, share in shares.most_common()
                         if share >= 0.5)
        print(f"  {isa} {precision}: {text}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="minilm,qwen")
    parser.add_argument("--isa", default="amx")
    parser.add_argument("--base", default="avx512")
    parser.add_argument("--texts", type=int, default=64, help="how many of each load")
    parser.add_argument("--library", default=f"{compare.ROOT}/build/libpoolrank.so")
    parser.add_argument("--program", default=f"{compare.ROOT}/build/poolrank")
    parser.add_argument("--cache", help="keep the models here")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    print(f"{compare.processor()}; {args.threads} threads")
    from transformers import AutoTokenizer
    with tempfile.TemporaryDirectory() as work:
        for key in args.models.split(","):
            name, make, n_max = MODELS[key]
            folder = os.path.join(args.cache or work, key + "-precision")
            if not os.path.exists(f"{folder}/modules.json"):
                make(folder)
            loads = compare.workloads(AutoTokenizer.from_pretrained(folder), n_max - 1)
            loads = {re.sub(r"^\d+", str(len(v[:args.texts])), k): v[:args.texts]
                     for k, v in loads.items()}
            print(name, flush=True)
            if args.profile:
                profile(args, folder, loads, work)
            else:
                throughput(args, folder, loads)


if __name__ == "__main__":
    main()
