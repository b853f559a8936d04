"""poolrank.Client over every transport: the numbers of LLM, long lists, errors, keys, retries."""
import http.server
import json
import os
import signal
import socket
import threading
import time
import unittest

import numpy as np

import package
import poolrank
from package import TEXTS, command_floats
from poolrank import Client, PoolingParams

NAMES = {"embed": "bert-st-mean", "classify": "bert-classify-3", "score": "xlmr-classify-1",
         "reward": "qwen2-reward", "steps": "qwen2-process-reward"}


class OnServers(package.TestCase):
    """Servers of several models, each with every listener, for all tests of the file."""

    servers = {}

    @classmethod
    def tearDownClass(cls):
        for server in cls.servers.values():
            server.stop()
        cls.servers.clear()

    def server(self, name):
        if name not in self.servers:
            folder = self.enterClassContext(package.temporary_folder())
            self.servers[name] = package.Server(
                folder, "--socket", "unix://" + os.path.join(folder, "socket"),
                "--allow-token-input", model_name=NAMES[name])
            self.servers[name].socket = os.path.join(folder, "socket")
            self.servers[name].wait_ready()
        return self.servers[name]

    def clients(self, name, **named):
        """A client of each transport."""
        server = self.server(name)
        clients = [Client("http://127.0.0.1:%d" % server.port, **named),
                   Client("unix://" + server.socket, **named)]
        for client in clients:
            self.addCleanup(client.close)
        return clients


class Numbers(OnServers):
    def test_embeddings_are_the_command_s_to_the_bit(self):
        expected = np.stack(command_floats("embed", "embedding", NAMES["embed"], *TEXTS))
        for client in self.clients("embed"):
            vectors = client.embed(TEXTS)
            self.assertEqual((vectors.dtype, vectors.shape), (np.float32, (len(TEXTS), 32)))
            np.testing.assert_array_equal(vectors, expected)
            np.testing.assert_array_equal(client.embed(TEXTS[0]), expected[0])
            np.testing.assert_array_equal(client.embed({"prompt": TEXTS[0]}), expected[0])
            self.assertEqual(client.embed([]).shape[0], 0)
            np.testing.assert_array_equal(np.stack(client.encode(TEXTS)), expected)

    def test_classes_are_the_command_s_to_the_bit(self):
        expected = np.stack(command_floats("classify", "probs", NAMES["classify"], *TEXTS))
        for client in self.clients("classify"):
            np.testing.assert_array_equal(client.classify(TEXTS), expected)

    def test_scores_are_the_command_s_to_the_bit(self):
        expected = np.float32(command_floats("score", "score", NAMES["score"], *TEXTS))
        for client in self.clients("score"):
            np.testing.assert_array_equal(client.score(TEXTS[0], TEXTS[1:]), expected)
            np.testing.assert_array_equal(client.score([TEXTS[0]] * 3, TEXTS[1:]), expected)
            np.testing.assert_array_equal(client.score(["q", "r"], ["x", "y"]), np.concatenate(
                [client.score("q", "x"), client.score("r", "y")]))

    def test_reranking_sorts_by_score(self):
        for client in self.clients("score"):
            scores = client.score(TEXTS[0], TEXTS)
            ranked = client.rerank(TEXTS[0], TEXTS)
            self.assertEqual([d.score for d in ranked], sorted(map(float, scores), reverse=True))
            self.assertEqual([TEXTS[d.index] for d in ranked], [d.document for d in ranked])
            self.assertEqual(client.rerank(TEXTS[0], TEXTS, top_n=2), ranked[:2])
            self.assertEqual(client.rerank("q", []), [])

    def test_rewards_are_the_command_s_to_the_bit(self):
        expected = np.float32(command_floats("reward", "reward", NAMES["reward"], *TEXTS))
        for client in self.clients("reward"):
            np.testing.assert_array_equal(client.reward(TEXTS), expected)

    def test_rows_of_tokens_have_their_shape(self):
        with poolrank.LLM(package.model(NAMES["reward"])) as llm:
            expected = [o.outputs.data for o in llm.encode(TEXTS)]
        for client in self.clients("reward"):
            rows = client.encode(TEXTS)
            for mine, theirs in zip(rows, expected):
                np.testing.assert_array_equal(mine, theirs)

    def test_tokens_go_there_and_back(self):
        for client in self.clients("embed"):
            [ids] = client.tokenize("a text")
            np.testing.assert_array_equal(client.embed([ids])[0], client.embed("a text"))
            [text] = client.detokenize([ids])
            self.assertEqual(text.replace(" ", ""), "atext")


