"""Compares poolrank's tokenizer with Hugging Face tokenizers on generated strings.

    python compare.py TOKENIZE_LINES TOKENIZER.json… [--strings N] [--seed S]

TOKENIZE_LINES is the program built from tests/tools/tokenize_lines.c. Compared are the ids with and
without special tokens, ids and types of pairs, and the decoded text of those ids and of random ones.
Prints "N strings compared, N identical" per tokenizer; exit status 1 on any difference.
"""
import argparse
import random
import struct
import subprocess
import sys

from tokenizers import Tokenizer

import texts

N_SHOWN = 5


def records(items):
    out = bytearray()
    for item in items:
        data = item.encode() if isinstance(item, str) else struct.pack(f"<{len(item)}i", *item)
        out += struct.pack("<I", len(item) if not isinstance(item, str) else len(data)) + data
    return bytes(out)


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        self.at += n
        if self.at > len(self.data):
            sys.exit("tokenize_lines ended early")
        return self.data[self.at - n:self.at]

    def count(self):
        return struct.unpack("<I", self.take(4))[0]

    def failed(self, n):
        return ("error", self.take(self.count()).decode()) if n == 0xFFFFFFFF else None

    def encoding(self):
        n = self.count()
        return self.failed(n) or (list(struct.unpack(f"<{n}i", self.take(4 * n))), list(self.take(n)))

    def text(self):
        n = self.count()
        return self.failed(n) or self.take(n).decode()


def drive(program, path, items, *options):
    done = subprocess.run([program, path, *options], input=records(items), capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{path}: {done.stderr.decode()}")
    return Reader(done.stdout)


class Comparison:
    def __init__(self, program, path):
        self.program = program
        self.path = path
        self.reference = Tokenizer.from_file(path)
        self.reference.no_padding()
        self.reference.no_truncation()
        self.different = set()

    def check(self, i, what, shown, ours, theirs):
        if ours == theirs:
            return
        if len(self.different) < N_SHOWN:
            print(f"{self.path}: string {i}: {what}: {shown!r:.300}")
            print(f"  ours   {str(ours):.600}\n  theirs {str(theirs):.600}")
        self.different.add(i)

    def encode(self, strings, pairs, *options):
        special = "--no-special" not in options
        items = [s for pair in pairs for s in pair] if pairs else strings
        reader = drive(self.program, self.path, items, *options)
        for i, item in enumerate(pairs or strings):
            e = self.reference.encode(*((item) if pairs else (item,)), add_special_tokens=special)
            self.check(i, f"encode {' '.join(options)}", item, reader.encoding(),
                       (e.ids, e.type_ids))

    def decode(self, id_lists, *options):
        reader = drive(self.program, self.path, id_lists, "--decode", *options)
        for i, ids in enumerate(id_lists):
            text = self.reference.decode(ids, skip_special_tokens="--skip-special" in options)
            self.check(i, f"decode {' '.join(options)}", ids, reader.text(), text)

    def run(self, strings, seed):
        r = random.Random(seed)
        self.encode(strings, None)
        self.encode(strings, None, "--no-special")
        pairs = list(zip(strings, r.sample(strings, len(strings))))[: len(strings) // 4]
        self.encode(strings, pairs, "--pair")
        self.encode(strings, pairs[: len(pairs) // 4], "--pair", "--no-special")
        id_lists = [self.reference.encode(s).ids for s in strings[: len(strings) // 4]]
        n_ids = self.reference.get_vocab_size() + 3
        id_lists += [[r.randrange(n_ids) for _ in range(r.randint(1, 20))] for _ in range(500)]
        self.decode(id_lists)
        self.decode(id_lists, "--skip-special")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("tokenizers", nargs="+")
    parser.add_argument("--strings", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=20240607)
    options = parser.parse_args()
    strings = texts.generate(options.seed, options.strings)
    print(f"seed {options.seed}: {len(strings)} strings, "
          f"{sum(len(s.encode()) for s in strings)} bytes", flush=True)
    n_different = 0
    for path in options.tokenizers:
        comparison = Comparison(options.program, path)
        comparison.run(strings, options.seed)
        n = len(comparison.different)
        n_different += n
        print(f"{path}: {len(strings)} strings compared, {len(strings) - n} identical", flush=True)
    sys.exit(1 if n_different else 0)


if __name__ == "__main__":
    main()
