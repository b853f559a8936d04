#!/usr/bin/env python3
"""Makes the tiny models of tests/parity/models and their golden answers.

    python make_fixtures.py [--output DIR] [NAME…]      (default: every model, into models/)

Needs the pinned packages of requirements.txt. Fixed seeds: a second run gives the same bytes.
The golden numbers are float64's, rounded to float32; README.md beside this file says why.
"""
import argparse
import copy
import json
import os
import re
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "generator"))

import numpy as np  # noqa: E402
import safetensors  # noqa: E402
import sentence_transformers  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import files  # noqa: E402
import inputs  # noqa: E402
import reference  # noqa: E402
import table  # noqa: E402
import weights  # noqa: E402

F32_BOUND = 3e-6        # float32 transformers against float64, or the fixture is refused
MATTERS = 1e-3          # what leaving out a class of tensors must change at least
MATTERS_CONFIG = 5e-5   # what a changed field of the configuration must change at least
VERSIONS = {m.__name__: m.__version__.split("+")[0] for m in (
    torch, transformers, sentence_transformers, tokenizers, safetensors, np)}


def load_f32(model, net, folder):
    """What transformers makes of the files; for the two architectures that it lacks, our module."""
    if isinstance(net, reference.RewardModel):
        net.model.config._attn_implementation = "eager"
        return net
    args = {}
    if model.architecture in ("BertModel", "RobertaModel", "XLMRobertaModel"):
        args["add_pooling_layer"] = False
    loaded, info = type(net).from_pretrained(folder, dtype=torch.float32, output_loading_info=True,
                                             attn_implementation="eager", **args)
    assert not info["missing_keys"] and not info["mismatched_keys"], info
    theirs = dict(loaded.named_parameters())
    for key, tensor in net.named_parameters():
        assert torch.equal(theirs[key], tensor), f"{key}: read back differently"
    return loaded


def has_types(model):
    return model.architecture.startswith("Bert")


def make_requests(model, folder, limit):
    st = model.sentence_transformers
    encoder = inputs.Encoder(os.path.join(folder, "tokenizer.json"), bool(st and st.do_lower_case))
    family = table.family_of(model.architecture)
    all_kinds = " ".join(g.inputs for g in model.groups)
    requests = []
    if "plain" in all_kinds or "short" in all_kinds:
        requests += inputs.single_requests(encoder, family, limit)
    if "odd" in all_kinds:
        requests += inputs.odd_requests(encoder, limit)
    if "cut" in all_kinds:
        requests += inputs.option_requests()
    if "pairs" in all_kinds:
        requests += inputs.pair_requests()
    if "pads" in all_kinds:
        requests += inputs.pad_requests(model.config["pad_token_id"], model.config["vocab_size"])
    if "steps" in all_kinds:
        requests += inputs.step_requests("<extra_0>", "steps")
        requests += inputs.step_requests("<|im_end|>", "other steps")
    kept = inputs.fill_ids(encoder, requests, limit)
    used = {k for g in model.groups for k in kinds_of(g)}
    return [r for r in kept if r.kinds & used]


def kinds_of(group):
    return {"plain", "odd"} if group.inputs == "plain+odd" else {group.inputs}


def round_projections(net):
    net = copy.deepcopy(net)
    with torch.no_grad():
        for key, tensor in net.named_parameters():
            if re.search(table.PROJECTIONS, key):
                tensor.copy_(tensor.to(torch.bfloat16).float())
    return net


def check_liveliness(pipeline, group, requests):
    """Every class of tensors must move the answers."""
    sample = [r for r in requests if r.kinds & kinds_of(group)][:8]
    before = [pipeline.rows(r.ids, r.types, group.how) for r in sample]
    least = (np.inf, None)
    modules = [pipeline.net, *pipeline.dense]
    for module in modules:
        for which in sorted({weights.tensor_class(k) for k, _ in module.named_parameters()}):
            if weights.WITHOUT_EFFECT.search(which):
                continue
            undo = weights.neutralized(module, which)
            moved = max(reference.error(pipeline.rows(r.ids, r.types, group.how), b)
                        for r, b in zip(sample, before))
            undo()
            assert moved > MATTERS, f"without {which} the answers move by {moved:.1e} only"
            least = min(least, (moved, which))
    return least


