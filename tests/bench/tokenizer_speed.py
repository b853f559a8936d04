#!/usr/bin/env python3
"""How fast tokenizers load and encode, beside Hugging Face `tokenizers` on one thread.

    tests/bench/tokenizer_speed.py --program build/tests/tools/tokenize_lines [NAME…]

The real vocabularies are those of tests/parity/tokenizers (its part `setup` fetches them). Both sides
encode the same texts one after the other in the same run, several times, turn by turn; the best time
of each counts, in processor seconds. `tokenizers` runs its faster call, encode_batch_fast, which keeps
no offsets, without special tokens; ids are compared first.
"""
import argparse
import os
import subprocess
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NAMES = ["minilm", "qwen2", "llama3", "mistral", "mistral_metaspace"]


def texts():
    """The house's documents and sources in paragraphs, as somebody would send them."""
    out = []
    folders = ["docs", "runtime/text", "coordinator", "tests/parity/tokenizers"]
    for folder in folders:
        for where, _, names in sorted(os.walk(os.path.join(ROOT, folder))):
            for name in sorted(names):
                if not name.endswith((".md", ".txt", ".c", ".py")):
                    continue
                with open(os.path.join(where, name), encoding="utf-8") as f:
                    out += [p for p in f.read().split("\n\n") if p]
    return [" ".join(p.split("\n")) for p in out if len(p) < 4000]


def reference_s(tokenizer, lines):
    start = time.process_time()
    tokenizer.encode_batch_fast(lines, add_special_tokens=False)
    return time.process_time() - start


def ours(program, path, file):
    """(load seconds, encode seconds) of one run."""
    out = subprocess.run([program, path, "--time", file], check=True, capture_output=True, text=True)
    values = dict(line.split(": ", 1) for line in out.stdout.splitlines() if ": " in line)
    return float(values["loaded"].split()[0]), float(values["line by line"].split()[0])


def check_ids(program, path, tokenizer, lines):
    import struct
    data = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in lines)
    out = subprocess.run([program, path, "--no-special"], input=data, check=True,
                         capture_output=True).stdout
    at = 0
    for text in lines:
        (n,) = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from("<%di" % n, out, at + 4))
        at += 4 + 5 * n
        if ids != tokenizer.encode(text, add_special_tokens=False).ids:
            sys.exit("ids differ: %r" % text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--program", default=os.path.join(ROOT, "build/tests/tools/tokenize_lines"))
    parser.add_argument("--folder", default=os.path.expanduser("~/.cache/poolrank/tokenizers/real"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    lines = texts()
    file = "/tmp/poolrank_bench_texts_%d" % os.getpid()
    with open(file, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))
    n_bytes = os.path.getsize(file)
    print(f"{len(lines)} texts, {n_bytes} bytes")
    print("vocabulary          load s | HF load s | MB/s | HF MB/s | ratio", flush=True)
    try:
        for name in args.names or NAMES:
            path = os.path.join(args.folder, name + ".json")
            load = time.process_time()
            tokenizer = tokenizers.Tokenizer.from_file(path)
            load = time.process_time() - load
            tokenizer.no_padding()
            tokenizer.no_truncation()
            check_ids(args.program, path, tokenizer, lines)
            rounds = [(ours(args.program, path, file), reference_s(tokenizer, lines))
                      for _ in range(args.rounds)]
            load_ours = min(r[0][0] for r in rounds)
            speed = max(n_bytes / r[0][1] / 1e6 for r in rounds)
            speed_hf = max(n_bytes / r[1] / 1e6 for r in rounds)
            print(f"{name:18} {load_ours:8.3f} | {load:8.3f} | {speed:6.2f} | {speed_hf:6.2f} |"
                  f" {speed / speed_hf:6.2f}", flush=True)
    finally:
        os.unlink(file)


if __name__ == "__main__":
    main()
