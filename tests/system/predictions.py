"""Tokens per second that `poolrank plan` allows real models on the GPUs of its table, and what is
expected of a first run: the table of docs/gpu.md. `python3 tests/system/predictions.py` prints it.

Batches of 8,192 tokens in bfloat16, as launch/gpu-check times them among others."""
import json
import os
import sys

from program import run

HERE = os.path.dirname(os.path.abspath(__file__))
N_TOKENS = 8192
# name, config, tokens of a text, tensor-parallel ranks
MODELS = (("MiniLM-L6, texts of 128", "shapes/minilm-l6.json", 128, 1),
          ("0.6B, texts of 512", "shapes/qwen3-embedding-0.6b.json", 512, 1),
          ("7B, texts of 512", "shapes/gte-qwen2-7b.json", 512, 1),
          ("72B on 8, texts of 512", "qwen2.5-math-rm-72b.json", 512, 8))
# Shares of the data sheets' rates that are expected. Chosen, not measured.
COMPUTE, MEMORY, LINK, HEAD = 0.6, 0.75, 0.7, 0.7


def devices(config, n_text, n_ranks):
    result = run("plan", os.path.join(HERE, config), "-tp", str(n_ranks), "--dtype", "bfloat16",
                 "--max-model-len", str(n_text), "--max-num-batched-tokens", str(N_TOKENS), "--json")
    if result.status != 0:
        raise AssertionError(result.err)
    return json.loads(result.out)["devices"]


def expected(d):
    """Tokens per second when nothing overlaps: neither memory with arithmetic nor links."""
    seconds = (d["compute_s"] / COMPUTE + d["memory_s"] / MEMORY + d["link_s"] / LINK +
               d["head_s"] / HEAD)
    return N_TOKENS / seconds


def rounded(speed):
    """Three digits: more would claim too much."""
    step = 10 ** max(0, len(str(int(speed))) - 3)
    return f"{round(speed / step) * step:,}"


def cell(d):
    if not d["fits"]:
        return "does not fit"
    return f"{rounded(expected(d))} of {rounded(d['tokens_per_s'])} ({d['bound']})"


def lines():
    columns = [devices(config, n_text, n_ranks) for _, config, n_text, n_ranks in MODELS]
    head = ["device"] + [name for name, *_ in MODELS]
    rows = [[d["name"]] + [cell(column[i]) for column in columns]
            for i, d in enumerate(columns[0])]
    return (["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"] +
            ["| " + " | ".join(row) + " |" for row in rows])


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
