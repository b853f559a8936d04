#!/usr/bin/env python3
"""Writes runtime/text/unicode/unicode_tables.h: character properties as Hugging Face tokenizers sees them.

Every property is asked of tokenizers itself, one code point at a time, since its parts follow
several versions of Unicode (0.23.3: 8 or 9 to 17). What PCRE2 and utf8proc know already is left
out: only the code points where they differ are written.

Made with tokenizers 0.23.3, sentencepiece 0.2.3, libpcre2-8 10.42 and libutf8proc 2.8.0 (Debian 12):
    python tests/parity/make_unicode_tables.py > runtime/text/unicode/unicode_tables.h
"""
import ctypes
import io
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, POINTS))

# Bits of a run, lowest first; the names are those of enum unicode_flag in unicode.c.
FLAGS = ["NUMERIC", "BERT_CONTROL", "PUNCTUATION", "MARK_NONSPACING", "MARK", "WORD"]

# Properties that a pattern may name: Oniguruma's name (lower case, without "_", "-", " ") and the
# same in PCRE2.
CATEGORIES = {
    "l": "letter", "lu": "uppercaseletter", "ll": "lowercaseletter", "lt": "titlecaseletter",
    "lm": "modifierletter", "lo": "otherletter", "m": "mark", "mn": "nonspacingmark",
    "mc": "spacingmark", "me": "enclosingmark", "n": "number", "nd": "decimalnumber",
    "nl": "letternumber", "no": "othernumber", "p": "punctuation", "pc": "connectorpunctuation",
    "pd": "dashpunctuation", "ps": "openpunctuation", "pe": "closepunctuation",
    "pi": "initialpunctuation", "pf": "finalpunctuation", "po": "otherpunctuation", "s": "symbol",
    "sm": "mathsymbol", "sc": "currencysymbol", "sk": "modifiersymbol", "so": "othersymbol",
    "z": "separator", "zs": "spaceseparator", "zl": "lineseparator", "zp": "paragraphseparator",
    "cc": "control", "cf": "format", "co": "privateuse",
}
SCRIPTS = [
    "Arabic", "Armenian", "Bengali", "Bopomofo", "Braille", "Cherokee", "Common", "Coptic",
    "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek", "Gujarati", "Gurmukhi", "Han",
    "Hangul", "Hebrew", "Hiragana", "Inherited", "Kannada", "Katakana", "Khmer", "Lao", "Latin",
    "Malayalam", "Mongolian", "Myanmar", "Oriya", "Sinhala", "Syriac", "Tamil", "Telugu",
    "Thaana", "Thai", "Tibetan", "Yi",
]


class Pcre2:
    """Just enough of PCRE2 to ask which code points a class holds."""

    def __init__(self):
        self.lib = ctypes.CDLL("libpcre2-8.so.0")
        self.lib.pcre2_compile_8.restype = ctypes.c_void_p
        self.lib.pcre2_match_data_create_8.restype = ctypes.c_void_p
        self.lib.pcre2_get_ovector_pointer_8.restype = ctypes.POINTER(ctypes.c_size_t)

    def points(self, items):
        number, offset = ctypes.c_int(), ctypes.c_size_t()
        pattern = ("[" + items + "]+").encode()
        code = self.lib.pcre2_compile_8(pattern, ctypes.c_size_t(len(pattern)),
                                        ctypes.c_uint32(0x00080000), ctypes.byref(number),
                                        ctypes.byref(offset), None)
        if not code:
            raise ValueError(items)
        match = ctypes.c_void_p(self.lib.pcre2_match_data_create_8(ctypes.c_uint32(1), None))
        data = TEXT.encode()
        found, at = set(), 0
        while self.lib.pcre2_match_8(ctypes.c_void_p(code), data, ctypes.c_size_t(len(data)),
                                     ctypes.c_size_t(at), ctypes.c_uint32(0x40000000), match,
                                     None) > 0:
            span = self.lib.pcre2_get_ovector_pointer_8(match)
            found.update(map(ord, data[span[0]:span[1]].decode()))
            at = span[1]
        return found


class Utf8proc:
    def __init__(self):
        class Property(ctypes.Structure):
            _fields_ = [("category", ctypes.c_uint16), ("combining_class", ctypes.c_uint16)]

        self.lib = ctypes.CDLL("libutf8proc.so.2")
        self.lib.utf8proc_decompose_char.restype = ctypes.c_ssize_t
        self.lib.utf8proc_get_property.restype = ctypes.POINTER(Property)
        self.out = (ctypes.c_int32 * 64)()

    def decompose(self, c, compat):
        last = ctypes.c_int(0)
        options = 1 << 1 | 1 << 4 | (1 << 2 if compat else 0)
        n = self.lib.utf8proc_decompose_char(ctypes.c_int32(c), self.out, ctypes.c_ssize_t(64),
                                             ctypes.c_int(options), ctypes.byref(last))
        return "".join(chr(self.out[i]) for i in range(n))

    def combining_class(self, c):
        return self.lib.utf8proc_get_property(ctypes.c_int32(c)).contents.combining_class


