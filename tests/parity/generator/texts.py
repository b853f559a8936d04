"""The texts that the tiny models are asked about: many scripts, odd spacing, special tokens."""

# Short enough for a model of 160 positions under a byte-level tokenizer of 600 entries.
TEXTS = [
    "The harbour was quiet before the morning boats came in.",
    "Каждое утро идёт дождь, и река вниз",
    "Κάθε πρωί ο σκύλος ανοίγει",
    "في كل صباح، كيف حال الخبز؟",
    "בכל בוקר הלחם, מה שלומך",
    "हर सुबह रोटी, आप कैसे हैं",
    "每天早上面包很短，我们去公园。",
    "毎朝、パンは静かです。カタカナも",
    "매일 아침 빵이 세계로 여러분",
    "ทุกเช้าคนทำขนม ยินดี",
    "family 👨‍👩‍👧‍👦 and flags 🏳️‍🌈 🇩🇪 👍🏽",
    "def f(x):\n\tif x > 0:\n\t\treturn {'a': x**2}  # why?\n",
    "tabs\there\t\tand\nnew lines\r\nand   runs    of spaces",
    "  leading and trailing  ",
    "a",
    "I",
    "?",
    "UPPER lower MiXeD ÄÖÜ ñ é e\u0301 ﬁ ½ №",
    "1987, 3.14159, 1e-5, 0xFF, +49 30 123456",
    "don't we'll they're it's",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "https://example.org/a?b=c&d=%20e#f and me@example.org",
    "The harbour was quiet before the evening boats came in.",
    "\u200bzero\u00a0width\u3000and wide\u2026",
]

# Token-wise answers are as long as the text: these keep the golden files small.
SHORT = [0, 2, 7, 10, 14, 19]

# A query and documents for cross-encoders.
PAIRS = [
    ("When do the boats come in?", "The harbour was quiet before the morning boats came in."),
    ("When do the boats come in?", "Bread is made of flour, water and salt."),
    ("где запах хлеба", "Каждое утро запах хлеба идёт вниз по улице."),
    ("面包怎么样", "每天早上面包的香味很好。"),
    ("아침", "매일 아침 빵 냄새가 난다."),
    ("בוקר", "في كل صباح الخبز"),
    ("code?", "for (int i = 0; i < n; i++) {\n\tsum += x[i];\n}"),
    ("👍🏽", "family 👨‍👩‍👧‍👦"),
    ("a", "b"),
    ("What is 2+2?", "4"),
    ("tabs\tand\nlines", "  spaces  "),
    ("a longer question about the tide and the wind over the water", "no"),
]

# Steps of an answer, each ended by the tag (filled in for {tag}).
STEPS = [
    "First we add two and two.{tag} Then we have four.{tag}",
    "So x² = 4.{tag}\nTherefore x = 2 or x = -2.{tag}\nThe answer is 2.{tag}",
    "One step only{tag}",
    "{tag}",
    "这一步是对的。{tag}下一步。{tag} и всё{tag} the end without a tag",
    "a{tag}b{tag}c{tag}d{tag}e{tag}",
]

FILLER = (
    "The tide turned and the wind over the water came from the north; boats, nets and men "
    "went out again before the light was gone. "
)


def with_special_tokens(names):
    """Special tokens of the tokenizer, written inside a text."""
    return f"before {names[0]} between{names[1]}after  {names[0]}"


def near_limit(encode, n_tokens):
    """A text of exactly n_tokens (with what the tokenizer adds), or just below."""
    text, i = "", 0
    words = FILLER.split(" ")
    while len(encode((text + " " + words[i % len(words)]).strip())) <= n_tokens:
        text = (text + " " + words[i % len(words)]).strip()
        i += 1
    while len(encode(text + "a.")) <= n_tokens:
        text += "a."
    return text
