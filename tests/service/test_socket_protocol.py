"""The socket protocol against a running server: a client that was written from
docs/socket-protocol.md, with msgpack of its own, and with the package msgpack where it is there."""
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import unittest

import running_server
from running_server import PATIENCE_S, PROGRAM, environment, model, wait_for
from socket_client import Client, Refused, pack, rows, unpack

TEXTS = ["a text", "another one", "the third of these texts is the longest of all", "a text"]


def offline(command, name, *inputs, options=()):
    """What the offline command prints for lines of input: parsed objects."""
    done = subprocess.run([PROGRAM, command, "--model", model(name), "--input", "-", *options],
                          input="\n".join(inputs) + "\n", capture_output=True, text=True,
                          env=environment(), timeout=PATIENCE_S, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def f32(numbers):
    """Decimals as the float32 that they stand for, to compare bit by bit."""
    return list(struct.unpack("<%df" % len(numbers), struct.pack("<%df" % len(numbers), *numbers)))


class SocketCase(running_server.TestCase):
    def serve_socket(self, *options, address=None, ready=True, key=None, **named):
        self.socket_path = self.path("socket")
        server = self.serve("--socket", address or "unix://" + self.socket_path, *options,
                            ready=False, **named)
        self.key = key
        self.address = self.socket_path
        if address:
            line = json.loads(server.wait_logged("socket protocol: listening"))
            self.address = ("127.0.0.1", line["port"])
        if ready:
            server.wait_logged('"ready after ')
        return server

    def client(self, **named):
        c = Client(self.address, key=self.key, **named)
        self.addCleanup(c.socket.close)
        return c


class Numbers(SocketCase):
    def test_embeddings_are_those_of_the_offline_command(self):
        self.serve_socket()
        c = self.client()
        self.assertEqual((c.hello["kind"], c.hello["version"], c.hello["task"]),
                         ("hello", 1, "embed"))
        answer = c.ask("embed", TEXTS, request_id="my-id")
        expected = offline("embed", "bert-st-mean", *TEXTS)
        self.assertEqual([item[0] for item in rows(answer["data"])],
                         [f32(e["embedding"]) for e in expected])
        self.assertEqual(answer["prompt_tokens"], [e["prompt_tokens"] for e in expected])
        self.assertEqual(answer["request_id"], "my-id")
        self.assertEqual(answer["data"]["shape"], [len(TEXTS), c.hello["dimensions"]])
        self.formats(c, answer)
        self.tokens(c, answer)
        self.parameters(c)

    def formats(self, c, answer):
        exact = [item[0] for item in rows(answer["data"])]
        half = c.ask("embed", TEXTS, format="f16")
        for row, expected in zip(rows(half["data"]), exact):
            self.assertEqual(row[0], list(struct.unpack(
                "<%de" % len(expected), struct.pack("<%de" % len(expected), *expected))))
        int8 = c.ask("embed", TEXTS, format="int8")
        scales = struct.unpack("<%df" % len(exact), int8["data"]["scales"])
        for row, expected, scale in zip(rows(int8["data"]), exact, scales):
            self.assertEqual(scale, f32([max(map(abs, expected)) / 127])[0])
            worst = max(abs(a - b) for a, b in zip(row[0], expected))
            self.assertLessEqual(worst, scale * 0.501)
            self.assertGreater(max(map(abs, row[0])), 126.4 * scale)

    def tokens(self, c, answer):
        """Token ids of the tokenize request, as bins and as lists, give the same numbers."""
        ids = c.ask("tokenize", TEXTS)["data"]
        self.assertEqual((ids["dtype"], ids["rows"]), ("i32", answer["prompt_tokens"]))
        lists = [[row[0] for row in item] for item in rows(ids)]
        bins = [struct.pack("<%di" % len(i), *i) for i in lists]
        for items in (lists, bins):
            again = c.ask("embed", items)
            self.assertEqual(again["data"]["bytes"], answer["data"]["bytes"])
        texts = c.ask("detokenize", lists)["texts"]
        self.assertEqual(texts, TEXTS)
        with_special = c.ask("detokenize", lists, skip_special_tokens=False)["texts"]
        self.assertIn("[CLS]", with_special[0])

    def parameters(self, c):
        raw = rows(c.ask("embed", TEXTS[:1], normalize=False)["data"])[0][0]
        self.assertGreater(abs(sum(x * x for x in raw) - 1), 1e-3)
        cut = c.ask("embed", TEXTS, dimensions=8)
        self.assertEqual(cut["data"]["shape"], [len(TEXTS), 8])
        short = c.ask("embed", TEXTS, truncate_prompt_tokens=3, truncation_side="left",
                      add_special_tokens=False, priority=-1, timeout_ms=50000, wait_ms=10)
        self.assertTrue(all(n <= 3 for n in short["prompt_tokens"]))
        rows_of = c.ask("encode", TEXTS[:1], task="embed")
        self.assertEqual(rows_of["data"]["rows"], [1])
        self.assertNotIn("token_wise", rows_of)

    def test_classes_and_scores_are_those_of_the_offline_command(self):
        self.serve_socket(model_name="bert-classify-3")
        c = self.client()
        answer = c.ask("classify", TEXTS)
        self.assertEqual([item[0] for item in rows(answer["data"])],
                         [f32(e["probs"]) for e in offline("classify", "bert-classify-3", *TEXTS)])
        raw = c.ask("classify", TEXTS, use_activation=False)
        self.assertNotEqual(raw["data"]["bytes"], answer["data"]["bytes"])
        self.assertEqual(len(c.hello["labels"]), 3)

    def test_pairs_score_alike_with_and_without_query(self):
        self.serve_socket(model_name="roberta-classify-1")
        c = self.client()
        lines = [json.dumps({"query": "what is it", "document": t}) for t in TEXTS]
        expected = [f32([e["score"]]) for e in offline("score", "roberta-classify-1", *lines)]
        for request in ({"items": [["what is it", t] for t in TEXTS]},
                        {"items": TEXTS, "query": "what is it"}):
            answer = c.ask("score", **request)
            self.assertEqual([item[0] for item in rows(answer["data"])], expected)
        self.assertEqual(c.ask("classify", [["a", "b"]])["data"]["shape"], [1, 1])

    def test_rewards_are_those_of_the_offline_command(self):
        self.serve_socket(model_name="qwen2-reward")
        c = self.client()
        expected = offline("reward", "qwen2-reward", *TEXTS, options=["--return-tokens"])
        answer = c.ask("reward", TEXTS)
        self.assertEqual([item[0] for item in rows(answer["data"])],
                         [f32([e["reward"]]) for e in expected])
        self.assertNotIn("token_data", answer)
        whole = c.ask("reward", TEXTS, return_tokens=True)
        self.assertEqual(whole["data"]["bytes"], answer["data"]["bytes"])
        self.assertEqual([[x for row in item for x in row] for item in rows(whole["token_data"])],
                         [f32([x for row in e["data"] for x in row]) for e in expected])
        encoded = c.ask("encode", TEXTS)
        self.assertTrue(encoded["token_wise"])
        self.assertEqual(encoded["data"], whole["token_data"])
        with self.assertRaises(Refused) as refused:
            c.ask("embed", TEXTS)
        self.assertEqual(refused.exception.status, "unsupported")

    def test_steps_of_a_process_reward_become_one_number(self):
        self.serve_socket(model_name="qwen2-process-reward")
        c = self.client()
        tag = c.ask("tokenize", ["a"], add_special_tokens=False)
        tag_id = rows(tag["data"])[0][0][0]
        answer = c.ask("reward", ["a a a", "a"], step_tag_id=tag_id, reduce="min")
        steps = rows(answer["steps"])
        self.assertEqual([item[0][0] for item in rows(answer["data"])],
                         [min(row[0] for row in item) for item in steps])
        part = c.ask("reward", ["a a", "b b b b"], step_tag_id=tag_id, on_error="per_item")
        self.assertEqual(part["data"]["rows"], [1, 0])
        self.assertEqual(part["errors"][0]["item"], 1)
        self.assertIn("no step", part["errors"][0]["message"])


class Conversation(SocketCase):
    def test_requests_are_pipelined_and_answered_in_any_order(self):
        self.serve_socket("--max-num-batched-tokens", "512")
        c = self.client()
        whole = c.ask("embed", TEXTS)["data"]["bytes"]
        width = len(whole) // len(TEXTS)
        bulk = c.send("embed", ["word " * 40] * 2048)
        sent = {c.send("embed", [t]): i for i, t in enumerate(TEXTS * 20)}
        order = []
        for _ in range(len(sent) + 1):
            message = c.checked(c.receive())
            order.append(message["id"])
            if message["id"] in sent:
                i = sent[message["id"]] % len(TEXTS)
                self.assertEqual(message["data"]["bytes"], whole[i * width:(i + 1) * width])
        self.assertEqual(sorted(order), sorted([bulk, *sent]))
        self.assertEqual(order[-1], bulk)  # the small ones were not stuck behind it

    def test_a_request_is_cancelled(self):
        server = self.serve_socket("--max-num-batched-tokens", "512")
        c = self.client()
        first = c.send("embed", ["word " * 40] * 1024)
        c.send_raw({"kind": "cancel", "id": first})
        c.send_raw({"kind": "cancel", "id": 12345})  # none of that id: no matter
        with self.assertRaises(Refused) as refused:
            c.answer(first)
        self.assertEqual(refused.exception.status, "cancelled")
        self.assertEqual(c.ask("embed", ["a text"])["items"], 1)
        self.assertNotIn("word word", server.log())

    def test_info_stats_and_ping_answer(self):
        self.serve_socket()
        c = self.client()
        info = c.ask("info")
        self.assertEqual({k: v for k, v in info.items() if k not in ("kind", "id")},
                         {k: v for k, v in c.hello.items() if k != "kind"})
        c.ask("embed", TEXTS)
        stats = c.ask("stats")
        self.assertEqual((stats["state"], stats["batch_items"]), ("ready", len(TEXTS)))
        self.assertEqual(stats["groups"][0]["state"], "ready")
        self.assertEqual(c.ask("ping"), {"kind": "pong", "id": 3 + 1})

    def test_what_is_wrong_with_a_request_is_answered_with_its_id(self):
        self.serve_socket("--max-client-batch-size", "4")
        c = self.client()
        for request, status, words in (
                ({"kind": "embed", "items": ["a"], "dimensoins": 3}, "argument", "dimensoins"),
                ({"kind": "embed", "items": ["a"], "reduce": "min"}, "argument", "reduce"),
                ({"kind": "embed", "items": ["a"], "format": "f64"}, "input", "format"),
                ({"kind": "embed", "items": ["a"], "model": "another"}, "not_found", "model"),
                ({"kind": "embed", "items": ["a"], "dimensions": 100000}, "argument",
                 "dimensions"),
                ({"kind": "embed", "items": []}, "input", "items"),
                ({"kind": "embed"}, "input", "items"),
                ({"kind": "embed", "items": "text"}, "input", "items"),
                ({"kind": "embed", "items": ["a"] * 5}, "too_large", "4"),
                ({"kind": "embed", "items": ["a", ["b", "c", "d"]]}, "input", "item 1"),
                ({"kind": "embed", "items": ["a", [999999]]}, "input", "999999"),
                ({"kind": "embed", "items": ["word " * 5000]}, "too_long", "limit"),
                ({"kind": "score", "items": ["a"], "query": 5}, "input", "query"),
                ({"kind": "reward", "items": ["a"]}, "unsupported", "reward"),
                ({"kind": "generate", "items": ["a"]}, "unsupported", "kind")):
            c.send_raw({"id": 7, **request})
            message = c.receive()
            self.assertEqual((message["kind"], message["id"], message["status"]),
                             ("error", 7, status), message)
            self.assertIn(words, message["message"])
        self.assertEqual(c.ask("embed", ["a"])["items"], 1)

    def test_one_bad_item_fails_all_or_only_itself(self):
        self.serve_socket()
        c = self.client()
        items = ["a", "word " * 5000, "b"]
        with self.assertRaises(Refused) as refused:
            c.ask("embed", items)
        self.assertEqual(refused.exception.frame["item"], 1)
        part = c.ask("embed", items, on_error="per_item")
        self.assertEqual(part["data"]["rows"], [1, 0, 1])
        self.assertEqual([(e["item"], e["status"]) for e in part["errors"]], [(1, "too_long")])
        self.assertEqual(part["data"]["bytes"], c.ask("embed", ["a", "b"])["data"]["bytes"])

    def test_large_frames_do_not_differ(self):
        self.serve_socket()
        c = self.client()
        texts = ["%d %s" % (i, "long " * 60) for i in range(1500)]
        large = c.ask("embed", texts)["data"]
        width = len(large["bytes"]) // len(texts)
        for i in (0, 749, 1499):
            one = c.ask("embed", [texts[i]])["data"]["bytes"]
            self.assertEqual(one, large["bytes"][i * width:(i + 1) * width])

    def test_a_half_closed_connection_gets_its_answers(self):
        self.serve_socket()
        self.half_closes()

    def test_a_half_closed_tcp_connection_gets_its_answers(self):
        self.serve_socket(address="tcp://127.0.0.1:0")
        self.half_closes()

    def half_closes(self):
        c = self.client()
        sent = [c.send("embed", ["word " * 40] * 500), c.send("embed", ["a"])]
        c.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(sorted(c.checked(c.receive())["id"] for _ in sent), sent)
        self.assertTrue(c.at_end())

    def test_a_client_that_leaves_is_noticed(self):
        server = self.serve_socket("--max-num-batched-tokens", "512")
        self.leaves(server)

    def test_a_client_that_leaves_over_tcp_is_noticed(self):
        server = self.serve_socket("--max-num-batched-tokens", "512", address="tcp://127.0.0.1:0")
        self.leaves(server)

    def leaves(self, server):
        watcher = self.client()
        c = self.client()
        c.send("embed", ["word " * 40] * 2000)
        wait_for("the request", lambda: watcher.ask("stats")["open_requests"] == 1)
        c.socket.close()
        wait_for("its end", lambda: watcher.ask("stats")["open_requests"] == 0)
        server.wait_logged('"status":499')
        self.assertLess(watcher.ask("stats")["batch_items"], 2000)
        self.assertEqual(watcher.ask("embed", ["a"])["items"], 1)


class Doors(SocketCase):
    def test_keys_are_asked_for(self):
        keys = self.path("keys", "alice:secret-of-alice\n")
        server = self.serve_socket("--api-key-file", keys, key="secret-of-alice")
        self.assertEqual(self.client().ask("embed", ["a"])["items"], 1)
        for key in (None, "secret-of-alic", "secret-of-bob"):
            c = self.client(greet=False)
            c.send_raw({"kind": "hello", "version": 1, **({"key": key} if key else {})})
            refused = c.receive()
            self.assertEqual((refused["kind"], refused["id"]), ("error", None))
            self.assertIn("key", refused["message"])
            self.assertTrue(c.at_end())
        old = self.client()
        self.path("keys", "bob:secret-of-bob\n")
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP: keys")
        self.assertEqual(old.ask("embed", ["a"])["items"], 1)
        with Client(self.address, key="secret-of-bob") as bob:
            self.assertEqual(bob.ask("ping")["kind"], "pong")
        with self.client(greet=False) as late:
            late.send_raw({"kind": "hello", "version": 1, "key": self.key})
            self.assertEqual(late.receive()["kind"], "error")
        self.assertIn('"key":"alice"', server.log())
        self.assertNotIn("secret", server.log())

    def test_tcp_off_loopback_is_refused(self):
        for options, words in (([], "loopback"), (["--insecure-socket"], None)):
            words_of = [PROGRAM, "serve", "--model", model("bert-st-mean"), "--port", "0",
                        "--socket", "tcp://0.0.0.0:0", *options]
            if words:
                done = subprocess.run(words_of, capture_output=True, text=True, env=environment(),
                                      timeout=PATIENCE_S, check=False)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(words, done.stderr)
        self.serve_socket("--insecure-socket", address="tcp://0.0.0.0:0")
        self.assertEqual(self.client().ask("embed", ["a"])["items"], 1)

    def test_tls_is_spoken_over_tcp(self):
        cert, key = self.certificate("one")
        server = self.serve_socket("--ssl-certfile", cert, "--ssl-keyfile", key,
                                   address="tcp://127.0.0.1:0")
        c = self.client(tls=self.tls_context())
        before = c.socket.getpeercert(True)
        self.assertEqual(c.ask("embed", TEXTS)["items"], len(TEXTS))
        # Both ways more than a socket's buffers take.
        large = [c.send("embed", ["word " * 400] * 200, truncate_prompt_tokens=4)
                 for _ in range(20)]
        self.assertEqual([c.answer(i)["items"] for i in large], [200] * 20)
        self.certificate("one")
        server.signal(signal.SIGHUP)
        server.wait_logged("SIGHUP: keys")
        self.assertNotEqual(self.client(tls=self.tls_context()).socket.getpeercert(True), before)
        self.assertEqual(c.ask("embed", ["a"])["items"], 1)

    def test_a_unix_socket_is_its_owners_alone(self):
        server = self.serve_socket()
        self.assertEqual(stat.S_IMODE(os.stat(self.socket_path).st_mode), 0o600)
        second = subprocess.run([PROGRAM, "serve", "--model", model("bert-st-mean"), "--port", "0",
                                 "--socket", "unix://" + self.socket_path], capture_output=True,
                                text=True, env=environment(), timeout=PATIENCE_S, check=False)
        self.assertNotEqual(second.returncode, 0)
        self.assertIn("listens there already", second.stderr)
        server.process.kill()  # leaves its file behind
        server.wait_end()
        self.assertTrue(os.path.exists(self.socket_path))
        again = self.serve_socket()
        self.assertEqual(self.client().ask("embed", ["a"])["items"], 1)
        again.signal(signal.SIGTERM)
        self.assertEqual(again.wait_end(), 0)
        self.assertFalse(os.path.exists(self.socket_path))

    def test_what_is_no_message_closes_the_connection(self):
        self.serve_socket("--max-body-bytes", "4096")
        hello = pack({"kind": "hello", "version": 1})
        frame = struct.pack("<I", len(hello)) + hello
        for data, status in ((b"\0\0\0\0", "input"), (b"GET / HTTP/1.1\r\n\r\n", "too_large"),
                             (b"\4\0\0\0\x91\x91\x91\x91", "input"),
                             (struct.pack("<I", 20) + pack({"kind": "ping", "id": 1})[:20],
                              "input"),
                             (frame + b"\0\0\1\0", "too_large"),
                             (frame + b"\2\0\0\0\xc1\xc1", "input"),
                             (frame + b"\2\0\0\0", "input")):
            c = self.client(greet=False)
            c.socket.sendall(data)
            if data.endswith(b"\2\0\0\0"):
                c.socket.shutdown(socket.SHUT_WR)
            message = c.receive()
            if message["kind"] == "hello":
                message = c.receive()
            self.assertEqual((message["kind"], message["id"], message["status"]),
                             ("error", None, status), data)
            self.assertTrue(c.at_end())
        c = self.client(greet=False)
        c.send_raw({"kind": "hello", "version": 2})
        self.assertEqual(c.receive()["status"], "unsupported")

    def test_a_server_that_drains_finishes_what_it_has(self):
        server = self.serve_socket()
        c, idle = self.client(), self.client()
        sent = c.send("embed", ["word " * 40] * 1000)
        wait_for("the request", lambda: idle.ask("stats")["open_requests"] == 1)
        server.signal(signal.SIGTERM)
        self.assertEqual(idle.receive()["status"], "unavailable")
        self.assertTrue(idle.at_end())
        self.assertEqual(c.answer(sent)["items"], 1000)
        self.assertEqual(server.wait_end(), 0)

    def test_a_slow_client_is_dropped(self):
        self.serve_socket("--read-timeout", "1")
        silent, slow = self.client(greet=False), self.client()
        slow.socket.sendall(b"\x10\0")
        self.assertEqual(silent.receive()["status"], "timeout")
        self.assertEqual(slow.receive()["status"], "timeout")


class Package(SocketCase):
    """The same client with Python's msgpack package."""

    def test_a_client_with_the_package_msgpack_works(self):
        try:
            import msgpack
        except ImportError:
            self.skipTest("the package msgpack is not there")
        self.serve_socket()
        theirs = self.client(codec=(msgpack.packb, msgpack.unpackb))
        ours = self.client()
        self.assertEqual(theirs.ask("embed", TEXTS)["data"], ours.ask("embed", TEXTS)["data"])
        self.assertEqual(theirs.ask("info"), ours.ask("info"))
        with self.assertRaises(Refused):
            theirs.ask("embed", [])
        self.assertEqual(msgpack.unpackb(pack([1, -5, 2.5, "é", b"x", None, True, {"a": []}])),
                         [1, -5, 2.5, "é", b"x", None, True, {"a": []}])
        self.assertEqual(unpack(msgpack.packb({"a": list(range(70000))}))["a"][-1], 69999)


if __name__ == "__main__":
    python = os.environ.get("POOLRANK_CLIENTS_PYTHON")
    if python and os.path.abspath(sys.executable) != os.path.abspath(python):
        os.execv(python, [python, "-B", *sys.argv])
    unittest.main(verbosity=1)
