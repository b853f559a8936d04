"""poolrank.LLM: its numbers are the command's, to the bit, and within the bound those of
transformers; its shapes and names are vLLM's; errors, threads, Ctrl-C, forks and closing."""
import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

import numpy as np

import package
import poolrank
from package import TEXTS, Golden, command, command_floats, error_of, model
from poolrank import LLM, PoolerConfig, PoolingParams

ERROR_MAX = 1e-5  # docs: float32 beside transformers


def opened(test, model_name, **options):
    llm = LLM(model(model_name), **options)
    test.addCleanup(llm.close)
    return llm


class Numbers(unittest.TestCase):
    def assert_same(self, outputs, expected):
        self.assertEqual(len(outputs), len(expected))
        for mine, theirs in zip(outputs, expected):
            self.assertEqual(mine.dtype, np.float32)
            np.testing.assert_array_equal(mine, theirs)

    def test_embeddings_are_the_command_s_to_the_bit(self):
        outputs = opened(self, "bert-st-mean", task="embed").embed(TEXTS)
        self.assert_same([o.outputs.embedding for o in outputs],
                         command_floats("embed", "embedding", "bert-st-mean", *TEXTS))

    def test_classes_are_the_command_s_to_the_bit(self):
        outputs = opened(self, "bert-classify-3", task="classify").classify(TEXTS)
        self.assertEqual({o.outputs.num_classes for o in outputs}, {3})
        self.assert_same([o.outputs.probs for o in outputs],
                         command_floats("classify", "probs", "bert-classify-3", *TEXTS))

    def test_scores_are_the_command_s_to_the_bit(self):
        for name in ("xlmr-classify-1", "bert-st-mean"):
            outputs = opened(self, name, task="score").score(TEXTS[0], TEXTS[1:])
            self.assert_same([np.float32(o.outputs.score) for o in outputs],
                             command_floats("score", "score", name, *TEXTS))

    def test_rewards_are_the_command_s_to_the_bit(self):
        llm = opened(self, "qwen2-reward", task="reward")
        rows = command("reward", "qwen2-reward", *TEXTS, options=["--return-tokens"])
        outputs = llm.reward(TEXTS)
        for output, row in zip(outputs, rows):
            self.assertEqual(output.outputs.reward, float(np.float32(row["reward"])))
            data = np.float32(row["data"]).reshape(row["shape"])
            np.testing.assert_array_equal(output.outputs.data, data)
            self.assertEqual(output.n_prompt_tokens, row["prompt_tokens"])
        short = llm.reward(TEXTS, return_tokens=False)
        self.assertEqual([o.outputs.reward for o in short], [o.outputs.reward for o in outputs])
        self.assertEqual({o.outputs.data.size for o in short}, {1})

    def test_step_rewards_are_the_command_s_and_reduce_as_there(self):
        config = PoolerConfig(step_tag_id=604)
        llm = opened(self, "qwen2-process-reward", task="reward", override_pooler_config=config)
        texts = [text for text, _, _ in Golden("qwen2-process-reward", "steps").plain_texts()]
        for reduce in ("last", "mean", "min", "product"):
            rows = command("reward", "qwen2-process-reward", *texts, options=[
                "--override-pooler-config", '{"step_tag_id": 604}', "--reduce", reduce])
            for output, row in zip(llm.reward(texts, reduce=reduce), rows):
                self.assertEqual(output.outputs.reward, float(np.float32(row["reward"])), reduce)
                np.testing.assert_array_equal(output.outputs.step_rewards,
                                              np.float32(row["step_rewards"]))

    def test_encode_gives_whatever_the_pooler_yields(self):
        rows = command("encode", "qwen2-reward", *TEXTS)
        for output, row in zip(opened(self, "qwen2-reward").encode(TEXTS), rows):
            np.testing.assert_array_equal(
                output.outputs.data, np.float32(row["data"]).reshape(row["shape"]))
        [output] = opened(self, "bert-st-mean").encode("a text")
        self.assertEqual(output.outputs.data.ndim, 1)

    def test_numbers_are_those_of_transformers(self):
        cases = [("bert-st-mean", "embed", lambda l, t: [o.outputs.embedding for o in l.embed(t)]),
                 ("xlmr-st-cls", "embed", lambda l, t: [o.outputs.embedding for o in l.embed(t)]),
                 ("mistral-st-last", "embed",
                  lambda l, t: [o.outputs.embedding for o in l.embed(t)]),
                 ("bert-classify-3", "classify",
                  lambda l, t: [o.outputs.probs for o in l.classify(t)]),
                 ("qwen2-reward", "reward", lambda l, t: [o.outputs.data for o in l.reward(t)])]
        for name, task, ask in cases:
            with self.subTest(name):
                golden = list(Golden(name, task).plain_texts())
                self.assertGreater(len(golden), 3)
                llm = opened(self, name, task=task)
                texts = [text for text, _, _ in golden]
                for mine, (_, _, theirs) in zip(ask(llm, texts), golden):
                    self.assertLess(error_of(mine, theirs.reshape(mine.shape)), ERROR_MAX)
                self.assertEqual(llm.tokenize(texts), [ids for _, ids, _ in golden])


