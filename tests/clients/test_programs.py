"""The client programs that people have, against a running server: openai, cohere,
langchain-openai, the requests of verl and OpenRLHF, curl, and Prometheus' parser."""
import base64
import json
import os
import shutil
import signal
import subprocess
import threading
import unittest
import unittest.mock
import urllib.request

import cohere
import huggingface_hub
import numpy as np
import openai
import tiktoken
from langchain_openai import OpenAIEmbeddings
from prometheus_client.parser import text_string_to_metric_families

import package
from package import TEXTS, command_floats

MODEL = {"embed": "bert-st-mean", "score": "xlmr-classify-1", "reward": "llama-classify-1",
         "classify": "bert-classify-3"}


class OnServer(package.TestCase):
    """One server for the tests of a class."""

    task = "embed"
    options = ()

    @classmethod
    def setUpClass(cls):
        folder = cls.enterClassContext(package.temporary_folder())
        with open(os.path.join(folder, "keys"), "w", encoding="utf-8", opener=lambda p, f: os.open(
                p, f, 0o600)) as f:
            f.write("tester:the-key\n")
        cls.server = package.Server(folder, "--served-model-name", "m", "--api-key-file", f.name,
                                    *cls.options, model_name=MODEL[cls.task])
        cls.addClassCleanup(cls.server.stop)
        cls.server.key = "the-key"
        cls.server.wait_ready()
        cls.url = "http://127.0.0.1:%d" % cls.server.port
        cls.expected = [list(map(float, v)) for v in command_floats(
            "embed", "embedding", MODEL["embed"], *TEXTS)] if cls.task == "embed" else None

    def assert_vectors(self, found, expected=None):
        np.testing.assert_array_equal(np.float32(found), np.float32(expected or self.expected))

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": "Bearer the-key"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


class OpenAI(OnServer):
    def client(self, **named):
        client = openai.OpenAI(base_url=self.url + "/v1", **{"api_key": "the-key", **named})
        self.addCleanup(client.close)
        return client

    def test_embeddings_as_floats_and_as_base64(self):
        client = self.client()
        for form in (openai.NOT_GIVEN, "float"):  # what is not given is base64, decoded by openai
            answer = client.embeddings.create(model="m", input=TEXTS, encoding_format=form)
            self.assert_vectors([d.embedding for d in answer.data])
            self.assertEqual([d.index for d in answer.data], [0, 1, 2, 3])
            self.assertEqual(answer.usage.prompt_tokens, answer.usage.total_tokens)
            self.assertEqual(answer.model, "m")
        raw = client.embeddings.create(model="m", input=TEXTS[0], encoding_format="base64")
        self.assert_vectors([np.frombuffer(base64.b64decode(raw.data[0].embedding), "<f4")],
                            self.expected[:1])
        short = client.embeddings.create(model="m", input="a text", dimensions=8, user="u")
        self.assertEqual(len(short.data[0].embedding), 8)
        self.assertEqual([m.id for m in client.models.list()], ["m"])
        self.assertEqual(client.models.retrieve("m").id, "m")
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("another")

    def test_errors_have_openai_s_classes(self):
        client = self.client()
        for kind, status, named in (
                (openai.NotFoundError, 404, {"model": "another", "input": "a"}),
                (openai.BadRequestError, 400, {"model": "m", "input": "x " * 600}),
                (openai.BadRequestError, 400, {"model": "m", "input": "a", "dimensions": 999}),
                (openai.BadRequestError, 400, {"model": "m", "input": ["a", "x " * 600]}),
                (openai.BadRequestError, 400, {"model": "m", "input": [1, 2, 3]})):
            with self.assertRaises(kind) as raised:
                client.embeddings.create(**named)
            self.assertEqual(raised.exception.status_code, status)
            self.assertTrue(raised.exception.body["message"])
        with self.assertRaises(openai.AuthenticationError):
            self.client(api_key="another").embeddings.create(model="m", input="a")

    def test_parameters_of_vllm_go_in_the_extra_body(self):
        answer = self.client().embeddings.create(
            model="m", input=["x " * 600, "a text"], extra_body={
                "truncate_prompt_tokens": -1, "truncation_side": "left", "normalize": False,
                "priority": 1, "on_error": "per_item"})
        self.assertEqual(len(answer.data), 2)
        answer = self.client().embeddings.with_raw_response.create(
            model="m", input=["x " * 600, "a text"], encoding_format="float",
            extra_body={"on_error": "per_item"}, extra_headers={"X-Request-Id": "mine-1"})
        self.assertEqual(answer.headers["X-Request-Id"], "mine-1")
        items = json.loads(answer.text)["data"]
        self.assertIn("truncate_prompt_tokens", items[0]["error"]["message"])
        self.assert_vectors([items[1]["embedding"]], self.expected[1:2])


