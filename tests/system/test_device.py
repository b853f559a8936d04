"""Where a model runs: what is said without a GPU, and which GPUs ranks take. The plug-in here is one
that computes nothing (fake_cuda_plugin.c)."""
import json
import os
import shutil
import unittest

from program import BUILD, TestCase, model, run

EMBED = model("bert-st-mean")
REWARD = model("qwen2-process-reward")
FAKE = os.path.join(BUILD, "tests", "system", "fake_cuda_plugin.so")


def with_fake(**settings):
    return dict({"POOLRANK_CUDA_PLUGIN": FAKE}, **{k: str(v) for k, v in settings.items()})


class WithoutAGpu(TestCase):
    NOWHERE = {"POOLRANK_CUDA_PLUGIN": "/nowhere/plugin.so"}

    def test_auto_computes_on_the_cpu_and_says_why_to_who_asks(self):
        quiet = run("embed", EMBED, "a", env=self.NOWHERE)
        self.assertEqual((quiet.status, quiet.err), (0, ""))
        told = run("embed", EMBED, "a", "--log-level", "info", env=self.NOWHERE)
        self.assertEqual(told.out, quiet.out)
        self.assertIn("device cpu (auto): POOLRANK_CUDA_PLUGIN: /nowhere/plugin.so: no such file; "
                      "dtype float32 (the CPU's default)", told.err)
        asked = run("embed", EMBED, "a", "--log-level", "info", "--device", "cpu",
                    env=self.NOWHERE)
        self.assertIn("device cpu: --device cpu;", asked.err)

    def test_cuda_is_an_error_with_the_reason(self):
        other = self.path("other.so", "no library")
        cases = [
            ({"POOLRANK_CUDA_PLUGIN": "/nowhere/plugin.so"}, 2, "no such file"),
            ({"POOLRANK_CUDA_PLUGIN": other}, 2, "load " + other),
            (with_fake(FAKE_CUDA_ABI=999), 2, "found ABI 999, expected "),
            (with_fake(), 1, "driver for CUDA 11.0, expected 13.0 or newer"),
        ]
        for env, status, words in cases:
            for command in (["embed", EMBED, "a"], ["embed", EMBED, "a", "-tp", "2"],
                            ["inspect", EMBED]):
                with self.subTest(words=words, command=command):
                    self.assert_fails(run(*command, "--device", "cuda", env=env), status,
                                      "device cuda: ", words)

    def test_a_build_without_the_plugin_or_a_host_without_the_driver_says_so(self):
        result = run("embed", EMBED, "a", "--device", "cuda")
        if result.status == 0:
            self.skipTest("this host has a GPU")
        self.assertRegex(result.err, "device cuda: (built without CUDA: no libpoolrank-cuda.so|"
                                     "no NVIDIA driver \\(libcuda.so.1\\)|driver for CUDA)")

    def test_what_needs_a_gpu_is_refused_with_the_reason(self):
        self.assert_fails(run("embed", EMBED, "a", "--dtype", "half", env=self.NOWHERE), 2,
                          "dtype: float16 is refused", "no such file", "--dtype bfloat16")
        self.assert_fails(run("embed", EMBED, "a", "--devices", "0", env=self.NOWHERE), 2,
                          "devices: found 0, but the model runs on the CPU")

    def test_inspect_names_device_and_dtype(self):
        said = json.loads(run("inspect", EMBED, "--json", env=self.NOWHERE).out)
        self.assertEqual(said["device"], "cpu")
        self.assertEqual(said["dtype"]["source"], "the CPU's default")
        self.assertEqual([rank["device"] for rank in said["ranks"]], ["cpu"])


