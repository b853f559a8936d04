"""Writes small/golden/: what tokenizers 0.23.3 makes of 200 strings with each small tokenizer.

    python make_golden.py

texts.json holds the strings; NAME.json, in the same order, their ids with special tokens, the ids and
types of each string paired with the next one, and what the first ids decode to without and with special
tokens. tests/unit/text/test_tokenizer_golden.c compares without Python.
"""
import json
import os

from tokenizers import Tokenizer

import texts

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 7
N_TEXTS = 200
N_BYTES_MAX = 120


def write(name, value):
    path = os.path.join(HERE, "small", "golden", name)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def main():
    os.makedirs(os.path.join(HERE, "small", "golden"), exist_ok=True)
    strings = [s for s in texts.generate(SEED, 1000) if len(s.encode()) <= N_BYTES_MAX]
    strings = strings[:130] + strings[-(N_TEXTS - 130):]
    write("texts.json", strings)
    for file in sorted(os.listdir(os.path.join(HERE, "small"))):
        if not file.endswith(".json"):
            continue
        t = Tokenizer.from_file(os.path.join(HERE, "small", file))
        singles = [t.encode(s).ids for s in strings]
        pairs = [t.encode(a, b) for a, b in zip(strings, strings[1:] + strings[:1])]
        write(file, {
            "single": singles,
            "pair": [[e.ids, e.type_ids] for e in pairs],
            "decoded": [t.decode(ids, skip_special_tokens=True) for ids in singles],
            "decoded_special": [t.decode(ids, skip_special_tokens=False) for ids in singles]})


if __name__ == "__main__":
    main()