class Interface(unittest.TestCase):
    def test_a_conversation_is_the_text_of_its_template(self):
        template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{{ mood }}"
        llm = opened(self, "qwen2-plain", chat_template=template)
        talk = {"messages": [{"role": "user", "content": "hello"}],
                "chat_template_kwargs": {"mood": "é"}}
        plain = PoolingParams(add_special_tokens=False)
        self.assertEqual(llm.tokenize([talk]),
                         llm.tokenize(["<user>helloé"], pooling_params=plain))
        with self.assertRaisesRegex(poolrank.Error, "found a dict with"):
            llm.tokenize([{"messages": [], "more": 1}])
        with self.assertRaisesRegex(poolrank.Error, "messages.0.: found an integer"):
            llm.tokenize([{"messages": [1]}])

    def test_prompts_come_in_every_form(self):
        llm = opened(self, "bert-st-mean", task="embed")
        [expected] = llm.embed("a text")
        ids = expected.prompt_token_ids
        forms = [["a text"], {"prompt": "a text"}, [{"prompt": "a text"}], ids, [ids],
                 {"prompt_token_ids": ids}, np.asarray(ids),
                 [{"prompt_token_ids": np.asarray(ids)}],
                 {"prompt": "a text", "prompt_token_ids": ids}, ("a text",)]
        for form in forms:
            [output] = llm.embed(form)
            np.testing.assert_array_equal(output.outputs.embedding, expected.outputs.embedding)
            self.assertEqual(output.prompt_token_ids, ids)
        self.assertEqual(llm.embed([]), [])
        self.assertEqual(llm.tokenize("a text"), [ids])

    def test_outputs_have_vllm_s_names(self):
        llm = opened(self, "bert-st-mean", task="embed")
        outputs = llm.embed(["a", "b"])
        self.assertIsInstance(outputs[0], poolrank.EmbeddingRequestOutput)
        self.assertTrue(outputs[0].finished)
        self.assertNotEqual(outputs[0].request_id, outputs[1].request_id)
        self.assertEqual(outputs[0].outputs.hidden_size, 32)
        self.assertEqual(len(outputs[0].prompt_token_ids), outputs[0].n_prompt_tokens)
        self.assertTrue(outputs[0].outputs.embedding.flags.writeable)
        self.assertIsInstance(llm.score("a", "b")[0].outputs.score, float)
        self.assertIsInstance(llm.encode("a")[0], poolrank.PoolingRequestOutput)

    def test_score_pairs_one_with_one_one_with_many_and_side_by_side(self):
        llm = opened(self, "xlmr-classify-1", task="score")
        one = [llm.score("q", d)[0].outputs.score for d in TEXTS]
        self.assertEqual([o.outputs.score for o in llm.score("q", TEXTS)], one)
        self.assertEqual([o.outputs.score for o in llm.score(["q"] * 4, TEXTS)], one)
        self.assertEqual([o.outputs.score for o in llm.score({"prompt": "q"}, TEXTS)], one)
        with self.assertRaisesRegex(ValueError, "1:1, 1:N or N:N"):
            llm.score(["q", "r"], TEXTS)
        with self.assertRaisesRegex(ValueError, "At least one text element"):
            llm.score("q", [])

    def test_parameters_apply_to_all_or_to_each(self):
        llm = opened(self, "bert-st-mean", task="embed")
        cut = llm.embed(["a", "b"], pooling_params=PoolingParams(dimensions=8))
        self.assertEqual([o.outputs.hidden_size for o in cut], [8, 8])
        each = llm.embed(["a", "b"], pooling_params=[PoolingParams(dimensions=8), PoolingParams(
            normalize=False, priority=-1, timeout=60)])
        self.assertEqual([o.outputs.hidden_size for o in each], [8, 32])
        rows = command("embed", "bert-st-mean", "b", options=["--pooler-config",
                                                              '{"normalize": false}'])
        np.testing.assert_array_equal(each[1].outputs.embedding, np.float32(rows[0]["embedding"]))
        left = PoolingParams(truncate_prompt_tokens=5, truncation_side="left")
        right = PoolingParams(truncate_prompt_tokens=5, add_special_tokens=False)
        ids = llm.tokenize(TEXTS[0])[0]
        self.assertEqual(llm.tokenize(TEXTS[0], pooling_params=left)[0],
                         [ids[0], *ids[-4:-1], ids[-1]])
        self.assertEqual(llm.tokenize(TEXTS[0], pooling_params=right)[0], ids[1:6])
        with self.assertRaisesRegex(ValueError, "lengths of prompts"):
            llm.embed(["a", "b"], pooling_params=[PoolingParams()])
        for wrong in (PoolingParams(dimensions=0), PoolingParams(truncation_side="up"),
                      PoolingParams(truncate_prompt_tokens=0), PoolingParams(timeout=-1.0)):
            with self.assertRaises(ValueError):
                llm.embed("a", pooling_params=wrong)

    def test_raw_values_are_to_be_had(self):
        llm = opened(self, "bert-classify-3", task="classify")
        [raw] = llm.classify("a text", pooling_params=PoolingParams(use_activation=False))
        [probs] = llm.classify("a text")
        exponentials = np.exp(raw.outputs.probs - raw.outputs.probs.max())
        np.testing.assert_allclose(exponentials / exponentials.sum(), probs.outputs.probs,
                                   rtol=1e-5)

    def test_options_are_engine_arguments(self):
        llm = opened(self, "bert-st-mean", task="embed", dtype="bfloat16", max_model_len=16,
                     trust_remote_code=True, enforce_eager=None, tokenizer=None,
                     override_pooler_config={"pooling_type": "CLS", "normalize": False},
                     hf_overrides={"layer_norm_eps": 1e-6})
        pooler = llm.description["pooler"]
        self.assertEqual(pooler["pooling_type"]["value"], "CLS")
        self.assertEqual(pooler["normalize"]["value"], False)
        self.assertEqual(llm.description["limits"]["max_model_len"]["value"], 16)
        self.assertEqual(llm.description["dtype"]["weights"], "bfloat16")
        self.assertEqual(llm.task, "embed")
        for option, says in (({"max_model_lenght": 3}, "did you mean max-model-len"),
                             ({"dtype": "float16"}, "float16"), ({"enable_lora": True}, "adapters"),
                             ({"hf_overrides": len}, "function"),
                             ({"task": "generate"}, "generate")):
            with self.assertRaisesRegex(ValueError, says):
                LLM(model("bert-st-mean"), **option)

    def test_outputs_can_be_pickled(self):
        outputs = opened(self, "bert-st-mean").embed(["a", "b"])
        again = pickle.loads(pickle.dumps(outputs))
        self.assertEqual([o.outputs for o in again], [o.outputs for o in outputs])
        self.assertEqual(again[1].prompt_token_ids, outputs[1].prompt_token_ids)


