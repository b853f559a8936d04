#!/usr/bin/env python3
"""poolrank beside sentence-transformers (f32): same machine, same texts, same threads, in turn.

    compare.py [--threads N] [--rounds N] [--models minilm,qwen] [--library FILE] [--program FILE]

Prints tokens/s of both and the ratio of each round's pair (median), the time from process start to
the first result, and the peak memory of both. Needs a Python with torch, transformers and
sentence-transformers; poolrank itself needs none of them.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tools"))
WORDS = ("the of a and river light stone paper house music water tree engine story winter bread "
         "glass bridge garden city market letter window table summer ocean forest mountain road "
         "number history science teacher doctor painter machine signal color voice morning").split()


def processor():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        text = f.read()
    name = next(l.split(":")[1].strip() for l in text.splitlines() if l.startswith("model name"))
    flags = next(l for l in text.splitlines() if l.startswith("flags")).split()
    return f"{name}, {'AVX-512' if 'avx512f' in flags else 'AVX2' if 'avx2' in flags else 'SSE'}"


def text_of(tokenizer, n_tokens, rng):
    """Random words that yield about n_tokens tokens, never more."""
    words = []
    while True:
        words.append(rng.choice(WORDS))
        if len(words) % 8 == 0 or n_tokens < 32:
            if len(tokenizer(" ".join(words))["input_ids"]) > n_tokens:
                break
    while len(tokenizer(" ".join(words))["input_ids"]) > n_tokens:
        words.pop()
    return " ".join(words)


def workloads(tokenizer, n_max):
    rng = random.Random(7)
    loads = {"64 texts of ~128 tokens": [text_of(tokenizer, 128, rng) for _ in range(64)],
             "64 texts of 16 to 512 tokens": [text_of(tokenizer, rng.randint(16, 512), rng)
                                              for _ in range(64)]}
    if n_max >= 1024:
        loads["8 texts of ~1024 tokens"] = [text_of(tokenizer, 1024, rng) for _ in range(8)]
    return loads


def minilm(folder):
    """The real model, with its limit of 256 tokens raised to its 512 positions on both sides."""
    source = subprocess.check_output([f"{ROOT}/launch/fetch-minilm"], text=True).strip()
    shutil.copytree(source, folder, dirs_exist_ok=True)
    with open(f"{folder}/sentence_bert_config.json", "w", encoding="ascii") as f:
        json.dump({"max_seq_length": 512, "do_lower_case": False}, f)


def qwen(folder):
    """Random weights in the shape of Qwen2-0.5B, LAST pooling, normalized."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers import models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864,
                         num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                         max_position_embeddings=2048, tie_word_embeddings=True, dtype="float32")
    base = folder + ".base"
    Qwen2Model(config).save_pretrained(base)
    small = f"{ROOT}/tests/parity/tokenizers/small/qwen2_bpe.json"
    PreTrainedTokenizerFast(tokenizer_file=small, pad_token="<|endoftext|>").save_pretrained(base)
    transformer = models.Transformer(base, max_seq_length=2048)
    pooling = models.Pooling(896, pooling_mode="lasttoken")
    SentenceTransformer(modules=[transformer, pooling, models.Normalize()]).save(folder)
    shutil.rmtree(base)


MODELS = {"minilm": ("all-MiniLM-L6-v2", minilm, 512), "qwen": ("Qwen2-0.5B shape", qwen, 2048)}
ST_SCRIPT = """
import sys
from sentence_transformers import SentenceTransformer
import torch
torch.set_num_threads({threads})
model = SentenceTransformer({folder!r}, device="cpu", model_kwargs={{"dtype": torch.float32}})
model.encode(open({texts!r}, encoding="utf-8").read().splitlines(), batch_size=32)
"""


MEASURE = """
import json, os, subprocess, sys, time
begin = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([status, time.monotonic() - begin, usage.ru_maxrss / 1024]))
"""


def measured(command):
    """Seconds and peak resident MB of one process. It is started by a small process of its own: the
    peak of a child counts what its parent held when it was forked."""
    out = subprocess.check_output([sys.executable, "-S", "-c", MEASURE, *command], text=True)
    status, seconds, megabytes = json.loads(out)
    if status:
        raise RuntimeError(f"{command[0]} ended with {status}")
    return seconds, megabytes


def throughput(args, folder, n_max, loads):
    import torch
    from sentence_transformers import SentenceTransformer
    from poolrank_ctypes import Engine
    torch.set_num_threads(args.threads)
    st = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
    engine = Engine(args.library, model=folder, threads=args.threads, task="embed")
    warm = [text for texts in loads.values() for text in texts[:2]]
    engine.embed(warm)
    st.encode(warm, batch_size=32)
    for name, texts in loads.items():
        ours, theirs = [], []
        for _ in range(args.rounds):
            begin = time.monotonic()
            vectors, n_tokens = engine.embed(texts)
            ours.append(time.monotonic() - begin)
            begin = time.monotonic()
            reference = st.encode(texts, batch_size=32)
            theirs.append(time.monotonic() - begin)
        worst = min(sum(a * b for a, b in zip(u, v)) for u, v in zip(vectors, reference))
        ratios = [b / a for a, b in zip(ours, theirs)]
        print(f"  {name:30s} poolrank {n_tokens / statistics.median(ours):8.0f} tokens/s, "
              f"sentence-transformers {n_tokens / statistics.median(theirs):8.0f}, ratio "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
              f"least cosine {worst:.7f}", flush=True)
    engine.close()


def cold_start(args, folder, loads, work):
    one, many = f"{work}/one.txt", f"{work}/many.txt"
    with open(one, "w", encoding="utf-8") as f:
        f.write("a text to embed\n")
    with open(many, "w", encoding="utf-8") as f:
        f.write("\n".join(t for texts in loads.values() for t in texts) + "\n")
    weights = os.path.getsize(f"{folder}/model.safetensors") / 2**20
    for label, texts, rounds in (("one text", one, 3), ("all texts", many, 1)):
        what = ["a text to embed"] if texts == one else ["--input", texts]
        program = [args.program, "embed", "--model", folder, "--threads", str(args.threads),
                   "--quiet", *what]
        script = ST_SCRIPT.format(threads=args.threads, folder=folder, texts=texts)
        ours = [measured(program) for _ in range(rounds)]
        theirs = [measured([sys.executable, "-c", script]) for _ in range(rounds)]
        a, b = min(s for s, _ in ours), min(s for s, _ in theirs)
        print(f"  process, {label:10s} poolrank {a:6.2f} s, {max(m for _, m in ours):6.0f} MB; "
              f"sentence-transformers {b:6.2f} s, {max(m for _, m in theirs):6.0f} MB; "
              f"ratio of times {b / a:.1f}; checkpoint {weights:.0f} MB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="minilm,qwen")
    parser.add_argument("--library", default=f"{ROOT}/build/libpoolrank.so")
    parser.add_argument("--program", default=f"{ROOT}/build/poolrank")
    parser.add_argument("--cache", help="keep the models here (the Qwen2 shape takes 2 GB)")
    args = parser.parse_args()
    print(f"{processor()}; {args.threads} threads")
    from transformers import AutoTokenizer
    with tempfile.TemporaryDirectory() as work:
        for key in args.models.split(","):
            name, make, n_max = MODELS[key]
            folder = os.path.join(args.cache or work, key)
            if not os.path.exists(f"{folder}/modules.json"):
                make(folder)
            loads = workloads(AutoTokenizer.from_pretrained(folder), n_max)
            print(name, flush=True)
            throughput(args, folder, n_max, loads)
            cold_start(args, folder, loads, work)


if __name__ == "__main__":
    main()
