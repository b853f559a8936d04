#!/usr/bin/env python3
"""Commands with --device cuda on the simulated device, from outside: the CPU's numbers, several ranks
by mpirun, and what is refused before anything is loaded. Needs python3; mpirun for several ranks.

POOLRANK_TEST_PLUGIN: libpoolrank-cuda-sim.so."""
import os
import re
import shutil
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "system"))
from program import TestCase, model, run  # noqa: E402

PLUGIN = os.environ["POOLRANK_TEST_PLUGIN"]
HAS_MPIRUN = shutil.which("mpirun") is not None
# Of |a - b| / max(1, |reference|) over a row; docs/gpu.md says where they come from.
BOUNDS = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1}
LINES = ["The harbour was quiet before the morning boats came in.", "a", "Bread",
         "When does the tide turn at the harbour, and who opens the window?"]
PAIRS = '{"query": "When does the tide turn?", "document": "At the harbour, at noon."}\n' \
        '{"query": "When does the tide turn?", "document": "Bread and windows."}\n'
STEPS = ["The tide turns.<extra_0>So do boats.<extra_0>", "Bread.<extra_0>"]
KEYS = {"embed": "embedding", "score": "score", "reward": "reward", "classify": "probs",
        "encode": "data"}


def gpu(*arguments, stdin=b"", devices=1, **sim):
    """One command on simulated devices; sim: order="reverse" is POOLRANK_SIM_ORDER."""
    env = {"POOLRANK_CUDA_PLUGIN": PLUGIN, "POOLRANK_SIM_DEVICES": str(devices)}
    env.update({"POOLRANK_SIM_" + name.upper(): str(value) for name, value in sim.items()})
    return run(*arguments, stdin=stdin, env=env)


def flat(value):
    return [x for part in value for x in flat(part)] if isinstance(value, list) else [value]


def distance(row, reference):
    a, b = flat(row), flat(reference)
    if len(a) != len(b):
        return float("inf")
    return max(abs(x - y) for x, y in zip(a, b)) / max(1.0, max(abs(y) for y in b))


