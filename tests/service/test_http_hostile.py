"""HTTP as nobody should speak it: the server answers with a clear error or closes the connection,
goes on to serve others, and loses nothing. Needs Python's standard library only."""
import json
import os
import random
import resource
import socket
import tempfile
import time
import unittest

from running_server import Server, wait_for

READ_TIMEOUT_S = 2
BODY_BYTES_MAX = 1 << 20
IDLE_CONNECTIONS = 10000


def request(body, headers=b"", path=b"/v1/embeddings"):
    """POST with a length, of HTTP/1.1."""
    return (b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s"
            b"Content-Length: %d\r\n\r\n%s" % (path, headers, len(body), body))


def embedding(text="a text"):
    return json.dumps({"input": text}).encode()


class Raw:
    """A connection that is written and read byte by byte."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.got = b""

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # what the server said before it closed is read
        return self

    def end(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return self

    def _more(self):
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.got += data
        return bool(data)

    def answer(self):
        """(status, head, body) of the next final answer; (0, …) when the connection ends before."""
        while True:
            while b"\r\n\r\n" not in self.got:
                if not self._more():
                    return 0, b"", b""
            head, self.got = self.got.split(b"\r\n\r\n", 1)
            status = int(head.split()[1])
            if status >= 200:
                break
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, value = line.split(b":", 1)
            if name.lower() == b"content-length":
                length = int(value)
        while len(self.got) < length:
            if not self._more():
                raise AssertionError("a body was cut off")
        body, self.got = self.got[:length], self.got[length:]
        return status, head, body

    def is_closed(self):
        """Waits until the server has closed it."""
        while self._more():
            pass
        return True

    def close(self):
        self.socket.close()


class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server(cls.folder.name, "--read-timeout", str(READ_TIMEOUT_S),
                            "--max-body-bytes", str(BODY_BYTES_MAX))
        cls.addClassCleanup(cls.server.stop)
        cls.server.wait_ready()

    def setUp(self):
        self.n_files = self.files()
        self.connections = []

    def tearDown(self):
        for c in self.connections:
            c.close()
        self.assert_serves()
        wait_for("the end of all connections", lambda: self.files() <= self.n_files)

    def files(self):
        return len(os.listdir("/proc/%d/fd" % self.server.pid))

    def raw(self):
        self.connections.append(Raw(self.server.port))
        return self.connections[-1]

    def assert_serves(self):
        answer = self.server.embed()
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.json()["data"][0]["object"], "embedding")

    def assert_refused(self, data, *expected):
        """One of the statuses, or 0: closed without an answer."""
        c = self.raw().send(data).end()
        status, _, body = c.answer()
        self.assertIn(status, expected, (data[:100], body[:200]))
        self.assertTrue(c.is_closed())
        return body

    # ---- slow, large, cut off ----

    def test_slow_clients_are_cut_off_and_others_served(self):
        slow = [self.raw() for _ in range(50)]
        for i, c in enumerate(slow):
            c.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n")
            if i % 2:
                c.send(b"Content-Length: %d\r\n\r\n" % BODY_BYTES_MAX)
        begin = time.monotonic()
        while time.monotonic() - begin < READ_TIMEOUT_S:
            for c in slow:
                c.send(b"x")
            self.assert_serves()
        for c in slow:
            self.assertTrue(c.is_closed())
        self.assertLess(time.monotonic() - begin, READ_TIMEOUT_S + 20)

    def test_long_request_lines_and_headers_are_refused(self):
        long = b"x" * 100000
        self.assert_refused(b"GET /" + long + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, 0)
        self.assert_refused(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Y: " + long + b"\r\n\r\n", 431, 0)
        many = b"".join(b"X-%d: y\r\n" % i for i in range(10000))
        self.assert_refused(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n", 431, 0)
        self.assert_refused(long, 400, 414, 0)

    def test_long_bodies_are_refused(self):
        c = self.raw().send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                            % (BODY_BYTES_MAX + 1))
        status, _, body = c.answer()
        self.assertEqual(status, 413)
        self.assertIn(b"--max-body-bytes", body)
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        c = self.raw().send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n" + 17 * chunk + b"0\r\n\r\n")
        self.assertEqual(c.answer()[0], 413)
        # One without end is cut off.
        c = self.raw().send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
                            b"Transfer-Encoding: chunked\r\n\r\n" + 100 * chunk)
        self.assertTrue(c.is_closed())

    def test_half_closed_clients_are_answered(self):
        c = self.raw().send(request(embedding())).end()
        status, _, body = c.answer()
        self.assertEqual(status, 200)
        self.assertEqual(len(json.loads(body)["data"]), 1)
        self.assertTrue(c.is_closed())

    def test_clients_that_end_in_the_middle_leave_nothing(self):
        whole = request(embedding("some words " * 50))
        for n in range(1, len(whole), 7):
            c = self.raw().send(whole[:n])
            if n % 2:
                c.end()
            c.close()

    def test_pipelined_requests_are_answered_in_order(self):
        n = 100
        c = self.raw().send(b"".join(request(embedding("text %d" % i), b"X-Request-Id: r%d\r\n" % i)
                                     for i in range(n)))
        for i in range(n):
            status, head, _ = c.answer()
            self.assertEqual(status, 200)
            self.assertIn(b"X-Request-Id: r%d\r\n" % i, head + b"\r\n")

    # ---- bytes ----

    def test_bytes_that_are_no_utf8_are_refused(self):
        self.assert_refused(request(b'{"input": "\xff\xfe\x80"}'), 400)
        self.assert_refused(request(b'{"input": "\xed\xa0\x80"}'), 400)  # a surrogate
        self.assert_refused(request(b"\x00\x01\x02"), 400)
        self.assert_refused(b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", 404, 400, 0)
        self.assert_refused(b"GET /livez\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, 0)
        self.assert_refused(b"GET /livez%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404)
        self.assert_refused(b"\xff\xfe\xfd / HTTP/1.1\r\nHost: x\r\n\r\n", 404, 405, 400, 0)

    def test_text_with_a_nul_is_text_or_refused(self):
        status = self.raw().send(request(b'{"input": "a\\u0000b"}')).answer()[0]
        self.assertIn(status, (200, 400))

    def test_deeply_nested_json_is_refused(self):
        for body in (b"[" * 200000, b'{"a":' * 100000, b"[" * 100000 + b"]" * 100000,
                     b'{"input": ' + b"[" * 5000 + b"]" * 5000 + b"}"):
            begin = time.monotonic()
            self.assert_refused(request(body), 400)
            self.assertLess(time.monotonic() - begin, 20)

    def test_broken_json_is_refused(self):
        for body in (b"", b"{", b"null", b"[]", b'"text"', b"1e999", b'{"input": }',
                     b'{"input": 1e999}', b'{"input": NaN}', b'{"input": "a"} {"input": "b"}',
                     b'{"input": "a",}', b'{"input": "\\ud800"}'):
            self.assert_refused(request(body), 400, 422)

    def test_random_bytes_are_refused(self):
        seed = int.from_bytes(os.urandom(4), "little")
        print("seed", seed)
        chance = random.Random(seed)
        for _ in range(200):
            data = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 300)))
            if chance.random() < 0.5:
                whole = bytearray(request(embedding()))
                for _ in range(chance.randrange(1, 6)):
                    whole[chance.randrange(len(whole))] = chance.randrange(256)
                data = bytes(whole)
            c = self.raw().send(data).end()
            c.is_closed()

    # ---- where a request ends ----

    def test_requests_whose_end_is_in_doubt_are_refused(self):
        head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
        for lines in (b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
                      b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
                      b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                      b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                      b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                      b"Content-Length : 4\r\n\r\nabcd",
                      b"Content-Length: +4\r\n\r\nabcd",
                      b"Content-Length: 0x4\r\n\r\nabcd"):
            # What follows must not be taken for a request of its own.
            c = self.raw().send(head + lines + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").end()
            self.assertIn(c.answer()[0], (400, 501), lines)
            self.assertEqual(c.answer()[0], 0, lines)

    def test_absurd_methods_and_versions_are_refused(self):
        self.assert_refused(b"BREW /v1/embeddings HTTP/1.1\r\nHost: x\r\n\r\n", 405)
        self.assert_refused(b"M" * 5000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n", 404, 405, 400)
        self.assert_refused(b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n", 505, 400)
        self.assert_refused(b"GET /livez\r\n\r\n", 400, 0)
        self.assert_refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 400, 0)
        self.assert_refused(b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, 404)
        log = self.server.log()
        self.assertNotIn("MMMM", log)
        self.assertNotIn("BREW", log)

    # ---- many ----

    def test_clients_that_leave_at_random_leave_nothing(self):
        seed = int.from_bytes(os.urandom(4), "little")
        print("seed", seed)
        chance = random.Random(seed)
        for _ in range(200):
            c = self.raw().send(request(embedding("words " * chance.randrange(1, 300))))
            time.sleep(chance.random() * 0.004)
            if chance.random() < 0.5:
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            c.close()


class IdleTest(unittest.TestCase):
    def test_idle_connections_do_not_matter(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = 1 << 20 if hard == resource.RLIM_INFINITY else hard
        n = min(IDLE_CONNECTIONS, room - 500)
        if n < 100:
            self.skipTest("a process may have only %d files open (ulimit -Hn)" % room)
        if n < IDLE_CONNECTIONS:
            print("only %d connections: a process may have %d files open (ulimit -Hn)" % (n, room))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(room, n + 500), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with tempfile.TemporaryDirectory() as folder:
            server = Server(folder, "--max-connections", str(n + 100))
            self.addCleanup(server.stop)
            server.wait_ready()
            self.run_idle(server, n)

    def run_idle(self, server, n):
        files = "/proc/%d/fd" % server.pid
        n_before = len(os.listdir(files))  # the connection that asked for readiness may be in it
        memory = resident_bytes(server.pid)
        idle = []
        for i in range(n):
            idle.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            if i % 2:  # half of them have spoken once
                idle[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        for c in idle[1::2]:
            self.assertTrue(c.recv(4096).startswith(b"HTTP/1.1 200"))
        wait_for("all connections", lambda: len(os.listdir(files)) >= n)
        grown = resident_bytes(server.pid) - memory
        print("%d idle connections: %.1f KiB each" % (n, grown / n / 1024))
        self.assertLess(grown / n, 64 * 1024)

        busy = processor_s(server.pid)
        time.sleep(2)
        self.assertLess(processor_s(server.pid) - busy, 0.4)

        c = server.connect()
        for _ in range(100):
            self.assertEqual(c.ask("POST", "/v1/embeddings", {"input": "a text"}).status, 200)
        c.close()
        for c in idle:
            c.close()
        wait_for("the end of all connections", lambda: len(os.listdir(files)) <= n_before)


def resident_bytes(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * resource.getpagesize()


def processor_s(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    unittest.main()
