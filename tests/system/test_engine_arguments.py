"""Every engine argument of vLLM 0.8.5 (vllm-0.8.5-arguments.txt: vllm/engine/arg_utils.py of that
release, with a value for each that takes one) is honoured, accepted with one warning, or refused
with a reason, and never unknown."""
import os
import unittest

from program import ROOT, TestCase, model, run

HERE = os.path.dirname(os.path.abspath(__file__))
EMBED = model("bert-st-mean")
GIVEN_OTHERWISE = {"--model", "--tokenizer", "--config", "--served-model-name"}


def arguments():
    with open(os.path.join(HERE, "vllm-0.8.5-arguments.txt"), encoding="utf-8") as f:
        for line in f:
            words = line.rstrip("\n").split(" ", 1)
            if line.strip() and not line.startswith("#"):
                yield words


def check(test, words):
    """The verdict on one argument: "honoured", "accepted" or "refused"."""
    result = run("tokenize", "--model", EMBED, *words, "--", "text")
    name = words[0]
    test.assertNotIn("no such option", result.err)
    lines = result.err.splitlines()
    if result.status == 0:
        test.assertLessEqual(len(lines), 1, result.err)
        if not lines:
            return "honoured"
        test.assertIn("has no effect: ", lines[0])
        return "accepted"
    test.assertEqual(result.status, 2, result.err)
    test.assertEqual(len(lines), 1, result.err)
    test.assertRegex(lines[0], "refused: .{10,}", name)
    return "refused"


class EngineArguments(TestCase):
    def test_each_is_honoured_accepted_or_refused(self):
        verdicts = {}
        for words in arguments():
            words = [w.replace("EMBED", EMBED).replace("CONFIG", self.path("c.json", "{}"))
                     for w in words]
            with self.subTest(words):
                verdicts[words[0]] = check(self, words)
        self.assertGreater(len(verdicts), 100)
        for name in ("--model", "--dtype", "--max-model-len", "--override-pooler-config",
                     "--hf-overrides", "--tensor-parallel-size", "-tp", "--task",
                     "--gpu-memory-utilization"):
            self.assertEqual(verdicts[name], "honoured", name)
        for name in ("--swap-space", "--enforce-eager", "--trust-remote-code", "-O3", "--seed"):
            self.assertEqual(verdicts[name], "accepted", name)
        for name in ("--enable-lora", "--speculative-config", "--quantization", "-q"):
            self.assertEqual(verdicts[name], "refused", name)

    def test_underscores_and_equals_signs_are_other_spellings(self):
        for words in arguments():
            if not words[0].startswith("--"):
                continue
            name = "--" + words[0][2:].replace("-", "_")
            joined = ["=".join([name] + words[1:])]
            joined = [w.replace("EMBED", EMBED).replace("CONFIG", self.path("c.json", "{}"))
                      for w in joined]
            with self.subTest(joined):
                check(self, joined)

    def test_the_document_has_them_all(self):
        with open(os.path.join(ROOT, "docs", "engine-arguments.md"), encoding="utf-8") as f:
            text = f.read().replace("`--[no-]", "`--")
        for words in arguments():
            name = words[0]
            if name.startswith("--no-") or name.startswith("-O"):
                continue
            self.assertIn(name, text)


if __name__ == "__main__":
    unittest.main(verbosity=1)
