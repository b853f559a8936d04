"""Writes model folders in the layouts that real models come in."""
import json
import os
import re
import shutil

import tokenizers
import torch
import transformers
import safetensors.torch
from torch import nn

import weights
from reference import RewardModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OLD_VERSION = "4.37.2"  # what old layouts say wrote them


def build_net(model):
    """The module, its weights drawn later."""
    if model.architecture in ("Qwen2ForRewardModel", "Qwen2ForProcessRewardModel"):
        return RewardModel(transformers.Qwen2Config(**model.config))
    cls = getattr(transformers, model.architecture)
    config = cls.config_class(**model.config)
    encoders = ("bert", "roberta", "xlm-roberta")
    if model.architecture.endswith("Model") and config.model_type in encoders:
        return cls(config, add_pooling_layer=False)
    return cls(config)


def token_fields(tokenizer_path):
    """Vocabulary and special ids of the configuration, as the tokenizer has them."""
    tokenizer = tokenizers.Tokenizer.from_file(tokenizer_path)
    fields = {"vocab_size": tokenizer.get_vocab_size(with_added_tokens=True)}
    pads = ("[PAD]", "<pad>", "<|endoftext|>", "<|reserved_special_token_0|>")
    for key, names in (("pad_token_id", pads),
                       ("bos_token_id", ("<s>", "<|begin_of_text|>")),
                       ("eos_token_id", ("</s>", "<|im_end|>", "<|end_of_text|>"))):
        ids = [tokenizer.token_to_id(n) for n in names if tokenizer.token_to_id(n) is not None]
        fields[key] = ids[0] if ids else None
    return fields


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=2)
        f.write("\n")


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def old_layout(config):
    """A configuration as transformers 4 wrote it."""
    config = dict(config)
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = OLD_VERSION
    config.pop("layer_types", None)
    rope = dict(config.pop("rope_parameters", None) or {})
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        if rope["rope_type"] == "linear":  # older than "rope_type"
            rope = {"type": "linear", "factor": rope["factor"]}
        if rope.get("rope_type") != "default":
            config["rope_scaling"] = rope
    return config


def write_config(model, net, folder):
    config = json.loads(net.config.to_json_string(use_diff=True))
    config["architectures"] = [model.architecture]
    config["dtype"] = model.dtype
    if model.old_config:
        config = old_layout(config)
        if model.config.get("use_sliding_window"):
            config["sliding_window"] = model.config["sliding_window"]
            config["max_window_layers"] = model.config["max_window_layers"]
    config.update(model.config_extra)
    write_json(os.path.join(folder, "config.json"), config)


def tensor_name(model, net, name):
    base = getattr(net, "base_model_prefix", "")
    is_base = model.architecture.endswith("Model") and not isinstance(net, RewardModel)
    if is_base and model.prefix and model.sentence_transformers is None:
        name = f"{base}.{name}"
    if model.old_names:
        name = re.sub(r"(LayerNorm)\.weight$", r"\1.gamma", name)
        name = re.sub(r"(LayerNorm)\.bias$", r"\1.beta", name)
    return name


def save_file(tensors, path):
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def write_weights(model, net, folder):
    dtype = DTYPES[model.dtype]
    tensors = {tensor_name(model, net, k): v.detach().to(dtype).contiguous()
               for k, v in net.named_parameters()}
    for name in model.extra:
        tensors[name] = torch.full((2, 3), 7.0, dtype=dtype)
    names = sorted(tensors)
    if model.n_files == 1:
        save_file(tensors, os.path.join(folder, "model.safetensors"))
        return
    where = {}
    for i in range(model.n_files):
        file = f"model-{i + 1:05}-of-{model.n_files:05}.safetensors"
        part = {n: tensors[n] for n in names[i::model.n_files]}
        save_file(part, os.path.join(folder, file))
        where.update({n: file for n in part})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))})


