#!/usr/bin/env python3
"""Ranks that are killed, stopped, or whose messages are lost, in the middle of a run of 2,000
requests: every request is answered once, as if nothing had happened, and nothing is left behind.

POOLRANK_FAULT_ROUNDS: how often each fault happens in its run (default 3; the full count is 10).
Needs mpirun. See shim.c for what is done to a rank from inside."""
import json
import os
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("POOLRANK_PROGRAM", os.path.join(ROOT, "build", "poolrank"))
SHIM = os.environ.get("POOLRANK_FAULT_SHIM",
                      os.path.join(os.path.dirname(PROGRAM), "tests", "fault",
                                   "poolrank_fault_shim.so"))
MODEL = os.path.join(ROOT, "tests", "parity", "models", "qwen2-plain")
ROUNDS = int(os.environ.get("POOLRANK_FAULT_ROUNDS", "3"))
LINES = 2000
PER_BATCH = 4
PACE_US = 3000       # a batch takes at least so long: 500 batches, two seconds for a run
SETTLE_SECONDS = 10  # for processes to be gone
RECOVERY_SECONDS = 1.0
ONE = ["-tp", "1"]
TWO = ["-tp", "2"]
GROUPS = ["-dp", "2"]
SHAPES = {"one rank": ONE, "two ranks": TWO, "two groups": GROUPS}


def texts():
    return ["line %d of a run %s" % (i, "with words " * (i % 5)) for i in range(LINES)]


def state_of(pid):
    """The state letter of a process; None: there is none."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


def command_of(pid):
    try:
        with open("/proc/%d/cmdline" % pid, encoding="utf-8", errors="replace") as f:
            return f.read().replace("\0", " ")
    except OSError:
        return None


def mapped_files():
    """Files of shared memory that some process has mapped."""
    found = set()
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/maps" % name, encoding="utf-8", errors="replace") as f:
                found.update(line.split(None, 5)[5].strip() for line in f if "/dev/shm/" in line)
        except (OSError, IndexError):
            pass
    return found


def leftovers():
    """What ranks and launchers of Open MPI leave where they are not told otherwise, but for that of
    other jobs that live. (A coordinator's own folder is in the run's.)"""
    found = {"/dev/shm/" + name for name in os.listdir("/dev/shm")
             if name.startswith(("vader_segment", "poolrank"))}
    for top in os.listdir("/tmp"):
        if not top.startswith("ompi.%s.%d" % (os.uname().nodename, os.geteuid())):
            continue
        try:
            jobs = os.listdir(os.path.join("/tmp", top))
        except OSError:
            continue
        found.update("/tmp/%s/%s" % (top, job) for job in jobs
                     if job.startswith("pid.") and state_of(int(job[4:])) in (None, "Z"))
    return found - mapped_files()


class Run:
    """One poolrank command over the 2,000 lines, with what the shim says of it."""

    def __init__(self, test, options, lines=None, stdin=False, **shim):
        self.folder = tempfile.mkdtemp(prefix="poolrank-fault-")
        test.addCleanup(shutil.rmtree, self.folder)
        test.addCleanup(self.end)
        self.runtime = test.runtime
        self.others = set(os.listdir("/proc"))  # were there before: looking at them takes long
        self.mark = "POOLRANK_FAULT_MARK=" + uuid.uuid4().hex
        self.go = os.path.join(self.folder, "go")
        self.trace_path = os.path.join(self.folder, "trace")
        source = os.path.join(self.folder, "in.txt")
        with open(source, "w", encoding="utf-8") as f:
            f.write("".join(line + "\n" for line in lines or texts()))
        self.out = os.path.join(self.folder, "out.jsonl")
        env = {k: v for k, v in os.environ.items()
               if not k.startswith(("POOLRANK_", "OMPI_", "PMIX_", "SLURM_", "PR_FAULT_"))}
        env[self.mark.split("=")[0]] = self.mark.split("=")[1]
        env["XDG_RUNTIME_DIR"] = self.runtime
        env.update({"PR_FAULT_TRACE": self.trace_path, "PR_FAULT_GO": self.go,
                    "PR_FAULT_PACE": str(PACE_US)})
        env.update({"PR_FAULT_" + k.upper(): v for k, v in shim.items()})
        self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8")
        test.addCleanup(self.log.close)
        self.process = subprocess.Popen(
            [PROGRAM, "embed", "--model", MODEL, "--worker-launch", "mpirun", "--input",
             "-" if stdin else source, "--output", self.out, "--max-num-seqs", str(PER_BATCH),
             "--mpirun-args", "-x LD_PRELOAD=" + SHIM, "--log-level", "info", *options],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=self.log, env=env)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdin:
            self.process.stdin.close()

    def said(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def pids(self):
        """Living processes of this run, with their environments."""
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or name in self.others:
                continue
            if state_of(int(name)) in (None, "Z", "X"):
                continue
            try:
                with open("/proc/%s/environ" % name, "rb") as f:
                    env = f.read().decode("utf-8", "replace").split("\0")
            except OSError:
                continue
            if self.mark in env:
                found[int(name)] = dict(e.split("=", 1) for e in env if "=" in e)
        return found

    def commands(self):
        """What lives of this run, as a person reads it."""
        return {pid: (state_of(pid), env.get("OMPI_COMM_WORLD_RANK"), command_of(pid))
                for pid, env in self.pids().items()}

    def ranks(self):
        """{pid: rank} of the ranks that live."""
        return {pid: int(env["OMPI_COMM_WORLD_RANK"]) for pid, env in self.pids().items()
                if "OMPI_COMM_WORLD_RANK" in env}

    def trace(self):
        """[(pid, seconds)] of the batches that were answered."""
        try:
            with open(self.trace_path, encoding="utf-8") as f:
                rows = [line.split() for line in f if line.endswith("\n")]
        except FileNotFoundError:
            return []
        return [(int(pid), int(ns) / 1e9) for pid, ns in rows]

    def wait(self, what, until, seconds=60):
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError("waited %d s for %s:\n%s" % (seconds, what, self.said()))
            if self.process.poll() is not None and not until():
                raise AssertionError("%s: the run ended:\n%s" % (what, self.said()))
            time.sleep(0.003)

    def wait_batches(self, n):
        self.wait("%d batches" % n, lambda: len(self.trace()) >= n)

    def wait_other(self, pids):
        """When the first batch was answered by a process that is none of these; None: the run ended
        before, by another group's work."""
        def seen():
            return [t for pid, t in self.trace() if pid not in pids]
        self.wait("a batch from a new rank", lambda: seen() or self.process.poll() == 0)
        return (seen() or [None])[0]


