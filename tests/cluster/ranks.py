"""What the tests of ranks on a cluster share: running poolrank, its answers, what it leaves."""
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import cluster
import private

PROGRAM = os.environ.get("POOLRANK_PROGRAM", os.path.join(private.BUILD, "poolrank"))
MODELS = os.path.join(private.ROOT, "tests", "parity", "models")
MODEL = os.path.join(MODELS, "qwen2-plain")  # 2 layers, 4 heads of 2 key-value heads
TEXTS = ["text %d %s" % (i, "word " * (i * 7 % 23)) for i in range(60)]
BOUND = 1e-5

# A user's own variables must not decide what is tested.
for _name in [n for n in os.environ if n.startswith(("POOLRANK_", "OMPI_", "PMIX_", "SLURM_"))
              and not n.startswith(("POOLRANK_TEST_", "POOLRANK_BUILD", "POOLRANK_PROGRAM"))]:
    del os.environ[_name]
os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"


def skip_without_ranks():
    done = subprocess.run([PROGRAM, "embed", "--help"], capture_output=True, text=True, check=False)
    if "--worker-launch" not in done.stdout:
        private.skip("this poolrank was built without ranks")


def embed(*options):
    return [PROGRAM, "embed", "--model", MODEL, *options]


def worker_pids():
    """Of the processes that are ranks."""
    return sorted(pid for pid, line in private.processes().items()
                  if os.path.basename(line.split(" ")[0]) == "poolrank" and
                  line.split(" ")[1:2] == ["worker"])


def coordinator_pids():
    return sorted(pid for pid, line in private.processes().items()
                  if os.path.basename(line.split(" ")[0]) == "poolrank" and
                  line.split(" ")[1:2] != ["worker"])


def host_of(pid):
    """The host name that a process sees."""
    done = subprocess.run(["nsenter", "--target", str(pid), "--uts", "hostname"],
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()


def environment_of(pid):
    with open("/proc/%d/environ" % pid, "rb") as f:
        words = f.read().decode("utf-8", "replace").split("\0")
    return dict(word.split("=", 1) for word in words if "=" in word)


def files_of(hosts):
    """What stands in the temporary folders of all hosts, and of the head."""
    roots = {"head": ""}
    for name, holder in hosts.holders.items():
        roots[name] = "/proc/%d/root" % holder.pid
    found = set()
    for name, root in roots.items():
        for folder in ("/tmp", "/dev/shm"):
            found |= {"%s:%s/%s" % (name, folder, f) for f in os.listdir(root + folder)}
    return found


class Run:
    """A command with pipes: lines go in, answers come out, one at a time if wanted."""

    def __init__(self, words, **options):
        self.messages = tempfile.TemporaryFile()
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.messages, bufsize=0, **options)
        self.bytes = b""
        self.feeder = None

    def said(self):
        self.messages.seek(0)
        return self.messages.read().decode("utf-8", "replace")

    def write(self, *texts):
        """In the background: whoever writes much must read meanwhile."""
        data = memoryview("".join(t + "\n" for t in texts).encode())

        def feed():
            at = 0
            try:
                while at < len(data):
                    at += self.process.stdin.write(data[at:])
            except BrokenPipeError:
                pass  # its status says more
        self.feeder = threading.Thread(target=feed, daemon=True)
        self.feeder.start()

    def read(self, n=1, seconds=60):
        """The next n answers."""
        rows = []
        end = time.monotonic() + seconds
        while len(rows) < n:
            line, found, rest = self.bytes.partition(b"\n")
            if found:
                self.bytes = rest
                rows.append(json.loads(line))
                continue
            ready = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]
            part = self.process.stdout.read(1 << 16) if ready else b""
            if not part:
                raise AssertionError("%d of %d answers %s; %s" % (
                    len(rows), n, "and no more" if ready else "in %d s" % seconds, self.said()))
            self.bytes += part
        return rows

    def ask(self, *texts):
        self.write(*texts)
        return self.read(len(texts))

    def end(self, seconds=60):
        """Closes the input; (status, the rows that were left, messages)."""
        if self.feeder:
            self.feeder.join(seconds)
        self.process.stdin.close()
        self.process.stdin = None
        try:
            out, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("still running after %d s; %s" % (seconds, self.said())) from None
        rows = [json.loads(line) for line in (self.bytes + out).splitlines()]
        said = self.said()
        self.messages.close()
        return self.process.returncode, rows, said


