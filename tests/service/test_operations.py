"""Running the server: who is let in, what it tells of itself, what it never tells, how it ends."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import unittest

import running_server
from running_server import wait_for

NO_MPI = None if shutil.which("mpirun") else "mpirun is missing"
NO_OPENSSL = None if shutil.which("openssl") else "openssl is missing"
RANK = ("--worker-launch", "mpirun", "--threads", "1")  # a rank that is a process of its own

HEALTH = ["/livez", "/readyz", "/health", "/ping"]
GUARDED = [
    ("GET", "/v1/models", None),
    ("GET", "/version", None),
    ("GET", "/metrics", None),
    ("GET", "/load", None),
    ("GET", "/info", None),
    ("POST", "/v1/embeddings", {"input": "a"}),
    ("POST", "/pooling", {"input": "a"}),
    ("POST", "/classify", {"input": "a"}),
    ("POST", "/score", {"text_1": "a", "text_2": "b"}),
    ("POST", "/v1/score", {"text_1": "a", "text_2": "b"}),
    ("POST", "/rerank", {"query": "a", "documents": ["b"]}),
    ("POST", "/v1/rerank", {"query": "a", "documents": ["b"]}),
    ("POST", "/v2/rerank", {"query": "a", "documents": ["b"]}),
    ("POST", "/get_reward", {"query": ["a"]}),
    ("POST", "/tokenize", {"prompt": "a"}),
    ("POST", "/detokenize", {"tokens": [5]}),
    ("POST", "/embed", {"inputs": "a"}),
    ("POST", "/v2/embed", {"texts": ["a"]}),
    ("GET", "/models", None),
    ("GET", "/v1/models/bert-st-mean", None),
    ("POST", "/", {"inputs": "a"}),
    ("POST", "/predict", {"inputs": "a"}),
    ("POST", "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("POST", "/embed_sparse", {"inputs": "a"}),
    ("POST", "/embeddings", {"input": "a"}),
    ("POST", "/v1/pooling", {"input": "a"}),
    ("POST", "/v1/classify", {"input": "a"}),
    ("POST", "/v1/embed", {"texts": ["a"]}),
    ("POST", "/invocations", {"input": "a"}),
    ("GET", "/no/such/route", None),
]


def raw(port, data):
    """What the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), running_server.PATIENCE_S) as s:
        s.sendall(data)
        found = b""
        while True:
            more = s.recv(65536)
            if not more:
                return found
            found += more


