"""examples/: every C program compiles against the library that was built and says what the shell
version of it says through the program."""
import json
import os
import shutil
import subprocess
import unittest

from program import BUILD, PROGRAM, ROOT, TestCase, environment, model

CASES = {
    "embed": ("bert-st-mean", ["a red house", "the green tree"]),
    "classify": ("bert-classify-3", ["a red house", "the green tree"]),
    "score": ("xlmr-classify-1", ["a red house", "the green tree", "a house"]),
    "reward": ("qwen2-reward", ["What is 7 times 8? 56.", "What is 7 times 8? A number."]),
    "encode": ("qwen2-reward", ["What is 7 times 8?"]),
}
KEYS = {"embed": "embedding", "classify": "probs", "score": "score", "reward": "reward",
        "encode": "data"}


@unittest.skipUnless(shutil.which("cc"), "no C compiler")
class Examples(TestCase):
    def shell(self, name):
        folder, texts = CASES[name]
        script = os.path.join(ROOT, "examples", name + ".sh")
        env = environment({"MODEL": model(folder), "POOLRANK": PROGRAM})
        out = subprocess.run([script, *texts], env=env, capture_output=True, check=True, timeout=60)
        return [json.loads(line) for line in out.stdout.splitlines()]

    def compiled(self, name):
        folder, texts = CASES[name]
        program = self.path(name)
        source = os.path.join(ROOT, "examples", name + ".c")
        subprocess.run(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror",
                        "-I" + os.path.join(ROOT, "include"), source, "-o", program, "-L" + BUILD,
                        "-lpoolrank", "-Wl,-rpath," + BUILD, *self.flags()], check=True, timeout=60)
        out = subprocess.run([program, model(folder), *texts], env=environment(),
                             capture_output=True, check=True, timeout=60)
        return out.stdout.decode().splitlines()

    def flags(self):
        """A library that was built with sanitizers needs a program that is, too."""
        with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
            cache = f.read()
        if "POOLRANK_SANITIZE:STRING=address" in cache:
            return ["-fsanitize=address,undefined"]
        if "POOLRANK_SANITIZE:STRING=thread" in cache:
            return ["-fsanitize=thread"]
        return []

    def test_c_and_shell_agree(self):
        for name in CASES:
            with self.subTest(name):
                rows = self.shell(name)
                lines = self.compiled(name)
                self.assertEqual(len(rows), len(lines))
                for row, line in zip(rows, lines):
                    self.compare(name, row, line)

    def compare(self, name, row, line):
        value = row[KEYS[name]]
        if name in ("score", "reward"):
            self.assertAlmostEqual(float(line.split()[0]), value, places=5)
        elif name == "classify":
            found = [float(x) for x in line.rsplit(":", 1)[1].split()]
            self.assertEqual(len(found), len(value))
            for a, b in zip(found, value):
                self.assertAlmostEqual(a, b, places=5)
        elif name == "embed":
            words = line.rsplit(":", 1)[1].split()
            self.assertEqual(int(words[0]), len(value))
            self.assertAlmostEqual(float(words[2]), value[0], places=5)
        else:
            self.assertIn("[%d, %d], a row for each token" % tuple(row["shape"]), line)


if __name__ == "__main__":
    unittest.main()
