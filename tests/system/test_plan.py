"""`poolrank plan`: memory, traffic and speed on paper. `test_plan.py --write` makes the tables of
docs/scaling.md and the predictions of docs/gpu.md anew; the test compares them."""
import json
import os
import sys
import unittest

import predictions
from program import ROOT, TestCase, model, run

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = os.path.join(HERE, "qwen2.5-math-rm-72b.json")
MODELS = os.path.join(ROOT, "tests", "parity", "models")
DOCUMENT = os.path.join(ROOT, "docs", "scaling.md")
GPU_DOCUMENT = os.path.join(ROOT, "docs", "gpu.md")
GROUPS = ((2, 1), (4, 1), (8, 1), (8, 2))
N_72B = 71527620609
NORMS = 80 * 2 * 8192  # the layers' norms: on every tensor rank


def plan(*words):
    result = run("plan", *words, "--json")
    if result.status != 0:
        raise AssertionError(result.err)
    return json.loads(result.out)


def plan_72b(tp, pp=1, *words):
    return plan("--model", CONFIG, "--tensor-parallel-size", str(tp),
                "--pipeline-parallel-size", str(pp), *words)


# ---- the document ----

def gb(n):
    return f"{n / 1e9:.2f}"


def count(n):
    return f"{n:,.0f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def group_name(tp, pp):
    return f"TP {tp}" + (f" x PP {pp}" if pp > 1 else "")


def memory_rows(said):
    name = group_name(said["tensor_parallel_size"], said["pipeline_parallel_size"])
    shown = set()
    for r in said["ranks"]:
        key = tuple(v for k, v in r.items() if k not in ("rank", "tensor_rank"))
        if key in shown:
            continue
        shown.add(key)
        alike = [x["rank"] for x in said["ranks"]
                 if tuple(v for k, v in x.items() if k not in ("rank", "tensor_rank")) == key]
        ranks = f"{alike[0]}" if len(alike) == 1 else f"{alike[0]} to {alike[-1]}"
        yield [name, ranks, r["layers"], count(r["weights_bytes"]), gb(r["weights_bytes"]),
               gb(r["activation_bytes"]), gb(r["workspace_bytes"]), gb(r["reserved_bytes"]),
               gb(r["total_bytes"])]


def fit_rows(saids):
    sizes = sorted({d["memory_bytes"] for d in saids[0]["devices"]})
    for said in saids:
        name = group_name(said["tensor_parallel_size"], said["pipeline_parallel_size"])
        most = {d["memory_bytes"]: d["max_num_batched_tokens_that_fits"] for d in said["devices"]}
        yield [name] + [count(most[size]) if most[size] else "nothing" for size in sizes]


def traffic_row(said):
    t = said["traffic"]
    return [group_name(said["tensor_parallel_size"], said["pipeline_parallel_size"]),
            count(t["all_reduced_bytes_per_token_and_layer"]),
            count(t["all_reduced_bytes_per_token"]),
            count(t["ring"]["sent_bytes_per_token_and_layer"]),
            count(t["ring"]["sent_bytes_per_token"]), str(t["ring"]["steps_per_sum"]),
            count(t["rank_ordered"]["sent_bytes_per_token"]),
            str(t["rank_ordered"]["steps_per_sum"]), count(t["stage_bytes_per_token"])]


def ms(seconds):
    return f"{1e3 * seconds:.1f}"


def speed_rows(said):
    name = group_name(said["tensor_parallel_size"], said["pipeline_parallel_size"])
    for d in said["devices"]:
        speed = [count(d["tokens_per_s"]), count(d["tokens_per_s_per_device"]), d["bound"]] \
            if d["fits"] else ["-", "-", "does not fit"]
        yield [name, d["name"], *speed, ms(d["compute_s"]), ms(d["memory_s"]), ms(d["link_s"]),
               ms(d["head_s"])]