def onig(pattern):
    cut = pre_tokenizers.Split(Regex(pattern + "+"), "removed", invert=True)
    return {ord(c) for piece, _ in cut.pre_tokenize_str(TEXT) for c in piece}


def is_alone(pre_tokenizer, c):
    """Whether c is cut off its neighbours (True), or stays with them (False)."""
    return len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "a")) == 3


def flags():
    digits = pre_tokenizers.Digits(True)
    punctuation = pre_tokenizers.Punctuation("isolated")
    whitespace = pre_tokenizers.Whitespace()
    clean = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=False,
                                       strip_accents=False, lowercase=False)
    strip = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False,
                                       strip_accents=True, lowercase=False)
    marks = normalizers.StripAccents()
    nfd = normalizers.NFD()
    out = []
    for c in POINTS:
        s = chr(c)
        bits = [is_alone(digits, c), clean.normalize_str(s) == "" and c not in (0, 0xFFFD),
                is_alone(punctuation, c),
                nfd.normalize_str(s) == s and strip.normalize_str(s) == "",
                marks.normalize_str(s) == "",
                len(whitespace.pre_tokenize_str("a" + s + "a")) == 1]
        out.append(sum(1 << i for i, bit in enumerate(bits) if bit))
    return out


def ranges(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def items(points):
    """Class items for PCRE2."""
    return "".join("\\\\x{%X}" % a if a == b else "\\\\x{%X}-\\\\x{%X}" % (a, b)
                   for a, b in ranges(points))


def print_list(words, indent="    ", width=98):
    line = indent
    for word in words:
        if len(line) + len(word) + 1 > width:
            print(line.rstrip())
            line = indent
        line += word + " "
    print(line.rstrip())


def print_runs():
    values = flags()
    runs = []
    for c, value in zip(POINTS, values):
        if not runs or runs[-1][1] != value:
            runs.append((c, value))
    print("/* Runs of characters with equal flags: first character << 8 | flags. */")
    print("static const uint32_t unicode_runs[] = {")
    print_list("0x%x," % (c << 8 | value) for c, value in runs)
    print("};\n")


def print_lower():
    lower = normalizers.Lowercase()
    runs = []  # first, last, stride, delta
    for c in POINTS:
        s = lower.normalize_str(chr(c))
        if s == chr(c):
            continue
        if len(s) > 1:
            assert c == 0x130 and s == "i\u0307", hex(c)
            continue
        delta = ord(s) - c
        if runs and runs[-1][3] == delta:
            first, last, stride, _ = runs[-1]
            step = c - last
            if step in (1, 2) and (first == last or step == stride):
                runs[-1] = (first, c, step, delta)
                continue
        runs.append((c, c, 1, delta))
    print("/* first, last, stride, what to add; U+0130 is not here. */")
    print("static const struct lower_run lower_runs[] = {")
    print_list("{0x%x, 0x%x, %d, %d}," % run for run in runs)
    print("};\n")


def print_normalization():
    proc, nfd, nfkd = Utf8proc(), normalizers.NFD(), normalizers.NFKD()
    whole, compat, classes = set(), set(), set()
    for c in POINTS:
        s = chr(c)
        if nfd.normalize_str(s) != proc.decompose(c, False):
            assert nfd.normalize_str(s) == s
            whole.add(c)
        elif nfkd.normalize_str(s) != proc.decompose(c, True):
            assert nfkd.normalize_str(s) == s, hex(c)
            compat.add(c)
        # U+0334 has class 1: it moves in front of every higher class and of no starter.
        moved = c != 0x334 and nfd.normalize_str(s) == s and (
            nfd.normalize_str("a" + s + "\u0334")[1] == "\u0334")
        if c != 0x334 and nfd.normalize_str(s) == s and moved != (proc.combining_class(c) > 1):
            assert not moved
            classes.add(c)
    for name, comment, points in (
            ("undecomposed", "Characters that utf8proc decomposes and tokenizers does not.", whole),
            ("undecomposed_compat", "The same, in NFKC and NFKD only.", compat),
            ("starters", "Characters of combining class 0 in tokenizers, not in utf8proc.",
             classes)):
        print("/* %s */" % comment)
        print("static const struct char_range %s[] = {" % name)
        print_list("{0x%x, 0x%x}," % (a, b) for a, b in ranges(points))
        print("};\n")


def print_clusters():
    """Extend and SpacingMark, which show where a rule for "a" swallows the next character."""
    lib = Utf8proc().lib
    lib.utf8proc_grapheme_break.restype = ctypes.c_bool
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
        f.write("61\t62\n")
        f.flush()
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["bcde fghij klmno pqrst uvwxyz"] * 20), model_writer=model,
            vocab_size=60, hard_vocab_limit=False, minloglevel=2, normalization_rule_tsv=f.name)
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model.getvalue())
    rules = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    late = set()
    for c in POINTS:
        joins = rules.normalize_str("a" + chr(c)) == "b"
        if joins != (not lib.utf8proc_grapheme_break(ctypes.c_int32(0x61), ctypes.c_int32(c))):
            assert joins, hex(c)
            late.add(c)
    print("/* Characters that continue a grapheme cluster in tokenizers, not in utf8proc. */")
    print("static const struct char_range late_extenders[] = {")
    print_list("{0x%x, 0x%x}," % (a, b) for a, b in ranges(late))
    print("};\n")


