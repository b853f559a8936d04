"""The tiny models: family x head x pooling x how the files are laid out. One row each.

Group.how, what the reference does with the net's output:
    pool       LAST, CLS, MEAN, ALL, STEP, or "model": the net pools by itself
    step_tag, columns           of STEP
    dimensions, normalize, act  in this order, after the Dense modules
"""
import json
from dataclasses import dataclass, field

import inputs


@dataclass
class Group:
    """Requests that one engine answers in one way."""
    name: str
    how: dict
    options: dict = field(default_factory=dict)  # of the engine
    params: dict = field(default_factory=dict)   # of each request
    inputs: str = "plain"                        # which inputs: inputs.py
    projections: str = "stored"                  # "bfloat16": layer matrices rounded to it


@dataclass
class Dense:
    n_out: int
    activation: str  # of torch.nn
    bias: bool


@dataclass
class SentenceTransformers:
    pooling: str  # cls, mean, lasttoken
    normalize: bool = True
    dense: tuple = ()
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: dict | None = None
    layout: str = "6.2"  # what sentence-transformers 6.2 saves, or "old": what 2.x and 3.x saved


@dataclass
class Model:
    name: str
    architecture: str
    tokenizer: str
    config: dict
    groups: list
    sentence_transformers: SentenceTransformers | None = None
    dtype: str = "float32"         # of the stored tensors
    inexact: str | None = None     # names that are not rounded to bfloat16 in a float32 checkpoint
    n_files: int = 1
    prefix: bool = True            # "bert." / "model." in front of names
    old_names: bool = False        # LayerNorm.gamma and .beta
    old_config: bool = False       # torch_dtype, rope_theta, rope_scaling: transformers 4
    extra: tuple = ()              # tensors that nothing needs
    must_matter: tuple = ()        # changes of the config that must change the answers
    config_extra: dict = field(default_factory=dict)  # fields that transformers does not write
    token_fields: dict = field(default_factory=dict)  # in place of the tokenizer's own


FAMILY = {"Bert": "bert", "Roberta": "roberta", "XLMRoberta": "xlm-roberta", "Qwen2": "qwen2",
          "Qwen3": "qwen3", "Llama": "llama", "Mistral": "mistral"}


def family_of(architecture):
    return next(FAMILY[k] for k in sorted(FAMILY, key=len, reverse=True)
                if architecture.startswith(k))


N_POSITIONS = 160

ENCODER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
               max_position_embeddings=N_POSITIONS, layer_norm_eps=1e-5)
ROBERTA = dict(ENCODER, max_position_embeddings=N_POSITIONS + 2, type_vocab_size=1)
DECODER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
               num_key_value_heads=2, max_position_embeddings=N_POSITIONS, rms_norm_eps=1e-5)
QWEN2_REWARD = dict(DECODER, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
QWEN3 = dict(DECODER, head_dim=16,
             rope_parameters={"rope_type": "default", "rope_theta": 1000000.0})
LLAMA3_ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5}
# The matrices inside the layers: what a 16-bit dtype rounds, whatever it does elsewhere.
PROJECTIONS = r"layers?\.\d+\..*(query|key|value|dense|_proj)\.weight$"


def pooler(**fields):
    return {"override-pooler-config": json.dumps(fields)}


def embed_group(pool, normalize=True, **kwargs):
    return Group("embed", {"pool": pool, "normalize": normalize}, {"task": "embed"},
                 inputs="plain+odd", **kwargs)


def auto_group(how, inputs="short"):
    """What the model is for, when nobody says."""
    return Group("auto", how, {"task": "auto"}, inputs=inputs)


def option_groups(pool):
    """Engine options that say what a request may say too."""
    how = {"pool": pool, "normalize": True}
    cut = {"max-model-len": str(inputs.OPTION_LIMIT), "truncate-prompt-tokens": "-1"}
    return [
        Group("dimensions option", dict(how, dimensions=9), {"task": "embed", "dimensions": "9"},
              inputs="short"),
        Group("cut by options", how, {"task": "embed", **cut}, inputs="cut right"),
        Group("cut left by options", how, {"task": "embed", "truncation-side": "left", **cut},
              inputs="cut left"),
        Group("no special tokens option", how, {"task": "embed", "add-special-tokens": "false"},
              inputs="bare"),
    ]


