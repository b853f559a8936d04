#!/usr/bin/env python3
"""Compares poolrank with transformers on random tiny models, and its answers' bits with company.

    python differential.py --library build/libpoolrank.so.0 [--seed 1] [--models 60]
                           [--family NAME] [--only I] [--keep DIR]

Needs the pinned packages of requirements.txt. Each model is drawn from "SEED:I" alone, so --only I
makes model I of a run again. For each: token ids against tokenizers; numbers against float32
transformers and against float64; and each answer byte for byte against the same request alone, in
an engine with another number of threads and another token budget.
"""
import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "generator"))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tools"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import files  # noqa: E402
import inputs  # noqa: E402
import make_fixtures  # noqa: E402
import random_models  # noqa: E402
import reference  # noqa: E402
import table  # noqa: E402
import weights  # noqa: E402
from poolrank_ctypes import Engine  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402
from texts import TEXTS  # noqa: E402

BOUND = 1e-5
ISAS = ("avx512", "avx2", "c")
ALL_ISAS = (*ISAS, "amx", "amx-c")  # the last two when asked for: one is rare, one is slow
N_REQUESTS = 12


def tokenizer_path(name):
    return os.path.join(HERE, "tokenizers", "small", name + ".json")


def make_folder(model, gain, folder):
    """Writes the model; what the reference computes with, by projections ("stored" weights or
    rounded)."""
    os.makedirs(folder)
    files.write_tokenizer(model, tokenizer_path(model.tokenizer), folder)
    net = files.build_net(model)
    exact_in = torch.bfloat16 if model.inexact else files.DTYPES[model.dtype]
    weights.fill(net, model.name, gain, exact_in, model.inexact)
    files.write_config(model, net, folder)
    files.write_weights(model, net, folder)
    dense = files.make_dense(model)
    if model.sentence_transformers:
        files.write_sentence_transformers(model, dense, folder)
        default_prompt_write(model, folder)
    net = make_fixtures.load_f32(model, net, folder)
    if model.inexact:
        net = make_fixtures.round_projections(net)
    return reference.Pipeline(net, make_fixtures.has_types(model), dense)


def default_prompt_write(model, folder):
    """Says in the folder that the prompt "default" stands in front of every text."""
    if model.sentence_transformers.prompts:
        path = os.path.join(folder, "config_sentence_transformers.json")
        files.write_json(path, dict(files.read_json(path), default_prompt_name="default"))


def activation_of(config):
    """What classify or score (one label) applies."""
    problem = config.get("problem_type")
    if config["num_labels"] == 1:
        return None if problem == "regression" else "sigmoid"
    return {"regression": None, "multi_label_classification": "sigmoid"}.get(problem, "softmax")


def asking(rng, model):
    """Engine options, and the ways to ask it: (fields of each request, how the reference pools)."""
    if model.architecture.endswith("ForRewardModel"):
        return {"task": "reward"}, [({}, {"pool": "ALL"}),
                                    ({"last_row_only": True}, {"pool": "LAST"})]
    if model.architecture.endswith("ForSequenceClassification"):
        task = "score" if model.config["num_labels"] == 1 else "classify"
        ways = [({}, {"act": activation_of(model.config)}), ({"use_activation": 0}, {})]
        return {"task": task}, ways + [({"task": "reward"}, {})] * (task == "score")
    st = model.sentence_transformers
    if st:
        pool = {"cls": "CLS", "mean": "MEAN", "lasttoken": "LAST"}[st.pooling]
        how = {"pool": pool, "normalize": st.normalize}
        return {}, [({}, how), ({"normalize": 0}, {"pool": pool})]
    pool = rng.choice(["LAST", "CLS", "MEAN", "ALL"])
    d = rng.randint(1, model.config["hidden_size"])
    options = {"task": "embed", "override_pooler_config": json.dumps({"pooling_type": pool})}
    return options, [({}, {"pool": pool, "normalize": True}), ({"normalize": 0}, {"pool": pool}),
                     ({"dimensions": d}, {"pool": pool, "normalize": True, "dimensions": d}),
                     ({"dimensions": d, "normalize": 0}, {"pool": pool, "dimensions": d})]


def expected_ids(encoder, prompt, request, n_limit):
    if "tokens" in request:
        return request["tokens"], [0] * len(request["tokens"])
    pair = request.get("text_pair")
    e = encoder.encode(inputs.Request(set(), prompt + request["text"], pair))
    return (e.ids, e.type_ids) if 0 < len(e.ids) <= n_limit else (None, None)


class Tally:
    def __init__(self):
        self.n_models = self.n_values = self.n_bits = self.n_ids = self.n_calm = 0
        self.worst = {"poolrank to f32": (0, ""), "poolrank to f64": (0, ""), "f32 to f64": (0, "")}
        self.failures, self.refused = [], {}

    def measure(self, name, error, where):
        if not error <= self.worst[name][0]:
            self.worst[name] = (error, where)

    def fail(self, where, what):
        self.failures.append(where)
        print(f"FAIL {where}: {what}", flush=True)


