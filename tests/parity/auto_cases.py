"""Tokenizer folders with what may stand beside a tokenizer.json, drawn or enumerated.

A case: {"base": file in tokenizers/small, "patch": sections of it to replace, "files": {"config":
tokenizer_config.json, "special_map", "added", "arguments", "model_type", "model_class"}}.
"""
import copy
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = os.path.join(HERE, "tokenizers", "small")

BASES = {"BertTokenizer": ["bert_uncased.json", "bert_cased.json"],
         "DistilBertTokenizer": ["bert_uncased.json"],
         "RobertaTokenizer": ["roberta_bpe.json"],
         "XLMRobertaTokenizer": ["xlmr_unigram.json"],
         "Qwen2Tokenizer": ["qwen2_bpe.json"],
         "LlamaTokenizer": ["mistral_metaspace_bpe.json", "mistral_bpe.json"],
         "PreTrainedTokenizerFast": ["llama3_bpe.json", "mistral_bpe.json", "bert_uncased.json"]}
MODELS = {"BertTokenizer": "bert", "DistilBertTokenizer": "bert", "RobertaTokenizer": "roberta",
          "XLMRobertaTokenizer": "xlm-roberta", "Qwen2Tokenizer": "qwen2",
          "LlamaTokenizer": "llama", "PreTrainedTokenizerFast": "llama"}
MODEL_TYPES = [None, "bert", "roberta", "xlm-roberta", "qwen2", "qwen3", "llama", "mistral"]
CLASS_NAMES = list(BASES) + ["BertTokenizerFast", "XLMRobertaTokenizerFast", "LlamaTokenizerFast",
                             "Qwen2TokenizerFast", "RobertaTokenizerFast", "BartTokenizer",
                             "MobileBertTokenizer", "TokenizersBackend", "NobodysTokenizer"]

TEXTS = ["", " ", "Hello world", "  Hello,  World! ", "\u00c9t\u00e9 \u00e0 la pl\u00e0ge na\u00efve",
         "\u4e2d\u6587\u5b57 text\u4e2d", "a <mask> b<mask>c  <mask>  d", "x [MASK] y[MASK] [SEP]z",
         "<s>in</s> <|endoftext|> <|im_end|>\n", "new<new1>ish <new2> tok newtok <img>", "\tTab\nline  \u00df",
         "\u2581under e\u0301 \ufb01ne"]
PAIRS = [["Hello world", "the second"], ["", "b <mask>"], ["\u00c9t\u00e9", ""]]

TOKENS = {"bert": ["[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]"],
          "other": ["<mask>", "<s>", "</s>", "<pad>", "<unk>", "<|endoftext|>"]}
ATTRIBUTES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
              "mask_token"]
FLAGS = ["single_word", "lstrip", "rstrip", "normalized", "special"]


def base_tokens(base):
    with open(os.path.join(SMALL, base), encoding="utf-8") as f:
        return json.load(f)["added_tokens"]


def decoder_of(base):
    """added_tokens_decoder as save_pretrained writes it."""
    return {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in base_tokens(base)}


def token(content, **flags):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "rstrip": False,
            "normalized": False, "single_word": False, "special": True, **flags}


def fields(base):
    """One by one: what a tokenizer_config.json may say, with values that matter."""
    names = TOKENS["bert" if base.startswith("bert") else "other"]
    known = decoder_of(base)
    moved = {k: {**v, "lstrip": True} for k, v in known.items()}
    plain = {k: {**v, "special": False, "normalized": True} for k, v in known.items()}
    more = {**known, "900": token("<new1>"), "901": token("newtok", special=False, normalized=True),
            "902": token("<new2>", lstrip=True, rstrip=True)}
    for entry in more.values():
        entry.pop("__type", None)
    half = dict(list(known.items())[::2])
    out = [("do_lower_case", [True, False, None]), ("strip_accents", [True, False, None]),
           ("tokenize_chinese_chars", [True, False]), ("add_prefix_space", [True, False, None]),
           ("trim_offsets", [True, False]), ("legacy", [True, False, None]),
           ("add_bos_token", [True, False]), ("add_eos_token", [True, False]),
           ("split_special_tokens", [True, False]),
           ("model_input_names", [["input_ids", "attention_mask"],
                                  ["input_ids", "token_type_ids", "attention_mask"]]),
           ("added_tokens_decoder", [known, moved, plain, more, half, {}]),
           ("extra_special_tokens", [["<new1>", "<new2>"], {"image_token": "<img>"}, [],
                                     [token("<new2>", lstrip=True)]]),
           ("additional_special_tokens", [["<new1>"], [token("<new1>", rstrip=True)], []]),
           ("image_token", ["<img>", token("<img>", lstrip=True)]),
           ("clean_up_tokenization_spaces", [True]), ("use_default_system_prompt", [False]),
           ("padding_side", ["left"]), ("errors", ["strict"]), ("use_fast", [False]),
           ("never_split", [["<new1>"]]), ("do_basic_tokenize", [False]),
           ("word_max_length", [3]), ("backend", ["tokenizers"]), ("is_local", [False]),
           ("sp_model_kwargs", [{}]), ("spaces_between_special_tokens", [True])]
    for attribute in ATTRIBUTES:
        out.append((attribute, [names[0], "<new1>", None, token(names[0], lstrip=True),
                                token("<new2>", normalized=True, special=False)]))
    return out