class Requests(OnServers):
    def test_long_lists_go_as_several_requests(self):
        texts = ["text %d" % (i % 11) for i in range(1500)]
        for client in self.clients("embed", batch_size=64):
            vectors = client.embed(texts)
            np.testing.assert_array_equal(vectors, vectors[np.arange(1500) % 11])

    def test_parameters_are_sent(self):
        for client in self.clients("embed"):
            self.assertEqual(client.embed(TEXTS, params=PoolingParams(dimensions=8)).shape, (4, 8))
            params = PoolingParams(normalize=False, truncate_prompt_tokens=4, priority=3,
                                   truncation_side="left", timeout=50.0)
            self.assertNotAlmostEqual(
                float(np.linalg.norm(client.embed(TEXTS[0], params=params))), 1.0, 3)
            params = PoolingParams(add_special_tokens=False)
            self.assertEqual(client.tokenize("a text", params=params)[0],
                             client.tokenize("a text")[0][1:-1])
            with self.assertRaises(ValueError):
                client.embed("a", params=PoolingParams(dimensions=10**6))

    def test_one_bad_text_loses_nothing(self):
        texts = ["a", "x " * 600, "b", 7]
        for client in self.clients("embed"):
            good = client.embed(["a", "b"])
            with self.assertRaisesRegex(ValueError, "^prompt 1 of 4: ") as raised:
                client.embed(texts)
            outcomes = client.embed(texts, on_error="per_item")
            for outcome in (raised.exception.results, outcomes):
                self.assertEqual([isinstance(o, poolrank.Error) for o in outcome],
                                 [False, True, False, True])
                np.testing.assert_array_equal(np.stack([outcome[0], outcome[2]]), good)
            self.assertEqual((raised.exception.index, raised.exception.status), (1, 400))

    def test_many_threads_use_one_client(self):
        for client in self.clients("embed"):
            expected = client.embed(TEXTS)
            wrong = []

            def ask():
                for _ in range(20):
                    if not np.array_equal(client.embed(TEXTS), expected):
                        wrong.append(1)
            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(wrong, [])

    def test_info_names_the_model(self):
        for client in self.clients("embed"):
            self.assertIn(NAMES["embed"], json.dumps(client.info()))

    def test_another_model_is_refused(self):
        for client in self.clients("embed", model="another"):
            with self.assertRaisesRegex(poolrank.NotFoundError, "model") as raised:
                client.embed("a")
            self.assertEqual(raised.exception.status, 404)

    def test_a_url_that_is_none_is_refused(self):
        for url in ("localhost:8000", "ftp://a", "unix://", "tcp://host", "http://"):
            with self.assertRaisesRegex(ValueError, "expected http://HOST:PORT"
                                        if url != "tcp://host" else "port"):
                Client(url)


class Servers(package.TestCase):
    def test_keys_are_sent_and_wrong_ones_refused(self):
        keys = self.path("keys", "tester:the-key\n")
        path = os.path.join(self.folder, "s")
        server = self.serve("--api-key-file", keys, "--socket", "unix://" + path)
        for url in ("http://127.0.0.1:%d" % server.port, "unix://" + path):
            with Client(url, "the-key") as client:
                self.assertEqual(client.embed("a").shape, (32,))
            for key in (None, "another"):
                with Client(url, key) as client, self.assertRaises(poolrank.Error) as raised:
                    client.embed("a")
                self.assertEqual((raised.exception.status, raised.exception.code),
                                 (401, "unauthorized"))

    def test_tls_and_unix_sockets(self):
        cert, key = self.certificate("server")
        context = self.tls_context()
        server = self.serve("--ssl-certfile", cert, "--ssl-keyfile", key, "--socket",
                            "tcp://127.0.0.1:0", ready=False)
        server.tls = context
        server.wait_ready()
        for url in ("https://127.0.0.1:%d" % server.port,
                    "tls://127.0.0.1:%d" % server.ports["socket_port"]):
            with Client(url, ssl_context=context) as client:
                self.assertEqual(client.embed("a").shape, (32,))
            with Client(url, retries=0) as client, \
                    self.assertRaisesRegex(poolrank.RunError, "certificate"):
                client.embed("a")
        # What one client closes is not the descriptor of the next one.
        for _ in range(30):
            with Client("tls://127.0.0.1:%d" % server.ports["socket_port"], retries=0,
                        ssl_context=context) as client:
                self.assertEqual(client.embed("a").shape, (32,))
        path = os.path.join(self.folder, "http")
        self.serve("--uds", path, ready=False)
        with Client("unix+http://" + path) as client:
            self.assertEqual(client.embed("a").shape, (32,))

    def test_a_server_that_starts_again_is_found_again(self):
        path = os.path.join(self.folder, "s")
        server = self.serve("--socket", "unix://" + path)
        port = server.port
        clients = [Client("unix://" + path), Client("http://127.0.0.1:%d" % port)]
        vectors = [client.embed("a") for client in clients]
        server.signal(signal.SIGTERM)
        server.wait_end()
        with Client("http://127.0.0.1:%d" % port, retries=0) as once, \
                self.assertRaises(poolrank.RunError) as raised:
            once.embed("a")
        self.assertEqual((raised.exception.status, raised.exception.code), (0, "unavailable"))
        # In the middle of what the clients wait for.
        answers = []
        threads = [threading.Thread(target=lambda c=c: answers.append(c.embed("a")))
                   for c in clients]
        for thread in threads:
            thread.start()
        self.serve("--socket", "unix://" + path, "--port", str(port), ready=False)
        for thread in threads:
            thread.join()
        self.assertEqual(len(answers), 2)
        for answer in answers:
            np.testing.assert_array_equal(answer, vectors[0])
        for client in clients:
            client.close()