class FaultTest(unittest.TestCase):
    expected = {}  # bytes of the undisturbed run, for each shape

    def setUp(self):
        self.runtime = tempfile.mkdtemp(prefix="pr-")
        self.addCleanup(shutil.rmtree, self.runtime)
        self.before = leftovers()

    def undisturbed(self, options):
        key = tuple(options)
        if key not in self.expected:
            run = Run(self, options)
            self.assert_done(run, None)
            with open(run.out, "rb") as f:
                FaultTest.expected[key] = f.read()
        return self.expected[key]

    def assert_nothing_left(self, run):
        deadline = time.monotonic() + SETTLE_SECONDS
        while run.pids() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(run.pids(), {}, run.said())
        while leftovers() - self.before and time.monotonic() < deadline:
            time.sleep(0.1) # of other jobs that are just ending
        self.assertEqual(leftovers() - self.before, set(), run.said())
        self.assertEqual(os.listdir(self.runtime), [], run.said())

    def assert_done(self, run, expected, seconds=180):
        status = run.process.wait(seconds)
        self.assertEqual(status, 0, run.said())
        with open(run.out, "rb") as f:
            out = f.read()
        rows = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([row["index"] for row in rows], list(range(LINES)))
        self.assertFalse([row for row in rows if "error" in row][:3])
        if expected is not None:
            self.assertEqual(out == expected, True, "answers differ from the undisturbed run")
        self.assert_nothing_left(run)

    def harm_by(self, run, harm, rounds=ROUNDS):
        """Calls harm(run, round) in the middle of the run, again and again; returns how long it
        took each time until a rank that was not there before answered a batch."""
        times = []
        apart = LINES // PER_BATCH * 3 // 4 // rounds
        for i in range(rounds):
            run.wait_batches(20 + i * apart)
            before = set(run.ranks()) | {pid for pid, _ in run.trace()}
            begin = time.monotonic()
            harm(run, i)
            first = run.wait_other(before)
            if first is not None:
                times.append(first - begin)
        self.assertTrue(times, run.said())
        return times

    def assert_recovers(self, name, times):
        print("%s: %s" % (name, " ".join("%.3f" % t for t in times)), file=sys.stderr)
        self.assertLess(statistics.median(times), RECOVERY_SECONDS, name)

    # ---- from outside ----

    def test_a_killed_rank_loses_no_request(self):
        for name, options in SHAPES.items():
            with self.subTest(name):
                expected = self.undisturbed(options)
                run = Run(self, options)

                def kill(run, i):
                    ranks = sorted(run.ranks().items(), key=lambda item: (item[1], item[0]))
                    os.kill(ranks[i % len(ranks)][0], signal.SIGKILL)
                self.assert_recovers("killed rank, " + name, self.harm_by(run, kill))
                self.assert_done(run, expected)

    def test_a_killed_group_loses_no_request(self):
        for name, options in SHAPES.items():
            with self.subTest(name):
                expected = self.undisturbed(options)
                run = Run(self, options)

                def kill(run, _):
                    for pid in run.pids():
                        if pid != run.process.pid:
                            os.kill(pid, signal.SIGKILL)
                self.assert_recovers("killed groups, " + name, self.harm_by(run, kill))
                self.assert_done(run, expected)

    def test_a_stopped_rank_is_found_and_replaced(self):
        for name, options in SHAPES.items():
            with self.subTest(name):
                expected = self.undisturbed(options)
                run = Run(self, [*options, "--hang-timeout", "1"])

                def stop(run, i):
                    ranks = sorted(run.ranks().items(), key=lambda item: (item[1], item[0]))
                    os.kill(ranks[i % len(ranks)][0], signal.SIGSTOP)
                if options is GROUPS:  # the other group does all the work meanwhile
                    run.wait_batches(50)
                    stop(run, 0)
                else:
                    times = self.harm_by(run, stop)
                    print("stopped rank, %s: %s" % (name, " ".join("%.3f" % t for t in times)),
                          file=sys.stderr)
                self.assert_done(run, expected)
                self.assertIn("it hangs: no answer to the question", run.said())

    def test_a_killed_coordinator_leaves_no_process(self):
        for name, options in SHAPES.items():
            with self.subTest(name):
                for _ in range(ROUNDS):
                    run = Run(self, options)
                    run.wait_batches(50)
                    run.process.kill()
                    run.process.wait()
                    deadline = time.monotonic() + SETTLE_SECONDS
                    while run.pids() and time.monotonic() < deadline:
                        time.sleep(0.02)
                    self.assertEqual(run.pids(), {}, name)
                    self.assertEqual(len(os.listdir(self.runtime)), 1)
                    # The next coordinator sweeps what the killed one left.
                    next_run = Run(self, ONE, texts()[:PER_BATCH])
                    self.assertEqual(next_run.process.wait(60), 0)
                    self.assert_nothing_left(next_run)

    def test_descriptors_and_memory_do_not_grow(self):
        run = Run(self, TWO)
        descriptors, kilobytes = [], []

        def measure():
            folder = "/proc/%d" % run.process.pid
            descriptors.append(len(os.listdir(folder + "/fd")))
            with open(folder + "/status", encoding="ascii") as f:
                kilobytes.append(int(re.search(r"VmRSS:\s+(\d+) kB", f.read()).group(1)))

        def kill(run, _):
            run.wait("the old launcher's end", lambda: len(run.ranks()) == 2)
            measure()
            os.kill(min(run.ranks()), signal.SIGKILL)
        self.harm_by(run, kill, max(ROUNDS, 12))
        self.assert_done(run, self.undisturbed(TWO))
        # Old pipes may not be closed yet when the new group answers: one launcher's worth of them.
        self.assertLessEqual(descriptors[-1], descriptors[0] + 4, descriptors)
        # The first starts fill the allocator's pools; a group's tables, links and frames that were
        # kept would show as more from then on.
        self.assertLessEqual(kilobytes[-1], kilobytes[3] + 512, kilobytes)

    def test_ranks_whose_coordinator_died_before_they_came_leave(self):
        for _ in range(ROUNDS):
            run = Run(self, TWO)
            run.wait("a rank", run.ranks)
            run.process.kill()
            run.process.wait()
            deadline = time.monotonic() + SETTLE_SECONDS
            while run.pids() and time.monotonic() < deadline:
                time.sleep(0.02)
            self.assertEqual(run.commands(), {})

    def test_groups_of_one_host_have_processors_of_their_own(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("one processor")
        run = Run(self, GROUPS)
        self.assert_done(run, self.undisturbed(GROUPS))
        found = re.findall(r"group (\d+)\.\d+: rank 0 .*?: cpu ([\d,-]+),", run.said())
        self.assertEqual({group for group, _ in found}, {"0", "1"}, run.said())
        places = dict(found)
        self.assertNotEqual(places["0"], places["1"], run.said())

    def test_four_ranks_without_work_sleep(self):
        run = Run(self, [*TWO, *GROUPS], stdin=True)
        run.wait("two groups", lambda: run.said().count("is ready after") == 2)
        time.sleep(1)  # for loops that spin a while before they sleep

        def cpu_ns():
            total = 0
            for pid in run.pids():
                for task in os.listdir("/proc/%d/task" % pid):
                    with open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="utf-8") as f:
                        total += int(f.read().split()[0])
            return total
        self.assertEqual(len(run.ranks()), 4)
        begin, used = time.monotonic(), cpu_ns()
        time.sleep(6)  # in which each rank is asked at least once
        share = (cpu_ns() - used) / 1e9 / (time.monotonic() - begin)
        print("four idle ranks: %.3f %% of a core" % (100 * share), file=sys.stderr)
        self.assertLess(share, 0.02)
        run.process.stdin.close()
        self.assertEqual(run.process.wait(30), 0, run.said())
        self.assert_nothing_left(run)

    # ---- from inside a rank ----

    def harm_inside(self, kind, options, rank="0", hang="1"):
        expected = self.undisturbed(options)
        run = Run(self, [*options, "--hang-timeout", hang], kind=kind, rank=rank)
        apart = LINES // PER_BATCH // (ROUNDS + 1)
        for i in range(ROUNDS):
            run.wait_batches((i + 1) * apart)
            with open(run.go, "w", encoding="utf-8"):
                pass
            run.wait("the harm", lambda: not os.path.exists(run.go))
        self.assert_done(run, expected)
        return run

    def test_a_lost_answer_is_asked_for_again(self):
        run = self.harm_inside("drop-done", ONE)
        self.assertRegex(run.said(), "it hangs|found a result of batch")

    def test_a_rank_that_did_not_get_its_batch_is_named(self):
        run = self.harm_inside("drop-batch", TWO, rank="1")
        self.assertIn("rank 1 ", run.said())

    def test_a_late_answer_is_waited_for(self):
        run = self.harm_inside("delay-done", TWO)
        self.assertNotIn("ended", run.said())

    def test_half_an_answer_is_asked_for_again(self):
        run = self.harm_inside("cut-result", TWO)
        self.assertIn("it hangs", run.said())

    def test_a_cut_connection_ends_the_group_only(self):
        for name, options in SHAPES.items():
            with self.subTest(name):
                run = self.harm_inside("shutdown", options, hang="60")
                self.assertIn("it closed its connection", run.said())

    def test_a_group_that_dies_while_it_loads_is_started_again(self):
        expected = self.undisturbed(TWO)
        folder = tempfile.mkdtemp(prefix="poolrank-fault-")
        self.addCleanup(shutil.rmtree, folder)
        go = os.path.join(folder, "go")
        with open(go, "w", encoding="utf-8"):
            pass
        run = Run(self, TWO, kind="die-ready", rank="1", go=go)
        self.assert_done(run, expected)
        self.assertFalse(os.path.exists(go))
        self.assertIn("started again", run.said())

    def test_groups_that_never_start_fail_with_the_reason(self):
        run = Run(self, [*TWO, "--mpirun-args", "-x LD_PRELOAD=%s -x PR_FAULT_MARKER=01" % SHIM])
        self.assertEqual(run.process.wait(60), 1)
        self.assertFalse(os.path.exists(run.out))
        self.assert_nothing_left(run)

    def tokens_of(self, text):
        done = subprocess.run([PROGRAM, "tokenize", "--model", MODEL, text], check=True,
                              capture_output=True)
        return json.loads(done.stdout)["tokens"]

    def test_a_request_that_kills_its_rank_fails_alone(self):
        lines = texts()
        at = LINES // 2
        lines[at] = "a zebra quilt of poison"
        tokens = self.tokens_of(lines[at])
        marker = struct.pack("<%di" % len(tokens), *tokens).hex()
        for name, options in SHAPES.items():
            with self.subTest(name):
                expected = [json.loads(line) for line in self.undisturbed(options).splitlines()]
                run = Run(self, options, lines, marker=marker)
                self.assertEqual(run.process.wait(120), 3, run.said())
                with open(run.out, "rb") as f:
                    rows = [json.loads(line) for line in f]
                self.assertIn("3 replica groups ended", json.dumps(rows[at]))
                self.assertEqual(rows[:at] + rows[at + 1:], expected[:at] + expected[at + 1:])
                self.assert_nothing_left(run)


if __name__ == "__main__":
    if not shutil.which("mpirun") or not os.path.exists(SHIM):
        print("mpirun or the shim is missing", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
