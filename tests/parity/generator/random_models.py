"""Random rows of table.Model, and random requests to them: what differential.py compares."""
import table
from texts import PAIRS, TEXTS

TOKENIZERS = {"bert": ("bert_uncased", "bert_cased"), "roberta": ("roberta_bpe",),
              "xlm-roberta": ("xlmr_unigram",), "qwen2": ("qwen2_bpe",), "qwen3": ("qwen2_bpe",),
              "llama": ("llama3_bpe", "mistral_bpe"),
              "mistral": ("mistral_bpe", "mistral_metaspace_bpe")}
NAMES = {v: k for k, v in table.FAMILY.items()}
ENCODERS = ("bert", "roberta", "xlm-roberta")
ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu", "gelu_pytorch_tanh", "gelu_fast", "tanh")
EPSILONS = (1e-12, 1e-8, 1e-6, 1e-5, 1e-3, 0.1)


def rope(rng, n_positions):
    theta = rng.choice([100.0, 10000.0, 500000.0, 1e6])
    kind = rng.choice(["default", "linear", "llama3"])
    out = {"rope_type": kind, "rope_theta": theta}
    if kind != "default":
        out["factor"] = rng.choice([1.0, 2.0, 2.5, 8.0, 32.0])
    if kind == "llama3":
        low = rng.choice([1.0, 0.5, 2.0])
        out.update(low_freq_factor=low, high_freq_factor=low * rng.choice([2.0, 4.0, 1.5]),
                   original_max_position_embeddings=rng.choice([16, 64, 100, n_positions]))
    return out


def windows(rng, family, config):
    """Sliding windows as each family writes them."""
    size, n_layers = rng.choice([1, 2, 3, 7, 16, 31, 64, 500]), config["num_hidden_layers"]
    if family == "mistral":
        config["sliding_window"] = rng.choice([None, size, size])
    elif family in ("qwen2", "qwen3") and rng.random() < 0.6:
        config.update(use_sliding_window=True, sliding_window=size,
                      max_window_layers=rng.randint(0, n_layers))
        if rng.random() < 0.5:
            config["layer_types"] = [rng.choice(["sliding_attention", "full_attention"])
                                     for _ in range(n_layers)]


def decoder_config(rng, family, scale):
    n_kv = rng.choice([1, 1, 2, 3])
    n_heads = n_kv * rng.choice([1, 2, 3, 5])
    head_dim = rng.choice([8, 10, 14, 16, 24, 32, 40, 64, 66, 96, 128, 192, 256])
    hidden = head_dim * n_heads
    if family in ("qwen3", "mistral") and rng.random() < 0.6:
        hidden = rng.choice([17, 20, 33, 50, 64, 100, 129])
    if family == "llama" and rng.random() < 0.4:
        hidden = n_heads * rng.choice([3, 8, 11, 17])
    n_positions = rng.choice([40, 96, 160, 333])
    config = dict(hidden_size=hidden, num_attention_heads=n_heads, num_key_value_heads=n_kv,
                  num_hidden_layers=rng.randint(1, 4),
                  intermediate_size=rng.choice([1, 7, 33, 48, 65, 130, 257]) * scale,
                  max_position_embeddings=n_positions, rms_norm_eps=rng.choice(EPSILONS),
                  rope_parameters=rope(rng, n_positions), hidden_act=rng.choice(ACTIVATIONS))
    if family != "qwen2" or hidden != head_dim * n_heads:
        config["head_dim"] = head_dim
    if family == "llama":
        config.update(attention_bias=rng.random() < 0.5, mlp_bias=rng.random() < 0.5)
    if family == "qwen3":
        config["attention_bias"] = rng.random() < 0.5
    windows(rng, family, config)
    has_window = config.get("sliding_window") is not None
    if not has_window and rng.random() < 0.25:
        config["is_causal"] = False  # as gte-Qwen2: read both ways
    config["tie_word_embeddings"] = rng.random() < 0.5
    return config


def encoder_config(rng, family, vocab, scale):
    n_heads = rng.choice([1, 2, 3, 5])
    head_dim = rng.choice([4, 7, 8, 11, 16, 20, 32, 48, 64, 100, 129])
    pad = 0 if family == "bert" else rng.choice([1, 1, 0, 3, 5])
    n_positions = rng.choice([40, 96, 160, 333])
    return dict(hidden_size=n_heads * head_dim, num_attention_heads=n_heads,
                num_hidden_layers=rng.randint(1, 4),
                intermediate_size=rng.choice([1, 7, 33, 48, 65, 130, 257]) * scale,
                max_position_embeddings=n_positions + (0 if family == "bert" else pad + 1),
                layer_norm_eps=rng.choice(EPSILONS), hidden_act=rng.choice(ACTIVATIONS),
                type_vocab_size=2 if family == "bert" else rng.choice([1, 2]), pad_token_id=pad)


