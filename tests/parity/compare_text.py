#!/usr/bin/env python3
"""Compares normalizers and pre-tokenizers with Hugging Face tokenizers, live.

    python tests/parity/compare_text.py PATH_OF_text_pieces [--seed N] [--texts N] [--all-points]
        [--only WORD]

Every component of COMPONENTS runs over generated texts (and, with --all-points, over every code
point, alone and between letters). Prints the first differences; exits 1 when there are any.
"""
import argparse
import base64
import io
import json
import random
import struct
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = [GPT2, QWEN2, LLAMA3, GPT4O, DEEPSEEK, r"\s+", r"\w+|[^\w\s]+", r"\b", r"\W+", r"[^\w]",
            r"[\w]+", r"[\W_]", r"\d", r"[[:punct:]]+", r"[[:alpha:]]+|[[:^alnum:]]", r"^|$",
            r"(?m:.)", r".", r"a(?i)b|c", r"[a-c&&[^b]]+", r"[^a[bc]]+", r"a{,2}b", r"(?:a{1,2}+)a",
            r"a{2}?", r"a++a|b**", r"(?<=a)b|b(?<!ab)", r"(a|b)\1", r"\R", r"\h+", r"(?>a+)b", r"",
            r"[\p{Han}\p{Hiragana}\p{Katakana}]+", r"\p{^L}+", r"\P{Nd}+", r"(?x: a b )",
            r"[一-龥぀-ゟ゠-ヿ]+", r"\p{Latin}+|\p{Cyrillic}+|\p{Arabic}+|\p{Devanagari}+", r"x*",
            r"\s+$", r"^\s+|\s+\Z", r"\p{Lu}\p{Ll}*", r"[\s\S]{1,7}", r"(?i:AB?c|d)+", r"\\u0020|\u00e9",
            r"[^\S\n]+", r"[]a]+|[^]b]", r"\p{Emoji}", r"\p{Common}+", r"(?i)[a-z]+"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]


