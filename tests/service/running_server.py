"""What the tests of the service share: a running `poolrank serve`, requests to it, its log, its end.

Needs Python's standard library only. A server listens on a free port of loopback, which its port file
tells; everything waits for events, with a bound."""
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("POOLRANK_PROGRAM", os.path.join(ROOT, "build", "poolrank"))
PATIENCE_S = 60  # for what takes milliseconds on a machine that is not busy


def model(name):
    return os.path.join(ROOT, "tests", "parity", "models", name)


def environment(extra=None):
    """The tester's own, without settings of poolrank and of a launcher that started the tests."""
    names = ("POOLRANK_", "HF_", "OMPI_", "PMIX_", "PMI_", "SLURM_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    env.update(extra or {})
    return env


def wait_for(what, ready, patience_s=PATIENCE_S):
    """ready() once it is true; asks every 5 ms."""
    end = time.monotonic() + patience_s
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError("%s did not come within %d s" % (what, patience_s))
        time.sleep(0.005)


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode("utf-8")


class Connection:
    """One connection of HTTP, kept open; over TLS with a context."""

    def __init__(self, port, key=None, tls=None, timeout=PATIENCE_S):
        self.headers = {"Authorization": "Bearer " + key} if key else {}
        if tls:
            self.http = http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=tls)
        else:
            self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def send(self, method, path, body=None, headers=None):
        headers = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        self.http.request(method, path, body, headers)

    def receive(self):
        response = self.http.getresponse()
        return Answer(response, response.read())

    def ask(self, method, path, body=None, headers=None):
        self.send(method, path, body, headers)
        return self.receive()

    def close(self):
        self.http.close()


class Server:
    """`poolrank serve` on a port of its own; log lines are gathered as they come."""

    def __init__(self, folder, *options, model_name="bert-st-mean", env=None, log_level="info",
                 log_format="json", wait=True):
        self.port_file = os.path.join(folder, "ports.%d" % id(self))
        words = [PROGRAM, "serve", "--model", model(model_name), "--port", "0", "--port-file",
                 self.port_file, "--log-level", log_level, "--log-format", log_format, *options]
        self.lines = []
        self.changed = threading.Condition()
        # A session of its own: nothing that it starts outlives stop().
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment(env))
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.ports = {}
        self.key = self.tls = None
        if wait:
            self.wait_open()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.decode("utf-8", "surrogateescape").rstrip("\n"))
                self.changed.notify_all()
        self.process.stdout.close()

    # ---- start ----

    def wait_open(self):
        def opened():
            if self.process.poll() is not None:
                raise AssertionError("the server ended: " + self.log())
            return os.path.exists(self.port_file)
        wait_for("the port file", opened)
        with open(self.port_file, encoding="utf-8") as f:
            self.ports = json.load(f)

    @property
    def port(self):
        return self.ports["port"]

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError("the server ended: " + self.log())
            return self.ask("GET", "/readyz").status == 200
        wait_for("readiness", ready)
        return self

    # ---- requests ----

    def connect(self, key=None, tls=None):
        return Connection(self.port, key or self.key, tls or self.tls)

    def ask(self, method, path, body=None, headers=None, key=None):
        """On a connection of its own."""
        c = self.connect(key)
        try:
            return c.ask(method, path, body, headers)
        finally:
            c.close()

    def embed(self, text="a text", key=None, headers=None):
        return self.ask("POST", "/v1/embeddings", {"input": text}, headers, key)

    def metrics(self):
        return Metrics(self.ask("GET", "/metrics").text)

    # ---- log ----

    def log(self):
        with self.changed:
            return "\n".join(self.lines)

    def wait_logged(self, pattern, n=1):
        """The n-th line that the pattern is found in."""
        end = time.monotonic() + PATIENCE_S
        with self.changed:
            while True:
                found = [line for line in self.lines if re.search(pattern, line)]
                if len(found) >= n:
                    return found[n - 1]
                if not self.changed.wait(end - time.monotonic()):
                    raise AssertionError("%r was not logged: %s" % (pattern, "\n".join(self.lines)))

    def rank_pids(self):
        """Ranks that are processes below this one, all ready groups' as logged last."""
        pids = []
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    words = f.read().decode("utf-8", "replace").split("\0")
                if words[1:2] == ["worker"] and self._is_below(int(pid)):
                    pids.append(int(pid))
            except OSError:
                pass  # it has ended
        return sorted(pids)

    def _is_below(self, pid):
        while pid > 1:
            with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
                pid = int(f.read().rsplit(")", 1)[1].split()[1])
            if pid == self.pid:
                return True
        return False

    # ---- end ----

    def signal(self, number):
        self.process.send_signal(number)

    def wait_end(self, patience_s=PATIENCE_S):
        status = self.process.wait(patience_s)
        self.reader.join(PATIENCE_S)
        return status

    def stop(self):
        """However the test went: SIGTERM, and SIGKILL when that does not help. The exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.wait_end()


class Metrics:
    """The samples of a scrape: name and labels as they stand → value."""

    def __init__(self, text):
        self.text = text
        self.samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                key, value = line.rsplit(" ", 1)
                self.samples[key] = float(value)

    def __getitem__(self, key):
        return self.samples.get(key, 0.0)


class TestCase(unittest.TestCase):
    """A temporary folder, and servers that are ended behind each test."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="poolrank-service-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, text=None, mode=0o600):
        path = os.path.join(self.folder, name)
        if text is not None:
            # In one step, as a careful operator does: a reader sees the old file or the new one.
            with open(path + ".new", "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(path + ".new", mode)
            os.rename(path + ".new", path)
        return path

    def serve(self, *options, ready=True, **named):
        server = Server(self.folder, *options, **named)
        self.addCleanup(server.stop)
        return server.wait_ready() if ready else server

    def certificate(self, name):
        """Files of a fresh self-signed certificate and its key."""
        cert, key = self.path(name + ".pem"), self.path(name + ".key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=" + name, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                        "-out", cert], check=True, capture_output=True)
        return cert, key

    @staticmethod
    def tls_context():
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def unix_connection(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(PATIENCE_S)
    s.connect(path)
    return s


def skip_without_ranks():
    """The whole file, when this poolrank was built without MPI or mpirun is missing."""
    done = subprocess.run([PROGRAM, "serve", "--help"], capture_output=True, text=True, check=False)
    if "--worker-launch" not in done.stdout:
        print("this poolrank was built without ranks")
        sys.exit(77)