class RateLimit(package.TestCase):
    """A rank that is stopped keeps the queue full."""

    @unittest.skipUnless(shutil.which("mpirun"), "mpirun is missing")
    def test_a_full_queue_is_429_and_openai_tries_again(self):
        server = self.serve("--worker-launch", "mpirun", "--max-queued-requests", "2",
                            "--served-model-name", "m")
        [rank] = server.rank_pids()
        url = "http://127.0.0.1:%d/v1" % server.port
        os.kill(rank, signal.SIGSTOP)
        try:
            waiting = [threading.Thread(target=server.embed, args=("text %d" % i,))
                       for i in range(2)]
            for thread in waiting:
                thread.start()
            package.wait_for("a full queue",
                             lambda: server.ask("GET", "/load").json()["server_load"] == 2)
            with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client, \
                    self.assertRaises(openai.RateLimitError) as raised:
                client.embeddings.create(model="m", input="a")
            self.assertGreaterEqual(int(raised.exception.response.headers["Retry-After"]), 1)
            answers = []

            def patient():
                with openai.OpenAI(base_url=url, api_key="k", max_retries=10) as client:
                    answers.append(client.embeddings.create(model="m", input="a text"))
            trying = threading.Thread(target=patient)
            trying.start()

            def refused_again():
                metrics = server.metrics()
                return sum(value for key, value in metrics.samples.items()
                           if key.startswith("poolrank_requests_total") and 'code="429"' in key) > 1
            package.wait_for("a second refusal", refused_again)
        finally:
            os.kill(rank, signal.SIGCONT)
        for thread in (*waiting, trying):
            thread.join()
        self.assertEqual(len(answers[0].data[0].embedding), 32)


class Cohere(OnServer):
    task = "score"

    def client(self):
        return cohere.ClientV2(base_url=self.url, api_key="the-key")

    def test_rerank(self):
        scores = command_floats("score", "score", MODEL["score"], *TEXTS)
        order = sorted(range(3), key=lambda i: -scores[i])
        answer = self.client().rerank(model="m", query=TEXTS[0], documents=TEXTS[1:])
        self.assertEqual([r.index for r in answer.results], order)
        self.assertEqual([np.float32(r.relevance_score) for r in answer.results],
                         [scores[i] for i in order])
        top = self.client().rerank(model="m", query=TEXTS[0], documents=TEXTS[1:], top_n=1)
        self.assertEqual([r.index for r in top.results], order[:1])

    def test_errors_have_cohere_s_classes(self):
        with self.assertRaises(cohere.NotFoundError):
            self.client().rerank(model="another", query="q", documents=["d"])
        with self.assertRaises(cohere.UnauthorizedError):
            cohere.ClientV2(base_url=self.url, api_key="no").rerank(model="m", query="q",
                                                                    documents=["d"])