class Errors(unittest.TestCase):
    def test_one_bad_prompt_loses_nothing(self):
        llm = opened(self, "bert-st-mean", task="embed")
        expected = llm.embed(["a", "b"])
        prompts = ["a", "x " * 600, "b", {"text": "c"}, [10**6], "\ud800"]
        with self.assertRaisesRegex(ValueError, r"^prompt 1 of 6: .*limit.*\(3 others") as raised:
            llm.embed(prompts)
        self.assertEqual((raised.exception.index, raised.exception.code), (1, "too_long"))
        outcomes = llm.embed(prompts, on_error="per_item")
        for outcome in (raised.exception.results, outcomes):
            self.assertEqual([isinstance(o, poolrank.Error) for o in outcome],
                             [False, True, False, True, True, True])
            self.assertEqual([outcome[0].outputs, outcome[2].outputs],
                             [o.outputs for o in expected])
        self.assertIn("vocabulary", outcomes[4].message)
        again = pickle.loads(pickle.dumps(raised.exception))
        self.assertEqual((type(again), again.index, str(again)),
                         (poolrank.InputError, 1, str(raised.exception)))

    def test_what_cannot_be_served_says_so(self):
        llm = opened(self, "bert-st-mean", task="embed")
        for call, says in ((lambda: llm.classify("a"), "classify"),
                           (lambda: llm.reward("a"), "no reward head"),
                           (lambda: llm.encode("a", pooling_task="generate"), "pooling_task"),
                           (lambda: llm.embed(5), "found int"),
                           (lambda: llm.embed(b"a"), "found bytes"),
                           (lambda: llm.embed("a", on_error="ignore"), "on_error"),
                           (lambda: llm.embed("a", lora_request=1), "adapters")):
            with self.assertRaisesRegex(ValueError, says):
                call()
        rows = opened(self, "bert-st-mean", override_pooler_config='{"pooling_type": "ALL"}')
        self.assertEqual(rows.encode("a")[0].outputs.data.shape[1], 32)
        with self.assertRaisesRegex(ValueError, "encode"):
            rows.embed("a")

    def test_a_model_that_is_not_there_is_named(self):
        with self.assertRaisesRegex(poolrank.Error, "no/such/model/at/all"):
            LLM("no/such/model/at/all")

    def test_another_version_of_the_library_is_refused(self):
        source = 'const char *pr_version(void) { return "0.0.9"; }'
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "libother.so")
            subprocess.run([os.environ.get("POOLRANK_CC", "cc"), "-shared", "-fPIC", "-x", "c", "-",
                            "-o", path], input=source.encode(), check=True)
            with self.environment(POOLRANK_LIBRARY=path), \
                    self.assertRaisesRegex(RuntimeError, "0.0.9.*expected " + poolrank.__version__):
                LLM(model("bert-st-mean"))
            with self.environment(POOLRANK_LIBRARY=path + "x"), \
                    self.assertRaisesRegex(RuntimeError, "libother.sox"):
                LLM(model("bert-st-mean"))

    def test_the_library_beside_the_program_in_path_is_found(self):
        folder = os.path.dirname(package.PROGRAM)
        with self.environment(POOLRANK_LIBRARY=None, PATH=folder + ":" + os.environ["PATH"]):
            self.assertEqual(os.path.dirname(os.path.realpath(poolrank._library.library_find())),
                             os.path.realpath(folder))

    def environment(self, **values):
        return _Environment(values)


