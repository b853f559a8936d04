"""Groups that join by themselves, and who may not: another key, version, model, user."""
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import unittest

import cluster
import private
import ranks
from ranks import TEXTS, Run, embed

PORT = 7200


def setUpModule():
    ranks.TestCase.open_cluster(FOLDER, 2, with_slurm=False)


def tearDownModule():
    ranks.TestCase.close_cluster()


# ---- just enough msgpack for a hello ----

def pack(value):
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, bytes):
        return b"\xc4" + struct.pack(">B", len(value)) + value
    if isinstance(value, str):
        return b"\xd9" + struct.pack(">B", len(value)) + value.encode()
    return b"\xdc" + struct.pack(">H", len(value)) + b"".join(pack(v) for v in value)


def receive(connection):
    """The next frame's payload; b"" when the other side has closed."""
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack("<I", data[:4])[0]:
        part = connection.recv(4096)
        if not part:
            return b""
        data += part
    return data[4:]


class Base(ranks.TestCase):
    def coordinator(self, *options, at="eth0:%d" % PORT):
        """On host n1, with no group yet."""
        run = Run(self.hosts.on("n1", *embed("--input", "-", "--worker-launch", "external",
                                             "--ctrl-interface", at, "--log-level", "info",
                                             *options)))
        self.addCleanup(lambda: run.process.poll() is None and run.process.kill())
        self.await_listening(run, at)
        return run

    def await_listening(self, run, at):
        def listens():
            if run.process.poll() is not None:
                raise AssertionError(run.said())
            if at.startswith("unix:"):
                return os.path.exists(at[5:])
            said = subprocess.run(self.hosts.on("n1", "ss", "-Hltn"), capture_output=True,
                                  text=True, check=True).stdout
            return ":%d" % PORT in said
        cluster.wait_for("the coordinator", listens)

    def worker(self, host, n, *options, at="tcp:n1:%d" % PORT):
        """A group of n ranks on a host."""
        return subprocess.Popen(
            self.hosts.on(host, "mpirun", "-n", str(n), "--oversubscribe", "--bind-to", "none",
                          ranks.PROGRAM, "worker", "--connect", at, *options),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, worker, seconds=30):
        said, _ = worker.communicate(timeout=seconds)
        return worker.returncode, said

    def assert_works(self, run, *workers):
        self.assert_right(run.ask(*TEXTS))
        self.assertEqual(run.end()[:2], (0, []))
        for worker in workers:
            status, said = self.finish(worker)
            self.assertEqual(status, 0, said)
        self.assert_nothing_is_left()