class FakeServer(http.server.ThreadingHTTPServer):
    """Answers with what it was given, one after the other; the last one again and again."""

    def __init__(self, *answers):
        self.answers, self.times = list(answers), []
        super().__init__(("127.0.0.1", 0), FakeHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return "http://127.0.0.1:%d" % self.server_address[1]


class FakeHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        server.times.append(time.monotonic())
        status, headers, body = server.answers.pop(0) if len(server.answers) > 1 \
            else server.answers[0]
        if status == 0:
            self.close_connection = True
            return
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Retries(unittest.TestCase):
    GOOD = (200, {}, {"data": [{"index": 0, "embedding": "AACAPw=="}]})

    def fake(self, *answers):
        server = FakeServer(*answers)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def refused(self, status, headers=None, message="not now"):
        return (status, headers or {}, {"error": {"message": message, "type": "X", "code": status}})

    def test_a_refusal_for_now_is_tried_again_after_its_time(self):
        server = self.fake(self.refused(429, {"Retry-After": "1"}), self.refused(503),
                           (503, {}, b"<html>a proxy</html>"), self.GOOD)
        with Client(server.url) as client:
            self.assertEqual(client.embed("a").tolist(), [1.0])
        self.assertEqual(len(server.times), 4)
        self.assertGreaterEqual(server.times[1] - server.times[0], 1.0)

    def test_retries_and_time_are_bounded(self):
        server = self.fake(self.refused(429, {"Retry-After": "7"}))
        with Client(server.url, retries=0) as client, self.assertRaises(poolrank.Error) as raised:
            client.embed("a")
        error = raised.exception
        self.assertEqual((error.status, error.code, error.retry_after, error.message),
                         (429, "overloaded", 7.0, "not now"))
        with Client(server.url, timeout=3) as client, self.assertRaises(poolrank.Error):
            client.embed("a")  # 7 s would be too late: it does not wait for nothing
        self.assertEqual(len(server.times), 2)

    def test_other_errors_are_not_tried_again(self):
        for status, kind in ((400, ValueError), (413, ValueError), (500, RuntimeError)):
            server = self.fake(self.refused(status, message="what, where"))
            with Client(server.url) as client, self.assertRaisesRegex(kind, "what, where"):
                client.embed("a")
            self.assertEqual(len(server.times), 1)

    def test_a_kept_connection_that_was_closed_is_replaced(self):
        server = self.fake(self.GOOD, (0, {}, b""), self.GOOD)
        with Client(server.url, retries=0) as client:
            client.embed("a")
            self.assertEqual(client.embed("a").tolist(), [1.0])
        self.assertEqual(len(server.times), 3)

    def test_an_answer_that_does_not_come_is_a_timeout(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            for scheme in ("http", "tcp"):
                with Client("%s://127.0.0.1:%d" % (scheme, port), timeout=0.3) as client, \
                        self.assertRaises(poolrank.Error):
                    client.embed("a")


if __name__ == "__main__":
    package.main()
