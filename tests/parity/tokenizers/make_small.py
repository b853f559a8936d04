"""Makes the small tokenizers of every kind that the tests and the tiny models use.

    /path/to/python make_small.py [OUTPUT_FOLDER]        (default: small/ beside this script)

Made with tokenizers 0.23.3 and sentencepiece 0.2.3 from small/corpus.txt. A second
run may order ties differently: the committed files are the fixtures, this script says where they
come from.
"""
import json
import os
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
CORPUS = os.path.join(HERE, "small", "corpus.txt")
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Rules of the small Precompiled charsmap: from → to, code points in hex as SentencePiece reads them.
CHARSMAP = {
    "\u00a0": " ", "\u3000": " ", "\u2003": " ", "\t": " ", "\n": " ", "\r": " ", "\u200b": " ",
    "\u00ad": "", "\ufeff": "", "\ufb01": "fi", "\ufb02": "fl", "½": "1⁄2", "²": "2", "…": "...",
    "№": "No", "\u212b": "\u00c5", "e\u0301": "\u00e9", "E\u0301": "\u00c9",
    "u\u0308": "\u00fc", "o\u0308": "\u00f6", "a\u0308": "\u00e4", "n\u0303": "\u00f1", "ㅎ": "ᄒ", "ｶ": "カ", "ｶ\uff9e": "ガ", "㎏": "kg", "Ⅳ": "IV",
    **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},
}


def lines():
    with open(CORPUS, encoding="utf-8") as f:
        return f.read().splitlines()


def special(text, **flags):
    return AddedToken(text, special=True, normalized=flags.pop("normalized", False), **flags)


def bert(lowercase):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(lines(), trainers.WordPieceTrainer(
        vocab_size=900, limit_alphabet=280,
        special_tokens=[special(n) for n in names], show_progress=False))
    if lowercase:
        t.post_processor = processors.TemplateProcessing(
            single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    else:
        t.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return json.loads(t.to_str())


def roberta():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    t.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=600, special_tokens=[special(n, normalized=True) for n in names],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([special("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return json.loads(t.to_str())


def charsmap_and_pieces():
    """A SentencePiece training gives the charsmap; the pieces come from tokenizers' own trainer."""
    with tempfile.TemporaryDirectory() as folder:
        rules = os.path.join(folder, "rules.tsv")
        with open(rules, "w", encoding="utf-8") as f:
            for source, target in CHARSMAP.items():
                hexes = [" ".join(f"{ord(c):X}" for c in s) for s in (source, target)]
                f.write("\t".join(hexes) + "\n")
        prefix = os.path.join(folder, "m")
        sentencepiece.SentencePieceTrainer.train(
            input=CORPUS, model_prefix=prefix, vocab_size=700, hard_vocab_limit=False,
            normalization_rule_tsv=rules, num_threads=1, minloglevel=2,
            bos_id=0, pad_id=1, eos_id=2, unk_id=3)
        from sentencepiece import sentencepiece_model_pb2 as proto
        m = proto.ModelProto()
        with open(prefix + ".model", "rb") as f:
            m.ParseFromString(f.read())
    return m.normalizer_spec.precompiled_charsmap, [(p.piece, p.score) for p in m.pieces]


def xlm_roberta():
    charsmap, pieces = charsmap_and_pieces()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    assert [p for p, _ in pieces[:4]] == names
    vocab = [(p, round(score, 5)) for p, score in pieces] + [("<mask>", 0.0)]
    t = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=False))
    t.normalizer = normalizers.Precompiled(charsmap)
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    t.decoder = decoders.Metaspace()
    t.add_special_tokens([special(n) for n in names] + [special("<mask>", lstrip=True)])
    t.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)])
    return json.loads(t.to_str())


def byte_level_trained(split, n_vocab):
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=n_vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return t


def qwen2():
    t = byte_level_trained(QWEN2_SPLIT, 600)
    t.add_special_tokens([special(n) for n in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<extra_0>")])
    t.add_tokens([AddedToken("<tool_call>", normalized=False),
                  AddedToken("</tool_call>", normalized=False)])
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    return json.loads(t.to_str())


def llama3():
    t = byte_level_trained(LLAMA3_SPLIT, 560)
    t.normalizer = None
    j = json.loads(t.to_str())
    vocab = j["model"]["vocab"]
    # Whole words that no merge leads to: only ignore_merges finds them.
    for word in (" harbourmaster", " morning's", " tidewater", "你好", " мир", "  \n", "1987"):
        alphabet = byte_alphabet()
        vocab.setdefault("".join(alphabet[b] for b in word.encode()), len(vocab))
    j["model"]["ignore_merges"] = True
    t = Tokenizer.from_str(json.dumps(j))
    t.add_special_tokens([special(n) for n in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>", "<|reserved_special_token_0|>")])
    bos = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(
            single="<|begin_of_text|>:0 $A:0",
            pair="<|begin_of_text|>:0 $A:0 <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", bos)])])
    return json.loads(t.to_str())


def byte_alphabet():
    """GPT-2's map from a byte to a printable character."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def sentencepiece_bpe(metaspace):
    """Llama 2 and Mistral: SentencePiece BPE, bytes for what the vocabulary lacks."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    t.train_from_iterator(lines(), trainers.BpeTrainer(
        vocab_size=420, limit_alphabet=150, show_progress=False))
    j = json.loads(t.to_str())
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trained = sorted(j["model"]["vocab"], key=j["model"]["vocab"].get)
    merged = [p for p in trained if len(p) > 1]
    pieces += merged + [p for p in trained if len(p) == 1]
    j["model"].update(vocab={p: i for i, p in enumerate(pieces)}, byte_fallback=True,
                      fuse_unk=True, unk_token="<unk>")
    t = Tokenizer.from_str(json.dumps(j))
    t.pre_tokenizer = None
    if metaspace:
        t.normalizer = None
        t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    t.add_special_tokens([special(n) for n in ("<unk>", "<s>", "</s>")])
    t.post_processor = processors.TemplateProcessing(
        single="<s>:0 $A:0", pair="<s>:0 $A:0 <s>:1 $B:1", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return json.loads(t.to_str())


KINDS = {
    "bert_uncased": lambda: bert(True),
    "bert_cased": lambda: bert(False),
    "roberta_bpe": roberta,
    "xlmr_unigram": xlm_roberta,
    "qwen2_bpe": qwen2,
    "llama3_bpe": llama3,
    "mistral_bpe": lambda: sentencepiece_bpe(False),
    "mistral_metaspace_bpe": lambda: sentencepiece_bpe(True),
}


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "small")
    os.makedirs(folder, exist_ok=True)
    for name, make in KINDS.items():
        tokenizer = make()
        path = os.path.join(folder, name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(tokenizer, f, ensure_ascii=False, indent=0)
            f.write("\n")
        Tokenizer.from_file(path)
        vocab = tokenizer["model"]["vocab"]
        print(f"{name}: {len(vocab)} entries, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
