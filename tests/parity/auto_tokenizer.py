#!/usr/bin/env python3
"""Tokenizers with files beside them, against transformers' AutoTokenizer (5.16.1).

    python tests/parity/auto_tokenizer.py --golden          writes auto_tokenizer_golden.json
    python tests/parity/auto_tokenizer.py --random N [--seed S] --tool build/tests/auto_tokenize

The first is read by the test parity.auto_tokenizer, the second is run by hand: N drawn folders, all
texts of each. Exit status 1 where one differs. Folders that AutoTokenizer refuses must be refused;
those that poolrank alone refuses are counted and shown by reason.
"""
import argparse
import collections
import json
import os
import random
import re
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"

import transformers  # noqa: E402

import auto_cases  # noqa: E402

GOLDEN = os.path.join(auto_cases.HERE, "auto_tokenizer_golden.json")


def write(folder, name, value):
    if value is not None:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            json.dump(value, f)


def appends_eos(files):
    """What transformers 4 did for LlamaTokenizer and 5 does not: we follow the former."""
    config = files.get("config") or {}
    name = config.get("tokenizer_class") or files.get("model_class") or ""
    return name.removesuffix("Fast") == "LlamaTokenizer" and config.get("add_eos_token") is True


def load(case, folder):
    files = case["files"]
    with open(os.path.join(auto_cases.SMALL, case["base"]), encoding="utf-8") as f:
        root = json.load(f)
    root.update(case.get("patch") or {})
    write(folder, "tokenizer.json", root)
    write(folder, "tokenizer_config.json", files.get("config"))
    write(folder, "special_tokens_map.json", files.get("special_map"))
    write(folder, "added_tokens.json", files.get("added"))
    if files.get("model_type") or files.get("model_class"):
        config = {"model_type": files.get("model_type"), "transformers_version": "4.40.0",
                  "tokenizer_class": files.get("model_class")}
        write(folder, "config.json", {k: v for k, v in config.items() if v is not None})
    arguments = dict(files.get("arguments") or {})
    if appends_eos(files):
        config = files.get("config") or {}
        arguments["add_eos_token"] = True
        arguments["add_bos_token"] = config.get("add_bos_token", True)
        model = files.get("model_type")
        if model == "mistral":  # no names of its own there
            for key, content in (("bos_token", "<s>"), ("eos_token", "</s>")):
                in_map = "added_tokens_decoder" not in config and key in (files.get("special_map") or {})
                if key not in config and not in_map:
                    arguments.setdefault(key, content)
    return transformers.AutoTokenizer.from_pretrained(folder, **arguments)


def encodings(tokenizer):
    for texts in [[t] for t in auto_cases.TEXTS]:
        yield tokenizer(texts)
    for a, b in auto_cases.PAIRS:
        yield tokenizer([a], [b])


def reference(case):
    """[[ids, types], …]; None where AutoTokenizer fails."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer = load(case, folder)
            out = []
            for e in encodings(tokenizer):
                ids = e["input_ids"][0]
                out.append([ids, e.get("token_type_ids", [[0] * len(ids)])[0]])
            return out
        except Exception as e:  # whatever it raises: the folder cannot be used
            reference.why = repr(e)
            return None


def ask(tool, cases):
    run = subprocess.Popen([tool, auto_cases.SMALL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for case in cases:
        line = {**case, "texts": auto_cases.TEXTS, "pairs": auto_cases.PAIRS}
        run.stdin.write(json.dumps(line).encode() + b"\n")
        run.stdin.flush()
        yield json.loads(run.stdout.readline())
    run.stdin.close()
    run.wait()


def compare(tool, cases):
    counts = collections.Counter()
    reasons = collections.Counter()
    for case, answer in zip(cases, ask(tool, cases)):
        expected = reference(case)
        if expected is None:
            kind = "refused by both" if "error" in answer else "DIFFERS: read by poolrank alone"
            detail = reference.why
        elif "error" in answer:
            kind = "refused by poolrank alone"
            reasons[re.sub(r'found .*?, expected', "found …, expected", answer["error"])[-90:]] += 1
            detail = ""
        elif answer["encodings"] == expected:
            kind = "same"
        else:
            kind = "DIFFERS"
            i = [a == e for a, e in zip(answer["encodings"], expected)].index(False)
            detail = f"item {i}: {answer['encodings'][i]}, expected {expected[i]}"
        counts[kind] += 1
        if kind.startswith("DIFFERS") and counts[kind] <= 5:
            print(f"{kind}: {json.dumps(case)}\n   {detail}")
    for kind, n in sorted(counts.items()):
        print(f"{n:7} {kind}")
    for reason, n in reasons.most_common():
        print(f"{n:11} {reason}")
    return any(kind.startswith("DIFFERS") for kind in counts)


def write_golden(tool):
    table, rows = {}, []
    cases = list(auto_cases.enumerate_cases())
    for case, answer in zip(cases, ask(tool, cases)):
        expected = reference(case)
        if expected is not None and "error" in answer:
            if "not built" not in answer["error"] and "as it is" not in answer["error"] \
                    and "expected RobertaTokenizer" not in answer["error"]:
                print("refused by poolrank alone:", json.dumps(case), answer["error"])
            expected = None
        if expected is None:
            rows.append({**case, "expect": None})
            continue
        numbers = [table.setdefault(json.dumps(e, separators=(",", ":")), len(table))
                   for e in expected]
        rows.append({**case, "expect": numbers})
    head = {"made_with": f"transformers {transformers.__version__}", "texts": auto_cases.TEXTS,
            "pairs": auto_cases.PAIRS}
    with open(GOLDEN, "w", encoding="utf-8") as f:
        f.write(json.dumps(head, separators=(",", ":"))[:-1] + ',\n"encodings":[\n')
        f.write(",\n".join(table) + '],\n"cases":[\n')
        f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "]}\n")
    print(f"{len(rows)} cases, {sum(r['expect'] is None for r in rows)} refused")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--enumerate", action="store_true", help="compare the golden file's cases")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tool", default="build/tests/tools/auto_tokenize")
    args = parser.parse_args()
    if args.golden:
        return write_golden(args.tool)
    if args.enumerate:
        return compare(args.tool, list(auto_cases.enumerate_cases()))
    rng = random.Random(args.seed)
    print("seed", args.seed)
    return compare(args.tool, [auto_cases.draw(rng) for _ in range(args.random)])


if __name__ == "__main__":
    sys.exit(main())