def pool_groups(pools=("CLS", "MEAN", "LAST", "ALL")):
    """Every pooling by override, and every parameter that a request for an embedding has."""
    groups = []
    for pool in pools:
        how = {"pool": pool, "normalize": False}
        groups.append(Group(f"pooler {pool}", how,
                            {"task": "embed", **pooler(pooling_type=pool, normalize=False)},
                            inputs="short" if pool == "ALL" else "plain"))
    groups.append(Group("new spelling", {"pool": "MEAN", "normalize": True},
                        {"task": "embed", **pooler(seq_pooling_type="MEAN", use_activation=True)},
                        inputs="short"))
    return groups


def request_groups(pool, normalize=True):
    options = {"task": "embed"}
    return [
        Group("normalize off", {"pool": pool}, options, {"normalize": 0}, "short"),
        Group("activation off", {"pool": pool}, options, {"use_activation": 0}, "short"),
        Group("dimensions", {"pool": pool, "normalize": normalize, "dimensions": 12}, options,
              {"dimensions": 12}, "short"),
    ]


def labels_1(act="sigmoid", inputs="pairs", pool="model"):
    """A head of one label: score with its activation, reward raw."""
    raw = {"pool": pool}
    is_decoder = inputs != "pairs"
    return [
        Group("score", {"pool": pool, "act": act}, {"task": "score"}, inputs=inputs),
        Group("score raw", raw, {"task": "score"}, {"use_activation": 0}, "few " + inputs),
        Group("reward", raw, {"task": "reward"}, inputs=inputs),
        Group("classify", {"pool": pool, "act": act}, {"task": "classify"}, inputs="few " + inputs),
        auto_group(raw if is_decoder else {"pool": pool, "act": act}, "few " + inputs),
    ]


PAIR_REWARD = Group("pair", {}, {"task": "reward"}, inputs="pairs")


def labels_n(act="softmax", other="sigmoid", inputs="plain+odd"):
    problem = {"sigmoid": "multi_label_classification", "softmax": "single_label_classification"}
    override = json.dumps({"problem_type": problem[other]})
    return [
        Group("classify", {"act": act}, {"task": "classify"}, inputs=inputs),
        auto_group({"act": act}),
        Group("classify raw", {}, {"task": "classify"}, {"use_activation": 0}, "short"),
        Group("softmax off", {}, {"task": "classify", **pooler(softmax=False)}, inputs="short"),
        Group("problem_type", {"act": other}, {"task": "classify", "hf-overrides": override},
              inputs="short"),
    ]


def bf16_group(name, how, options, inputs="plain"):
    return Group(name, how, dict(options, dtype="bfloat16"), inputs=inputs, projections="bfloat16")


def process_reward(tag, other_tag):
    by_id = {"task": "reward", **pooler(step_tag_id=tag)}
    step = {"pool": "STEP", "step_tag": tag}
    return [
        Group("steps", dict(step, act="softmax"), by_id, inputs="steps"),
        Group("steps raw", step, by_id, {"use_activation": 0}, "steps"),
        Group("softmax off", step, by_id, {"softmax": 0}, "steps"),
        Group("columns", dict(step, columns=[1, 0]), by_id,
              {"softmax": 0, "returned_token_ids": [1, 0]}, "steps"),
        Group("auto", dict(step, act="softmax"), {"task": "auto", **pooler(step_tag_id=tag)},
              inputs="steps"),
        Group("tag of the request", {"pool": "STEP", "step_tag": other_tag, "act": "softmax"},
              {"task": "reward"}, {"step_tag_id": other_tag}, "other steps"),
    ]