def special_maps(base):
    names = TOKENS["bert" if base.startswith("bert") else "other"]
    plain = {k: v for k, v in token(names[0], lstrip=True).items() if k != "__type"}
    return [{"mask_token": plain}, {"eos_token": "<new1>", "pad_token": "<new1>"},
            {"additional_special_tokens": ["<new1>", "<new2>"]}, {"unk_token": names[0]},
            {"extra_special_tokens": [{"content": "<new2>", "rstrip": True}, "<new1>"]},
            {"add_bos_token": True, "bos_token": "<s>"}, {"image_token": "<img>"}]


ADDED = [{"<new1>": 901, "newtok": 900}, {"<img>": 5000}]
ARGUMENTS = [{"add_eos_token": True, "eos_token": "</s>"}, {"add_bos_token": True, "bos_token": "<s>"},
             {"do_lower_case": False}, {"model_max_length": 16}, {"mask_token": "<new1>"},
             {"add_prefix_space": True}, {"add_bos_token": False, "add_eos_token": False}]
PATCHES = [{"post_processor": None},
           {"padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "<new1>"}},
           {"normalizer": None}, {"normalizer": {"type": "Lowercase"}}, {"added_tokens": []}]


def case(base, config=None, model_type=None, **rest):
    files = {"config": config, "model_type": model_type}
    patch = rest.pop("patch", None)
    files.update(rest)
    out = {"base": base, "files": {k: v for k, v in files.items() if v is not None}}
    if patch is not None:
        out["patch"] = patch
    return copy.deepcopy(out)


def enumerate_cases():
    """Every class with every value of every field alone, and what chooses the class."""
    for name, bases in BASES.items():
        for base in bases:
            yield case(base, {"tokenizer_class": name}, MODELS[name])
            yield case(base, None, MODELS[name])
            for key, values in fields(base):
                for value in values:
                    yield case(base, {"tokenizer_class": name, key: value}, MODELS[name])
            config = {"tokenizer_class": name}
            for special_map in special_maps(base):
                yield case(base, config, MODELS[name], special_map=special_map)
            for added in ADDED:
                yield case(base, config, MODELS[name], added=added)
            for arguments in ARGUMENTS:
                yield case(base, config, MODELS[name], arguments=arguments)
            for patch in PATCHES:
                yield case(base, config, MODELS[name], patch=patch)
    for model_type in MODEL_TYPES:
        for name in CLASS_NAMES:
            for base in ("bert_uncased.json", "roberta_bpe.json", "xlmr_unigram.json",
                         "mistral_metaspace_bpe.json"):
                yield case(base, {"tokenizer_class": name}, model_type)
    # Objects of tokenizer_config.json are no tokens yet where added_tokens.json asks for special
    # ones; those of special_tokens_map.json are.
    extra = [token("<new1>", rstrip=True)]
    for name, base in (("BertTokenizer", "bert_uncased.json"), ("LlamaTokenizer", "mistral_bpe.json")):
        for key in ("extra_special_tokens", "additional_special_tokens"):
            yield case(base, {"tokenizer_class": name, key: extra}, MODELS[name], added=ADDED[0])
            yield case(base, {"tokenizer_class": name}, MODELS[name], added=ADDED[0],
                       special_map={key: [{"content": "<new1>", "rstrip": True}]})
        yield case(base, {"tokenizer_class": name, "pad_token": extra[0]}, MODELS[name],
                   added=ADDED[0])
    for name in ("BertTokenizer", "LlamaTokenizerFast"):
        for model_type in ("bert", "llama", "mistral"):
            yield case("bert_uncased.json", {}, model_type, model_class=name)


def draw(rng):
    """A folder with several fields at once."""
    name = rng.choice(list(BASES))
    base = rng.choice(BASES[name])
    model_type = MODELS[name] if rng.random() < 0.6 else rng.choice(MODEL_TYPES)
    config = {}
    if rng.random() < 0.85:
        config["tokenizer_class"] = name if rng.random() < 0.7 else rng.choice(CLASS_NAMES)
    for key, values in rng.sample(fields(base), rng.randint(0, 7)):
        config[key] = rng.choice(values)
    if rng.random() < 0.5:
        decoder = decoder_of(base)
        for entry in decoder.values():
            for flag in FLAGS:
                if rng.random() < 0.15:
                    entry[flag] = rng.random() < 0.5
        for i in range(rng.randint(0, 3)):
            content = rng.choice(["<new1>", "<new2>", "newtok", "<img>", "the", " b"])
            decoder[str(rng.randint(0, 2000))] = {
                "content": content, **{f: rng.random() < 0.4 for f in FLAGS}}
        if rng.random() < 0.3 and decoder:
            decoder.pop(rng.choice(list(decoder)))
        config["added_tokens_decoder"] = decoder
    rest = {}
    if rng.random() < 0.3:
        rest["special_map"] = rng.choice(special_maps(base))
    if rng.random() < 0.2:
        rest["added"] = rng.choice(ADDED)
    if rng.random() < 0.2:
        rest["arguments"] = rng.choice(ARGUMENTS)
    if rng.random() < 0.2:
        rest["patch"] = rng.choice(PATCHES)
    if rng.random() < 0.1:
        rest["model_class"] = rng.choice(CLASS_NAMES[:-1])
    return case(base, config, model_type, **rest)