def device_rows(said):
    for d in said["devices"]:
        yield [d["name"], gb(d["memory_bytes"]).split(".")[0], f"{d['memory_bytes_per_s'] / 1e12:g}",
               f"{d['flops_16_bit'] / 1e12:g}", f"{d['flops_f32'] / 1e12:g}",
               f"{d['link_bytes_per_s'] / 1e9:g}", d["source"]]


def tables():
    """The generated parts of the document, by name."""
    saids = [plan_72b(*group) for group in GROUPS]
    sizes = sorted({d["memory_bytes"] // 10 ** 9 for d in saids[0]["devices"]})
    return {
        "memory": table(["group", "ranks", "layers", "weights, bytes", "weights, GB",
                         "activations", "workspace", "reserved", "total, GB"],
                        [row for said in saids for row in memory_rows(said)]),
        "fit": table(["group"] + [f"{n} GB" for n in sizes], fit_rows(saids)),
        "traffic": table(["group", "summed: token and layer", "token", "ring: token and layer",
                          "token", "steps", "rank-ordered: token", "steps", "to the next stage"],
                         [traffic_row(said) for said in saids]),
        "speed": table(["group", "device", "tokens/s", "each", "bound", "compute, ms", "memory",
                        "link", "head"],
                       [row for said in saids for row in speed_rows(said)]),
        "devices": table(["device", "GB", "TB/s", "16-bit TFLOP/s", "f32 TFLOP/s", "link GB/s",
                          "source"], device_rows(saids[0])),
    }


def renewed(text, parts):
    """The document with its tables, parts' lines by name, made anew."""
    for name, lines in parts.items():
        begin, end = f"<!-- {name}: made by tests/system/test_plan.py -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise AssertionError(f"the document has no part {name}")
        text = before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after
    return text


def renewed_documents():
    """Of each document its path, its text, and that with its tables made anew."""
    for path, parts in ((DOCUMENT, tables()), (GPU_DOCUMENT, {"predictions": predictions.lines()})):
        text = document(path)
        yield path, text, renewed(text, parts)


def document(path=DOCUMENT):
    with open(path, encoding="utf-8") as f:
        return f.read()


class Plan72B(TestCase):
    def test_the_bare_config_is_enough_and_every_parameter_is_counted(self):
        said = plan_72b(1)
        self.assertEqual(said["total_parameters"], N_72B)
        self.assertEqual([r["weights_bytes"] for r in said["ranks"]], [2 * N_72B])
        self.assertEqual(said["dtype"], "bfloat16")
        self.assertEqual(said["dtype_source"], "config.json")
        self.assertFalse(said["fits"])
        self.assertEqual(said["max_num_batched_tokens_that_fits"], 0)

    def test_a_rank_of_eight_holds_an_eighth_and_the_norms(self):
        ranks = plan_72b(8)["ranks"]
        # score.0, score.2, their biases and the final norm: on the pooling rank
        head = 8192 * 8192 + 8192 + 8192 + 1 + 8192
        part = (N_72B - head - NORMS) // 8
        self.assertEqual((N_72B - head - NORMS) % 8, 0)
        self.assertEqual([r["weights_bytes"] for r in ranks],
                         [2 * (part + NORMS + head)] + [2 * (part + NORMS)] * 7)
        self.assertEqual([(r["rank"], r["stage"]) for r in ranks], [(i, 0) for i in range(8)])

    def test_stages_come_one_after_the_other(self):
        said = plan_72b(8, 2)
        self.assertEqual([r["stage"] for r in said["ranks"]], [0] * 8 + [1] * 8)
        self.assertEqual({r["layers"] for r in said["ranks"][8:]}, {"40-79"})
        self.assertEqual(sum(r["weights_bytes"] for r in said["ranks"]), 2 * (N_72B + 7 * NORMS))

    def test_it_fits_where_the_totals_do(self):
        for tp, size, fits in ((2, "80GB", True), (2, "70GB", False), (4, "40GB", True),
                               (4, "36GB", False), (8, "20GB", True), (8, "19GB", False)):
            said = plan_72b(tp, 1, "--device-memory", size)
            totals = [r["total_bytes"] for r in said["ranks"]]
            self.assertEqual(said["fits"], fits, (tp, size))
            self.assertEqual(max(totals) <= int(size[:-2]) * 10 ** 9, fits)
            self.assertEqual(said["fits"], all(r["fits"] for r in said["ranks"]))

    def test_the_largest_budget_fits_and_one_more_does_not(self):
        most = plan_72b(4, 1, "--device-memory", "40GB")["max_num_batched_tokens_that_fits"]
        self.assertGreater(most, 4096)
        for n, fits in ((most, True), (most + 1, False)):
            said = plan_72b(4, 1, "--device-memory", "40GB", "--max-num-batched-tokens", str(n))
            self.assertEqual(said["tokens_planned"], n)
            self.assertEqual(said["fits"], fits)

    def test_a_budget_below_the_longest_text_is_raised_to_it_as_the_engine_does(self):
        self.assertEqual(plan_72b(8, 1, "--max-num-batched-tokens", "100")["tokens_planned"], 4096)
        self.assertEqual(plan_72b(8, 1, "--max-num-batched-tokens", "100",
                                  "--max-model-len", "512")["tokens_planned"], 512)

    def test_sizes_of_memory_are_decimal_or_binary(self):
        for text, n in (("80GB", 80 * 10 ** 9), ("80GiB", 80 * 2 ** 30), ("81920MiB", 80 * 2 ** 30),
                        ("80000MB", 80 * 10 ** 9), ("0.5TB", 5 * 10 ** 11), ("80 gb", 80 * 10 ** 9),
                        ("1TiB", 2 ** 40), ("12345", 12345)):
            self.assertEqual(plan_72b(8, 1, "--device-memory", text)["device_memory_bytes"], n)
        for text in ("", "GB", "-1GB", "80G", "80GBs", "nan", "1e40GB", "0"):
            self.assert_fails(run("plan", CONFIG, "--device-memory=" + text), 2, "device-memory",
                              "expected a size such as 80GB")

    def test_dtype_says_how_wide_everything_is(self):
        said = plan_72b(8, 1, "--dtype", "float32")
        self.assertEqual(said["dtype_source"], "--dtype")
        self.assertEqual(sum(r["weights_bytes"] for r in said["ranks"]), 4 * (N_72B + 7 * NORMS))
        self.assertEqual(said["traffic"]["vector_bytes"], 4 * 8192)

    def test_not_fitting_is_an_answer_and_no_failure(self):
        result = run("plan", CONFIG, "-tp", "8", "--device-memory", "1GB")
        self.assertEqual((result.status, result.err), (0, ""))
        self.assertIn(b"does not fit", result.out)

    def test_the_table_names_every_rank_and_device(self):
        text = run("plan", CONFIG, "-tp", "8", "-pp", "2").out.decode()
        self.assertIn("71527620609 parameters, bfloat16 (config.json)", text)
        self.assertIn("\n  15     1 40-79 ", text)
        for name in ("H100", "H20", "GH200", "H200", "B200"):
            self.assertIn(name, text)
        self.assertIn("not measured", text)
        # A path, which may be long, stands in the first line.
        self.assertLess(max(len(line.replace(CONFIG, "")) for line in text.splitlines()), 130)

    def test_speed_is_below_what_the_multiplications_alone_allow(self):
        said = plan_72b(8)
        layers = 2 * 80 * (2 * 8192 ** 2 + 2 * 1024 * 8192 + 3 * 29568 * 8192)
        for d in said["devices"]:
            self.assertLess(d["tokens_per_s"], 8 * d["flops_16_bit"] / layers)
            self.assertGreater(d["tokens_per_s"], d["flops_16_bit"] / layers)
            self.assertTrue(d["source"].startswith("NVIDIA"))

    def test_the_documents_have_what_the_command_prints(self):
        for _, text, made in renewed_documents():
            self.assertEqual(made, text, "python3 tests/system/test_plan.py --write")

    def test_the_document_explains_every_field(self):
        text = document()
        said = plan_72b(8)
        parts = (said, said["ranks"][0], said["traffic"], said["traffic"]["ring"],
                 said["devices"][0])
        for key in {key for part in parts for key in part}:
            self.assertIn(f"`{key}`", text)


class Refusals(TestCase):
    def test_sizes_that_do_not_divide_are_refused_as_the_engine_refuses_them(self):
        for name, words in (("qwen2-reward", ("-tp", "3")), ("bert-plain", ("-tp", "8")),
                            ("qwen2-plain", ("-pp", "40"))):
            planned, inspected = (run(command, model(name), *words)
                                  for command in ("plan", "inspect"))
            self.assert_fails(planned, 2, "parallel_size: found", "expected")
            self.assertEqual(planned.err.replace(": plan: ", ": inspect: "), inspected.err)
        self.assert_fails(run("plan", CONFIG, "-tp", "7"), 2,
                          "tensor_parallel_size: found 7, expected one of 1, 2, 4, 8, 16, 32, 64")

    def test_what_is_no_config_is_refused(self):
        self.assert_fails(run("plan", self.path("config.json", "{")), 2, "config.json")
        self.assert_fails(run("plan", self.path("c.json", "[]")), 2, "c.json", "an object")
        self.assert_fails(run("plan", self.path("d.json", '{"architectures":["GPT"]}')), 2, "GPT")
        self.assert_fails(run("plan", self.path("nothing")), 2)
        self.assert_fails(run("plan", CONFIG, "a text"), 2, "only a model")
        self.assert_fails(run("plan"), 2, "no model")
        self.assert_fails(run("plan", CONFIG, "--input", "x"), 2, "--input")


class OtherModels(TestCase):
    def test_overrides_change_the_plan(self):
        half = plan(CONFIG, "--hf-overrides", '{"num_hidden_layers":40}')
        layer = 2 * 8192 ** 2 + 2 * 1024 * 8192 + 3 * 29568 * 8192 + 8192 + 2048 + 2 * 8192
        self.assertEqual(half["total_parameters"], N_72B - 40 * layer)

    def test_a_folder_and_its_config_say_the_same(self):
        folder = model("qwen3-classify-1")
        a, b = plan(folder, "-tp", "2"), plan(os.path.join(folder, "config.json"), "-tp", "2")
        self.assertEqual(a.pop("model"), folder)
        b.pop("model")
        self.assertEqual(a, b)

    def test_of_a_cpu_it_says_what_inspect_says(self):
        n_checked = 0
        for name in sorted(os.listdir(MODELS)):
            for words in (("-tp", "1"), ("-tp", "2", "-pp", "2"),
                          ("-tp", "2", "--dtype", "bfloat16")):
                words += ("--threads", "4")
                inspected = run("inspect", model(name), *words, "--json")
                planned = run("plan", model(name), "--device", "cpu", *words, "--json")
                self.assertEqual(planned.status, inspected.status, planned.err)
                if inspected.status != 0:
                    continue
                a, b = json.loads(inspected.out), json.loads(planned.out)
                self.assertEqual([r["weights_bytes"] for r in a["ranks"]],
                                 [r["weights_bytes"] for r in b["ranks"]], name)
                self.assertEqual(a["parameters"], b["total_parameters"])
                most = max(b["ranks"], key=lambda r: r["total_bytes"])
                for here, there in (("weights_bytes",) * 2, ("workspace_bytes",) * 2,
                                    ("activations_bytes", "activation_bytes"),
                                    ("total_bytes",) * 2):
                    self.assertEqual(a["memory"][here], most[there], (name, words, here))
                self.assertEqual(b["devices"], [])
                n_checked += 1
        self.assertGreater(n_checked, 60)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        for path, _, made in renewed_documents():
            with open(path, "w", encoding="utf-8") as f:
                f.write(made)
    else:
        unittest.main(verbosity=1)