class CohereEmbed(OnServer):
    def test_embed(self):
        client = cohere.ClientV2(base_url=self.url, api_key="the-key")
        answer = client.embed(model="m", texts=TEXTS, input_type="search_document",
                              embedding_types=["float"])
        self.assert_vectors(answer.embeddings.float_)
        answer = client.embed(model="m", input_type="search_document", inputs=[
            {"content": [{"type": "text", "text": t}]} for t in TEXTS])
        self.assert_vectors(answer.embeddings.float_)

    def test_small_types(self):
        client = cohere.ClientV2(base_url=self.url, api_key="the-key")
        answer = client.embed(model="m", texts=TEXTS, input_type="search_document",
                              embedding_types=["int8", "uint8", "binary", "ubinary"]).embeddings
        expected = np.float32(self.expected)
        int8 = np.clip(np.rint(127 * expected), -128, 127).astype(int)
        bits = np.packbits(expected >= 0, axis=1).astype(int)
        np.testing.assert_array_equal(answer.int8, int8)
        np.testing.assert_array_equal(answer.uint8, int8 + 128)
        np.testing.assert_array_equal(answer.ubinary, bits)
        np.testing.assert_array_equal(answer.binary, bits - 128)

    def test_version_1(self):
        client = cohere.Client(base_url=self.url, api_key="the-key")
        answer = client.embed(model="m", texts=TEXTS, input_type="search_document")
        self.assert_vectors(answer.embeddings)
        answer = client.embed(model="m", texts=TEXTS, input_type="search_document",
                              embedding_types=["float"])
        self.assert_vectors(answer.embeddings.float_)


class HuggingFace(OnServer):
    def client(self):
        return huggingface_hub.InferenceClient(self.url, token="the-key")

    def test_feature_extraction(self):
        client = self.client()
        self.assert_vectors(client.feature_extraction(TEXTS[1]), self.expected[1:2])
        long = client.feature_extraction("x " * 600, normalize=True, truncate=True,
                                         truncation_direction="left")
        self.assertEqual(np.shape(long), (1, len(self.expected[0])))

    def test_sentence_similarity(self):
        scores = self.client().sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
        vectors = np.float64(self.expected)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(scores, vectors[1:] @ vectors[0], atol=1e-6)

    def test_litellm_s_bodies(self):
        # litellm 1.110.2, llms/huggingface/embedding/handler.py: POST / with these two.
        self.assert_vectors(self.post("/", {"inputs": TEXTS}))
        answer = self.post("/", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}})
        self.assertEqual(len(answer), len(TEXTS) - 1)


class HuggingFaceClassifier(OnServer):
    task = "classify"

    def test_text_classification(self):
        client = huggingface_hub.InferenceClient(self.url, token="the-key")
        found = client.text_classification(TEXTS[0])
        answer = self.post("/classify", {"input": TEXTS[0]})["data"][0]
        self.assertEqual([e.score for e in found], sorted(answer["probs"], reverse=True))
        self.assertEqual(found[0].label, answer["label"])
        self.assertEqual([[e["score"] for e in row] for row in self.post(
            "/predict", {"inputs": [[TEXTS[0]]]})], [[e.score for e in found]])


class OtherBodies(OnServer):
    """What clients send whose packages bring more than these tests need."""

    def test_voyageai_embed(self):
        # voyageai 0.5.0, client.py: Client.embed; _base.py sends no more. The vectors are base64.
        answer = self.post("/v1/embeddings", {
            "input": TEXTS, "model": "m", "input_type": None, "truncation": True,
            "output_dtype": None, "output_dimension": None, "encoding_format": "base64"})
        self.assert_vectors([np.frombuffer(base64.b64decode(d["embedding"]), "<f4")
                             for d in answer["data"]])
        self.assertGreater(answer["usage"]["total_tokens"], 0)

    def test_jina(self):
        answer = self.post("/v1/embeddings", {
            "model": "m", "input": [{"text": t} for t in TEXTS], "late_chunking": False,
            "embedding_type": "float", "normalized": True})
        vectors = np.float64(self.expected)
        np.testing.assert_allclose([d["embedding"] for d in answer["data"]],
                                   vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
                                   atol=1e-6)

    def test_xinference_get_model(self):
        # xinference-client 4.1.0, restful_client.py: Client.get_model chooses by model_type.
        answer = self.server.ask("GET", "/v1/models/m")
        self.assertEqual(answer.json()["model_type"], "embedding")
        self.assertEqual(self.server.ask("GET", "/v1/cluster/auth").status, 404)


