"""Makes thin_golden.json: what two layers of a 72B model at their real width answer, by torch and
transformers. Weights are the bfloat16 values that thin_model writes; arithmetic is float64, layer by
layer, so that 12 GB of memory do.

    thin_model FOLDER > SUM && python3 thin_reference.py FOLDER SUM
"""
import json
import os
import random
import sys

import numpy as np
import torch
import transformers
from safetensors import safe_open

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "parity"))
from generator import reference  # noqa: E402

CONFIG = os.path.join(HERE, "..", "system", "qwen2.5-math-rm-72b.json")
LENGTHS = (1, 2, 17, 64, 200)
COLUMNS = range(0, 8192, 128)  # of the last token's hidden state, that are kept
N_LAYERS = 2


def inputs():
    """Token ids from all of the vocabulary, both ends included."""
    draw = random.Random(72)
    texts = [[draw.randrange(152064) for _ in range(n)] for n in LENGTHS]
    texts[1] = [0, 152063]
    return texts


class Weights:
    def __init__(self, folder):
        with open(os.path.join(folder, "model.safetensors.index.json"), encoding="utf-8") as f:
            names = json.load(f)["weight_map"]
        files = {name: safe_open(os.path.join(folder, name), "pt")
                 for name in set(names.values())}
        self.of = {name: files[file] for name, file in names.items()}

    def get(self, name):
        return self.of[name].get_tensor(name)

    def rows(self, name, rows):
        part = self.of[name].get_slice(name)
        return torch.cat([part[row:row + 1] for row in rows])


def net_open(weights):
    """Qwen2Model without its table; the layers are bfloat16 while they do not compute."""
    with open(CONFIG, encoding="utf-8") as f:
        config = transformers.Qwen2Config(**json.load(f))
    config.num_hidden_layers, config.vocab_size = N_LAYERS, 1
    config.layer_types = config.layer_types[:N_LAYERS]
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        net = transformers.Qwen2Model(config).eval().to(torch.bfloat16)
    state = {name[len("model."):]: weights.get(name) for name in weights.of
             if name.startswith("model.") and "embed" not in name}
    state["embed_tokens.weight"] = torch.zeros(1, config.hidden_size, dtype=torch.bfloat16)
    net.load_state_dict(state, assign=True)
    net.rotary_emb = type(net.rotary_emb)(config)
    reference.check_frequencies(net)
    return net


def widen_while_computing(net, dtype):
    for layer in net.layers:
        layer.register_forward_pre_hook(lambda layer, _: layer.to(dtype) and None)
        layer.register_forward_hook(lambda layer, *_: layer.to(torch.bfloat16) and None)
    net.norm.to(dtype)


@torch.no_grad()
def answers(folder, dtype):
    """For each input the hidden states [n, 8192] and the rewards [n]."""
    weights = Weights(folder)
    net = net_open(weights)
    if dtype == torch.float64:
        reference.without_f32(net)
    widen_while_computing(net, dtype)
    dense, dense_bias, out, out_bias = (weights.get("score." + name).to(dtype) for name in
                                        ("0.weight", "0.bias", "2.weight", "2.bias"))
    for tokens in inputs():
        x = weights.rows("model.embed_tokens.weight", tokens).to(dtype)[None]
        hidden = net(inputs_embeds=x, use_cache=False).last_hidden_state[0]
        assert hidden.dtype == dtype
        rewards = torch.relu(hidden @ dense.T + dense_bias) @ out.T + out_bias
        print(len(tokens), rewards[-1].item(), hidden.std().item(), file=sys.stderr, flush=True)
        yield hidden.numpy(), rewards[:, 0].numpy()


def main():
    folder, sum_file = sys.argv[1:]
    with open(sum_file, encoding="utf-8") as f:
        weights_sum = int(f.read())
    exact = list(answers(folder, torch.float64))
    narrow = list(answers(folder, torch.float32))
    errors = {"rewards": max(reference.error(b[1], a[1]) for a, b in zip(exact, narrow)),
              "hidden": max(reference.error(b[0], a[0]) for a, b in zip(exact, narrow))}
    golden = {
        "made_by": "tests/large/thin_reference.py, torch %s, transformers %s, numpy %s" % (
            torch.__version__, transformers.__version__, np.__version__),
        "weights_sum": weights_sum,
        "transformers_float32_error": errors,
        "columns": list(COLUMNS),
        "inputs": [{"tokens": tokens, "rewards": [float("%.9g" % v) for v in rewards],
                    "hidden": [float("%.9g" % v) for v in hidden[-1][COLUMNS]]}
                   for tokens, (hidden, rewards) in zip(inputs(), exact)],
    }
    with open(os.path.join(HERE, "thin_golden.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(golden).replace('{"tokens"', '\n{"tokens"') + "\n")


if __name__ == "__main__":
    main()