class _Environment:
    def __init__(self, values):
        self.values = values

    def __enter__(self):
        self.before = {name: os.environ.get(name) for name in self.values}
        self.set(self.values)

    def __exit__(self, *_):
        self.set(self.before)

    @staticmethod
    def set(values):
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class Running(unittest.TestCase):
    def test_many_threads_use_one_model(self):
        llm = opened(self, "bert-st-mean", task="embed", max_queued_requests=64)
        expected = [o.outputs for o in llm.embed(TEXTS)]
        wrong = []

        def ask():
            for _ in range(20):
                if [o.outputs for o in llm.embed(TEXTS)] != expected:
                    wrong.append(1)
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_a_list_longer_than_any_queue_comes_back_in_order(self):
        llm = opened(self, "bert-st-mean", task="embed", max_queued_requests=10)
        seen = []

        class Bar:
            n = 0

            def __init__(self, **named):
                seen.append(named["total"])

            def update(self, n):
                self.n += n
                seen.append(self.n)

            def close(self):
                seen.append("closed")
        texts = ["text %d" % (i % 7) for i in range(20000)]
        outputs = llm.embed(texts, use_tqdm=Bar)
        seven = [o.outputs for o in outputs[:7]]
        self.assertTrue(all(o.outputs == seven[i % 7] for i, o in enumerate(outputs)))
        self.assertEqual((seen[0], seen[-2:]), (20000, [20000, "closed"]))

    def test_closing_is_final_and_tokens_are_gone(self):
        with LLM(model("bert-st-mean")) as llm:
            outputs = llm.embed(["a", "b"])
            ids = outputs[0].prompt_token_ids
        llm.close()
        self.assertEqual(outputs[0].prompt_token_ids, ids)
        self.assertIsNone(outputs[1].prompt_token_ids)
        with self.assertRaisesRegex(RuntimeError, "closed"):
            llm.embed("a")

    def test_a_dropped_model_frees_its_threads(self):
        def n_threads():
            return len(os.listdir("/proc/self/task"))
        before = n_threads()
        llm = LLM(model("bert-st-mean"))
        outputs = llm.embed(["a"])
        self.assertGreater(n_threads(), before)
        del llm
        gc.collect()
        package.wait_for("the end of its threads", lambda: n_threads() <= before)
        self.assertIsNone(outputs[0].prompt_token_ids)

    def test_a_forked_child_is_told(self):
        llm = opened(self, "bert-st-mean")
        r, w = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                llm.embed("a")
            except RuntimeError as error:
                os.write(w, str(error).encode())
            llm.close()  # the parent's model is not the child's to end
            os._exit(0)
        os.close(w)
        with os.fdopen(r, "rb") as f:
            self.assertIn(b"forked", f.read())
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(len(llm.embed("a")), 1)

    def test_control_c_ends_a_long_call_at_once(self):
        # max_num_batched_tokens: small batches, so that the call takes long.
        script = textwrap.dedent("""
            import sys, time, poolrank
            llm = poolrank.LLM(sys.argv[1], max_num_batched_tokens=64, max_num_seqs=1, threads=1)
            llm.embed("a")
            print("ready", flush=True)
            try:
                llm.embed(["word " * 50] * 300000)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                print(len(llm.embed(["b"])), flush=True)
        """)
        process = subprocess.Popen([sys.executable, "-B", "-c", script, model("bert-st-mean")],
                                   stdout=subprocess.PIPE, text=True)
        self.assertEqual(process.stdout.readline(), "ready\n")
        time.sleep(0.3)  # the list has been given, at the latest soon; Ctrl-C works at any time
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(out.splitlines()[0], "interrupted")

    @unittest.skipUnless(shutil.which("mpirun"), "mpirun is missing")
    def test_ranks_give_the_same_numbers(self):
        env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        with _Environment(env):
            llm = opened(self, "bert-st-mean", task="embed", tensor_parallel_size=2,
                         mpirun_args="--oversubscribe")
        self.assertEqual(len(llm.description["ranks"]), 2)
        expected = command_floats("embed", "embedding", "bert-st-mean", *TEXTS)
        for output, theirs in zip(llm.embed(TEXTS), expected):
            self.assertLess(error_of(output.outputs.embedding, theirs), ERROR_MAX)


if __name__ == "__main__":
    package.main()