def check_config_matters(model, pipeline, group, requests, folder):
    sample = [r for r in requests if r.kinds & kinds_of(group)]
    for change in model.must_matter:
        config = copy.deepcopy(pipeline.net.config)
        if "layer_types" in change and change["layer_types"] is None:
            fields = dict(model.config, **change)
            config = type(config)(**fields)
        else:
            for key, value in change.items():
                setattr(config, key, value)
        config._attn_implementation = "eager"
        other = type(pipeline.net)(config)
        other.load_state_dict(pipeline.net.state_dict(), strict=False)
        changed = reference.Pipeline(other, pipeline.has_types, pipeline.dense)
        moved = max(reference.error(changed.rows(r.ids, r.types, group.how),
                                    pipeline.rows(r.ids, r.types, group.how)) for r in sample)
        assert moved > MATTERS_CONFIG, f"{change}: the answers move by {moved:.1e} only"


def check_sentence_transformers(model, pipeline, requests, folder):
    """Ids and embeddings of sentence-transformers itself."""
    st = sentence_transformers.SentenceTransformer(folder, device="cpu",
                                                   model_kwargs={"dtype": torch.float32})
    group, worst = model.groups[0], 0.0
    for r in requests:
        if r.kinds & {"plain"}:
            theirs = st.preprocess([r.text])["input_ids"][0].tolist()
            assert theirs == r.ids, f"{r.text!r}: sentence-transformers {theirs}, here {r.ids}"
            worst = max(worst, reference.error(st.encode([r.text]),
                                               pipeline.rows(r.ids, r.types, group.how)))
    assert worst < F32_BOUND, worst
    return worst


def check_cross_encoder(pipeline, group, requests, folder):
    ce = sentence_transformers.CrossEncoder(folder, device="cpu",
                                            model_kwargs={"dtype": torch.float32})
    for r in requests:
        if r.kinds & {"few pairs"}:
            theirs = ce.predict([(r.text, r.pair)])
            assert reference.error(theirs.reshape(1, -1),
                                   pipeline.rows(r.ids, r.types, group.how)) < F32_BOUND


def answer(group, requests, f32, f64):
    """Golden rows of a group, and how far float32 transformers is from them."""
    rows, worst = [], 0.0
    for i, r in enumerate(requests):
        if r.kinds & kinds_of(group):
            exact = f64.rows(r.ids, r.types, group.how)
            assert reference.is_finite(exact)
            worst = max(worst, reference.error(f32.rows(r.ids, r.types, group.how), exact))
            rows.append((i, exact.astype(np.float32)))
    assert rows, group.name
    return rows, worst


