"""The requests of a tiny model, each with the ids that Hugging Face tokenizers gives it."""
from dataclasses import dataclass, field

from tokenizers import Tokenizer, normalizers

import texts

SPECIAL = {"bert": ["[SEP]", "[MASK]"], "roberta": ["</s>", "<mask>"],
           "xlm-roberta": ["</s>", "<mask>"],
           "qwen2": ["<|im_end|>", "<tool_call>"], "qwen3": ["<|im_end|>", "<tool_call>"],
           "llama": ["<|eot_id|>", "<|reserved_special_token_0|>"], "mistral": ["</s>", "<s>"]}


OPTION_LIMIT = 24  # --max-model-len of the groups that cut by options


@dataclass
class Request:
    kinds: set                     # which Group.inputs take it
    text: str | None = None
    pair: str | None = None
    tokens: list | None = None
    params: dict = field(default_factory=dict)
    limit: int | None = None       # what engine options cut it to, and where
    side: str = "right"
    special: bool = True           # engine options may ask for no special tokens
    ids: list = field(default_factory=list)
    types: list = field(default_factory=list)

    def as_json(self):
        out = {"text": self.text, "text_pair": self.pair, "tokens": self.tokens, **self.params}
        return {**{k: v for k, v in out.items() if v is not None}, "ids": self.ids}


class Encoder:
    def __init__(self, path, lowercase):
        self.tokenizer = Tokenizer.from_file(path)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        if lowercase:  # as sentence-transformers does it for do_lower_case
            parts = [normalizers.Lowercase()]
            if self.tokenizer.normalizer is not None:
                parts.append(self.tokenizer.normalizer)
            self.tokenizer.normalizer = normalizers.Sequence(parts)

    def encode(self, request, limit=None, side="right"):
        if limit is not None:
            self.tokenizer.enable_truncation(limit, direction=side)
        try:
            return self.tokenizer.encode(
                request.text, request.pair,
                add_special_tokens=request.special
                and request.params.get("add_special_tokens", 1) != 0)
        finally:
            self.tokenizer.no_truncation()

    def ids(self, text):
        return self.tokenizer.encode(text).ids


def single_requests(encoder, family, n_limit):
    out = []
    for i, text in enumerate(texts.TEXTS):
        kinds = {"plain"} | ({"short"} if i in texts.SHORT else set())
        out.append(Request(kinds | ({"few plain+odd"} if i < 3 else set()), text))
    out.append(Request({"plain", "short"}, texts.with_special_tokens(SPECIAL[family])))
    out.append(Request({"plain"}, texts.near_limit(encoder.ids, n_limit)))
    return out


def odd_requests(encoder, n_limit):
    """Cut texts, token ids in place of text, no special tokens."""
    long = " ".join(texts.TEXTS[i] for i in (0, 1, 17, 6, 18, 22, 4, 9, 11))
    cut = [Request({"odd"}, long, params={"truncate_prompt_tokens": n, "truncation_side": side})
           for n, side in ((-1, 0), (10, 0), (10, 1))]
    bare = Request({"odd"}, texts.TEXTS[0], params={"add_special_tokens": 0})
    tokens = encoder.ids(texts.TEXTS[2])
    return cut + [bare, Request({"odd"}, tokens=tokens[1:] + tokens[:5])]


def pad_requests(pad, vocab):
    """Token ids with the pad token where no padding is: inside, at both ends, alone."""
    rows = [[5, 9, pad, 7, 30, pad, pad, 8], [pad, 11, 12, 13], [40, 41, 42, pad], [pad],
            [pad] * 5, [50, pad, pad], [3, 4, 5, 6, 7],
            [pad if i % 3 == 0 else i % vocab for i in range(60)]]
    return [Request({"pads"}, tokens=row) for row in rows]


def option_requests():
    """The engine's options cut these or leave out special tokens; the requests say nothing."""
    long = " ".join(texts.TEXTS[i] for i in (0, 6, 18, 22))
    return [Request({"cut right"}, long, limit=OPTION_LIMIT),
            Request({"cut right"}, texts.TEXTS[14], limit=OPTION_LIMIT),
            Request({"cut left"}, long, limit=OPTION_LIMIT, side="left"),
            Request({"bare"}, texts.TEXTS[0], special=False),
            Request({"bare"}, texts.TEXTS[10], special=False)]


def pair_requests():
    out = [Request({"pairs"} | ({"few pairs"} if i < 3 else set()), a, b)
           for i, (a, b) in enumerate(texts.PAIRS)]
    query, document = texts.PAIRS[0][0], texts.TEXTS[0] + " " + texts.TEXTS[22]
    out.append(Request({"pairs"}, query, document,
                       params={"truncate_prompt_tokens": 24, "truncation_side": 0}))
    return out


def step_requests(tag, kind):
    return [Request({kind}, text.replace("{tag}", tag)) for text in texts.STEPS]


def fill_ids(encoder, requests, n_limit):
    """Ids of each request; leaves out what the model cannot take."""
    kept = []
    for request in requests:
        if request.tokens is not None:
            request.ids, request.types = request.tokens, [0] * len(request.tokens)
        else:
            n = request.params.get("truncate_prompt_tokens", request.limit)
            side = "left" if request.params.get("truncation_side") == 1 else request.side
            encoding = encoder.encode(request, n_limit if n == -1 else n, side)
            request.ids, request.types = encoding.ids, encoding.type_ids
        assert request.ids, request.text
        if len(request.ids) <= n_limit:
            kept.append(request)
    return kept
