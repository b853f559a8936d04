"""The benchmark's parts still fit the program: its script starts without the peers' packages, and
the library that it loads answers. Says nothing about speed."""
import os
import subprocess
import sys
import time
import unittest

from program import BUILD, PROGRAM, ROOT, TestCase, environment, model, run

BENCH = os.path.join(ROOT, "tests", "bench")


class BenchSmoke(TestCase):
    def test_the_scripts_start_without_the_peers_packages(self):
        for name in sorted(os.listdir(BENCH)):
            if not name.endswith(".py"):
                continue
            source = os.path.join(BENCH, name)
            with open(source, encoding="utf-8") as f:
                compile(f.read(), source, "exec")
        done = subprocess.run([sys.executable, os.path.join(BENCH, "compare.py"), "--help"],
                              capture_output=True, text=True, env=environment(), timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("--rounds", done.stdout)

    def test_the_service_is_measured(self):
        load = os.path.join(BUILD, "tests", "bench", "poolrank_load")
        done = subprocess.run([sys.executable, "-B", os.path.join(BENCH, "serve.py"), "--smoke",
                               "--program", PROGRAM, "--load", load],
                              capture_output=True, text=True, env=environment(), timeout=100)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for words in ("HTTP, 64 connections", "socket, 64 connections", "share", "idle server"):
            self.assertIn(words, done.stdout)

    def test_a_small_workload_runs(self):
        lines = "\n".join("text %d " % i + "word " * (16 + i % 48) for i in range(64))
        begin = time.monotonic()
        result = run("embed", model("bert-st-mean"), "--input", "-",
                     "--truncate-prompt-tokens", "-1", stdin=lines)
        seconds = time.monotonic() - begin
        self.assertEqual(result.status, 0, result.err)
        n_tokens = sum(row["prompt_tokens"] for row in result.rows())
        print("64 texts, %d tokens: %.2f s with the start" % (n_tokens, seconds))


if __name__ == "__main__":
    unittest.main(verbosity=1)