def make_once(model, gain, tokenizer, folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model.config.update(dict(files.token_fields(tokenizer), **model.token_fields))
    files.write_tokenizer(model, tokenizer, folder)
    limit = files.n_limit(model)
    if model.architecture == "Qwen2ForProcessRewardModel":
        tag, other = (tokenizers.Tokenizer.from_file(tokenizer).token_to_id(t)
                      for t in ("<extra_0>", "<|im_end|>"))
        model.groups = table.process_reward(tag, other)
    net = files.build_net(model)
    exact_in = torch.bfloat16 if model.inexact else files.DTYPES[model.dtype]
    weights.fill(net, model.name, gain, exact_in, model.inexact)
    files.write_config(model, net, folder)
    files.write_weights(model, net, folder)
    dense = files.make_dense(model)
    if model.sentence_transformers:
        files.write_sentence_transformers(model, dense, folder)
    f32 = reference.Pipeline(load_f32(model, net, folder), has_types(model), dense)
    requests = make_requests(model, folder, limit)
    pipelines = {"stored": (f32, f32.double())}
    if model.inexact:
        rounded = reference.Pipeline(round_projections(f32.net), has_types(model), dense)
        pipelines["bfloat16"] = (rounded, rounded.double())
    answers = [answer(g, requests, *pipelines[g.projections]) for g in model.groups]
    return requests, answers, pipelines


def check_rounding_matters(model, requests, pipelines):
    """Rounding the layers' matrices to bfloat16 must show, or the golden answers prove nothing."""
    for group in model.groups:
        if group.projections != "stored":
            stored, rounded = pipelines["stored"][1], pipelines[group.projections][1]
            moved = max(reference.error(stored.rows(r.ids, r.types, group.how),
                                        rounded.rows(r.ids, r.types, group.how))
                        for r in requests if r.kinds & kinds_of(group))
            assert moved > MATTERS_CONFIG, f"{group.name}: rounding moves by {moved:.1e} only"


def check(model, requests, pipelines, folder):
    f32 = pipelines["stored"][0]
    check_rounding_matters(model, requests, pipelines)
    first = model.groups[0]
    reference.check_frequencies(f32.net)
    least = check_liveliness(f32, first, requests)
    check_config_matters(model, f32, first, requests, folder)
    if model.sentence_transformers:
        check_sentence_transformers(model, f32, requests, folder)
    if first.inputs == "pairs" and "problem_type" not in model.config:
        check_cross_encoder(f32, first, requests, folder)
    return least


def write_golden(model, requests, answers, gain, folder):
    groups, values, n = [], [], 0
    for group, (rows, worst) in zip(model.groups, answers):
        cases = []
        for i, data in rows:
            cases.append({"request": i, "shape": list(data.shape), "at": n})
            values.append(data.ravel())
            n += data.size
        groups.append({"name": group.name, "options": group.options, "params": group.params,
                       "float32_error": float(f"{worst:.3g}"), "cases": cases})
    np.concatenate(values).astype("<f4").tofile(os.path.join(folder, "golden.f32"))
    golden = {"model": model.name, "family": table.family_of(model.architecture),
              "made_with": VERSIONS, "gain": gain, "n_values": n,
              "requests": [r.as_json() for r in requests], "groups": groups}
    with open(os.path.join(folder, "golden.json"), "w", encoding="utf-8") as f:
        text = json.dumps(golden, ensure_ascii=False, indent=1)
        # Lists of numbers and cases on one line each.
        text = re.sub(r"\[\s+((?:-?\d+,\s+)*-?\d+)\s+\]",
                      lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
        text = re.sub(r"\{\s+(\"request\": \d+),\s+(\"shape\": \[[^]]*\]),\s+(\"at\": \d+)\s+\}",
                      r"{\1, \2, \3}", text)
        f.write(text + "\n")


def make(model, tokenizer, folder):
    gain = 1.0
    while True:
        requests, answers, pipelines = make_once(model, gain, tokenizer, folder)
        worst = max(w for _, w in answers)
        if worst <= F32_BOUND:
            break
        print(f"{model.name}: float32 is {worst:.1e} from float64, gain {gain} is too lively")
        gain = round(gain * 0.8, 4)
        assert gain > 0.3, "no gain is calm enough"
    least, which = check(model, requests, pipelines, folder)
    write_golden(model, requests, answers, gain, folder)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(folder) for f in fs)
    print(f"{model.name}: gain {gain}, float32 within {worst:.1e}, {len(requests)} requests, "
          f"{len(answers)} groups, least moved by {which} ({least:.1e}), {size // 1024} KB",
          flush=True)
    return size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=os.path.join(HERE, "models"))
    parser.add_argument("--tokenizers", default=os.path.join(HERE, "tokenizers", "small"))
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    known = {m.name for m in table.MODELS}
    assert set(args.names) <= known, f"unknown: {set(args.names) - known}"
    total = 0
    for model in table.MODELS:
        if not args.names or model.name in args.names:
            tokenizer = os.path.join(args.tokenizers, model.tokenizer + ".json")
            total += make(model, tokenizer, os.path.join(args.output, model.name))
    print(f"{total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