def write_tokenizer(model, source, folder):
    tokenizer = read_json(source)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tokenizer, f, ensure_ascii=False, separators=(",", ":"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": n_limit(model)}
    pads = ("[PAD]", "<pad>", "<|endoftext|>", "<|end_of_text|>", "</s>")
    for key, names in (("pad_token", pads),
                       ("unk_token", ("[UNK]", "<unk>"))):
        added = {t["content"] for t in tokenizer["added_tokens"]}
        config.update({key: n for n in reversed(names) if n in added})
    if model.architecture.startswith("Bert"):
        config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    write_json(os.path.join(folder, "tokenizer_config.json"), config)


def n_limit(model):
    positions = model.config["max_position_embeddings"]
    if model.architecture.startswith(("Roberta", "XLMRoberta")):
        positions -= model.config.get("pad_token_id", 1) + 1
    st = model.sentence_transformers
    return min(positions, st.max_seq_length) if st and st.max_seq_length else positions


def make_dense(model):
    """Dense modules as torch, and as sentence-transformers has them."""
    out, n_in = [], model.config["hidden_size"]
    for dense in model.sentence_transformers.dense if model.sentence_transformers else ():
        linear = nn.Linear(n_in, dense.n_out, bias=dense.bias)
        weights.fill(linear, f"{model.name} dense {len(out)}", 1.0, DTYPES[model.dtype])
        out.append(nn.Sequential(linear, getattr(nn, dense.activation)()))
        n_in = dense.n_out
    return out


def write_sentence_transformers(model, dense, folder):
    """Has sentence-transformers itself write the folder; for the old layout rewrites its files."""
    import sentence_transformers.sentence_transformer.modules as modules
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    st = model.sentence_transformers
    plain = folder + ".plain"
    os.rename(folder, plain)
    parts = [Transformer(plain),
             modules.Pooling(model.config["hidden_size"], pooling_mode=st.pooling)]
    for module in dense:
        linear, activation = module
        parts.append(Dense(linear.in_features, linear.out_features, linear.bias is not None,
                           activation, linear.weight.detach(),
                           linear.bias.detach() if linear.bias is not None else None))
    if st.normalize:
        parts.append(Normalize())
    SentenceTransformer(modules=parts, prompts=st.prompts, device="cpu").save(folder)
    os.remove(os.path.join(folder, "README.md"))
    if st.layout == "old":
        shutil.copy(os.path.join(plain, "tokenizer.json"), folder)
        shutil.copy(os.path.join(plain, "tokenizer_config.json"), folder)
        rewrite_old(model, dense, folder)
    for name in os.listdir(plain):  # our layout of the weights and of the configuration
        if name.startswith("model") or name == "config.json":
            shutil.copy(os.path.join(plain, name), folder)
    if model.n_files > 1:
        os.remove(os.path.join(folder, "model.safetensors"))
    for parent, _, names in os.walk(folder):
        for name in names:
            os.chmod(os.path.join(parent, name), 0o644)
    shutil.rmtree(plain)


def rewrite_old(model, dense, folder):
    """The files as sentence-transformers 2 wrote them: sentence_transformers.models.*, booleans."""
    st = model.sentence_transformers
    types = ["Transformer", "Pooling"] + ["Dense"] * len(dense) + ["Normalize"] * st.normalize
    listed = []
    for i, entry in enumerate(read_json(os.path.join(folder, "modules.json"))):
        listed.append({"idx": i, "name": str(i), "path": entry["path"],
                       "type": f"sentence_transformers.models.{types[i]}"})
    write_json(os.path.join(folder, "modules.json"), listed)
    write_json(os.path.join(folder, "1_Pooling", "config.json"), {
        "word_embedding_dimension": model.config["hidden_size"],
        **{f"pooling_mode_{long}": st.pooling == short for long, short in (
            ("cls_token", "cls"), ("mean_tokens", "mean"), ("max_tokens", "max"),
            ("mean_sqrt_len_tokens", "sqrt"), ("weightedmean_tokens", "weighted"),
            ("lasttoken", "lasttoken"))}})
    write_json(os.path.join(folder, "sentence_bert_config.json"),
               {"max_seq_length": st.max_seq_length, "do_lower_case": st.do_lower_case})
    shutil.rmtree(os.path.join(folder, f"{len(dense) + 2}_Normalize"), ignore_errors=True)
    for i, module in enumerate(dense):
        linear, activation = module
        write_json(os.path.join(folder, f"{i + 2}_Dense", "config.json"), {
            "in_features": linear.in_features, "out_features": linear.out_features,
            "bias": linear.bias is not None,
            "activation_function": "torch.nn.modules."
            + ("linear" if isinstance(activation, nn.Identity) else "activation")
            + f".{type(activation).__name__}"})
    if st.prompts is None:
        os.remove(os.path.join(folder, "config_sentence_transformers.json"))
    else:
        write_json(os.path.join(folder, "config_sentence_transformers.json"), {
            "__version__": {"sentence_transformers": "2.7.0", "transformers": OLD_VERSION,
                            "pytorch": "2.2.0"},
            "prompts": st.prompts, "default_prompt_name": None})