def case_check(tally, where, answer, f32, f64):
    """Numbers beyond the bound where float32 itself is calm; else no worse than twice float32."""
    mine = np.array(answer.data, np.float64).reshape(answer.n_rows, answer.n_columns)
    if mine.shape != f64.shape:
        return tally.fail(where, f"shape {mine.shape}, expected {f64.shape}")
    to32, to64 = reference.error(mine, f32), reference.error(mine, f64)
    theirs = reference.error(f32, f64)
    tally.n_values += mine.size
    if theirs > make_fixtures.F32_BOUND:
        if not to64 <= max(2 * theirs, BOUND):
            tally.fail(where, f"{to64:.2e} from float64, float32 transformers {theirs:.2e}")
        return None
    tally.n_calm += 1
    for name, error in zip(tally.worst, (to32, to64, theirs)):
        tally.measure(name, error, where)
    if not to32 <= BOUND:
        tally.fail(where, f"{to32:.2e} from float32, {to64:.2e} from float64 (float32: "
                          f"{theirs:.2e})")
    return None


def st_check(tally, where, folder, engine):
    """sentence-transformers itself, which cuts what is too long."""
    st = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.float32})
    for text in (*TEXTS[::3], " ".join(TEXTS)):
        theirs = st.encode([text])
        try:
            mine = engine.ask(text=text, truncate_prompt_tokens=-1).data
            error = reference.error(np.array([mine]), theirs)
        except RuntimeError as e:
            error = e
        if isinstance(error, RuntimeError) or not error <= BOUND:
            tally.fail(f"{where} {text[:40]!r}", f"sentence-transformers: {error}")


def bits(answer):
    return struct.pack(f"{len(answer.data)}f", *answer.data)


def model_check(args, tally, i, folder):
    rng = random.Random(f"{args.seed}:{i}")
    families = (args.family,) if args.family else tuple(random_models.TOKENIZERS)
    model = random_models.model(rng, f"{args.seed}:{i}", lambda t: files.token_fields(
        tokenizer_path(t)), families, args.wide)
    pipeline = make_folder(model, rng.choice([0.3, 0.6, 1.0]), folder)
    exact = pipeline.double()
    n_limit = files.n_limit(model)
    options, ways = asking(rng, model)
    isa = args.cpu_isa or rng.choice(ISAS)
    options = dict(options, model=folder, cpu_isa=isa, matmul_precision=args.matmul_precision,
                   dtype="bfloat16" if model.inexact else "float32")
    where = f"{i} {model.architecture} {isa} {options['dtype']}"
    tally.n_models += 1
    try:
        engine = Engine(args.library, threads=rng.choice([1, 2, 3]), **options)
    except RuntimeError as e:
        tally.refused[where] = str(e)
        return print(f"refused {where}: {e}", flush=True)
    st = model.sentence_transformers
    encoder = inputs.Encoder(os.path.join(folder, "tokenizer.json"), bool(st and st.do_lower_case))
    prompt = st.prompts["default"] if st and st.prompts else ""
    asked = []
    for request in random_models.requests(rng, model, n_limit, N_REQUESTS):
        ids, types = expected_ids(encoder, prompt, request, n_limit)
        if ids:
            asked.append((request, ids, types, *rng.choice(ways)))
    tickets = [engine.submit(**r, **fields) for r, _, _, fields, _ in asked]
    answers = [engine.wait(t) for t in tickets]
    for (request, ids, types, fields, how), answer in zip(asked, answers):
        at = f"{where} {json.dumps(request, ensure_ascii=False)[:60]} {fields}"
        if "text" in request:
            tally.n_ids += 1
            if engine.ask(**request, tokenize_only=True).tokens != ids:
                tally.fail(at, "other token ids")
        case_check(tally, at, answer, pipeline.rows(ids, types, how), exact.rows(ids, types, how))
    if st and not model.inexact:
        st_check(tally, where, folder, engine)
    engine.close()
    alone_check(args, tally, rng, where, options, asked, answers, n_limit)
    return None


def alone_check(args, tally, rng, where, options, asked, answers, n_limit):
    """Each answer again, alone, from an engine that works in other pieces."""
    budget = rng.choice([n_limit, n_limit + 17, 2 * n_limit])
    engine = Engine(args.library, threads=rng.choice([1, 2, 3]), max_num_batched_tokens=budget,
                    **options)
    for (request, _, _, fields, _), answer in zip(asked, answers):
        again = engine.ask(**request, **fields)
        tally.n_bits += 1
        if bits(again) != bits(answer):
            tally.fail(f"{where} {str(request)[:60]} {fields}", "other bits alone")
    engine.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=int, default=60)
    parser.add_argument("--family", choices=sorted(random_models.TOKENIZERS))
    parser.add_argument("--cpu-isa", choices=ALL_ISAS)
    parser.add_argument("--matmul-precision", default="auto")
    parser.add_argument("--only", type=int)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--keep")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"seed {args.seed}, {args.models} models", flush=True)
    tally = Tally()
    for i in [args.only] if args.only is not None else range(args.models):
        parent = args.keep or tempfile.mkdtemp(prefix="poolrank-differential-")
        folder = os.path.join(parent, f"model-{i}")
        try:
            model_check(args, tally, i, folder)
        except Exception as e:  # a model that transformers itself refuses is not ours to judge
            tally.fail(str(i), f"{type(e).__name__}: {e}")
        finally:
            if not args.keep:
                shutil.rmtree(parent)
    print(f"{tally.n_models} models ({len(tally.refused)} refused), {tally.n_ids} texts' ids, "
          f"{tally.n_values} numbers ({tally.n_calm} requests within the bound of float32), "
          f"{tally.n_bits} answers alone, {len(tally.failures)} failures")
    for name, (error, at) in tally.worst.items():
        print(f"worst {name}: {error:.2e}  {at}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