class OtherRerankBodies(OnServer):
    task = "score"

    def test_voyageai_and_xinference_rerank(self):
        expected = self.post("/rerank", {"query": TEXTS[0], "documents": TEXTS[1:]})["results"]
        # voyageai 0.5.0, client.py: Client.rerank; object/reranking.py reads data.
        answer = self.post("/v1/rerank", {"query": TEXTS[0], "documents": TEXTS[1:], "model": "m",
                                          "top_k": 2, "truncation": True})
        self.assertEqual([(d["index"], d["relevance_score"]) for d in answer["data"]],
                         [(r["index"], r["relevance_score"]) for r in expected[:2]])
        # xinference-client 4.1.0, restful_client.py: RESTfulRerankModelHandle.rerank.
        answer = self.post("/v1/rerank", {
            "model": "m", "documents": TEXTS[1:], "query": TEXTS[0], "top_n": None,
            "max_chunks_per_doc": None, "return_documents": None, "return_len": None,
            "kwargs": "{}"})
        self.assertEqual(answer["results"], expected)
        self.assertEqual(self.server.ask("GET", "/v1/models/m").json()["model_type"], "rerank")

    def test_cohere_version_1(self):
        client = cohere.Client(base_url=self.url, api_key="the-key")
        answer = client.rerank(model="m", query=TEXTS[0], rank_fields=["text"],
                               documents=[{"text": t} for t in TEXTS[1:]], max_chunks_per_doc=3)
        v2 = cohere.ClientV2(base_url=self.url, api_key="the-key").rerank(
            model="m", query=TEXTS[0], documents=TEXTS[1:], max_tokens_per_doc=4096)
        self.assertEqual([(r.index, r.relevance_score) for r in answer.results],
                         [(r.index, r.relevance_score) for r in v2.results])


class LangChain(OnServer):
    """Its default is to send token ids of OpenAI's vocabulary, which tiktoken would download. A
    vocabulary of the 256 bytes stands in for it: what LangChain does with it is its own."""

    def embeddings(self, **named):
        return OpenAIEmbeddings(model="m", base_url=self.url + "/v1", api_key="the-key", **named)

    def setUp(self):
        super().setUp()
        stand_in = tiktoken.Encoding("bytes", pat_str=r"(?s).", special_tokens={},
                                     mergeable_ranks={bytes([i]): i for i in range(256)})
        for name in ("encoding_for_model", "get_encoding"):
            patch = unittest.mock.patch.object(tiktoken, name, lambda *_: stand_in)
            patch.start()
            self.addCleanup(patch.stop)

    def test_its_default_gets_the_error_that_names_the_remedy(self):
        with self.assertRaisesRegex(openai.BadRequestError, "check_embedding_ctx_length=False"):
            self.embeddings().embed_documents(TEXTS)

    def test_texts_give_the_right_vectors(self):
        embeddings = self.embeddings(check_embedding_ctx_length=False)
        self.assert_vectors(embeddings.embed_documents(TEXTS))
        self.assert_vectors([embeddings.embed_query(TEXTS[1])], self.expected[1:2])