class WithFakeGpus(TestCase):
    def log(self):
        with open(self.path("log"), encoding="utf-8") as f:
            return sorted(f.read().splitlines())

    def run_fake(self, *words, n_devices=4, n_ranks=1, **settings):
        return run("reward", REWARD, "a", *words,
                   env=with_fake(FAKE_CUDA_DEVICES=n_devices, FAKE_CUDA_RANKS=n_ranks,
                                 FAKE_CUDA_LOG=self.path("log"), **settings))

    def test_auto_takes_a_gpu_and_the_checkpoints_dtype(self):
        result = self.run_fake("--log-level", "info")
        self.assertEqual(result.status, 2)
        self.assertIn("device cuda (auto): 4 devices, the first Fake GPU; dtype bfloat16 "
                      "(config.json)", result.err)
        self.assertIn("a fake device computes nothing: device 0 dtype bfloat16 tf32 off",
                      result.err)

    def test_settings_reach_the_device(self):
        result = self.run_fake("--devices", "2", "--dtype", "half", "--allow-tf32")
        self.assert_fails(result, 2, "device cuda 2: ", "device 2 dtype float16 tf32 on")

    def test_inspect_is_about_the_gpu(self):
        said = json.loads(run("inspect", REWARD, "--json", "-tp", "2",
                              env=with_fake(FAKE_CUDA_DEVICES=2)).out)
        self.assertEqual((said["device"], said["dtype"]["weights"]), ("cuda", "bfloat16"))
        self.assertEqual([rank["device"] for rank in said["ranks"]], ["cuda", "cuda"])

    def test_more_ranks_than_devices_are_refused_before_anything_starts(self):
        for words, says in ((["-tp", "2", "-dp", "3"], "6 ranks on this host, 4 visible devices"),
                            (["-tp", "2", "--devices", "1"], "2 ranks on this host, 1 in --devices"),
                            (["--devices", "0,4"], "found 4 in 0,4, expected numbers below 4")):
            with self.subTest(words):
                self.assert_fails(self.run_fake("--device", "cuda", *words), 2, says)
                self.assertFalse(os.path.exists(self.path("log")))

    def test_streamed_weights_are_refused(self):
        self.assert_fails(self.run_fake("--device", "cuda", "--stream-weights", "on"), 2,
                          "stream-weights: on is refused with --device cuda")

    def test_a_model_that_does_not_fit_is_refused_with_numbers(self):
        self.assert_fails(self.run_fake(FAKE_CUDA_MEMORY=1), 1,
                          "found room for 0.900 GB (1.000 GB are free, --gpu-memory-utilization "
                          "0.9 of 1.000 GB)", "kept for CUDA and NCCL 1.074",
                          "not even one token fits")
        self.assertFalse(os.path.exists(self.path("log")))
        self.assert_fails(self.run_fake("--max-num-batched-tokens", "16M", FAKE_CUDA_MEMORY=2), 1,
                          "; --max-num-batched-tokens ")

    @unittest.skipUnless(shutil.which("mpirun"), "no mpirun")
    def test_ranks_and_groups_take_one_device_each(self):
        for words, n_ranks, expected in (
                (["-tp", "2"], 2, [0, 1]),
                (["-tp", "2", "-dp", "2"], 4, [0, 1, 2, 3]),
                (["-tp", "2", "--devices", "3,1"], 2, [1, 3])):
            with self.subTest(words):
                result = self.run_fake("--device", "cuda", *words, n_ranks=n_ranks)
                self.assertEqual(result.status, 2, result.err)
                self.assertIn("a fake device computes nothing", result.err)
                self.assertEqual(self.log(), ["device %d dtype bfloat16 tf32 off" % i
                                              for i in expected])
                os.unlink(self.path("log"))

    @unittest.skipUnless(shutil.which("mpirun"), "no mpirun")
    def test_ranks_that_see_one_gpu_each_take_it_and_warn(self):
        result = self.run_fake("--device", "cuda", "-tp", "2", "--mpirun-args",
                               "-x CUDA_VISIBLE_DEVICES=3 -x FAKE_CUDA_DEVICES=1", n_ranks=2)
        for rank in range(2):
            self.assertIn("rank %d sees one GPU (CUDA_VISIBLE_DEVICES), not those of the other "
                          "ranks here" % rank, result.err)
        self.assertEqual(self.log(), ["device 0 dtype bfloat16 tf32 off"] * 2)


if __name__ == "__main__":
    unittest.main(verbosity=1)
