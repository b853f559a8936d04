#!/usr/bin/env python3
"""A server whose ranks are killed or stopped, whose queue is full, or whose clients go away, while
8 clients, half of them over HTTP and half over the socket protocol, keep asking until 2,000
requests are answered: every request gets one right answer, the same to the bit as without the
fault, and nothing is left behind.

POOLRANK_FAULT_ROUNDS: how often each fault happens in its run (default 3; the full count is 10).
POOLRANK_ASAN_PROGRAM: a poolrank with the address sanitizer, which is used in place of the other;
what it finds, leaks at its end too, fails the test. Needs mpirun."""
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "service"))
import test_faults  # noqa: E402
from test_faults import MODEL, ROUNDS, SHIM, command_of, leftovers, state_of  # noqa: E402

ASAN_PROGRAM = os.environ.get("POOLRANK_ASAN_PROGRAM")
PROGRAM = os.environ["POOLRANK_PROGRAM"] = ASAN_PROGRAM or test_faults.PROGRAM
import socket_client  # noqa: E402
from running_server import Server, environment  # noqa: E402

CLIENTS = 8
REQUESTS = 2000
PACE_US = 1000       # a batch takes at least so long, so that faults meet one (not with ASan)
SETTLE_SECONDS = 10
ANSWER_SECONDS = 60  # the longest that a client waits
SHAPES = {"one rank": ["-tp", "1"], "two ranks": ["-tp", "2"]}
LEAVE_SHARE = 0.1
LEAVE_SECONDS = 0.004
RETRY_SECONDS = 0.01  # less than is asked for, so that the queue stays full
RSS_GROWTH_KB = 1024


def texts_of(i):
    """The texts of request i: every fifth one has several."""
    text = "request %d of a run %s" % (i, "with words " * (i % 5))
    return [text] if i % 5 else ["%s, text %d" % (text, k) for k in range(4)]


def numbers(row):
    """As float32: a text of JSON and four bytes of the socket protocol are then the same."""
    return struct.pack("<%df" % len(row), *row)


class Expected:
    """What the offline command says of the same texts with the same ranks."""
    made = {}
    options = ["--worker-launch", "mpirun"]
    env = {}

    @classmethod
    def of(cls, options):
        key = tuple(options)
        if key not in cls.made:
            lines = [text for i in range(REQUESTS) for text in texts_of(i)]
            done = subprocess.run(
                [PROGRAM, "embed", "--model", MODEL, "--input", "-", "--quiet", *cls.options,
                 *options], input="\n".join(lines).encode() + b"\n",
                capture_output=True, env=environment(cls.env), timeout=300, check=True)
            rows = iter([numbers(json.loads(line)["embedding"])
                         for line in done.stdout.splitlines()])
            cls.made[key] = [[next(rows) for _ in texts_of(i)] for i in range(REQUESTS)]
        return cls.made[key]


class Reply:
    """An answer of either protocol: is it right, was it refused for want of room, or what is it?"""

    def __init__(self, rows=None, retry_after=None, error=None):
        self.rows, self.retry_after, self.error = rows, retry_after, error


class OverHttp:
    def __init__(self, server):
        self.server = server
        self.connection = server.connect()

    def send(self, i):
        self.name = "fault-%d" % i
        self.connection.send("POST", "/v1/embeddings", {"input": texts_of(i)},
                             {"X-Request-Id": self.name})

    def receive(self):
        answer = self.connection.receive()
        if answer.headers.get("X-Request-Id") != self.name:
            raise AssertionError("%s has the answer of %s"
                                 % (self.name, answer.headers.get("X-Request-Id")))
        if answer.status == 200:
            rows = sorted(answer.json()["data"], key=lambda row: row["index"])
            return Reply(rows=[numbers(row["embedding"]) for row in rows])
        error = "%d: %s" % (answer.status, answer.json()["error"]["message"])
        return Reply(error=error, retry_after=answer.headers.get("Retry-After")
                     if answer.status == 429 else None)

    def close(self):
        self.connection.close()


class OverSocket:
    def __init__(self, server):
        self.client = socket_client.Client(server.socket_path, timeout=ANSWER_SECONDS)

    def send(self, i):
        self.sent = self.client.send("embed", texts_of(i), request_id="fault-%d" % i)

    def receive(self):
        message = self.client.receive()
        if message["id"] != self.sent:
            raise AssertionError("request %d has the answer of %d" % (self.sent, message["id"]))
        if message["kind"] == "error":
            is_full = message["status"] == "overloaded"
            return Reply(error="%s: %s" % (message["status"], message["message"]),
                         retry_after=str(message.get("retry_after_s")) if is_full else None)
        return Reply(rows=[numbers(rows[0]) for rows in socket_client.rows(message["data"])])

    def close(self):
        self.client.socket.close()