class Trainers(OnServer):
    task = "reward"

    def test_verl_reads_the_raw_reward_of_classify(self):
        # verl: POST /classify with use_activation false, then data[-1].probs[-1].
        rewards = command_floats("reward", "reward", MODEL["reward"], *TEXTS)
        for text, reward in zip(TEXTS, rewards):
            answer = self.post("/classify", {"model": "m", "input": text, "use_activation": False})
            self.assertEqual(np.float32(answer["data"][-1]["probs"][-1]), reward)

    def test_verl_s_other_engine_forms(self):
        # verl 0.9.1, reward_loop: SGLang's engine is asked at /v1/embeddings for embedding[-1];
        # older ones send vLLM's engine "activation".
        rewards = command_floats("reward", "reward", MODEL["reward"], *TEXTS)
        for text, reward in zip(TEXTS, rewards):
            answer = self.post("/v1/embeddings", {"model": "m", "input": text})
            self.assertEqual(np.float32(answer["data"][-1]["embedding"][-1]), reward)
            answer = self.post("/classify", {"model": "m", "input": text, "activation": False})
            self.assertEqual(np.float32(answer["data"][-1]["probs"][-1]), reward)

    def test_openrlhf_reads_rewards(self):
        # OpenRLHF: no special tokens, and texts that are too long are cut.
        texts = TEXTS + ["word " * 500]
        rewards = command_floats("reward", "reward", MODEL["reward"], *texts, options=[
            "--no-add-special-tokens", "--truncate-prompt-tokens", "-1"])
        answer = self.post("/get_reward", {"query": texts, "prompts": texts, "labels": [""] * 5})
        self.assertEqual([np.float32(r) for r in answer["rewards"]], rewards)
        self.assertEqual(answer["scores"], answer["rewards"])
        self.assertIn("dummy_scores", answer["extra_logs"])


class Tools(OnServer):
    @unittest.skipUnless(shutil.which("curl"), "curl is missing")
    def test_curl(self):
        out = subprocess.run(
            ["curl", "--silent", "--show-error", "--fail", self.url + "/v1/embeddings",
             "-H", "Content-Type: application/json", "-H", "Authorization: Bearer the-key",
             "-d", json.dumps({"input": TEXTS})],
            check=True, capture_output=True, timeout=60).stdout
        self.assert_vectors([d["embedding"] for d in json.loads(out)["data"]])

    def test_prometheus_parser_reads_the_metrics(self):
        self.post("/v1/embeddings", {"input": TEXTS})
        families = {f.name: f for f in text_string_to_metric_families(
            self.server.ask("GET", "/metrics").text)}
        for name, kind in (("poolrank_requests", "counter"),
                           ("poolrank_request_seconds", "histogram"),
                           ("poolrank_queue_requests", "gauge"),
                           ("poolrank_queue_wait_seconds", "histogram"),
                           ("poolrank_batch_tokens", "histogram"),
                           ("poolrank_group_state", "gauge"), ("poolrank_build_info", "gauge")):
            self.assertEqual(families[name].type, kind, name)
            self.assertTrue(families[name].documentation, name)
        done = [s.value for s in families["poolrank_requests"].samples
                if s.labels == {"route": "/v1/embeddings", "code": "200"}]
        self.assertGreaterEqual(sum(done), 1)
        for family in families.values():
            self.assertRegex(family.name, "^(poolrank|process)_")
            if family.type == "histogram":
                self.assert_histogram(family)

    def assert_histogram(self, family):
        series = {}
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "le"}
            kind = sample.name.rsplit("_", 1)[1]
            series.setdefault(json.dumps(labels, sort_keys=True), {}).setdefault(kind, []).append(
                (float(sample.labels.get("le", "nan")), sample.value))
        for parts in series.values():
            buckets = parts["bucket"]
            self.assertEqual(buckets, sorted(buckets))
            self.assertEqual([n for _, n in buckets], sorted(n for _, n in buckets))
            self.assertEqual(buckets[-1], (float("inf"), parts["count"][0][1]))


if __name__ == "__main__":
    package.main(warnings="ignore")  # some of the programs leave their sockets to the collector
