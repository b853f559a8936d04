#!/usr/bin/env python3
"""What SIGTERM does to a coordinator with ranks: it accepts nothing more, finishes what it accepted,
and its ranks leave with it."""
import array
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import termios
import time
import unittest

from test_faults import MODEL, PROGRAM, state_of

SECONDS = 30


def unread(pipe):
    """Bytes in a pipe that its reader has not taken."""
    n = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, n)
    return n[0]


def is_pending(pid, number):
    """Whether a signal has been sent to the process, and not delivered."""
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        pending = [int(line.split()[1], 16) for line in f if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in pending)


class Drain(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="pr-")
        self.addCleanup(folder.cleanup)
        self.runtime = folder.name

    def start(self, *options, **how):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("POOLRANK_", "OMPI_", "PMIX_", "SLURM_"))}
        env["XDG_RUNTIME_DIR"] = self.runtime
        process = subprocess.Popen(
            [PROGRAM, "embed", "--model", MODEL, "-tp", "2", "--worker-launch", "mpirun",
             "--input", "-", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, bufsize=0, env=env, **how)
        self.addCleanup(self.end, process)
        return process

    def end(self, process):
        if process.poll() is None:
            process.kill()
        process.communicate()

    def ranks(self, process):
        """Pids of the ranks of this coordinator: they connect to its own run folder."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % name, "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if b"worker" in words and any(self.runtime.encode() in w for w in words):
                found.append(int(name))
        return [pid for pid in found if state_of(pid) not in (None, "Z", "X")]

    def assert_gone(self):
        self.until(lambda: not self.ranks(None))

    def test_what_was_accepted_is_finished(self):
        process = self.start()
        process.stdin.write(b"a line\n")
        first = process.stdout.readline()
        process.stdin.write(b"another line\n" * 200)
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
        self.assertEqual(process.wait(SECONDS), 0, process.stderr.read())
        rows = [json.loads(line) for line in (first + rest).splitlines()]
        self.assertEqual([row["index"] for row in rows], list(range(len(rows))))
        self.assertFalse([row for row in rows if "error" in row])
        self.assert_gone()
        self.assertEqual(os.listdir(self.runtime), [])

    def hold(self, process):
        """Its ranks stand still with a request in hand."""
        process.stdin.write(b"a line\n")
        process.stdout.readline()
        held = self.ranks(process)
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        process.stdin.write(b"a line that nobody computes\n")
        self.until(lambda: unread(process.stdin) == 0)

    def until(self, holds):
        deadline = time.monotonic() + SECONDS
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.002)

    def test_time_for_it_is_bounded(self):
        process = self.start("--drain-timeout", "1")
        self.hold(process)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(SECONDS), 1)
        self.assertGreater(time.monotonic() - begin, 0.7)
        self.assertIn(b"--drain-timeout", process.stderr.read())
        for pid in self.ranks(process):
            os.kill(pid, signal.SIGCONT)
        self.assert_gone()

    def test_a_second_sigterm_ends_at_once(self):
        process = self.start()
        self.hold(process)
        process.send_signal(signal.SIGTERM)
        self.until(lambda: not is_pending(process.pid, signal.SIGTERM))
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(SECONDS), -signal.SIGTERM)
        for pid in self.ranks(process):
            os.kill(pid, signal.SIGCONT)
        self.assert_gone()


if __name__ == "__main__":
    unittest.main()