def print_property(pcre2, name, base, pattern, long_name=None):
    want, have = onig(pattern), pcre2.points(base)
    # One code point, U+1171E, is Mc in Oniguruma and Mn in PCRE2 10.42.
    assert not have - want - {0x1171E}, (name, [hex(c) for c in sorted(have - want)][:9])
    extra = items(want - have)
    base = base.replace("\\", "\\\\")
    lines = [base]
    for item in extra.replace("\\\\x", " \\\\x").replace("- ", "-").split():
        if len(lines[-1]) + len(item) > 80:
            lines.append("")
        lines[-1] += item
    text = "\n     ".join('"%s"' % line for line in lines)
    print('    {"%s", "%s",\n     %s},' % (name, long_name or name, text))


def print_properties():
    pcre2 = Pcre2()
    print("/* Oniguruma's properties as items of a PCRE2 class: the property, then the characters"
          "\n * that came to it after PCRE2's Unicode. */")
    print("static const struct regex_property regex_properties[] = {")
    for short, long_name in CATEGORIES.items():
        p = r"\p{%s}" % short.capitalize()
        # ASCII members by themselves: PCRE2 finds those in a bitmap, before it asks a property.
        ascii_members = {"l": "A-Za-z", "n": "0-9", "nd": "0-9"}.get(short, "")
        print_property(pcre2, short, ascii_members + p, p, long_name)
    for name in SCRIPTS:
        print_property(pcre2, name.lower(), r"\p{sc:%s}" % name, r"\p{%s}" % name)
    derived = [("alphabetic", "alpha", r"\p{Alphabetic}"), ("uppercase", "upper", r"\p{Uppercase}"),
               ("lowercase", "lower", r"\p{Lowercase}"), ("emoji", "emoji", r"\p{Emoji}")]
    for name, other, p in derived:
        print_property(pcre2, name, p, p, other)
    spaces = r"\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}" \
             r"\x{3000}"
    print_property(pcre2, "whitespace", spaces, r"\s", "space")
    print_property(pcre2, "alnum", r"\p{Alphabetic}\p{Nd}", "[[:alnum:]]")
    print_property(pcre2, "punct", r"\p{P}\p{S}", "[[:punct:]]")
    print_property(pcre2, "word", r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}", "[[:word:]]")
    print_property(pcre2, "\\\\w", r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}", r"\w")
    print_property(pcre2, "blank", r"\x09\p{Zs}", "[[:blank:]]")
    print_property(pcre2, "xdigit", "0-9A-Fa-f", "[[:xdigit:]]")
    print("};")


def main():
    print("/* runtime/text/unicode/unicode_tables.h: generated by tests/parity/make_unicode_tables.py with\n"
          " * tokenizers 0.23.3, PCRE2 10.42 and utf8proc 2.8.0; do not edit.\n"
          " *\n"
          " * Included by the one file that uses a part, each part under its own macro. */")
    for macro, part in (("UNICODE_TABLES_PROPERTIES", lambda: (print_runs(), print_lower())),
                        ("UNICODE_TABLES_NORMALIZATION", print_normalization),
                        ("UNICODE_TABLES_CLUSTERS", print_clusters),
                        ("UNICODE_TABLES_REGEX", print_properties)):
        print("#ifdef %s" % macro)
        part()
        print("#endif /* %s */" % macro)


if __name__ == "__main__":
    main()
