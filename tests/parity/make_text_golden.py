#!/usr/bin/env python3
"""Writes tests/parity/text_golden.json: what tokenizers makes of texts, component by component.

Made with tokenizers 0.23.3 and sentencepiece 0.2.3:
    python tests/parity/make_text_golden.py > tests/parity/text_golden.json

The components are those of compare_text.py, less the two large charsmaps; each gets the fixed texts
and a few random ones. Read by tests/unit/text/test_normalizer.c and test_pretokenizer.c.
"""
import json
import random

import compare_text

FIXED = ["", " ", "Hello, World! It's 2024.", "  two  spaces\n\n\tand tab ", "Ünïcödé ÉCOLE İstanbul ΣΑΣ",
         "e\u0301\u0323 \u1e9b\u0323 \uac00\u11a7\u11a8", "中文字 日本語。カタカナ 한국어", "नमस्ते \u0928\u093f العربية",
         "👨‍👩‍👧 🇩🇪 👍🏽", "a\x00b\x07\u200b\ufeff\ufffd\r\nz", "'S 'ſ i'LL ab aB AB c", "\u0897a\u0897 \U00011935\U00011930",
         "²³¼ Ⅷ ١٢ _x_ 12345678", "▁a▁▁b _c", "aab aaab ababab xx"]


def main():
    rng = random.Random(20240607)
    out = []
    for kind, node in compare_text.components():
        if len(json.dumps(node)) > 100000:
            continue
        texts = FIXED + [compare_text.random_text(rng)[:40] for _ in range(4)]
        apply = compare_text.reference(kind, node)
        out.append({"kind": kind, "node": node,
                    "cases": [[text, [p for p in apply(text) if p or kind == "normalizer"]]
                              for text in texts]})
    print("[")
    print(",\n".join(json.dumps(entry, separators=(",", ":")) for entry in out))
    print("]")


if __name__ == "__main__":
    main()