class Keys(running_server.TestCase):
    def test_every_route_but_health_needs_one(self):
        keys = self.path("keys", "# of the house\nalice:k-alice\nbob:k-bob\n")
        server = self.serve("--api-key-file", keys)
        for path in HEALTH:
            self.assertEqual(server.ask("GET", path).status, 200, path)
        for method, path, body in GUARDED:
            for key in (None, "k-carol", "k-alic", "k-alicee", "alice"):
                answer = server.ask(method, path, body, key=key)
                self.assertEqual(answer.status, 401, (path, key))
                self.assertIn("Bearer", answer.headers["WWW-Authenticate"])
                self.assertIn("message", answer.json()["error"])
        # Those are all the routes that there are.
        metrics = server.ask("GET", "/metrics", key="k-bob").text
        routes = set(re.findall(r'poolrank_requests_total\{route="(/[^"]*)"', metrics))
        asked = {re.sub("^/v1/models/.*", "/v1/models/*", path) for _, path, _ in GUARDED}
        self.assertEqual(routes, asked - {"/no/such/route"} | set(HEALTH))
        for key in ("k-alice", "k-bob"):
            self.assertEqual(server.embed(key=key).status, 200)
            self.assertEqual(server.ask("GET", "/v1/models", key=key).status, 200)
            self.assertEqual(server.ask("GET", "/metrics", key=key).status, 200)

    def test_a_key_of_the_environment_and_one_of_the_file_both_open(self):
        keys = self.path("keys", "alice:k-alice\n")
        server = self.serve("--api-key-file", keys, env={"POOLRANK_API_KEY": "k-env"})
        self.assertEqual(server.embed().status, 401)
        self.assertEqual(server.embed(key="k-alice").status, 200)
        self.assertEqual(server.embed(key="k-env").status, 200)
        self.assertNotIn("ps", server.log())

    def test_a_key_given_as_an_option_is_warned_of(self):
        server = self.serve("--api-key", "k-option", log_level="warning", log_format="text")
        self.assertRegex(server.wait_logged("--api-key"), r"^poolrank: warning: .*\bps\b")
        self.assertNotIn("k-option", server.log())
        self.assertEqual(server.embed().status, 401)
        self.assertEqual(server.embed(key="k-option").status, 200)

    def test_a_bad_key_file_is_refused_at_start_without_showing_it(self):
        for text, mode, says in (("alice:k-alice\n", 0o640, "chmod 600"),
                                 ("no colon SECRET\n", 0o600, "line 1"),
                                 ("", 0o600, "found no key")):
            keys = self.path("keys", text, mode)
            server = self.serve("--api-key-file", keys, ready=False, wait=False)
            self.assertEqual(server.wait_end(), 2)
            self.assertIn(says, server.log())
            self.assertNotIn("SECRET", server.log())

    def test_it_says_when_it_listens_is_ready_and_drains_unless_it_is_to_be_quiet(self):
        server = self.serve(log_level="warning", log_format="text")
        self.assertIn("listening on http://127.0.0.1:%d" % server.ports["port"], server.log())
        self.assertIn("no API key", server.log())
        server.wait_logged(r"ready after [0-9.]+ s: .*task embed, 1 rank")
        server.signal(signal.SIGTERM)
        server.wait_end()
        self.assertIn("draining after SIGTERM", server.log())
        quiet = self.serve("--quiet", log_level="error", log_format="text")
        quiet.signal(signal.SIGTERM)
        quiet.wait_end()
        self.assertEqual(quiet.log(), "")

    def test_the_name_of_a_key_is_logged_never_the_key(self):
        keys = self.path("keys", "alice:k-SECRET-1\n")
        server = self.serve("--api-key-file", keys)
        server.embed(key="k-SECRET-1", headers={"X-Request-Id": "one"})
        server.embed(key="k-SECRET-2", headers={"X-Request-Id": "two"})
        line = json.loads(server.wait_logged('"one"'))
        self.assertEqual((line["request_id"], line["key"]), ("one", "alice"))
        self.assertNotIn("key", json.loads(server.wait_logged('"two"')))
        self.assertNotIn("SECRET", server.log())


