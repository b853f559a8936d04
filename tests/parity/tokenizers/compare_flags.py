"""Compares random sets of added tokens, with all their flags, on generated strings.

    python compare_flags.py TOKENIZE_LINES [--strings N] [--seed S]

Each small tokenizer is tried with two random sets. Strings on which tokenizers itself panics are counted
and skipped (an lstrip token in white space that an rstrip token took). Exit status 1 on any difference.
"""
import argparse
import json
import os
import random
import sys
import tempfile

import compare
import texts

CONTENTS = [
    "the", " the", "The", "e", "<s>", "</s>", "[SEP]", "  ", "\n", "é", "日本", "x", "▁the",
    "harbour", "a b", "<|im_end|>", "😀", "1", "##s", "ё", "É", "Ω", "Ａ"]


def folded(content):
    """Equal for tokens that some normalizer might make equal: tokenizers then picks one by chance."""
    return content.lower().replace("é", "e").replace("ё", "е").strip()


def with_added_tokens(tokenizer, r):
    added = list(tokenizer["added_tokens"])
    for content in r.sample(CONTENTS, 12):
        added.append({
            "id": 0, "content": content, "single_word": r.random() < 0.3,
            "lstrip": r.random() < 0.4, "rstrip": r.random() < 0.4,
            "normalized": bool(content.strip()) and r.random() < 0.4, "special": r.random() < 0.3})
    unique = {}
    for token in added:
        key = folded(token["content"]) if token["normalized"] else token["content"]
        unique.setdefault((key, token["normalized"]), token)
    return {**tokenizer, "added_tokens": list(unique.values())}


def compare_one(program, path, strings):
    comparison = compare.Comparison(program, path)
    reader = compare.drive(program, path, strings)
    n_panics = 0
    for i, text in enumerate(strings):
        ours = reader.encoding()
        try:
            e = comparison.reference.encode(text)
        except BaseException as panic:  # pyo3's PanicException is no Exception
            if isinstance(panic, KeyboardInterrupt):
                raise
            n_panics += 1
            continue
        comparison.check(i, "encode", text, ours, (e.ids, e.type_ids))
    return len(comparison.different), n_panics


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    r = random.Random(options.seed)
    strings = texts.generate(options.seed, options.strings)
    small = os.path.join(texts.HERE, "small")
    n_different = 0
    print(f"seed {options.seed}")
    for name in sorted(f for f in os.listdir(small) if f.endswith(".json")):
        with open(os.path.join(small, name), encoding="utf-8") as f:
            tokenizer = json.load(f)
        for i in range(2):
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
                json.dump(with_added_tokens(tokenizer, r), f)
                f.flush()
                n, n_panics = compare_one(options.program, f.name, strings)
            n_different += n
            print(f"{name}, set {i}: {len(strings)} strings compared, {len(strings) - n - n_panics} "
                  f"identical, {n_panics} skipped", flush=True)
    sys.exit(1 if n_different else 0)


if __name__ == "__main__":
    main()
