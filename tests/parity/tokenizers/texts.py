"""Strings that tokenizers stumble over, made from a seed: the same seed gives the same strings."""
import os
import random
import unicodedata

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCKS = [
    (0x20, 0x7E), (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2AF), (0x2B0, 0x2FF), (0x370, 0x3FF),
    (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F),
    (0x780, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F), (0xB80, 0xBFF),
    (0xC00, 0xC7F), (0xD00, 0xD7F), (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x13A0, 0x13FF),
    (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F),
    (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x214F), (0x2150, 0x218F), (0x2190, 0x21FF),
    (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x25FF), (0x2600, 0x27BF), (0x2C60, 0x2C7F),
    (0x2E80, 0x2FDF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x312F), (0x3130, 0x318F),
    (0x3200, 0x33FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA48F), (0xA640, 0xA69F),
    (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0xFE30, 0xFE4F),
    (0xFE70, 0xFEFF), (0xFF00, 0xFFEF), (0x10000, 0x100FF), (0x10330, 0x1034F),
    (0x10400, 0x1044F), (0x12000, 0x1204F), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F),
    (0x1F000, 0x1F0FF), (0x1F100, 0x1F2FF), (0x1F300, 0x1F64F), (0x1F680, 0x1F6FF),
    (0x1F900, 0x1FAFF), (0x20000, 0x2A6DF), (0x30000, 0x3134A), (0xE0000, 0xE007F),
    (0xE000, 0xF8FF),
]
MARKS = [c for c in range(0x300, 0x370)] + [
    0x483, 0x591, 0x5B0, 0x64B, 0x651, 0x670, 0x93C, 0x94D, 0x9BC, 0xE31, 0xE47, 0x1AB0, 0x1DC4,
    0x20D0, 0x20E3, 0x3099, 0x309A, 0xFE20]
EMOJI = [
    "👩‍💻", "👨‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "❤️", "❤", "🇩🇪", "🇯🇵🇧🇷", "#️⃣", "1️⃣", "👁️‍🗨️", "🧑🏿‍🚀", "🤷‍♀️", "☺️",
    "🏴\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", "😀", "\u200d", "\ufe0f", "🏽"]
SPACES = list(" \t\n\r\x0b\x0c\x1c\x1d\x85\xa0\u1680\u2000\u2003\u2009\u200b\u2028\u2029\u202f"
              "\u205f\u2060\u3000\ufeff\u180e") + ["\r\n", "  ", "   ", "\n\n", " \n", "\n ", "\t\t"]
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<extra_0>", "<s>", "</s>", "<unk>", "<pad>",
    "<mask>", "[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]", "<|begin_of_text|>", "<|eot_id|>",
    "<|end_of_text|>", "<|start_header_id|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
    "<|reserved_special_token_7|>", "<0x0A>", "<0xE2>", "▁", "▁▁", "Ġ", "##", "##s", "@@", "</w>"]
CODE = [
    "def f(x, *, y=None) -> int:\n    return x if y is None else x ** y\n",
    "for (size_t i = 0; i < n; ++i) {\n\tsum += a[i] * b[i]; // dot\n}\n",
    '{"key": [1, 2.5e-3, null], "näme": "vàlue"}', "SELECT * FROM t WHERE a='x' AND b<>3;",
    "<div class=\"a-b\">&nbsp;&lt;text&gt;</div>", "x = y?.z ?? `${w}`; /* ok */",
    "https://example.org/a/b?c=d&e=%20f#g", "user.name+tag@example.co.uk", "C:\\dir\\file.txt",
    "0xDEADBEEF 0b1010 1_000_000 3.14159 1e-9 12,345.67 £5 $6.00 50%", "a_b-c.d/e\\f|g~h^i",
    "\\frac{a}{b} \\sum_{i=0}^{n} x_i^2", "I'm you're he's we'll they'd it's I've DON'T O'Neil",
    "''s 'S 'Ll ’s ’t", "!!! ??? ... --- *** === ((()))", "\x1b[31mred\x1b[0m", "\x00\x01\x7f\x80",
]


def chars(r, n):
    low, high = r.choice(BLOCKS)
    return "".join(chr(r.randint(low, high)) for _ in range(n))


def any_chars(r, n):
    out = []
    while len(out) < n:
        c = r.choice([r.randint(0, 0x2FF), r.randint(0, 0xFFFF), r.randint(0, 0x10FFFF)])
        if not 0xD800 <= c <= 0xDFFF:
            out.append(chr(c))
    return "".join(out)


def words(r, corpus, n):
    line = r.choice(corpus)
    begin = r.randrange(len(line))
    return line[begin:begin + n]


def marked(r, n):
    base = chars(r, n)
    return "".join(c + "".join(chr(r.choice(MARKS)) for _ in range(r.choice([0, 0, 1, 1, 2, 3])))
                   for c in base)


def run(r, n):
    c = r.choice([r.choice("a e0.=- _\n\t\"'#▁Ġ "), chars(r, 1), r.choice(EMOJI), "ab", " a", "\n "])
    return c * n


def recased(r, corpus):
    text = words(r, corpus, r.randint(1, 60))
    return r.choice([text.upper(), text.title(), text.swapcase(), unicodedata.normalize("NFD", text),
                     unicodedata.normalize("NFKC", text), text.replace(" ", ""), text[::-1]])


def piece(r, corpus):
    kind = r.randrange(12)
    if kind <= 2:
        return words(r, corpus, r.randint(1, 80))
    if kind == 3:
        return chars(r, r.randint(1, 12))
    if kind == 4:
        return marked(r, r.randint(1, 6))
    if kind == 5:
        return r.choice(EMOJI) * r.choice([1, 1, 2])
    if kind == 6:
        return "".join(r.choice(SPACES) for _ in range(r.randint(1, 5)))
    if kind == 7:
        return r.choice(["", " ", "\n"]) + r.choice(SPECIAL) + r.choice(["", " ", "  ", "\n"])
    if kind == 8:
        return r.choice(CODE)
    if kind == 9:
        return any_chars(r, r.randint(1, 8))
    if kind == 10:
        return recased(r, corpus)
    return "".join(r.choice("0123456789٣४五Ⅷ½²,. ") for _ in range(r.randint(1, 12)))


def generate(seed, n):
    """n strings; the first ones are fixed."""
    r = random.Random(seed)
    with open(os.path.join(HERE, "small", "corpus.txt"), encoding="utf-8") as f:
        corpus = [line for line in f.read().splitlines() if line]
    texts = ["", " ", "  ", "\n", "a", "é", "\u0301", "\U0001F600", *corpus, *CODE, *SPECIAL, *EMOJI]
    while len(texts) < n:
        if r.random() < 0.02:
            texts.append(run(r, r.choice([3, 17, 64, 99, 100, 101, 300, 1000])))
        else:
            glue = r.choice(["", "", " ", " ", "  ", "\n"])
            texts.append(glue.join(piece(r, corpus) for _ in range(r.choice([1, 1, 2, 3, 4, 8]))))
    return texts[:n]