class Hangup(running_server.TestCase):
    def test_keys_are_swapped_while_a_request_is_under_way(self):
        keys = self.path("keys", "old:k-old\n")
        server = self.serve("--api-key-file", keys)
        body = json.dumps({"input": "a text"}).encode()
        slow = server.connect("k-old")
        # Half of a body: the connection is in the middle of a request that was let in.
        slow.http.putrequest("POST", "/v1/embeddings")
        slow.http.putheader("Authorization", "Bearer k-old")
        slow.http.putheader("Content-Type", "application/json")
        slow.http.putheader("Content-Length", str(len(body)))
        slow.http.endheaders()
        slow.http.send(body[:7])
        kept = server.connect("k-old")
        self.assertEqual(kept.ask("POST", "/v1/embeddings", {"input": "a"}).status, 200)
        self.path("keys", "new:k-new\n")
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP: .*read again")
        slow.http.send(body[7:])
        self.assertEqual(slow.receive().status, 200)
        # The connection stays; what it asks next needs the new key.
        sock = kept.http.sock
        self.assertEqual(kept.ask("POST", "/v1/embeddings", {"input": "a"}).status, 401)
        kept.headers["Authorization"] = "Bearer k-new"
        self.assertEqual(kept.ask("POST", "/v1/embeddings", {"input": "a"}).status, 200)
        self.assertIs(kept.http.sock, sock)
        slow.close()
        kept.close()

    def test_a_malformed_file_keeps_the_keys_and_is_logged(self):
        keys = self.path("keys", "old:k-old\n")
        server = self.serve("--api-key-file", keys)
        bad = [("old:k-old\nSECRET\n", 0o600, "line 2"), ("new:k-new\n", 0o644, "chmod 600"),
               ("", 0o600, "found no key")]
        for i, (text, mode, says) in enumerate(bad):
            self.path("keys", text, mode)
            server.signal(signal.SIGHUP)
            line = json.loads(server.wait_logged("SIGHUP: ", i + 1))
            self.assertEqual(line["level"], "error")
            self.assertIn(says, line["message"])
            self.assertIn("stay as they were", line["message"])
            self.assertEqual(server.embed(key="k-old").status, 200)
            self.assertEqual(server.embed(key="k-new").status, 401)
        self.assertNotIn("SECRET", server.log())

    @unittest.skipIf(NO_OPENSSL, NO_OPENSSL)
    def test_certificates_are_swapped_and_connections_stay(self):
        old_cert, old_key = self.certificate("old")
        new_cert, new_key = self.certificate("new")
        cert, key = self.path("server.pem"), self.path("server.key")
        shutil.copy(old_cert, cert)
        shutil.copy(old_key, key)
        server = self.serve("--ssl-certfile", cert, "--ssl-keyfile", key, ready=False)
        server.tls = self.tls_context()
        server.wait_ready()

        def shown():
            c = server.connect()
            c.http.connect()
            der = c.http.sock.getpeercert(binary_form=True)
            c.close()
            return der

        def der_of(path):
            with open(path, encoding="ascii") as f:
                return running_server.ssl.PEM_cert_to_DER_cert(f.read())

        self.assertEqual(shown(), der_of(old_cert))
        kept = server.connect()
        self.assertEqual(kept.ask("POST", "/v1/embeddings", {"input": "a"}).status, 200)
        sock = kept.http.sock
        # A certificate without its key is refused: all stays as it was.
        shutil.copy(new_cert, cert)
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP: .*stay as they were")
        self.assertEqual(shown(), der_of(old_cert))
        shutil.copy(new_key, key)
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP: .*read again")
        self.assertEqual(shown(), der_of(new_cert))
        self.assertEqual(kept.ask("POST", "/v1/embeddings", {"input": "b"}).status, 200)
        self.assertIs(kept.http.sock, sock)
        kept.close()