def dense_chain(rng):
    return tuple(table.Dense(rng.choice([1, 5, 17, 32, 70]), rng.choice(
        ["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"]), rng.random() < 0.5)
        for _ in range(rng.choice([0, 0, 1, 2, 3])))


def sentence_transformers(rng, n_limit):
    layout = rng.choice(["6.2", "old"])
    prompts = rng.choice([None, {"default": "query: ", "other": "no"}, {"default": "Ünd 的 "}])
    return table.SentenceTransformers(
        rng.choice(["cls", "mean", "lasttoken"]), normalize=rng.random() < 0.6,
        dense=dense_chain(rng), max_seq_length=rng.choice([None, n_limit, max(n_limit // 2, 20)]),
        do_lower_case=layout == "old" and rng.random() < 0.5, prompts=prompts, layout=layout)


def head(rng, family):
    """Architecture suffix and fields."""
    kind = rng.choice(["Model", "Model", "ForSequenceClassification", "ST"])
    if family == "qwen2" and rng.random() < 0.2:
        return "ForRewardModel", {"num_labels": 1}
    if kind != "ForSequenceClassification":
        return kind, {}
    fields = {"num_labels": rng.choice([1, 1, 2, 3, 7])}
    if rng.random() < 0.5:  # transformers refuses single_label_classification of one label
        fields["problem_type"] = rng.choice(["regression", "multi_label_classification"]
                                            + ["single_label_classification"]
                                            * (fields["num_labels"] > 1))
    return kind, fields


def model(rng, name, token_fields, families=tuple(TOKENIZERS), wide=False):
    """token_fields(tokenizer): vocabulary and special ids. wide: sizes of real models."""
    family = rng.choice(families)
    tokenizer = rng.choice(TOKENIZERS[family])
    fields = token_fields(tokenizer)
    scale = 3 if wide else 1
    encoder = family in ENCODERS
    config = dict(fields, **(encoder_config(rng, family, fields["vocab_size"], scale) if encoder
                             else decoder_config(rng, family, scale)))
    suffix, head_fields = head(rng, family)
    config.update(head_fields)
    st = None
    if suffix == "ST":
        suffix = "Model"
        st = sentence_transformers(rng, config["max_position_embeddings"] - (
            config["pad_token_id"] + 1 if family in ("roberta", "xlm-roberta") else 0))
    sixteen = rng.random() < 0.2
    return table.Model(
        name, NAMES[family] + suffix, tokenizer, config, [], sentence_transformers=st,
        dtype="float32" if sixteen else rng.choice(["float32", "bfloat16", "float16"]),
        inexact=table.PROJECTIONS if sixteen else None, n_files=rng.choice([1, 1, 2, 3]),
        prefix=rng.random() < 0.5, old_names=encoder and rng.random() < 0.2,
        old_config="layer_types" not in config and rng.random() < 0.5)


def ids_request(rng, config, n_limit, special):
    n = rng.choice([1, 1, 2, 3, rng.randint(1, n_limit), rng.randint(1, n_limit), n_limit])
    ids = [rng.randrange(config["vocab_size"]) for _ in range(n)]
    for _ in range(rng.choice([0, 0, 1, 3, 8])):
        ids[rng.randrange(n)] = rng.choice(special)
    if rng.random() < 0.2:
        ids[-1] = rng.choice(special)
    return {"tokens": ids}


def requests(rng, model, n_limit, n):
    """What to ask: fields of pr_request, without parameters."""
    special = [v for k, v in model.config.items() if k.endswith("token_id") and v is not None]
    out = []
    for _ in range(n):
        kind = rng.random()
        if kind < 0.55:
            out.append(ids_request(rng, model.config, n_limit, special or [0]))
        elif kind < 0.85 or "Sequence" not in model.architecture:
            text = " ".join(rng.choice(TEXTS) for _ in range(rng.choice([1, 1, 2, 4])))
            out.append({"text": text[rng.choice([0, 0, 3]):]})
        else:
            out.append(dict(zip(("text", "text_pair"), rng.choice(PAIRS))))
        if rng.random() < 0.3:
            out.append(dict(rng.choice(out)))
    return out
