#!/usr/bin/env python3
"""Runs every command of docs/tutorial.md, in order, in one bash from the root, with this build's
program. Stand-ins: launch/build does nothing, launch/fetch-minilm names a small random model unless
the real one is in the cache, and ports are free ones."""
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from running_server import PROGRAM, ROOT, environment, model

PORTS = ["8000", "8001", "8002", "9000"]
SECONDS = 120


def blocks(text):
    return re.findall(r"^```sh\n(.*?)^```$", text, re.S | re.M)


def free_ports(n):
    """Below those that the system gives to whoever asks for any: no other test takes one meanwhile."""
    ports = []
    while len(ports) < n:
        port = random.randrange(20000, 30000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        if str(port) not in ports:
            ports.append(str(port))
    return ports


class Tutorial(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="poolrank-tutorial-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        with open(os.path.join(ROOT, "docs", "tutorial.md"), encoding="utf-8") as f:
            self.blocks = blocks(f.read())

    def script(self):
        text = "\n".join("echo '== block %d' >&2\n%s" % (i + 1, block)
                         for i, block in enumerate(self.blocks))
        for old, new in zip(PORTS, free_ports(len(PORTS))):
            text = re.sub(r"\b%s\b" % old, new, text)
        text = text.replace("$PWD/build", os.path.dirname(os.path.abspath(PROGRAM)))
        # A waiting loop must end when what it waits for never comes.
        return """set -eu -o pipefail
launch/build() { :; }
launch/fetch-minilm() { echo %s; }
trap 'kill $(jobs -p) 2>/dev/null || :' EXIT
%s""" % (model("bert-st-mean"), text)

    def test_every_command_works(self):
        self.assertGreater(len(self.blocks), 10)
        env = environment({"TMPDIR": self.folder, "XDG_RUNTIME_DIR": self.folder,
                           "POOLRANK_PROGRAM": PROGRAM})
        bash = subprocess.Popen(["bash", "-c", self.script()], cwd=ROOT, env=env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
        try:
            out, err = bash.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            bash.terminate()
            out, err = bash.communicate(timeout=30)
            self.fail("not done after %d s\n%s\n%s" % (SECONDS, out[-3000:], err[-3000:]))
        self.assertEqual(bash.returncode, 0, out[-3000:] + err[-3000:] + self.logs())
        for words in ('"embedding":', '"relevance_score":', '"rewards":', "401\n",
                      "poolrank_requests_total{", '"draining"'):
            self.assertIn(words, out)

    def logs(self):
        found = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name.startswith("log"):
                    with open(os.path.join(folder, name), encoding="utf-8") as f:
                        found.append(f.read()[-2000:])
        return "\n".join(found)


if __name__ == "__main__":
    for needed in ("bash", "curl", "openssl", "mpirun"):
        if not shutil.which(needed):
            print("SKIPPED: the tutorial's commands need %s" % needed)
            sys.exit(77)
    unittest.main(verbosity=1)