class MetricsRoute(running_server.TestCase):
    def listens_on(self, port):
        """Local addresses of listening TCP sockets of that port, as /proc/net/tcp has them."""
        found = []
        for name in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(name, encoding="ascii") as f:
                for line in f.readlines()[1:]:
                    words = line.split()
                    address, at = words[1].rsplit(":", 1)
                    if words[3] == "0A" and int(at, 16) == port:
                        found.append(address)
        return found

    def test_scrapers_have_a_port_of_their_own_without_key_on_loopback(self):
        keys = self.path("keys", "alice:k-alice\n")
        server = self.serve("--api-key-file", keys, "--metrics-port", "0")
        port = server.ports["metrics_port"]
        self.assertEqual(self.listens_on(port), ["0100007F"])  # 127.0.0.1 and nothing else
        scraper = running_server.Connection(port)
        answer = scraper.ask("GET", "/metrics")
        self.assertEqual(answer.status, 200)
        self.assertRegex(answer.headers["Content-Type"], r"^text/plain; version=0\.0\.4")
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/embeddings"), ("GET", "/livez")):
            self.assertEqual(scraper.ask(method, path, {"input": "a"} if method == "POST" else None)
                             .status, 404, path)
        scraper.close()
        self.assertEqual(server.ask("GET", "/metrics").status, 401)

    def test_the_format_is_what_prometheus_reads(self):
        server = self.serve()
        server.embed()
        try:
            from prometheus_client.parser import text_string_to_metric_families
        except ImportError:
            self.skipTest("prometheus_client is missing")
        names = {f.name for f in text_string_to_metric_families(server.metrics().text)}
        self.assertIn("poolrank_requests", names)
        self.assertIn("poolrank_request_seconds", names)

    def test_values_move_as_requests_are_made(self):
        server = self.serve()
        texts = ["first", "second text", "third"]
        before = server.metrics()
        answer = server.ask("POST", "/v1/embeddings", {"input": texts})
        self.assertEqual(answer.status, 200)
        self.assertEqual(server.ask("POST", "/v1/embeddings", b"{").status, 400)
        self.assertEqual(server.ask("GET", "/no/such/route").status, 404)
        after = server.metrics()

        def risen(key):
            return after[key] - before[key]

        route = 'route="/v1/embeddings"'
        self.assertEqual(risen('poolrank_requests_total{%s,code="200"}' % route), 1)
        self.assertEqual(risen('poolrank_requests_total{%s,code="400"}' % route), 1)
        self.assertEqual(risen('poolrank_requests_total{route="other",code="404"}'), 1)
        self.assertEqual(risen('poolrank_request_seconds_count{%s}' % route), 2)
        self.assertGreater(risen('poolrank_request_seconds_sum{%s}' % route), 0)
        for stage in ("tokenize", "queue", "run"):
            stage = 'poolrank_request_stage_seconds_count{%s,stage="%s"}' % (route, stage)
            self.assertEqual(risen(stage), len(texts), stage)
        self.assertEqual(risen("poolrank_queue_wait_seconds_count"), len(texts))
        n_tokens = answer.json()["usage"]["prompt_tokens"]
        self.assertEqual(risen("poolrank_prompt_tokens_total"), n_tokens)
        self.assertGreaterEqual(risen("poolrank_batches_total"), 1)
        self.assertEqual(risen("poolrank_batch_tokens_sum"), n_tokens)
        self.assertEqual(risen("poolrank_batch_tokens_count"), risen("poolrank_batches_total"))
        self.assertGreater(after["poolrank_tokens_per_second"], 0)
        self.assertEqual(after["poolrank_queue_requests"], 0)
        self.assertEqual(after["poolrank_open_requests"], 0)
        self.assertEqual(after['poolrank_group_state{group="0",state="ready"}'], 1)
        self.assertEqual(after['poolrank_state{state="ready"}'], 1)
        self.assertGreaterEqual(after["poolrank_connections"], 1)  # the scrape's own
        self.assertRegex(after.text, r'poolrank_build_info\{version="[^"]+",model="[^"]+",'
                                     r'device="cpu",isa="[^"]+",dtype="float32"\} 1')

    def test_labels_never_come_from_a_client(self):
        server = self.serve()
        paths = ["/no/CANARY", "/v1/embeddings/CANARY", "/v1/embeddings?CANARY=1", "/%22CANARY"]
        for path in paths:
            for method in ("GET", "POST", "CANARY"):
                server.ask(method, path, {"input": "CANARY"}, {"X-Request-Id": "CANARY"})
        self.assertNotIn("CANARY", server.metrics().text)


