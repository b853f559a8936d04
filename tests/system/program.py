"""What the system tests share: the program under test, the small models, running one command."""
import json
import os
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("POOLRANK_PROGRAM", os.path.join(ROOT, "build", "poolrank"))
BUILD = os.environ.get("POOLRANK_BUILD", os.path.join(ROOT, "build"))


def model(name):
    return os.path.join(ROOT, "tests", "parity", "models", name)


def environment(extra=None):
    """The tester's environment without settings of poolrank and of Hugging Face."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("POOLRANK_", "HF_"))}
    env.update(extra or {})
    return env


class Result:
    def __init__(self, done):
        self.status = done.returncode
        self.out = done.stdout
        self.err = done.stderr.decode("utf-8", "replace")

    def rows(self):
        return [json.loads(line) for line in self.out.decode("utf-8").splitlines()]


def run(*arguments, stdin=b"", env=None, cwd=None):
    if isinstance(stdin, str):
        stdin = stdin.encode("utf-8")
    done = subprocess.run([PROGRAM, *arguments], input=stdin, capture_output=True,
                          env=environment(env), cwd=cwd, timeout=120)
    return Result(done)


class TestCase(unittest.TestCase):
    """A temporary folder, and an error that must be one line."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, text=None):
        path = os.path.join(self.folder.name, name)
        if text is not None:
            with open(path, "wb") as f:
                f.write(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    def assert_fails(self, result, status, *says):
        self.assertEqual(result.status, status, result.err)
        self.assertEqual(result.out, b"")
        lines = result.err.splitlines()
        self.assertEqual(len(lines), 1, result.err)
        for words in says:
            self.assertIn(words, lines[0])