MODELS = [
    # ---- BERT ----
    Model("bert-st-mean", "BertModel", "bert_uncased", dict(ENCODER, layer_norm_eps=1e-12),
          [embed_group("MEAN"), auto_group({"pool": "MEAN", "normalize": True})]
          + request_groups("MEAN") + pool_groups(("CLS", "ALL"))
          + [bf16_group("bfloat16", {"pool": "MEAN", "normalize": True}, {"task": "embed"})],
          SentenceTransformers("mean", max_seq_length=96), inexact=PROJECTIONS,
          must_matter=({"hidden_act": "relu"},)),
    Model("bert-st-dense", "BertModel", "bert_cased", ENCODER,
          [embed_group("CLS"), *request_groups("CLS")],
          SentenceTransformers("cls", dense=(Dense(48, "Tanh", True), Dense(24, "Identity", False)),
                               max_seq_length=128, do_lower_case=True, layout="old",
                               prompts={"query": "query: ", "document": "passage: "}),
          dtype="bfloat16", old_config=True),
    Model("bert-plain", "BertModel", "bert_cased", dict(ENCODER, hidden_act="gelu_new"),
          [embed_group("CLS"), auto_group({"pool": "CLS", "normalize": True}),
           *request_groups("CLS"), *pool_groups(), *option_groups("CLS")],
          old_names=True, old_config=True, dtype="float16", extra=("cls.predictions.bias",),
          config_extra={"architectures": ["BertForPreTraining"]},
          must_matter=({"hidden_act": "gelu"}, {"layer_norm_eps": 1e-2})),
    Model("bert-classify-1", "BertForSequenceClassification", "bert_uncased",
          dict(ENCODER, num_labels=1), labels_1(act=None), dtype="bfloat16", old_config=True,
          config_extra={
              "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}),
    Model("bert-classify-3", "BertForSequenceClassification", "bert_cased",
          dict(ENCODER, num_labels=3), labels_n()
          + [Group("pairs", {"act": "softmax"}, {"task": "classify"}, inputs="pairs")],
          dtype="float16", n_files=2),
    # ---- RoBERTa ----
    Model("roberta-st-mean", "RobertaModel", "roberta_bpe", ROBERTA,
          [embed_group("MEAN", normalize=False), *pool_groups(("CLS", "LAST"))],
          SentenceTransformers("mean", normalize=False), dtype="bfloat16"),
    Model("roberta-plain", "RobertaModel", "roberta_bpe", dict(ROBERTA, hidden_act="relu"),
          [embed_group("CLS"), *request_groups("CLS"), *pool_groups()],
          dtype="bfloat16", prefix=False, must_matter=({"hidden_act": "gelu"},)),
    Model("roberta-classify-1", "RobertaForSequenceClassification", "roberta_bpe",
          dict(ROBERTA, num_labels=1, problem_type="regression"), labels_1(act=None)),
    Model("roberta-classify-3", "RobertaForSequenceClassification", "roberta_bpe",
          dict(ROBERTA, num_labels=3), labels_n(), dtype="float16", old_config=True),
    # ---- XLM-RoBERTa ----
    Model("xlmr-st-cls", "XLMRobertaModel", "xlmr_unigram", ROBERTA,
          [embed_group("CLS"), *request_groups("CLS"), *pool_groups(("MEAN", "ALL"))],
          SentenceTransformers("cls"), n_files=3, dtype="float16"),
    Model("xlmr-classify-1", "XLMRobertaForSequenceClassification", "xlmr_unigram",
          dict(ROBERTA, num_labels=1),
          labels_1() + [bf16_group("bfloat16", {"act": "sigmoid"}, {"task": "score"}, "pairs")],
          inexact=PROJECTIONS,
          config_extra={"sentence_transformers": {
              "activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "6.2.0"}}),
    Model("xlmr-classify-4", "XLMRobertaForSequenceClassification", "xlmr_unigram",
          dict(ROBERTA, num_labels=4, problem_type="multi_label_classification"),
          labels_n("sigmoid", "softmax"), dtype="bfloat16", old_config=True),
    # RoBERTa gives a pad token inside a text no position; another pad shifts the positions' table.
    Model("xlmr-pads", "XLMRobertaModel", "xlmr_unigram",
          dict(ROBERTA, type_vocab_size=2, max_position_embeddings=64 + 4),
          [Group("embed", {"pool": "MEAN", "normalize": True},
                 {"task": "embed", **pooler(pooling_type="MEAN")}, inputs="pads"),
           Group("pooler ALL", {"pool": "ALL"},
                 {"task": "embed", **pooler(pooling_type="ALL", normalize=False)}, inputs="pads")],
          dtype="bfloat16", token_fields={"pad_token_id": 3},
          must_matter=({"pad_token_id": 1},)),
    # ---- Qwen2 ----
    Model("qwen2-plain", "Qwen2Model", "qwen2_bpe",
          dict(DECODER, tie_word_embeddings=True,
               rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
          [embed_group("LAST"), *request_groups("LAST"), *pool_groups(("LAST", "MEAN", "ALL")),
           *option_groups("LAST"), auto_group({"pool": "LAST", "normalize": True}),
           bf16_group("bfloat16", {"pool": "LAST", "normalize": True}, {"task": "embed"})],
          inexact=PROJECTIONS, old_config=True,
          # As the hub's files: a window that is switched off.
          config_extra={"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1},
          must_matter=({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},)),
    Model("qwen2-window", "Qwen2Model", "qwen2_bpe",
          dict(DECODER, num_hidden_layers=3, use_sliding_window=True, sliding_window=12,
               max_window_layers=1,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          [embed_group("LAST"), *pool_groups(("MEAN", "ALL"))],
          dtype="bfloat16", old_config=True,
          must_matter=({"use_sliding_window": False, "layer_types": None}, {"sliding_window": 11},
                       {"max_window_layers": 2, "layer_types": None})),
    Model("qwen2-classify-1", "Qwen2ForSequenceClassification", "qwen2_bpe",
          dict(QWEN2_REWARD, num_labels=1), labels_1(inputs="plain+odd"), dtype="bfloat16"),
    Model("qwen2-classify-3", "Qwen2ForSequenceClassification", "qwen2_bpe",
          dict(QWEN2_REWARD, num_labels=3), labels_n(), dtype="float16", old_config=True,
          n_files=2),
    Model("qwen2-reward", "Qwen2ForRewardModel", "qwen2_bpe", dict(QWEN2_REWARD, num_labels=1),
          [Group("reward", {"pool": "ALL"}, {"task": "reward"}, inputs="plain+odd"),
           auto_group({"pool": "ALL"}),
           Group("pooler LAST", {"pool": "LAST"},
                 {"task": "reward", **pooler(pooling_type="LAST")}),
           bf16_group("bfloat16", {"pool": "ALL"}, {"task": "reward"})],
          old_config=True, inexact=PROJECTIONS, extra=("lm_head.weight",)),
    Model("qwen2-process-reward", "Qwen2ForProcessRewardModel", "qwen2_bpe",
          dict(QWEN2_REWARD, num_labels=2), [], dtype="bfloat16", old_config=True,
          extra=("lm_head.weight",)),
    # As gte-Qwen2: a decoder that reads both ways.
    Model("qwen2-both-ways", "Qwen2Model", "qwen2_bpe",
          dict(QWEN2_REWARD, hidden_size=50, num_attention_heads=5, num_key_value_heads=1,
               intermediate_size=65, is_causal=False),
          [embed_group("LAST"), *pool_groups(("MEAN",))], dtype="bfloat16",
          must_matter=({"is_causal": True},)),
    # ---- Qwen3 ----
    Model("qwen3-st-last", "Qwen3Model", "qwen2_bpe", QWEN3,
          [embed_group("LAST"), auto_group({"pool": "LAST", "normalize": True}),
           *request_groups("LAST"), *pool_groups(("ALL",))],
          SentenceTransformers("lasttoken", prompts={
              "query": "Instruct: Given a query, retrieve passages\nQuery:", "document": ""}),
          dtype="bfloat16", config_extra={"architectures": ["Qwen3ForCausalLM"]}),
    Model("qwen3-window", "Qwen3Model", "qwen2_bpe",
          dict(QWEN3, num_hidden_layers=3, use_sliding_window=True, sliding_window=20,
               layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
          [embed_group("LAST"), *pool_groups(("MEAN",))], dtype="bfloat16", prefix=False,
          must_matter=({"layer_types": ["full_attention"] * 3}, {"sliding_window": 21})),
    Model("qwen3-classify-1", "Qwen3ForSequenceClassification", "qwen2_bpe",
          dict(QWEN3, num_labels=1), labels_1(inputs="plain+odd"), old_config=True,
          dtype="bfloat16"),
    Model("qwen3-classify-3", "Qwen3ForSequenceClassification", "qwen2_bpe",
          dict(QWEN3, num_labels=3, attention_bias=True), labels_n(), dtype="float16"),
    # ---- Llama ----
    Model("llama-plain", "LlamaModel", "llama3_bpe",
          dict(DECODER, attention_bias=True, mlp_bias=True,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          [embed_group("LAST"), *request_groups("LAST"), *pool_groups(("MEAN", "ALL")),
           *option_groups("LAST")],
          dtype="bfloat16", must_matter=({"hidden_act": "gelu"}, {"rms_norm_eps": 0.05})),
    Model("llama-llama3", "LlamaModel", "llama3_bpe",
          dict(DECODER, head_dim=16, rope_parameters=LLAMA3_ROPE),
          [embed_group("LAST"), *pool_groups(("MEAN",))], dtype="bfloat16", old_config=True,
          prefix=False,
          must_matter=({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
                       {"rope_parameters": dict(LLAMA3_ROPE, original_max_position_embeddings=128)},
                       {"rope_parameters": dict(LLAMA3_ROPE, high_freq_factor=3.0)})),
    Model("llama-linear", "LlamaModel", "llama3_bpe", dict(DECODER, rope_parameters=LINEAR_ROPE),
          [embed_group("LAST"), auto_group({"pool": "LAST", "normalize": True}),
           *pool_groups(("MEAN",))], dtype="bfloat16", extra=("lm_head.weight",),
          config_extra={"architectures": ["LlamaForCausalLM"]},
          must_matter=({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},)),
    Model("llama-classify-1", "LlamaForSequenceClassification", "llama3_bpe",
          dict(DECODER, num_labels=1, head_dim=16, rope_parameters=LLAMA3_ROPE),
          labels_1(inputs="plain+odd") + [PAIR_REWARD],
          dtype="bfloat16", old_config=True, n_files=2),
    # A decoder's score is read at the last token that is not pad. Shapes that no vector divides.
    Model("llama-pads", "LlamaForSequenceClassification", "llama3_bpe",
          dict(DECODER, num_labels=1, hidden_size=45, num_attention_heads=3, num_key_value_heads=1,
               head_dim=10, intermediate_size=33, hidden_act="gelu_pytorch_tanh", mlp_bias=True,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          [Group("reward", {}, {"task": "reward"}, inputs="pads"),
           Group("score", {"act": "sigmoid"}, {"task": "score"}, inputs="pads")],
          dtype="bfloat16", must_matter=({"pad_token_id": None},)),
    Model("llama-classify-3", "LlamaForSequenceClassification", "llama3_bpe",
          dict(DECODER, num_labels=3, num_key_value_heads=4, rope_parameters=LINEAR_ROPE),
          labels_n(), dtype="float16"),
    # ---- Mistral ----
    Model("mistral-st-last", "MistralModel", "mistral_bpe",
          dict(DECODER, sliding_window=16,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          [embed_group("LAST"), *request_groups("LAST")],
          SentenceTransformers("lasttoken", max_seq_length=N_POSITIONS, layout="old"),
          dtype="bfloat16", old_config=True,
          must_matter=({"sliding_window": None}, {"sliding_window": 15}, {"sliding_window": 17})),
    Model("mistral-plain", "MistralModel", "mistral_metaspace_bpe",
          dict(DECODER, sliding_window=None, head_dim=16,
               rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
          [embed_group("LAST"), *pool_groups(("MEAN", "ALL"))], dtype="bfloat16",
          must_matter=({"sliding_window": 64},)),
    Model("mistral-classify-1", "MistralForSequenceClassification", "mistral_bpe",
          dict(DECODER, num_labels=1, sliding_window=24, num_key_value_heads=1,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          labels_1(inputs="plain+odd") + [PAIR_REWARD], dtype="float16"),
    Model("mistral-classify-2", "MistralForSequenceClassification", "mistral_metaspace_bpe",
          dict(DECODER, num_labels=2, sliding_window=16,
               rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
          labels_n(), dtype="bfloat16", old_config=True),
]