class Silence(running_server.TestCase):
    """Texts, token ids, vectors and keys are in no log and no metric, whatever went wrong."""

    KEY = "k-CANARY-key"

    def rich_requests(self):
        """Requests that fail in every way, and some that succeed; all hold CANARY."""
        text = "CANARY text"
        yield "POST", "/v1/embeddings", {"input": [text, "CANARY " * 3]}
        yield "POST", "/v1/embeddings", {"input": text, "encoding_format": "base64"}
        yield "POST", "/pooling", {"input": text}
        yield "POST", "/tokenize", {"prompt": text}
        yield "POST", "/classify", {"input": text}
        yield "POST", "/score", {"text_1": text, "text_2": [text]}
        yield "POST", "/rerank", {"query": text, "documents": [text]}
        yield "POST", "/get_reward", {"query": [text], "prompts": [text]}
        yield "POST", "/embed", {"inputs": text}
        yield "POST", "/v2/embed", {"texts": [text], "model": "CANARY", "input_type": "CANARY"}
        yield "POST", "/v1/embeddings", {"input": "CANARY " * 3000}
        yield "POST", "/v1/embeddings", {"input": text, "model": "CANARY"}
        yield "POST", "/v1/embeddings", {"input": text, "dimensions": "CANARY"}
        yield "POST", "/v1/embeddings", {"input": text, "CANARY": "CANARY"}
        yield "POST", "/v1/embeddings", {"input": {"CANARY": "CANARY"}}
        yield "POST", "/v1/embeddings", {"input": [text, ""]}
        yield "POST", "/v1/embeddings", {"input": text, "encoding_format": "CANARY"}
        yield "POST", "/v1/embeddings", b'{"input": "CANARY'
        yield "POST", "/v1/embeddings", b'{"input": "CANARY \xff"}'
        yield "POST", "/v1/embeddings", b"CANARY"
        yield "CANARY", "/v1/embeddings", {"input": text}
        yield "POST", "/CANARY/CANARY?CANARY=CANARY", {"input": text}
        yield "POST", "/v1/embeddings", {"input": [[71, 73, 79, 83, 89]]}
        yield "POST", "/v1/embeddings", {"input": [[71, 73, 79, 83, 89, 999999999]]}
        yield "POST", "/detokenize", {"tokens": [71, 73, 79, 83, 89]}

    def provoke(self, log_format, options):
        keys = self.path("keys", "alice:%s\n" % self.KEY)
        server = self.serve("--api-key-file", keys, "--allow-token-input", *options,
                            log_level="debug", log_format=log_format,
                            env={"POOLRANK_API_KEY": "k-CANARY-env"})
        server.key = self.KEY
        vectors = []
        for i, (method, path, body) in enumerate(self.rich_requests()):
            for key in (self.KEY, "CANARY-wrong"):
                answer = server.ask(method, path, body, {"X-Request-Id": "id-%d" % i,
                                                         "User-Agent": "CANARY",
                                                         "X-Forwarded-For": "CANARY"}, key)
                self.assertLess(answer.status, 500, (path, answer.body))
                if answer.status == 200 and path == "/v1/embeddings":
                    vector = answer.json()["data"][0]["embedding"]
                    vectors.append(vector)
        self.assertGreaterEqual(len(vectors), 3)
        raw(server.port, b"CANARY CANARY CANARY CANARY\r\nCANARY\r\n\r\n")
        raw(server.port, b"GET /CANARY HTTP/9.9\r\nCANARY: CANARY\r\n\r\n")
        self.path("keys", "CANARY\n")
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP")
        metrics = server.metrics().text
        server.stop()
        return server.lines, metrics, vectors

    def assert_silent(self, lines, metrics, vectors):
        told = "\n".join(lines)
        self.assertIn("id-0", told)  # requests were logged
        for text in (told, metrics):
            self.assertNotIn("CANARY", text)
            # Three ids in a row, however they are separated.
            self.assertNotRegex(text, r"71\D{1,4}73\D{1,4}79")
        told = re.sub(r'"ms":[^,]*|ms=\S*', "", told)  # times could look like a component
        for vector in vectors:
            shown = [vector[:12]] if isinstance(vector, str) else ["%.5f" % abs(x) for x in vector]
            for number in shown:
                self.assertNotIn(number, told)

    def test_logs_as_text(self):
        self.assert_silent(*self.provoke("text", ()))

    def test_logs_as_json_are_objects(self):
        lines, metrics, vectors = self.provoke("json", ())
        self.assert_silent(lines, metrics, vectors)
        for line in lines:
            o = json.loads(line)
            self.assertRegex(o["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertIn(o["level"], ("error", "warning", "info", "debug"))
            self.assertIsInstance(o["message"], str)

    @unittest.skipIf(NO_MPI, NO_MPI)
    def test_logs_of_ranks(self):
        lines, metrics, vectors = self.provoke("json", RANK)
        self.assert_silent(lines, metrics, vectors)
        of_rank = [json.loads(line) for line in lines if "MiB of weights" in line]
        self.assertEqual([(o["group"], o["rank"]) for o in of_rank], [("0.1", 0)])


class RequestIds(running_server.TestCase):
    def test_a_proper_id_is_kept_another_replaced(self):
        server = self.serve()
        good = ["a", "A-1.b_2:c", "x" * 128]
        bad = ["", "a b", "a/b", "\u00e9".encode(), "x" * 129, 'a"b']
        for name in good:
            answer = server.embed(headers={"X-Request-Id": name})
            self.assertEqual(answer.headers["X-Request-Id"], name)
            server.wait_logged(re.escape('"%s"' % name))
        made = set()
        for name in bad:
            made.add(server.embed(headers={"X-Request-Id": name}).headers["X-Request-Id"])
        made.add(server.embed().headers["X-Request-Id"])
        self.assertEqual(len(made), len(bad) + 1)
        for name in made:
            self.assertRegex(name, r"^[0-9a-f]{32}$")
            server.wait_logged(name)

    def test_an_error_carries_it_too(self):
        server = self.serve()
        for method, path in (("POST", "/v1/embeddings"), ("GET", "/no/such/route")):
            answer = server.ask(method, path, b"{", {"X-Request-Id": "mine"})
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual(answer.headers["X-Request-Id"], "mine")


class Loading(running_server.TestCase):
    def test_the_port_is_open_before_the_model_is_loaded(self):
        # No group ever joins: the state stays "loading".
        server = self.serve("--worker-launch", "external", ready=False)
        self.assertEqual(server.ask("GET", "/livez").status, 200)
        for path in ("/readyz", "/health", "/ping"):
            answer = server.ask("GET", path)
            self.assertEqual((answer.status, answer.json()["status"]), (503, "loading"))
        answer = server.embed()
        self.assertEqual(answer.status, 503)
        self.assertIn("Retry-After", answer.headers)
        metrics = server.metrics()
        self.assertEqual(metrics['poolrank_state{state="loading"}'], 1)
        self.assertEqual(metrics['poolrank_rejected_total{reason="unavailable"}'], 1)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait_end(), 0)

    def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(self):
        broken = self.path("broken")
        os.mkdir(broken)
        server = self.serve("--model", broken, ready=False, wait=False)
        self.assertEqual(server.wait_end(), 2)
        self.assertIn("config.json", server.log())


@unittest.skipIf(NO_MPI, NO_MPI)
class Draining(running_server.TestCase):
    """A rank that is stopped holds what was accepted, for as long as the test likes."""

    def held(self, *options):
        """A server with one request that its stopped rank is about to answer."""
        server = self.serve(*RANK, *options)
        ranks = server.rank_pids()
        self.assertEqual(len(ranks), 1)
        os.kill(ranks[0], signal.SIGSTOP)
        self.addCleanup(self.wake, ranks[0])
        c = server.connect()
        self.addCleanup(c.close)
        c.send("POST", "/v1/embeddings", {"input": "held"})
        wait_for("the request", lambda: server.metrics()["poolrank_running_requests"] == 1)
        return server, ranks[0], c

    @staticmethod
    def wake(pid):
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def test_what_was_accepted_is_finished(self):
        server, rank, held = self.held("--drain-delay", "1", "--drain-timeout", "30")
        kept = server.connect()  # as a proxy keeps them
        self.assertEqual(kept.ask("GET", "/livez").status, 200)
        half = socket.create_connection(("127.0.0.1", server.port), running_server.PATIENCE_S)
        half.sendall(b"GET /v1/models HTTP/1.1\r\n")
        server.signal(signal.SIGTERM)
        server.wait_logged("draining")
        # At once: not ready, still alive, and still accepting.
        answer = kept.ask("GET", "/readyz")
        self.assertEqual((answer.status, answer.json()["status"]), (503, "draining"))
        self.assertEqual(kept.ask("GET", "/livez").status, 200)
        late = server.connect()
        late.send("POST", "/v1/embeddings", {"input": "late"})
        wait_for("the late request", lambda: server.metrics()["poolrank_open_requests"] == 2)
        # After the delay: no new connections, idle ones are closed, a request that comes by one that
        # is not idle is refused and its connection closed.
        wait_for("the end of the delay", lambda: self.is_refused(server.port))
        self.assertEqual(kept.http.sock.recv(1), b"")
        half.sendall(b"Host: here\r\n\r\n")
        answer = http.client.HTTPResponse(half)
        answer.begin()
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.headers["Connection"].lower(), "close")
        self.assertEqual(json.loads(answer.read())["error"]["type"], "ServiceUnavailableError")
        self.assertEqual(half.recv(1), b"")
        self.assertIsNone(server.process.poll())
        os.kill(rank, signal.SIGCONT)
        for c in (held, late):
            answer = c.receive()
            self.assertEqual(answer.status, 200)
            self.assertEqual(len(answer.json()["data"]), 1)
        self.assertEqual(server.wait_end(), 0)
        for c in (late, kept, half):
            c.close()

    @staticmethod
    def is_refused(port):
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            return True
        return False

    def test_what_is_not_finished_in_time_fails_and_says_so(self):
        server, _, held = self.held("--drain-timeout", "1")
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait_end(), 1)
        self.assertGreater(time.monotonic() - begin, 0.9)
        self.assertIn("--drain-timeout", server.log())
        with self.assertRaises((http.client.HTTPException, OSError)):
            held.receive()

    def test_a_second_sigterm_ends_it_at_once(self):
        server, rank, _ = self.held("--drain-delay", "600", "--drain-timeout", "600")
        server.signal(signal.SIGTERM)
        server.wait_logged("draining")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait_end(10), 1)
        self.wake(rank)
        wait_for("the rank's end", lambda: not os.path.exists("/proc/%d" % rank))

    def test_nothing_under_way_means_an_end_at_once(self):
        server = self.serve(*RANK)
        ranks = server.rank_pids()
        self.assertEqual(server.embed().status, 200)
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait_end(), 0)
        for rank in ranks:
            wait_for("the rank's end", lambda: not os.path.exists("/proc/%d" % rank))
        self.assertFalse(os.path.exists(server.port_file))