def charsmaps():
    """The real nmt_nfkc rules, and small rules where one key begins another."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        for key, value in (("a", "b"), ("ab", "XY"), ("e\u0301", "E"), ("\r", " "), ("\u00e9", ""),
                           ("\r\n", "N"), ("\u0301", "'"), ("\u1112", "h"), ("\u0928\u093f", "ni"),
                           ("\U0001f600", ":)"), ("z", "\u00df\u4e2d")):
            f.write(" ".join("%X" % ord(c) for c in key) + "\t"
                    + " ".join("%X" % ord(c) for c in value) + "\n")
        f.flush()
        return [charsmap(**options) for options in (
            {"normalization_rule_name": "nmt_nfkc"}, {"normalization_rule_name": "nmt_nfkc_cf"},
            {"normalization_rule_tsv": f.name})]


def charsmap(**options):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["abcde fghij klmno pqrst uvwxyz"] * 20), model_writer=model,
        vocab_size=60, hard_vocab_limit=False, minloglevel=2, **options)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


def components():
    out = [("normalizer", {"type": t}) for t in
           ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "ByteLevel")]
    for clean in (True, False):
        for chinese in (True, False):
            for strip in (None, True, False):
                for lower in (True, False):
                    out.append(("normalizer", {"type": "BertNormalizer", "clean_text": clean,
                                               "handle_chinese_chars": chinese,
                                               "strip_accents": strip, "lowercase": lower}))
    out += [("normalizer", {"type": "Precompiled", "precompiled_charsmap": m})
            for m in charsmaps()]
    for left in (True, False):
        for right in (True, False):
            out.append(("normalizer", {"type": "Strip", "strip_left": left, "strip_right": right}))
    out.append(("normalizer", {"type": "Prepend", "prepend": "▁"}))
    for pattern in ({"String": " "}, {"String": "ab"}, {"String": ""}, {"String": "  "},
                    {"Regex": " {2,}"}, {"Regex": "b*"}, {"Regex": r"\s+"}):
        for content in ("▁", "", "xyz"):
            out.append(("normalizer", {"type": "Replace", "pattern": pattern, "content": content}))
    out.append(("normalizer", {"type": "Sequence", "normalizers": [
        {"type": "Nmt"}, {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}))
    out.append(("normalizer", {"type": "Sequence", "normalizers": []}))
    for pattern in PATTERNS:
        out.append(("normalizer",
                    {"type": "Replace", "pattern": {"Regex": pattern}, "content": "·"}))

    def pre(node):
        out.append(("pre_tokenizer", node))
    for prefix in (True, False):
        for use in (True, False):
            pre({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
                 "use_regex": use})
    for t in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation"):
        pre({"type": t})
    for behavior in BEHAVIORS:
        pre({"type": "Punctuation", "behavior": behavior})
        for invert in (True, False):
            for pattern in ({"String": " "}, {"String": "ab"}, {"String": ""},
                            {"Regex": r"\s+|a"}, {"Regex": "b*"}, {"Regex": QWEN2}):
                pre({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert})
    for individual in (True, False):
        pre({"type": "Digits", "individual_digits": individual})
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            for replacement in ("▁", "_", " "):
                pre({"type": "Metaspace", "replacement": replacement, "prepend_scheme": scheme,
                     "split": split})
    pre({"type": "CharDelimiterSplit", "delimiter": "a"})
    pre({"type": "FixedLength", "length": 3})
    pre({"type": "Sequence", "pretokenizers": []})
    pre({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
         "use_regex": False}]})
    pre({"type": "Sequence", "pretokenizers": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}]})
    pre({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, {"type": "Punctuation"},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}]})
    for pattern in PATTERNS:
        pre({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False})
    return out


ALPHABETS = [
    "abc ABC xyz 0123 ,.!?'\"-_", "aàáâäåāăą éèêëēę ìíîï òóôöøō ùúûü ñç ßẞ œæ ǅ ﬁ ﬆ ſ K",
    "abcs'tdreSTDREvmlſ ", "0123456789 ²³¼½٠١٢३४५Ⅷ①⑳㊀", " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f"
    "\u205f\u3000\u200b\ufeff\u180e", "\x00\x01\x07\x1b\x1f\x7f\x80\x8f\x9f\xadab ", "абвгдеёжий АБВГДЕ ґїєѓќ",
    "αβγδςσΣάέήίόύώΐΰ ἀἁἂ ᾳῳ ΑΒΓ", "日本語中文字漢 、。「」ーアイウエオかきくけこがぎぱ 豈更車賈﨎﨏",
    "가각간갇한국어 조선말ᄀᄁ나ᅢᆨᆩᆫ", "नमस्ते हिन्दी क्षि ज्ञ ड़ढ़", "สวัสดีครับ ภาษาไทย", "العَرَبِيَّةُ السلام ؀١٢ ﷺ ﻻ",
    "שָׁלוֹם עִבְרִית", "e\u0301\u0300\u0323\u0327\u0334\u0345 aou\u0308c\u0327\u0316", "😀👍🏽👨‍👩‍👧‍👦🇩🇪🇫🇷❤️🏳️‍🌈1️⃣ #*",
    "ⒶⓑＡｂｃ１２３ ㌔㍿ℌ™ﬀﬃĲŉǆ½ ḍ̇ Å Ω ẛ̣", "İIıi ŞĞ ǰ ΐ ﬗ", "\U00011935\U00011930\U00011938 \U0001d15e \U0001d5a0"
    "\U0002f800\U00020000\U0001f600\U00010400\U0001e921", "{}[]()<>|\\/@#$%^&*+=~`«»“”‘’…—–€£¥©®",
    "\u0600\u06dd\u070f\u110bd a\u0308 \u0d4e", "ab", "   a", "ab▁ _▁▁", "\u0300\u0301\u05b0\u064b\u0e38\u0f71\u3099",
    "\u1100\u1161\u11a8\uac00\uac01\u11a7\u11c3", "\u0915\u094d\u0937\u200d\u200c", "\ufffd\ufffe\uffff\ue000\U000f0000\u0378",
]


def random_text(rng):
    kind = rng.random()
    n = rng.choice((0, 1, 2, 3, 5, 8, 13, 30, 60))
    if kind < 0.2:  # any assigned or unassigned code points
        points = [rng.randrange(rng.choice((0x80, 0x250, 0x3000, 0x10000, 0x110000)))
                  for _ in range(n)]
        return "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)
    if kind < 0.27:
        return rng.choice(rng.choice(ALPHABETS)) * rng.choice((1, 7, 300))
    if kind < 0.6:
        alphabet = rng.choice(ALPHABETS)
        return "".join(rng.choice(alphabet) for _ in range(n))
    return "".join(rng.choice(rng.choice(ALPHABETS)) for _ in range(n))


def texts_of(args):
    rng = random.Random(args.seed)
    texts = [random_text(rng) for _ in range(args.texts)]
    if args.all_points:
        for c in range(0x110000):
            if not 0xD800 <= c < 0xE000:
                texts.append("{0}a{0}1{0}{0} b{0}".format(chr(c)))
    return texts


def reference(kind, node):
    spec = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    spec[kind] = node
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    if kind == "normalizer":
        return lambda text: [tokenizer.normalizer.normalize_str(text)]
    part = tokenizer.pre_tokenizer
    return lambda text: [piece for piece, _ in part.pre_tokenize_str(text)]


def ours(program, kind, node, data):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        json.dump(node, f)
        f.flush()
        done = subprocess.run([program, kind, f.name], input=data, capture_output=True)
    if done.returncode != 0:
        return done.stderr.decode(errors="replace").strip()
    out, at, raw = [], 0, done.stdout
    while at < len(raw):
        count, = struct.unpack_from("<I", raw, at)
        at += 4
        failed = count == 0xFFFFFFFF
        pieces = []
        for _ in range(1 if failed else count):
            n, = struct.unpack_from("<I", raw, at)
            pieces.append(raw[at + 4:at + 4 + n])
            at += 4 + n
        out.append("error: " + pieces[0].decode() if failed else pieces)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--texts", type=int, default=10000)
    parser.add_argument("--all-points", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    args = parser.parse_args()
    texts = texts_of(args)
    data = b"".join(struct.pack("<I", len(b)) + b for b in (t.encode() for t in texts))
    failed = 0
    parts = [c for c in components() if not args.only
             or any(word in json.dumps(c, ensure_ascii=False) for word in args.only)]
    for kind, node in parts:
        name = json.dumps(node, ensure_ascii=False)[:150]
        got = ours(args.program, kind, node, data)
        want = reference(kind, node)
        if isinstance(got, str):
            print("FAILED %s %s: %s" % (kind, name, got))
            failed += 1
            continue
        bad = 0
        for text, pieces in zip(texts, got):
            expected = [p.encode() for p in want(text)]
            if kind == "pre_tokenizer":
                expected = [p for p in expected if p]
            if pieces != expected:
                bad += 1
                if bad <= 3:
                    print("DIFFERS %s\n  text %s\n  got  %s\n  want %s" % (
                        name, ascii(text)[:200], str(pieces)[:300], str(expected)[:300]))
        if bad or len(got) != len(texts):
            print("FAILED %s %s: %d of %d texts" % (kind, name, bad, len(texts)))
            failed += 1
    print("%d components, %d texts each, %d failed (seed %d)" % (len(parts), len(texts), failed,
                                                                 args.seed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