class CommandTest(TestCase):
    def assert_like_the_cpu(self, command, name, lines, options=(), dtype="float32", pooler=None,
                            **on):
        """options: of the command on GPUs; on: of the simulated devices."""
        stdin = lines if isinstance(lines, str) else "\n".join(lines) + "\n"
        words = [command, "--model", model(name), "--input", "-"]
        words += ["--override-pooler-config", pooler] if pooler else []
        # The CPU keeps matrices in bfloat16 or float32 and computes in float32.
        cpu_dtype = "bfloat16" if dtype == "bfloat16" else "float32"
        want = run(*words, "--device", "cpu", "--dtype", cpu_dtype, stdin=stdin)
        found = gpu(*words, "--device", "cuda", "--dtype", dtype, *options, stdin=stdin, **on)
        self.assertEqual(want.status, 0, want.err)
        self.assertEqual(found.status, 0, found.err)
        rows, references = found.rows(), want.rows()
        self.assertEqual(len(rows), len(references))
        for row, reference in zip(rows, references):
            d = distance(row[KEYS[command]], reference[KEYS[command]])
            self.assertLessEqual(d, BOUNDS[dtype], "%s %s %s" % (command, name, dtype))

    # ---- numbers ----

    def test_every_command_gives_the_cpus_numbers(self):
        for command, name, lines, pooler in (
                ("embed", "bert-st-mean", LINES, None), ("encode", "qwen2-plain", LINES, None),
                ("classify", "llama-classify-3", LINES, None),
                ("reward", "qwen2-reward", LINES, None),
                ("reward", "qwen2-process-reward", STEPS, '{"step_tag_id": 604}'),
                ("score", "xlmr-classify-1", PAIRS, None)):
            with self.subTest(command=command, model=name):
                self.assert_like_the_cpu(command, name, lines, pooler=pooler)

    def test_every_dtype_is_within_its_bound(self):
        for dtype, order in zip(BOUNDS, ("forward", "reverse", "random")):
            with self.subTest(dtype):
                self.assert_like_the_cpu("embed", "qwen3-st-last", LINES, dtype=dtype, order=order)

    def test_an_option_of_a_gpu_changes_no_bit_where_it_does_not_apply(self):
        words = ["embed", "--model", model("qwen2-plain"), "--device", "cuda", *LINES]
        self.assertEqual(gpu(*words, "--dtype", "bfloat16").out,
                         gpu(*words, "--dtype", "bfloat16", "--allow-tf32").out)

    # ---- ranks ----

    @unittest.skipUnless(HAS_MPIRUN, "mpirun is missing")
    def test_ranks_by_mpirun_give_the_cpus_numbers(self):
        for options in (["-tp", "2"], ["-pp", "2"], ["-tp", "2", "-pp", "2"]):
            n = 4 if len(options) == 4 else 2
            with self.subTest(options):
                self.assert_like_the_cpu("embed", "qwen2-plain", LINES, options, devices=n)
        self.assert_like_the_cpu("score", "xlmr-classify-1", PAIRS, ["-tp", "2"], "bfloat16",
                                 devices=2)

    def test_more_ranks_than_devices_are_refused_before_loading(self):
        for n, options in ((1, ["-tp", "2"]), (2, ["-tp", "2", "-pp", "2"]), (3, ["-dp", "4"])):
            result = gpu("embed", "--model", self.without_weights("qwen2-plain"), "--device",
                         "cuda", *options, "a", devices=n)
            self.assert_fails(result, 2, "%d visible device" % n,
                              "%d ranks" % (2 if n == 1 else 4))

    def test_a_list_of_devices_is_checked(self):
        for devices, says in (("0,2", "found 2 in 0,2, expected numbers below 2"),
                              ("1,1", "found 1 twice"), ("x", "found x")):
            result = gpu("embed", "--model", self.without_weights("qwen2-plain"), "--device",
                         "cuda", "--devices", devices, "a", devices=2)
            self.assert_fails(result, 2, says)

    def without_weights(self, name):
        """A copy that cannot be loaded: what is refused before is refused as of the whole one."""
        folder = os.path.join(self.folder.name, name)
        if not os.path.exists(folder):
            shutil.copytree(model(name), folder)
            os.remove(os.path.join(folder, "model.safetensors"))
        return folder

    # ---- which device ----

    def test_auto_takes_the_device_and_says_so(self):
        words = ["embed", "--model", model("bert-plain"), "--log-level", "info", "a"]
        result = gpu(*words, devices=2)
        self.assertEqual(result.status, 0, result.err)
        self.assertRegex(result.err, r"device cuda \(auto\): 2 devices, the first Simulated")
        result = gpu(*words, devices=0)
        self.assertEqual(result.status, 0, result.err)
        self.assertRegex(result.err, r"device cpu \(auto\): .*cudaErrorNoDevice")

    def test_cuda_without_a_device_is_refused_with_the_reason(self):
        words = ["embed", "--model", model("bert-plain"), "--device", "cuda", "a"]
        self.assert_fails(gpu(*words, devices=0), 1, "device cuda: ", "cudaErrorNoDevice")
        missing = os.path.join(self.folder.name, "libpoolrank-cuda.so")
        result = run(*words, env={"POOLRANK_CUDA_PLUGIN": missing})
        self.assert_fails(result, 2, "device cuda: ", missing + ": no such file")

    # ---- memory ----

    def test_too_little_memory_is_refused_with_the_budget_that_fits(self):
        words = ["embed", "--model", model("qwen2-plain"), "--device", "cuda", *LINES]
        memory = 1250 * 1000 * 1000
        refused = gpu(*words, "--max-num-batched-tokens", "160000", memory=memory)
        self.assert_fails(refused, 1, "expected", "1.250 GB are free", "weights",
                          "activations of 160000 tokens")
        budget = re.search(r"--max-num-batched-tokens (\d+) would fit", refused.err).group(1)
        fits = gpu(*words, "--max-num-batched-tokens", budget, memory=memory)
        self.assertEqual(fits.status, 0, fits.err)
        self.assertEqual(fits.out, gpu(*words).out)
        more = gpu(*words, "--max-num-batched-tokens", str(2 * int(budget)), memory=memory)
        self.assert_fails(more, 1, "would fit")

    def test_memory_for_not_even_one_token_is_refused(self):
        result = gpu("embed", "--model", model("qwen2-plain"), "--device", "cuda", "a",
                     memory=1000 * 1000)
        self.assert_fails(result, 1, "not even one token fits")


if __name__ == "__main__":
    unittest.main(verbosity=2)
