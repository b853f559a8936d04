"""Two layers of a 72B model at their real width, on 8 tensor-parallel ranks of this machine's
processor in bfloat16, against what transformers computed (thin_reference.py)."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))
from program import PROGRAM, environment, model  # noqa: E402

SKIPPED = 77
N_RANKS = 8
CONFIG = os.path.join(HERE, "..", "system", "qwen2.5-math-rm-72b.json")
MODEL_GB = 6.2
MEMORY_GIB = 12  # that must be available
MEMORY_BOUND_GIB = 24
# max |found - expected| / max(1, max |expected|), of one input's numbers. Found: 3.1e-6, and
# transformers in float32 is 3.6e-6 away. Weights are the same bfloat16 values on both sides,
# arithmetic is float32 here and float64 there.
BOUND = 1e-5


def error(found, expected):
    assert len(found) == len(expected), (len(found), len(expected))
    most = max(abs(v) for v in expected)
    return max(abs(a - b) for a, b in zip(found, expected)) / max(1.0, most)


def available_gib():
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2 ** 20
    return 0


class Memory:
    """The largest resident memory of each process below this one, the shared part in each; their
    sum is at least what they had at any one time."""

    def __init__(self):
        self.peaks = {}
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def watch(self):
        while not self.ended.wait(0.2):
            for pid in self.below(os.getpid()):
                self.peaks[pid] = max(self.peaks.get(pid, 0), self.peak(pid))

    @staticmethod
    def peak(pid):
        try:
            with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
                return max([int(line.split()[1]) for line in f if line.startswith("VmHWM:")] + [0])
        except OSError:
            return 0

    @staticmethod
    def below(ancestor):
        parents = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as f:
                    parents[int(name)] = int(f.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                pass
        for pid in parents:
            up = pid
            while up in parents and up != ancestor:
                up = parents[up]
            if up == ancestor and pid != ancestor:
                yield pid

    def gib(self):
        return sum(self.peaks.values()) / 2 ** 20


class Thin72B(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(os.path.join(HERE, "thin_golden.json"), encoding="utf-8") as f:
            cls.golden = json.load(f)
        cls.temporary = tempfile.TemporaryDirectory(prefix="poolrank-thin-72b-")
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.folder = cls.temporary.name
        made = subprocess.run([os.environ["POOLRANK_THIN_MODEL"], cls.folder], check=True,
                              stdout=subprocess.PIPE)
        cls.weights_sum = int(made.stdout)
        with open(CONFIG, encoding="utf-8") as f:
            config = json.load(f)
        config["num_hidden_layers"] = 2
        with open(os.path.join(cls.folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        # The program wants a tokenizer; token ids go past it.
        shutil.copy(os.path.join(model("qwen2-reward"), "tokenizer.json"), cls.folder)

    def ask(self, command, *options):
        """The program's answers to the golden inputs, in order."""
        lines = "".join(json.dumps({"tokens": i["tokens"]}) + "\n" for i in self.golden["inputs"])
        words = [PROGRAM, command, "--model", self.folder, "--input", "-", "--dtype", "bfloat16",
                 "--device", "cpu", "--tensor-parallel-size", str(N_RANKS), *options]
        with Memory() as memory:
            done = subprocess.run(words, input=lines.encode(), capture_output=True, check=False,
                                  env=environment(), timeout=1500)
        self.assertEqual(done.returncode, 0, done.stderr.decode("utf-8", "replace"))
        n_large = sum(peak > 2 ** 19 for peak in memory.peaks.values())
        print(f"{command}: {memory.gib():.1f} GiB, {n_large} processes with more than 0.5 GiB",
              flush=True)
        self.assertEqual(n_large, N_RANKS)
        self.assertLess(memory.gib(), MEMORY_BOUND_GIB)
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    def assert_close(self, what, found, expected):
        errors = [error(a, b) for a, b in zip(found, expected, strict=True)]
        print(f"{what}: error {max(errors):.2e}, bound {BOUND:g}", flush=True)
        self.assertLess(max(errors), BOUND)

    def test_0_the_weights_are_those_of_the_reference(self):
        self.assertEqual(self.weights_sum, self.golden["weights_sum"])

    def test_rewards_of_every_token(self):
        answers = self.ask("encode", "--task", "reward")
        found = [[row[0] for row in answer["data"]] for answer in answers]
        self.assert_close("rewards", found, [i["rewards"] for i in self.golden["inputs"]])

    def test_hidden_states_of_the_last_token(self):
        answers = self.ask("embed", "--hf-overrides", '{"architectures":["Qwen2Model"]}',
                           "--override-pooler-config",
                           '{"pooling_type":"LAST","normalize":false}')
        found = [[answer["embedding"][i] for i in self.golden["columns"]] for answer in answers]
        self.assert_close("hidden", found, [i["hidden"] for i in self.golden["inputs"]])


def main():
    reason = None
    if not shutil.which("mpirun"):
        reason = "mpirun"
    elif available_gib() < MEMORY_GIB:
        reason = f"{MEMORY_GIB} GiB of available memory"
    elif shutil.disk_usage(tempfile.gettempdir()).free < MODEL_GB * 1e9:
        reason = f"{MODEL_GB} GB of room in {tempfile.gettempdir()}"
    if reason:
        print("SKIPPED: " + reason, flush=True)
        sys.exit(SKIPPED)
    unittest.main(verbosity=1)


if __name__ == "__main__":
    main()