@unittest.skipIf(NO_MPI, NO_MPI)
class Restarting(running_server.TestCase):
    def test_readiness_stays_while_another_group_is_ready(self):
        server = self.serve(*RANK, "-tp", "1", "-dp", "2")
        wait_for("both groups", lambda: server.metrics()["poolrank_groups_ready"] == 2)
        ranks = server.rank_pids()
        self.assertEqual(len(ranks), 2)
        probe = server.connect()
        os.kill(ranks[0], signal.SIGKILL)

        def restarted():
            self.assertEqual(probe.ask("GET", "/readyz").status, 200)
            self.assertEqual(probe.ask("POST", "/v1/embeddings", {"input": "a"}).status, 200)
            metrics = server.metrics()
            return (metrics["poolrank_group_restarts_total"] == 1 and
                    metrics["poolrank_groups_ready"] == 2)
        wait_for("the restart", restarted)
        line = json.loads(server.wait_logged("group .* ended"))
        self.assertEqual(line["level"], "warning")
        self.assertRegex(line["group"], r"^[01]\.1$")
        probe.close()

    def test_without_a_group_it_is_restarting_and_loses_nothing(self):
        server = self.serve(*RANK)
        probe = server.connect()
        # A rank starts again within a blink: those that come are killed too, until it is seen.
        def seen():
            for pid in server.rank_pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            answer = probe.ask("GET", "/readyz")
            return answer if answer.status == 503 else None
        answer = wait_for("unreadiness", seen)
        self.assertEqual(answer.json()["status"], "restarting")
        self.assertEqual(probe.ask("GET", "/livez").status, 200)
        self.assertEqual(server.embed().status, 200)  # waits for the group
        self.assertEqual(probe.ask("GET", "/readyz").status, 200)
        self.assertGreaterEqual(server.metrics()["poolrank_group_restarts_total"], 1)
        probe.close()

    def test_ranks_are_not_given_the_clients_key(self):
        server = self.serve(*RANK, env={"POOLRANK_API_KEY": "k-env"})
        ranks = server.rank_pids()
        self.assertEqual(len(ranks), 1)
        for pid in ranks:
            with open("/proc/%d/environ" % pid, "rb") as f:
                self.assertNotIn(b"k-env", f.read())


class Unit(running_server.TestCase):
    def test_the_systemd_unit_is_one(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is missing")
        source = os.path.join(running_server.ROOT, "launch", "systemd", "poolrank.service")
        with open(source, encoding="utf-8") as f:
            text = f.read().replace("/usr/local/bin/poolrank", os.path.abspath(running_server.PROGRAM))
        done = subprocess.run(["systemd-analyze", "verify", self.path("poolrank.service", text)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.stderr.strip(), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
