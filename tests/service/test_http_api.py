"""Every route of the HTTP API on a running server: the shape of answers and errors against
schemas/http.json, and numbers against the offline commands' to the last bit."""
import base64
import json
import os
import re
import struct
import subprocess
import tempfile
import unittest

import json_schema
from running_server import PROGRAM, ROOT, Server, environment, model

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "schemas", "http.json"), encoding="utf-8") as f:
    SCHEMAS = json.load(f)
TEXTS = ["hello world", "a text", "the quick brown fox", "é \u4e2d\u6587"]
PAIRS = [["hello", t] for t in TEXTS]


def offline(command, model_name, lines, *options):
    """The offline command's rows for JSON lines."""
    done = subprocess.run([PROGRAM, command, "--model", model(model_name), "--input", "-", *options],
                          input="".join(json.dumps(line) + "\n" for line in lines).encode(),
                          capture_output=True, env=environment(), timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def floats_of(text):
    data = base64.b64decode(text, validate=True)
    return list(struct.unpack("<%df" % (len(data) // 4), data))


def as_float32(values):
    return list(struct.unpack("<%df" % len(values), struct.pack("<%df" % len(values), *values)))


class Api(unittest.TestCase):
    """One server for all tests of a class."""
    MODEL = None
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="poolrank-api-")
        cls.addClassCleanup(folder.cleanup)
        cls.server = Server(folder.name, "--served-model-name", "m,other", *cls.OPTIONS,
                            model_name=cls.MODEL)
        cls.addClassCleanup(cls.stop)
        cls.server.wait_ready()
        cls.connection = cls.server.connect()
        cls.addClassCleanup(cls.connection.close)

    @classmethod
    def stop(cls):
        if cls.server.stop() != 0:  # a sanitizer's findings too
            raise AssertionError("the server did not end well: " + cls.server.log())

    def ask(self, path, body, schema=None, method="POST"):
        answer = self.connection.ask(method, path, body)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        json_schema.check(answer.json(), SCHEMAS[schema or path], SCHEMAS)
        return answer.json()

    def refused(self, path, body, status, *says, param=None, headers=None, method="POST"):
        answer = self.connection.ask(method, path, body, headers)
        self.assertEqual(answer.status, status, answer.body)
        json_schema.check(answer.json(), SCHEMAS["error"], SCHEMAS)
        error = answer.json()["error"]
        self.assertEqual(error["code"], status)
        self.assertEqual(error["param"], param, error)
        for words in says:
            self.assertIn(words, error["message"])
        return answer


class Embeddings(Api):
    MODEL = "bert-st-mean"

    def expected(self, **parameters):
        return [r["embedding"] for r in
                offline("embed", self.MODEL, [{"text": t, **parameters} for t in TEXTS])]

    def test_vectors_are_those_of_the_offline_command(self):
        answer = self.ask("/v1/embeddings", {"input": TEXTS, "model": "other", "user": "u"})
        self.assertEqual([d["embedding"] for d in answer["data"]], self.expected())
        self.assertEqual([d["index"] for d in answer["data"]], [0, 1, 2, 3])
        self.assertEqual(answer["model"], "other")
        rows = offline("embed", self.MODEL, [{"text": t} for t in TEXTS])
        self.assertEqual(answer["usage"]["prompt_tokens"], sum(r["prompt_tokens"] for r in rows))

    def test_base64_holds_the_same_floats(self):
        answer = self.ask("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64"})
        for found, expected in zip(answer["data"], self.expected()):
            self.assertEqual(floats_of(found["embedding"]), as_float32(expected))

    def test_parameters_change_the_numbers_as_offline(self):
        for parameters in ({"dimensions": 3}, {"normalize": False}, {"use_activation": False},
                           {"add_special_tokens": False}, {"truncate_prompt_tokens": 4},
                           {"truncate_prompt_tokens": 4, "truncation_side": "left"}):
            answer = self.ask("/v1/embeddings", {"input": TEXTS, **parameters})
            self.assertEqual([d["embedding"] for d in answer["data"]], self.expected(**parameters))

    def test_null_is_absent(self):
        body = {"input": "a", "dimensions": None, "truncate_prompt_tokens": None, "model": None,
                "encoding_format": None, "cache_salt": None, "messages": None}
        self.ask("/v1/embeddings", body)

    def test_one_text_that_is_too_long_fails_the_request_with_its_index(self):
        texts = ["short", "word " * 500, "short"]
        self.refused("/v1/embeddings", {"input": texts}, 400, "input[1]: ", "limit of 96",
                     param="input")
        self.refused("/v1/embeddings", {"input": texts[1]}, 400, "limit of 96", param="input")

    def test_per_item_errors_leave_the_rest(self):
        body = {"input": ["hello world", "word " * 500, "a text"], "on_error": "per_item"}
        data = self.ask("/v1/embeddings", body)["data"]
        self.assertEqual([d["object"] for d in data], ["embedding", "error", "embedding"])
        self.assertEqual(data[1]["error"]["code"], 400)
        self.assertEqual([data[0]["embedding"], data[2]["embedding"]], self.expected()[:2])
        self.refused("/v1/embeddings", {**body, "dimensions": 1000}, 400, "dimensions")

    def test_what_is_not_understood_is_refused_by_name(self):
        for key, value, says in (
                ("foo", 1, "unknown parameter"), ("messages", [], "expected one of them"),
                ("cache_salt", "x", "cache"), ("encoding_format", "bytes", "float|base64"),
                ("embed_dtype", "float16", "float32"), ("endianness", "big", "little"),
                ("padding", "max_length", "never padded"), ("priority", 2**40, "expected"),
                ("timeout", 0, "more than 0"), ("timeout", "1", "number"),
                ("truncate_prompt_tokens", 0, "at least 1"), ("dimensions", 0, "expected 1"),
                ("truncation_side", "middle", "right|left"), ("normalize", 1, "true or false"),
                ("on_error", "skip", "fail|per_item"), ("model", 3, "a string"),
                ("request_id", 3, "a string"), ("step_tag_id", 3, "unknown parameter")):
            self.refused("/v1/embeddings", {"input": "a", key: value}, 400, says, key, param=key)
        self.refused("/v1/embeddings", {"input": "a", "model": "x"}, 404,
                     "The model `x` does not exist.", param="model")

    def test_inputs_that_are_none_are_refused(self):
        for value in ([], None, 3, {}, ["a", 3], ["a", ["b"]], [None]):
            self.refused("/v1/embeddings", {"input": value}, 400, "input", param="input")
        self.refused("/v1/embeddings", {}, 400, "input: found nothing", param="input")
        for value in ([1, 2], [[1, 2], [3]]):
            self.refused("/v1/embeddings", {"input": value}, 400, "--allow-token-input",
                         "check_embedding_ctx_length=False", param="input")
        self.refused("/v1/embeddings", {"input": ["a"] * 2049}, 413, "--max-client-batch-size",
                     param="input")

    def test_bodies_that_are_no_json_objects_are_refused(self):
        headers = {"Content-Type": "application/json; charset=utf-8"}
        for body in ("", "[]", "3", "{", '{"input": "\\ud800"}', '{"input": NaN}', "[" * 5000):
            self.refused("/v1/embeddings", body, 400, "body", headers=headers)
        self.refused("/v1/embeddings", b'{"input": "\xff"}', 400, "body", headers=headers)
        self.refused("/v1/embeddings", "{}", 415, "application/json",
                     headers={"Content-Type": "text/plain"})

    def test_methods_and_paths(self):
        answer = self.refused("/v1/embeddings", None, 405, "POST", method="GET")
        self.assertEqual(answer.headers["Allow"], "POST")
        self.refused("/nothing", None, 404, "/nothing", method="GET")

    def test_the_request_id_of_header_and_body(self):
        answer = self.connection.ask("POST", "/v1/embeddings", {"input": "a"}, {"X-Request-Id": "h"})
        self.assertEqual(answer.json()["id"], "embd-h")
        self.assertEqual(self.ask("/v1/embeddings", {"input": "a", "request_id": "b.1"})["id"],
                         "embd-b.1")
        self.assertNotIn(" ", self.ask("/v1/embeddings", {"input": "a", "request_id": "a b"})["id"])

    def test_pooling_gives_the_vector(self):
        answer = self.ask("/pooling", {"input": TEXTS})
        self.assertEqual([d["data"] for d in answer["data"]], self.expected())
        one = self.ask("/pooling", {"input": TEXTS[0], "encoding_format": "base64"})["data"][0]
        self.assertEqual(one["shape"], [32])
        self.assertEqual(floats_of(one["data"]), as_float32(self.expected()[0]))

    def test_an_embedding_model_scores_by_cosine(self):
        rows = offline("score", self.MODEL, [{"query": q, "document": d} for q, d in PAIRS])
        answer = self.ask("/score", {"text_1": "hello", "text_2": TEXTS})
        self.assertEqual([d["score"] for d in answer["data"]], [r["score"] for r in rows])

    def test_routes_that_the_model_does_not_serve_are_refused(self):
        self.refused("/classify", {"input": "a"}, 400, "classify")
        self.refused("/get_reward", {"query": ["a"]}, 400, "no reward head")

    def test_tokens_there_and_back(self):
        answer = self.ask("/tokenize", {"prompt": "hello world", "return_token_strs": True})
        rows = offline("tokenize", self.MODEL, [{"text": "hello world"}])
        self.assertEqual(answer["tokens"], rows[0]["tokens"])
        self.assertEqual(answer["count"], len(answer["token_strs"]))
        bare = self.ask("/tokenize", {"prompt": "hello world", "add_special_tokens": False})
        self.assertEqual(bare["tokens"], answer["tokens"][1:-1])
        text = self.ask("/detokenize", {"tokens": bare["tokens"]})["prompt"]
        self.assertEqual(text, "hello world")
        self.assertEqual(self.ask("/detokenize", {"tokens": []})["prompt"], "")
        self.refused("/detokenize", {"tokens": [1, -1]}, 400, "tokens[1]", param="tokens")
        self.refused("/tokenize", {"prompt": ["a"]}, 400, "a string", param="prompt")

    def test_shapes_of_other_servers(self):
        vectors = self.expected(normalize=True)
        self.assertEqual(self.ask("/embed", {"inputs": TEXTS}), vectors)
        answer = self.ask("/v2/embed", {"texts": TEXTS, "input_type": "search_query",
                                        "embedding_types": ["float", "base64"]})
        self.assertEqual(answer["embeddings"]["float"], self.expected())
        self.assertEqual(floats_of(answer["embeddings"]["base64"][1]),
                         as_float32(self.expected()[1]))

    def test_what_the_server_says_of_itself(self):
        for path in ("/health", "/ping", "/readyz", "/livez"):
            self.ask(path, None, "status", "GET")
        self.ask("/ping", None, "status", "POST")
        for path in ("/version", "/load", "/info"):
            self.ask(path, None, None, "GET")
        models = self.ask("/v1/models", None, None, "GET")
        self.assertEqual([m["id"] for m in models["data"]], ["m", "other"])
        self.assertEqual(self.connection.ask("HEAD", "/health").status, 200)
        metrics = self.connection.ask("GET", "/metrics")
        self.assertTrue(metrics.headers["Content-Type"].startswith("text/plain; version=0.0.4"))


class Tokens(Api):
    MODEL = "bert-st-mean"
    OPTIONS = ("--allow-token-input", "--max-client-batch-size", "3")

    def test_token_ids_are_taken_when_the_server_allows_them(self):
        ids = [[2, 784, 3], [2, 322, 304, 3]]
        expected = [r["embedding"] for r in offline("embed", self.MODEL,
                                                    [{"tokens": i} for i in ids])]
        answer = self.ask("/v1/embeddings", {"input": ids})
        self.assertEqual([d["embedding"] for d in answer["data"]], expected)
        answer = self.ask("/v1/embeddings", {"input": ids[1]})
        self.assertEqual([d["embedding"] for d in answer["data"]], expected[1:])

    def test_ids_that_are_none_are_refused(self):
        for value, where in (([1, "a"], "input[1]"), ([[1], [2**31]], "input[1][0]"),
                             ([-1], "input[0]"), ([[]], "input[0]"), ([[1], "a"], "input[1]"),
                             ([2**63 - 1], "input[0]")):
            self.refused("/v1/embeddings", {"input": value}, 400, where, param="input")
        self.refused("/v1/embeddings", {"input": [[5], [100000]]}, 400, "input[1]", "vocabulary",
                     param="input")

    def test_more_texts_than_a_request_may_have_are_refused(self):
        self.refused("/v1/embeddings", {"input": ["a"] * 4}, 413, "at most 3", param="input")
        self.refused("/rerank", {"query": "a", "documents": ["a"] * 4}, 413, param="documents")


class CrossEncoder(Api):
    MODEL = "bert-classify-1"

    def expected(self, pairs, **parameters):
        lines = [{"query": q, "document": d, **parameters} for q, d in pairs]
        return [r["score"] for r in offline("score", self.MODEL, lines)]

    def test_scores_by_every_pair_of_names(self):
        scores = self.expected(PAIRS)
        for first, second in (("text_1", "text_2"), ("queries", "documents"),
                              ("queries", "items"), ("data_1", "data_2")):
            answer = self.ask("/score", {first: "hello", second: TEXTS})
            self.assertEqual([d["score"] for d in answer["data"]], scores)
        answer = self.ask("/v1/score", {"text_1": TEXTS, "text_2": TEXTS[::-1]}, "/score")
        self.assertEqual([d["score"] for d in answer["data"]],
                         self.expected(zip(TEXTS, TEXTS[::-1])))
        answer = self.ask("/score", {"text_1": "hello", "text_2": TEXTS, "use_activation": False})
        self.assertEqual([d["score"] for d in answer["data"]],
                         self.expected(PAIRS, use_activation=False))

    def test_pairs_that_do_not_fit_are_refused(self):
        self.refused("/score", {"text_1": TEXTS, "text_2": "a"}, 400, "1:1, 1:N or N:N",
                     param="text_2")
        self.refused("/score", {"text_1": "a"}, 400, "text_1 with text_2")
        self.refused("/score", {"text_1": "a", "text_2": "b", "items": "c"}, 400, "one of these")
        self.refused("/score", {"text_1": "a", "text_2": []}, 400, param="text_2")
        self.refused("/score", {"text_1": [1], "text_2": "a"}, 400, "text_1[0]", param="text_1")
        self.refused("/score", {"text_1": "a", "text_2": ["a", "word " * 500]}, 400, "text_2[1]",
                     param="text_2")

    def test_rerank_sorts_and_keeps_indexes(self):
        scores = self.expected(PAIRS)
        order = sorted(range(len(TEXTS)), key=lambda i: (-scores[i], i))
        documents = [TEXTS[0], {"text": TEXTS[1], "id": 7}, TEXTS[2], TEXTS[3]]
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            answer = self.ask(path, {"query": "hello", "documents": documents}, "/rerank")
            self.assertEqual([r["index"] for r in answer["results"]], order)
            self.assertEqual([r["relevance_score"] for r in answer["results"]],
                             [scores[i] for i in order])
            self.assertEqual([r["document"]["text"] for r in answer["results"]],
                             [TEXTS[i] for i in order])
        answer = self.ask("/rerank", {"query": "hello", "documents": TEXTS, "top_n": 2,
                                      "return_documents": False, "max_tokens_per_doc": 0})
        self.assertEqual([list(r) for r in answer["results"]], [["index", "relevance_score"]] * 2)
        self.refused("/rerank", {"query": "q", "documents": ["a"], "max_tokens_per_doc": 9}, 400,
                     "truncate_prompt_tokens", param="max_tokens_per_doc")
        self.refused("/rerank", {"query": "q", "documents": [{"txt": "a"}]}, 400, "documents[0]",
                     param="documents")
        self.refused("/rerank", {"query": "q", "documents": []}, 400, param="documents")

    def test_documents_that_fail_stand_behind_the_others(self):
        body = {"query": "hello", "documents": ["word " * 500, "a", "b"], "on_error": "per_item",
                "top_n": 1}
        results = self.ask("/rerank", body)["results"]
        self.assertEqual(len(results), 2)
        self.assertEqual(results[1]["index"], 0)
        self.assertIn("error", results[1])
        self.refused("/rerank", {**body, "on_error": "fail"}, 400, "documents[0]", param="documents")

    def test_rerank_of_text_embeddings_inference(self):
        body = {"query": "hello", "texts": TEXTS, "return_text": True, "raw_scores": True}
        answer = self.ask("/rerank", body, "tei_rerank")
        scores = self.expected(PAIRS, use_activation=False)
        order = sorted(range(len(TEXTS)), key=lambda i: (-scores[i], i))
        self.assertEqual(answer, [{"index": i, "text": TEXTS[i], "score": scores[i]}
                                  for i in order])
        self.ask("/rerank", {"query": "q", "texts": ["word " * 500]}, "tei_rerank")
        self.refused("/rerank", {"query": "q", "texts": ["word " * 500], "truncate": False}, 400,
                     "texts[0]", param="texts")


class Classifier(Api):
    MODEL = "bert-classify-3"

    def test_probabilities_and_the_best_label(self):
        rows = offline("classify", self.MODEL, [{"text": t} for t in TEXTS])
        answer = self.ask("/classify", {"input": TEXTS})
        self.assertEqual([d["probs"] for d in answer["data"]], [r["probs"] for r in rows])
        with open(os.path.join(model(self.MODEL), "config.json"), encoding="utf-8") as f:
            labels = json.load(f)["id2label"]
        for d in answer["data"]:
            self.assertEqual(d["label"], labels[str(d["probs"].index(max(d["probs"])))])
            self.assertEqual(d["num_classes"], 3)

    def test_raw_values(self):
        rows = offline("classify", self.MODEL, [{"text": TEXTS[0], "use_activation": False}])
        for body in ({"use_activation": False}, {"softmax": False}):
            answer = self.ask("/classify", {"input": TEXTS[0], **body})
            self.assertEqual(answer["data"][0]["probs"], rows[0]["probs"])

    def test_embeddings_of_a_classifier_are_refused(self):
        self.refused("/v1/embeddings", {"input": "a"}, 400, "embed")
        self.refused("/score", {"text_1": "a", "text_2": "b"}, 400, "score")


class ScalarReward(Api):
    MODEL = "llama-classify-1"

    def test_the_raw_value_that_trainers_read(self):
        answer = self.ask("/classify", {"model": "m", "input": TEXTS[0], "use_activation": False})
        rewards = offline("reward", self.MODEL, [{"text": TEXTS[0]}])
        self.assertEqual(answer["data"][-1]["probs"][-1], rewards[0]["reward"])

    def test_get_reward_adds_no_special_tokens_and_cuts(self):
        texts = TEXTS + ["word " * 500]
        lines = [{"text": t, "add_special_tokens": False, "truncate_prompt_tokens": -1}
                 for t in texts]
        rewards = [r["reward"] for r in offline("reward", self.MODEL, lines)]
        answer = self.ask("/get_reward", {"query": texts, "prompts": ["p"], "labels": [None]})
        self.assertEqual(answer, {"rewards": rewards, "scores": rewards,
                                  "extra_logs": {"dummy_scores": rewards}})
        self.assertEqual(self.ask("/get_reward", {"query": texts[0]})["rewards"], rewards[:1])
        self.refused("/get_reward", {"query": []}, 400, param="query")
        self.refused("/get_reward", {"prompts": ["a"]}, 400, param="query")


class TokenReward(Api):
    MODEL = "qwen2-reward"

    def test_rows_of_every_token(self):
        rows = offline("encode", self.MODEL, [{"text": t} for t in TEXTS])
        answer = self.ask("/pooling", {"input": TEXTS})
        self.assertEqual([d["data"] for d in answer["data"]], [r["data"] for r in rows])
        for task in ("reward", "token_classify", "encode"):
            again = self.ask("/pooling", {"input": TEXTS, "task": task})
            self.assertEqual([d["data"] for d in again["data"]], [r["data"] for r in rows])
        answer = self.ask("/pooling", {"input": TEXTS, "encoding_format": "base64"})
        for found, row in zip(answer["data"], rows):
            self.assertEqual(found["shape"], row["shape"])
            self.assertEqual(floats_of(found["data"]), as_float32([v[0] for v in row["data"]]))
        self.refused("/pooling", {"input": "a", "task": "token_embed"}, 400, "expected", param="task")

    def test_the_reward_is_the_last_tokens(self):
        lines = [{"text": t, "add_special_tokens": False} for t in TEXTS]
        rewards = [r["reward"] for r in offline("reward", self.MODEL, lines)]
        self.assertEqual(self.ask("/get_reward", {"query": TEXTS})["rewards"], rewards)

    def test_routes_of_one_row_are_refused(self):
        self.refused("/classify", {"input": "a"}, 400)


class ProcessReward(Api):
    MODEL = "qwen2-process-reward"

    def test_steps_by_request(self):
        tag = offline("tokenize", self.MODEL, [{"text": "a"}])[0]["tokens"][0]
        texts = ["a b a", "a"]
        for reduce in ("last", "mean", "min", "product"):
            lines = [{"text": t, "step_tag_id": tag, "add_special_tokens": False} for t in texts]
            rows = offline("reward", self.MODEL, lines, "--reduce", reduce)
            answer = self.ask("/get_reward", {"query": texts, "step_tag_id": tag, "reduce": reduce})
            self.assertEqual(answer["rewards"], [r["reward"] for r in rows])
        rows = offline("encode", self.MODEL, [{"text": t, "step_tag_id": tag,
                                               "returned_token_ids": [1]} for t in texts])
        answer = self.ask("/pooling", {"input": texts, "step_tag_id": tag,
                                       "returned_token_ids": [1]})
        self.assertEqual([d["data"] for d in answer["data"]], [r["data"] for r in rows])
        self.refused("/pooling", {"input": "a", "returned_token_ids": [7]}, 400, "returned_token")
        self.refused("/pooling", {"input": "a", "returned_token_ids": []}, 400,
                     param="returned_token_ids")

    def test_a_text_without_a_step(self):
        tag = offline("tokenize", self.MODEL, [{"text": "a"}])[0]["tokens"][0]
        body = {"query": ["a", "zzz"], "step_tag_id": tag}
        self.refused("/get_reward", body, 400, "query[1]", "no step", param="query")
        answer = self.ask("/get_reward", {**body, "on_error": "per_item"})
        self.assertIsNone(answer["rewards"][1])
        self.assertEqual([e["index"] for e in answer["errors"]], [1])
        self.assertEqual(self.ask("/pooling", {"input": "zzz", "step_tag_id": tag})["data"][0]["data"],
                         [])


class Document(unittest.TestCase):
    """Every example of docs/http-api.md, on the model that it names."""
    VARY = {"id", "created", "version", "root"}
    EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```\n(.*?)\n```", re.S)

    def same(self, found, expected, where):
        """Keys, texts and integers are equal; floats as near as another processor's are."""
        if isinstance(expected, dict):
            self.assertEqual(list(found), list(expected), where)
            for key, value in expected.items():
                if key not in self.VARY or isinstance(value, (dict, list)):
                    self.same(found[key], value, where + "." + key)
        elif isinstance(expected, list):
            self.assertEqual(len(found), len(expected), where)
            for i, value in enumerate(expected):
                self.same(found[i], value, "%s[%d]" % (where, i))
        elif isinstance(expected, float):
            self.assertAlmostEqual(found, expected, delta=1e-3, msg=where)
        elif where.endswith((".embedding", ".data")) and isinstance(expected, str):
            self.same(floats_of(found), floats_of(expected), where)
        else:
            self.assertEqual(found, expected, where)

    def test_examples_are_answered_as_they_say(self):
        with open(os.path.join(ROOT, "docs", "http-api.md"), encoding="utf-8") as doc:
            examples = self.EXAMPLE.findall(doc.read())
        self.assertGreater(len(examples), 15)
        servers = {}
        folder = tempfile.TemporaryDirectory(prefix="poolrank-api-")
        self.addCleanup(folder.cleanup)
        for name, example in examples:
            if name not in servers:
                servers[name] = Server(folder.name, "--served-model-name", "m", model_name=name)
                self.addCleanup(servers[name].stop)
                servers[name].wait_ready()
            request, answer = example.split("\n\n", 1)
            line, _, body = request.partition("\n")
            status, answer = answer.split("\n", 1)
            found = servers[name].ask(*line.split(), json.loads(body) if body else None)
            self.assertEqual(found.status, int(status), line)
            self.same(found.json(), json.loads(answer), line)



class Conversations(Api):
    MODEL = "qwen2-plain"
    TEMPLATE = ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
                "{% if add_generation_prompt %}<|assistant|>{% endif %}{{ mood }}"
                "{% if messages | length > 2 %}{{ raise_exception('too many turns') }}{% endif %}")
    OPTIONS = ("--chat-template", TEMPLATE)
    MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a text"}]
    TEXT = "<|user|>hello\n<|assistant|>a text\n"

    def test_messages_give_the_numbers_of_their_text(self):
        plain = {"input": self.TEXT, "add_special_tokens": False}
        for path in "/pooling", "/v1/embeddings":
            talk = self.ask(path, {"messages": self.MESSAGES})
            text = self.ask(path, plain)
            self.assertEqual(talk["data"], text["data"])
            self.assertEqual(talk["usage"], text["usage"])
        ids = self.ask("/tokenize", {"messages": self.MESSAGES})["tokens"]
        self.assertEqual(ids, self.ask("/tokenize", {"prompt": self.TEXT,
                                                     "add_special_tokens": False})["tokens"])

    def test_what_belongs_to_messages_reaches_the_template(self):
        more = {"add_generation_prompt": True, "chat_template_kwargs": {"mood": "calm"}}
        ids = self.ask("/tokenize", {"messages": self.MESSAGES, **more})["tokens"]
        self.assertEqual(ids, self.ask("/tokenize", {"prompt": self.TEXT + "<|assistant|>calm",
                                                     "add_special_tokens": False})["tokens"])

    def test_what_a_template_raises_is_an_error_400(self):
        for body, says in (({"messages": self.MESSAGES * 2}, "too many turns"),
                           ({"messages": [1]}, "messages[0]: found an integer"),
                           ({"messages": [], "input": "a"}, "expected one of them")):
            self.refused("/pooling", body, 400, says, param="messages")
        self.refused("/pooling", {"messages": [], "chat_template": "{{ 1 }}"}, 400,
                     "expected one of the model's")


if __name__ == "__main__":
    unittest.main()