class Joining(Base):
    def test_a_group_joins_from_another_host(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        self.assert_works(run, self.worker("n2", 2, *key))

    def test_requests_wait_for_the_first_group(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        run.write(*TEXTS)
        worker = self.worker("n2", 2, *key)
        self.assert_right(run.read(len(TEXTS)))
        self.assertEqual(run.end()[:2], (0, []))
        self.assertEqual(self.finish(worker)[0], 0)
        self.assert_nothing_is_left()

    def test_a_second_group_takes_over_from_one_that_is_killed(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        first = self.worker("n1", 2, *key)
        self.assert_right(run.ask(*TEXTS[:3]))
        before = set(ranks.worker_pids())
        run.write(*TEXTS)
        second = self.worker("n2", 2, *key)
        cluster.wait_for("the second group", lambda: len(ranks.worker_pids()) == 4)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        self.assert_right(run.read(len(TEXTS)))
        self.assert_right(run.ask(TEXTS[0]))
        self.assertNotEqual(self.finish(first)[0], 0)
        self.assertEqual(run.end()[:2], (0, []))
        self.assertEqual(self.finish(second)[0], 0)

    def test_a_group_may_leave_and_another_may_come(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        for host in ("n1", "n2"):
            worker = self.worker(host, 2, *key)
            self.assert_right(run.ask(*TEXTS[:3]))
            if host == "n1":
                worker.terminate()
                self.finish(worker)
        self.assertEqual(run.end()[:2], (0, []))
        self.assertEqual(self.finish(worker)[0], 0)
        self.assert_nothing_is_left()


class Refused(Base):
    def refused(self, reason, *worker_options, n=2, coordinator=()):
        """Such a worker hears why; the coordinator goes on and takes one that fits."""
        key = self.key()
        run = self.coordinator("-tp", "2", *key, *coordinator)
        status, said = self.finish(self.worker("n2", n, *(worker_options or key)))
        self.assertNotEqual(status, 0)
        self.assertRegex(said, reason)
        self.assert_works(run, self.worker("n2", 2, *key))

    def test_another_key(self):
        self.refused("key", *self.key("other.key", "a key that nobody knows"))

    def test_no_key(self):
        self.refused("cluster-key-file", "--log-level", "warning")

    def test_a_group_of_another_size(self):
        self.refused("rank", n=3)

    def test_a_key_file_that_others_can_read(self):
        key = self.key()
        os.chmod(key[1], 0o644)
        done = subprocess.run(self.hosts.on("n1", *embed("-tp", "2", "--worker-launch", "external",
                                                         *key, "text")),
                              capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("0600", done.stderr)

    def hello(self, **changes):
        """A frame as worker/control.h has it, from a rank that never was."""
        fields = {"kind": 0, "protocol": 1, "version": self.version(), "group": "g", "rank": 0,
                  "n_ranks": 2, "host": "n2", "pid": 1, "nonce": bytes(32)}
        fields.update(changes)
        payload = pack(list(fields.values()))
        return struct.pack("<I", len(payload)) + payload

    def version(self):
        done = subprocess.run([ranks.PROGRAM, "--version"], capture_output=True, text=True,
                              check=True)
        return re.search(r"\d+\.\d+\.\d+", done.stdout).group()

    def answer_to(self, hello):
        """From the head, which is a host of the network too."""
        with socket.create_connection((self.hosts.address("n1"), PORT), timeout=10) as connection:
            connection.sendall(hello)
            return receive(connection)

    def test_another_version_and_another_protocol(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        other = self.answer_to(self.hello(version="0.0.0-other"))
        self.assertIn(b"0.0.0-other", other)
        self.assertIn(self.version().encode(), other)
        self.assertIn(b"protocol", self.answer_to(self.hello(protocol=99)))
        self.assert_works(run, self.worker("n2", 2, *key))

    def test_bytes_that_are_no_frames_do_no_harm(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, b"\0\0\0\0", self.hello()[:20]):
            with socket.create_connection((self.hosts.address("n1"), PORT), timeout=10) as c:
                c.sendall(data)
                c.shutdown(socket.SHUT_WR)
                c.settimeout(15)
                while c.recv(4096):
                    pass
        self.assert_works(run, self.worker("n2", 2, *key))

    def test_a_hello_that_is_played_again_proves_nothing(self):
        key = self.key()
        run = self.coordinator("-tp", "2", *key)
        with socket.create_connection((self.hosts.address("n1"), PORT), timeout=10) as c:
            c.sendall(self.hello())
            self.assertTrue(receive(c))  # the challenge
            proof = pack([2, bytes(32)])
            c.sendall(struct.pack("<I", len(proof)) + proof)
            last = receive(c)
            self.assertTrue(last == b"" or b"key" in last, last)
        self.assert_works(run, self.worker("n2", 2, *key))


class UnixSocket(Base):
    def test_another_user_may_not_connect(self):
        key = self.key()
        at = "unix:" + self.path("control")
        run = self.coordinator("-tp", "2", *key, at=at)
        self.assertEqual(os.stat(at[5:]).st_mode & 0o777, 0o600)
        connect = ("import socket,os,sys; os.setgid(65534); os.setuid(65534)\n"
                   "s=socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
                   "try: s.connect(sys.argv[1])\n"
                   "except PermissionError: sys.exit(7)\n"
                   "try: sys.stdout.buffer.write(s.recv(4096))\n"
                   "except ConnectionResetError: pass\n")
        words = [sys.executable, "-c", connect, at[5:]]
        self.assertEqual(subprocess.run(words, timeout=30, check=False).returncode, 7)
        # Even where the file's mode would let it in, the user behind it is looked at.
        os.chmod(self.folder, 0o755)
        os.chmod(at[5:], 0o666)
        done = subprocess.run(words, timeout=30, check=True, capture_output=True)
        self.assertTrue(done.stdout == b"" or b"user" in done.stdout, done.stdout)
        worker = self.worker("n1", 2, *key, at=at)
        self.assert_right(run.ask(*TEXTS[:3]))
        status, rows, said = run.end()
        self.assertEqual((status, rows), (0, []))
        self.assertIn("65534", said)
        self.assertEqual(self.finish(worker)[0], 0)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    FOLDER = private.enter("mpirun", "ss")
    ranks.skip_without_ranks()
    unittest.main()
