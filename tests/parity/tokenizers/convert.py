"""Converts what fetch.py left to tokenizer.json files, with tokenizers 0.23.3 and sentencepiece 0.2.3.

    python convert.py CACHE_FOLDER

Leaves CACHE_FOLDER/real/{minilm, qwen2, llama3, mistral, mistral_metaspace}.json. A file that is newer
than its source is kept.
"""
import base64
import json
import os
import shutil
import sys

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors

from make_small import LLAMA3_SPLIT, QWEN2_SPLIT, byte_alphabet, special

QWEN2_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]
QWEN2_PLAIN = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
]
LLAMA3_SPECIAL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
]


def read_tiktoken(path):
    with open(path, "rb") as f:
        rows = [line.split() for line in f if line.strip()]
    return {base64.b64decode(token): int(rank) for token, rank in rows}


def last_merge(ranks, token):
    """The two parts of a token: what byte pair encoding makes of it just before it is whole."""
    parts = [token[i:i + 1] for i in range(len(token))]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        i = pairs.index(min(pairs))
        parts[i:i + 2] = [parts[i] + parts[i + 1]]
    return parts


def splits(token, vocab):
    return [(token[:i], token[i:]) for i in range(1, len(token))
            if token[:i] in vocab and token[i:] in vocab]


def byte_level_bpe(ranks, every_split, **options):
    """every_split: all pairs that make a token become merges, as in Llama 3's own tokenizer.json."""
    alphabet = byte_alphabet()
    names = {token: "".join(alphabet[b] for b in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        if len(token) == 1:
            continue
        if every_split:
            pairs = sorted(splits(token, ranks), key=lambda p: (ranks[p[0]], ranks[p[1]]))
        else:
            pairs = [last_merge(ranks, token)]
        merges += [(names[a], names[b]) for a, b in pairs]
    vocab = {names[token]: rank for token, rank in ranks.items()}
    return Tokenizer(models.BPE(vocab, merges, **options))


def split_then_bytes(split):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def qwen2(source):
    t = byte_level_bpe(read_tiktoken(source), every_split=False)
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = split_then_bytes(QWEN2_SPLIT)
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([special(s) for s in QWEN2_SPECIAL])
    t.add_tokens([AddedToken(s, normalized=False) for s in QWEN2_PLAIN])
    return t


def llama3(source):
    t = byte_level_bpe(read_tiktoken(source), every_split=True, ignore_merges=True)
    t.pre_tokenizer = split_then_bytes(LLAMA3_SPLIT)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([special(s) for s in LLAMA3_SPECIAL])
    t.add_special_tokens(
        [special(f"<|reserved_special_token_{i}|>") for i in range(2, 256 - len(LLAMA3_SPECIAL) + 2)])
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single="<|begin_of_text|>:0 $A:0",
            pair="<|begin_of_text|>:0 $A:0 <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", t.token_to_id("<|begin_of_text|>"))])])
    return t


def mistral(source, metaspace=False):
    proto = sentencepiece_model_pb2.ModelProto()
    with open(source, "rb") as f:
        proto.ParseFromString(f.read())
    vocab = {p.piece: i for i, p in enumerate(proto.pieces)}
    scored = []
    for p in proto.pieces:
        pairs = sorted(splits(p.piece, vocab), key=lambda ab: (vocab[ab[0]], vocab[ab[1]]))
        scored += [(p.score, a, b) for a, b in pairs]
    scored.sort(key=lambda row: -row[0])
    t = Tokenizer(models.BPE(vocab, [(a, b) for _, a, b in scored], unk_token="<unk>",
                             fuse_unk=True, byte_fallback=True))
    if metaspace:
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        t.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.add_special_tokens([special(s) for s in ("<unk>", "<s>", "</s>")])
    t.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return t


KINDS = {
    "minilm": ("minilm.json", None),
    "qwen2": ("qwen.tiktoken", qwen2),
    "llama3": ("llama3.model", llama3),
    "mistral": ("mistral.model", mistral),
    "mistral_metaspace": ("mistral.model", lambda source: mistral(source, metaspace=True)),
}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    cache = sys.argv[1]
    os.makedirs(os.path.join(cache, "real"), exist_ok=True)
    for name, (source_name, convert) in KINDS.items():
        source = os.path.join(cache, source_name)
        target = os.path.join(cache, "real", name + ".json")
        if not os.path.exists(target) or os.path.getmtime(target) < os.path.getmtime(source):
            if convert is None:
                shutil.copyfile(source, target + ".part")
            else:
                convert(source).save(target + ".part", pretty=False)
            os.replace(target + ".part", target)
        with open(target, encoding="utf-8") as f:
            model = json.load(f)["model"]
        print(f"{name}: {len(model['vocab'])} tokens, {len(model.get('merges', []))} merges, "
              f"{os.path.getsize(target)} bytes")


if __name__ == "__main__":
    main()