class TestCase(unittest.TestCase):
    """A folder that all hosts see; after each test nothing of it may be left anywhere."""
    hosts = slurm = None
    FOLDER = None
    _expected = None

    @classmethod
    def open_cluster(cls, folder, n_hosts, with_slurm):
        TestCase.FOLDER = folder
        TestCase.hosts = cluster.Hosts(folder, n_hosts)
        TestCase.slurm = cluster.Slurm(folder, TestCase.hosts) if with_slurm else None
        done = subprocess.run(embed("--input", "-"), input="\n".join(TEXTS).encode(),
                              capture_output=True, check=True, timeout=60)
        TestCase._expected = [json.loads(line)["embedding"] for line in done.stdout.splitlines()]

    @classmethod
    def close_cluster(cls):
        if TestCase.slurm:
            TestCase.slurm.close()
        TestCase.hosts.close()

    def setUp(self):
        self.folder = os.path.join(self.FOLDER, self.id().rpartition(".")[2])
        os.mkdir(self.folder)
        self.processes_before = set(private.processes())
        self.files_before = files_of(self.hosts)
        self.addCleanup(self.kill_what_is_left)

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
        return path

    def texts_file(self, name="in.txt", texts=None):
        return self.path(name, "".join(t + "\n" for t in texts or TEXTS))

    def key(self, name="cluster.key", text="a key that only tests know"):
        """The option that names a key file which every host sees."""
        path = self.path(name, text + "\n")
        os.chmod(path, 0o600)
        return ["--cluster-key-file", path]

    def sbatch(self, *words):
        """Submits; the job's messages go to job.log."""
        done = subprocess.run(["sbatch", "--parsable", "-o", self.path("job.log"), *words],
                              capture_output=True, text=True, timeout=30, check=False,
                              cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.job = done.stdout.strip()

    def job_said(self):
        try:
            with open(self.path("job.log"), encoding="utf-8") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def job_status(self):
        """The exit status of the job's script; None: it runs. (sbatch --wait looks seldom.)"""
        shown = subprocess.run(["scontrol", "show", "job", "--oneliner", self.job],
                               capture_output=True, text=True, check=True).stdout
        if re.search(r" JobState=(PENDING|CONFIGURING|RUNNING|COMPLETING)", shown):
            return None
        return int(re.search(r" ExitCode=(\d+):", shown).group(1))

    def await_job(self, seconds=60):
        cluster.wait_for("the job's end", lambda: self.job_status() is not None, seconds)
        return self.job_status()

    def await_ranks(self, n):
        def are_here():
            if self.job_status() is not None:
                raise AssertionError("the job has ended: " + self.job_said())
            return len(worker_pids()) == n
        cluster.wait_for("%d ranks" % n, are_here)

    def new_processes(self):
        return {pid: line for pid, line in private.processes().items()
                if pid not in self.processes_before}

    def kill_what_is_left(self):
        for pid in self.new_processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.slurm and self.slurm.steps():
            subprocess.run(["scancel", "--user=root", "--full"], check=False)
            cluster.wait_for("Slurm's jobs to end", lambda: not self.slurm.steps(), 30)

    def ours(self):
        """New processes but for Slurm's own: a step's daemon takes its time to sign off."""
        return {pid: line for pid, line in self.new_processes().items()
                if not line.startswith("slurmstepd:")}

    @staticmethod
    def wait_until_empty(look, seconds):
        end = time.monotonic() + seconds
        while look() and time.monotonic() < end:
            time.sleep(0.05)
        return look()

    def assert_nothing_is_left(self, seconds=10):
        """Processes, steps, and files, a moment after the command has ended."""
        self.assertEqual(self.wait_until_empty(self.ours, seconds), {})
        if self.slurm:
            self.assertEqual(self.wait_until_empty(self.slurm.steps, 30), "")
        self.assertEqual(self.wait_until_empty(self.new_processes, 90), {})
        self.assertEqual(files_of(self.hosts) - self.files_before, set())

    def assert_close(self, embedding, i_text):
        expected = self._expected[i_text]
        self.assertEqual(len(embedding), len(expected))
        scale = max(1, max(abs(x) for x in expected))
        error = max(abs(a - b) for a, b in zip(embedding, expected)) / scale
        self.assertLessEqual(error, BOUND, "text %d" % i_text)

    def assert_right(self, rows, first=0):
        """Answers to TEXTS[first:], in order, each once and each right."""
        for i, row in enumerate(rows):
            self.assertIn("embedding", row, row)
            self.assert_close(row["embedding"], (first + i) % len(TEXTS))

    def run_command(self, *words, status=0, seconds=120, **options):
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=seconds,
                                  check=False, stdin=subprocess.DEVNULL, **options)
        except subprocess.TimeoutExpired as late:
            raise AssertionError("%s: still running after %d s: %s" % (
                words, seconds, (late.stderr or b"").decode("utf-8", "replace"))) from None
        self.assertEqual(done.returncode, status, "%s: %s" % (" ".join(words), done.stderr))
        return done

    def answers(self, path):
        with open(path, encoding="utf-8") as f:
            rows = [json.loads(line) for line in f]
        self.assertEqual([row["index"] for row in rows], list(range(len(rows))))
        return rows