class Clients:
    """8 threads, each with a connection that is kept. A request that is refused for want of room,
    or whose client went away, is sent again, so that each is answered in the end."""

    def __init__(self, server, expected, leave_share=0.0, seed=1):
        self.server, self.expected, self.leave_share = server, expected, leave_share
        self.progress = threading.Condition()
        self.next = 0
        self.n_answered = self.n_refused = self.n_left = 0
        self.errors, self.wrong = [], []
        self.threads = [threading.Thread(target=self._client, daemon=True, args=(
            (OverHttp, OverSocket)[k % 2], random.Random(seed + k))) for k in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _take(self):
        with self.progress:
            i = self.next
            self.next += 1
        return i if i < REQUESTS else None

    def _client(self, protocol, rng):
        connection = protocol(self.server)
        try:
            while (i := self._take()) is not None:
                while not self._is_answered(connection, i, rng):
                    if connection.is_left:
                        connection = protocol(self.server)
        except Exception as e:  # pylint: disable=broad-except
            self._count(wrong=repr(e))
        finally:
            connection.close()

    def _is_answered(self, connection, i, rng):
        """False: the request is to be sent again."""
        connection.send(i)
        connection.is_left = rng.random() < self.leave_share
        if connection.is_left:
            time.sleep(rng.random() * LEAVE_SECONDS)
            connection.close()
            self._count(n_left=1)
            return False
        reply = connection.receive()
        if reply.retry_after is not None:
            is_number = re.fullmatch("[1-9][0-9]*", reply.retry_after)
            self._count(n_refused=1, wrong=None if is_number else
                        "refused, to be tried again after %s s" % reply.retry_after)
            time.sleep(rng.random() * RETRY_SECONDS)
            return False
        wrong = None
        if reply.error is None and reply.rows != self.expected[i]:
            wrong = "request %d: other numbers than undisturbed" % i
        self._count(n_answered=1, error=reply.error, wrong=wrong)
        return True

    def _count(self, n_answered=0, n_refused=0, n_left=0, error=None, wrong=None):
        with self.progress:
            self.n_answered += n_answered
            self.n_refused += n_refused
            self.n_left += n_left
            if error:
                self.errors.append(error)
            if wrong:
                self.wrong.append(wrong)
            self.progress.notify_all()

    def wait(self, n):
        """Until n requests are answered, or something is wrong."""
        with self.progress:
            if not self.progress.wait_for(lambda: self.n_answered >= n or self.wrong,
                                          ANSWER_SECONDS):
                raise AssertionError("%d requests are answered, waited for %d:\n%s"
                                     % (self.n_answered, n, self.server.log()))

    def join(self):
        self.wait(REQUESTS)
        for thread in self.threads:
            thread.join(ANSWER_SECONDS)


class ServiceFaultTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="pr-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.runtime = os.path.join(self.folder, "run")
        os.mkdir(self.runtime, 0o700)
        self.leftovers_before = leftovers()
        self.others = set(os.listdir("/proc"))  # were there before: looking at them takes long

    def serve(self, *options, pace_us=PACE_US):
        self.mark = "POOLRANK_FAULT_MARK=" + uuid.uuid4().hex
        env = {"XDG_RUNTIME_DIR": self.runtime, "POOLRANK_FAULT_MARK": self.mark.split("=")[1],
               "PR_FAULT_PACE": str(pace_us)}
        ranks = ["--worker-launch", "mpirun"]
        if ASAN_PROGRAM:
            # Ranks: Open MPI does not free all of its own.
            log = "log_path=" + os.path.join(self.folder, "asan")
            env["ASAN_OPTIONS"] = "detect_leaks=1:" + log
            ranks += ["--mpirun-args", "-x ASAN_OPTIONS=detect_leaks=0:" + log]
        else:
            ranks += ["--mpirun-args", "-x LD_PRELOAD=" + SHIM]
        path = os.path.join(self.folder, "socket")
        server = Server(self.folder, *ranks, *options, "--socket", "unix://" + path,
                        model_name="qwen2-plain", env=env)
        server.socket_path = path
        self.addCleanup(server.stop)
        return server.wait_ready()

    # ---- what is there ----

    def pids(self):
        """Living processes of the server, with their environments."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or name in self.others or state_of(int(name)) in (None, "Z", "X"):
                continue
            try:
                with open("/proc/%s/environ" % name, "rb") as f:
                    env = f.read().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if self.mark in env:
                found[int(name)] = dict(e.split("=", 1) for e in env if "=" in e)
        return found

    def ranks(self):
        """Pids of the ranks that live, the first one's first."""
        found = {pid: int(env["OMPI_COMM_WORLD_RANK"]) for pid, env in self.pids().items()
                 if "OMPI_COMM_WORLD_RANK" in env}
        return sorted(found, key=lambda pid: (found[pid], pid))

    @staticmethod
    def descriptors(server):
        return len(os.listdir("/proc/%d/fd" % server.pid))

    @staticmethod
    def rss_kb(server):
        with open("/proc/%d/status" % server.pid, encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1))

    def settled(self, what, until):
        deadline = time.monotonic() + SETTLE_SECONDS
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError("%s did not come within %d s" % (what, SETTLE_SECONDS))
            time.sleep(0.02)

    # ---- one run ----

    def run_disturbed(self, options, fault, rounds=ROUNDS, n_ranks=None, **clients):
        """Asks 2,000 requests; calls fault(server) in the middle, again and again."""
        expected = Expected.of(options[:2])
        server = self.serve(*options, pace_us=clients.pop("pace_us", PACE_US))
        self.settled("ranks", lambda: len(self.ranks()) == int(options[1]))
        with_one = self.connections_back(server, 0)
        run = Clients(server, expected, **clients)
        run.wait(REQUESTS // (2 * rounds + 2))
        memory = self.rss_kb(server)
        for i in range(rounds):
            run.wait(REQUESTS * (i + 1) // (rounds + 1))
            if run.wrong:
                break
            fault(server, i)
        run.join()
        self.assertEqual(run.wrong[:3], [], server.log())
        self.assertEqual(run.n_answered, REQUESTS)
        self.assert_counted(server, run)
        self.settled("ranks", lambda: len(self.ranks()) == int(options[1]))
        self.connections_back(server, with_one)
        print("%s: %d refused, %d given up, %d errors; memory %d then %d kB"
              % (self.id().rsplit(".", 1)[1], run.n_refused, run.n_left, len(run.errors), memory,
                 self.rss_kb(server)), file=sys.stderr)
        if not ASAN_PROGRAM:  # that keeps freed memory for a while, and looks for leaks itself
            self.assertLess(self.rss_kb(server), memory + RSS_GROWTH_KB)
        self.assert_ends(server)
        return run

    def assert_counted(self, server, run):
        """The server's own count: each request was answered once, or given up."""
        self.settled("the last request", lambda: server.metrics()["poolrank_open_requests"] == 0)
        run.n_restarts = server.metrics()["poolrank_group_restarts_total"]
        counts = {}
        for name, value in server.metrics().samples.items():
            found = re.match(r'poolrank_requests_total\{route="(\w*embed\w*|/v1/embeddings)",'
                             r'code="(\d+)"', name)
            if found:
                counts[found.group(2)] = counts.get(found.group(2), 0) + value
        self.assertEqual(counts.get("429", 0), run.n_refused, counts)
        self.assertEqual(counts["200"] + counts.get("499", 0), run.n_answered + run.n_left, counts)

    def connections_back(self, server, n):
        """How many descriptors the idle server has; waits until they are at most n, where n > 0."""
        if n > 0:
            self.settled("%d descriptors" % n, lambda: self.descriptors(server) <= n)
        return self.descriptors(server)

    def assert_ends(self, server):
        self.assertEqual(server.stop(), 0, server.log())
        self.settled("the end of all processes", lambda: not self.pids())
        self.settled("clean folders", lambda: not leftovers() - self.leftovers_before)
        self.assertEqual(os.listdir(self.runtime), [], server.log())
        reports = [name for name in os.listdir(self.folder) if name.startswith("asan")]
        for name in reports:
            with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as f:
                print(f.read(), file=sys.stderr)
        self.assertEqual(reports, [])

    def for_shapes(self, options, fault, **how):
        runs = []
        for name, shape in SHAPES.items():
            with self.subTest(name):
                runs.append(self.run_disturbed([*shape, *options], fault, **how))
        return runs

    # ---- faults ----

    def test_a_killed_rank_loses_no_request(self):
        def kill(_, i):
            ranks = self.ranks()
            os.kill(ranks[i % len(ranks)], signal.SIGKILL)
        for run in self.for_shapes([], kill):
            self.assertEqual(run.errors, [])
            self.assertGreaterEqual(run.n_restarts, ROUNDS)

    def test_a_killed_group_loses_no_request(self):
        def kill(server, _):
            for pid in self.pids():
                if pid != server.pid:
                    os.kill(pid, signal.SIGKILL)
        for run in self.for_shapes([], kill):
            self.assertEqual(run.errors, [])
            self.assertGreaterEqual(run.n_restarts, ROUNDS)

    def test_a_stopped_rank_loses_no_request(self):
        def stop(_, i):
            ranks = self.ranks()
            os.kill(ranks[i % len(ranks)], signal.SIGSTOP)
        for run in self.for_shapes(["--hang-timeout", "1"], stop):
            self.assertEqual(run.errors, [])
            self.assertGreaterEqual(run.n_restarts, ROUNDS)

    def test_what_a_full_queue_refuses_is_answered_later(self):
        runs = self.for_shapes(["--max-queued-requests", "6", "--max-num-seqs", "2"],
                               lambda server, i: None)
        for run in runs:
            self.assertEqual(run.errors, [])
            self.assertGreater(run.n_refused, 20)

    def test_clients_that_leave_harm_nobody(self):
        for run in self.for_shapes([], lambda server, i: None, leave_share=LEAVE_SHARE):
            self.assertEqual(run.errors, [])
            self.assertGreater(run.n_left, 20)


if __name__ == "__main__":
    if not shutil.which("mpirun") or not (ASAN_PROGRAM or os.path.exists(SHIM)):
        print("mpirun or the shim is missing", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
