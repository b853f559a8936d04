"""The contracts of the commands: where the model and the texts come from, what is printed, how
mistakes are told, and the exit status."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

from program import PROGRAM, TestCase, model, run

EMBED = model("bert-st-mean")
CLASSIFY = model("bert-classify-3")
CROSS = model("bert-classify-1")
REWARD = model("qwen2-reward")
STEPS = model("qwen2-process-reward")


class Program(TestCase):
    def test_without_arguments_help_goes_to_standard_error(self):
        result = run()
        self.assertEqual((result.status, result.out), (2, b""))
        self.assertIn("usage: poolrank", result.err)

    def test_help_and_version(self):
        for arguments in (["--help"], ["-h"], ["help"], ["help", "embed"], ["embed", "--help"],
                          ["embed", "-h"], ["score", "--model", "x", "--help"]):
            result = run(*arguments)
            self.assertEqual((result.status, result.err), (0, ""))
            self.assertIn(b"usage: poolrank", result.out)
        for arguments in (["--version"], ["embed", "--version"], ["version"]):
            self.assertEqual(run(*arguments).out, b"poolrank 0.1.0\n")

    def test_an_unknown_command_is_told_the_known_ones(self):
        for name in ("server", "planner", "bench", "workers", "embedd", ""):
            self.assert_fails(run(name), 2, "no such command", "embed, classify, score")

    def test_a_mistyped_word_is_told_the_nearest_with_its_dashes(self):
        self.assert_fails(run("embedd"), 2, "did you mean embed?")
        self.assertNotIn("did you mean", run("xyzzy").err)
        self.assert_fails(run("embed", "--max-modle-len", "3", "x"), 2,
                          "did you mean --max-model-len?")

    def test_serve_takes_one_model_and_no_text(self):
        self.assert_fails(run("serve", model("bert-st-mean"), "other"), 2, "other", "one model")

    def test_help_to_a_full_disk_fails(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)


class Completion(TestCase):
    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = ('eval "$("$1" generate completion-bash)"; shift; COMP_WORDS=(poolrank "$@"); '
                  'COMP_CWORD=$#; _poolrank; printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "--norc", "-c", script, "bash", PROGRAM, *words],
                              capture_output=True, check=True, cwd=self.folder.name)
        self.assertEqual(done.stderr, b"")
        return done.stdout.decode().splitlines()

    def test_a_shell_completes_commands_options_choices_and_files(self):
        if not shutil.which("bash"):
            self.skipTest("no bash")
        self.path("a file", "")
        self.assertEqual(self.complete("e"), ["embed", "encode"])
        self.assertEqual(self.complete("help", "e"), ["embed", "encode"])
        self.assertIn("--max-model-len", self.complete("embed", "--max"))
        self.assertEqual(self.complete("reward", "--reduce", "m"), ["mean", "min"])
        self.assertEqual(self.complete("embed", "--red"), [""])
        self.assertEqual(self.complete("embed", "a"), ["a file"])


class Ranks(TestCase):
    def test_inspect_says_what_each_rank_would_hold(self):
        result = run("inspect", model("qwen2-reward"), "-tp", "2", "-pp", "2", "-dp", "2", "--json")
        self.assertEqual(result.status, 0, result.err)
        said = json.loads(result.out)
        self.assertEqual(said["worker_launch"], "mpirun")
        places = [(r["group"], r["rank"], r["tensor_rank"], r["stage"]) for r in said["ranks"]]
        self.assertEqual(places, [(g, r, r % 2, r // 2) for g in range(2) for r in range(4)])
        heads = [(r["layers"], r["heads"]) for r in said["ranks"][:4]]
        self.assertEqual(heads, [("0-0", "0-1"), ("0-0", "2-3"), ("1-1", "0-1"), ("1-1", "2-3")])
        alone = json.loads(run("inspect", model("qwen2-reward"), "--json").out)
        self.assertEqual(alone["worker_launch"], "inproc")
        together = sum(r["weights_bytes"] for r in said["ranks"][:4])
        self.assertGreaterEqual(together, alone["memory"]["weights_bytes"])
        self.assertLess(said["memory"]["weights_bytes"], alone["memory"]["weights_bytes"])


class Mistakes(TestCase):
    def test_a_mistake_is_one_line_and_status_2(self):
        cases = [
            ([], "no model"),
            ([EMBED], "no texts"),
            ([EMBED, "--input", "-", "a"], "expected one of the two"),
            (["--nothing", EMBED, "a"], "--nothing: no such option"),
            ([EMBED, "a", "--max-model-len", "x"], "--max-model-len: found x"),
            ([EMBED, "a", "--dtype", "half", "--device", "cpu"],
             "dtype: float16 is refused: the model runs on the CPU (--device cpu)"),
            ([EMBED, "a", "-tp", "5"], "tensor_parallel_size: found 5, expected one of"),
            ([EMBED, "a", "-tp", "2", "--worker-launch", "inproc"], "expected another one for 2"),
            ([EMBED, "a", "--hostfile", "x"], "hostfile: it has no meaning with worker-launch"),
            ([EMBED, "a", "--task", "score"], "--task: found score"),
            ([EMBED, "a", "--override-pooler-config", "{"], "--override-pooler-config"),
            ([EMBED, "a", "--override-pooler-config", '{"pooling":1}'], "pooling"),
            ([EMBED, "a", "--dimensions", "100000"], "dimensions"),
            ([EMBED, "--input", "/nonexistent/file"], "/nonexistent/file"),
            ([EMBED, "--input", "/"], "folder"),
            ([EMBED, "a", "--output", "/nonexistent/out"], "/nonexistent/out"),
            ([EMBED, "a", "--config", "/nonexistent/c.json"], "/nonexistent/c.json"),
            ([EMBED, "a", "--truncate-prompt-tokens", "0"], "truncate-prompt-tokens: found 0"),
            ([EMBED, "a", "--max-model-len", "100000"], "more than the model's 160 positions"),
            (["/nonexistent/model", "a"], "/nonexistent/model"),
            (["no/such-model", "a"], "hf download no/such-model"),
            (["--model", EMBED, "--tokenizer", "/nonexistent", "a"], "/nonexistent"),
        ]
        for arguments, says in cases:
            with self.subTest(arguments[1:]):
                self.assert_fails(run("embed", *arguments), 2, "poolrank: error: embed: ", says)

    def test_a_bad_text_argument_leaves_nothing_done(self):
        out = self.path("out")
        long_text = "word " * 5000
        for text in (b"\xff\xfe", long_text):
            result = run("embed", EMBED, "good", text, "--output", out)
            self.assert_fails(result, 2, "text 2")
            self.assertFalse(os.path.exists(out))
        self.assert_fails(run("tokenize", EMBED, "good", b"\xff"), 2, "text 2")

    def test_a_reward_is_one_number_of_a_head(self):
        result = run("reward", EMBED, "a")
        self.assert_fails(result, 2, EMBED, "BertModel has no reward head")
        self.assertNotIn("task is reward", result.err)
        self.assert_fails(run("reward", CLASSIFY, "a"), 2, CLASSIFY, "head of 3 labels")

    def test_a_task_that_the_head_cannot_serve_is_refused(self):
        self.assert_fails(run("classify", EMBED, "a"), 2, "classify")
        self.assert_fails(run("reward", EMBED, "a"), 2, "no reward head")
        self.assert_fails(run("score", CLASSIFY, "a", "b"), 2, "score")
        self.assert_fails(run("score", CROSS, "query only"), 2, "at least one document")
        self.assert_fails(run("inspect", EMBED, "a text"), 2, "only a model")


class Sources(TestCase):
    def test_the_model_is_an_option_or_the_first_argument_or_of_the_environment(self):
        expected = run("embed", "--model", EMBED, "a", "b").out
        self.assertEqual(len(expected.splitlines()), 2)
        config = self.path("c.json", json.dumps({"model": EMBED}))
        self.assertEqual(run("embed", EMBED, "a", "b").out, expected)
        self.assertEqual(run("embed", "a", "--model", EMBED, "b").out, expected)
        self.assertEqual(run("embed", "a", "b", env={"POOLRANK_MODEL": EMBED}).out, expected)
        self.assertEqual(run("embed", "a", "b", "--config", config).out, expected)

    def test_option_before_environment_before_file_before_default(self):
        config = self.path("c.json", json.dumps({"dimensions": 2}))
        env = {"POOLRANK_DIMENSIONS": "3"}

        def width(*arguments, env=None):
            return len(run("embed", EMBED, "a", *arguments, env=env).rows()[0]["embedding"])
        self.assertEqual(width("--config", config), 2)
        self.assertEqual(width("--config", config, env=env), 3)
        self.assertEqual(width("--config", config, "--dimensions", "4", env=env), 4)
        self.assertGreater(width(), 4)

    def test_an_unknown_key_of_a_file_is_an_error(self):
        for key in ("max_model_length", "config", "help"):
            config = self.path("c.json", json.dumps({key: "x"}))
            self.assert_fails(run("embed", EMBED, "a", "--config", config), 2, key, config)

    def test_the_command_says_the_task_before_environment_and_file(self):
        expected = run("embed", EMBED, "a").out
        self.assertEqual(run("embed", EMBED, "a", env={"POOLRANK_TASK": "classify"}).out, expected)
        config = self.path("c.json", '{"task": "classify"}')
        self.assertEqual(run("embed", EMBED, "a", "--config", config).out, expected)
        # A command that names none follows them.
        self.assert_fails(run("encode", EMBED, "a", env={"POOLRANK_TASK": "classify"}), 2,
                          "task classify")

    def test_a_negated_switch_takes_a_value_too(self):
        bare = run("tokenize", EMBED, "a", "--no-add-special-tokens").out
        full = run("tokenize", EMBED, "a").out
        for value, expected in (("true", bare), ("false", full)):
            config = self.path("c.json", json.dumps({"no-add-special-tokens": value == "true"}))
            self.assertEqual(run("tokenize", EMBED, "a", "--config", config).out, expected)
            self.assertEqual(run("tokenize", EMBED, "a", "--no-add-special-tokens=" + value).out,
                             expected)

    def test_the_port_that_a_cluster_injects_is_ignored_with_a_warning(self):
        result = run("embed", EMBED, "a", env={"POOLRANK_PORT": "tcp://10.0.0.1:80"})
        self.assertEqual(result.status, 0)
        self.assertIn("warning", result.err)
        self.assertIn("POOLRANK_PORT", result.err)

    def test_a_warning_is_one_line_and_quiet_drops_it(self):
        result = run("embed", EMBED, "a", "--swap-space", "4")
        self.assertEqual(result.status, 0)
        self.assertEqual(len(result.err.splitlines()), 1)
        result = run("embed", EMBED, "a", "--swap-space", "4", "--quiet")
        self.assertEqual((result.status, result.err), (0, ""))


class Answers(TestCase):
    def test_embed(self):
        rows = run("embed", EMBED, "one text", "another").rows()
        self.assertEqual([list(r) for r in rows], [["index", "prompt_tokens", "embedding"]] * 2)
        self.assertEqual([r["index"] for r in rows], [0, 1])
        for r in rows:
            self.assertAlmostEqual(sum(x * x for x in r["embedding"]), 1.0, places=5)

    def test_the_default_prompt_stands_in_front_of_embedded_texts(self):
        """As sentence-transformers 6.2.0 does: prompts[default_prompt_name] + text."""
        folder = self.path("model")
        shutil.copytree(EMBED, folder)
        config = os.path.join(folder, "config_sentence_transformers.json")
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"prompts": {"query": "query: ", "other": "x"},
                       "default_prompt_name": "query"}, f)
        texts = ["what is it?", "  spaces", ""]
        with_prompt = run("embed", folder, *texts).rows()
        written_out = run("embed", EMBED, *["query: " + t for t in texts]).rows()
        self.assertEqual(with_prompt, written_out)
        self.assertEqual(run("score", folder, "a", "b").rows(),
                         run("score", EMBED, "query: a", "query: b").rows())
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"prompts": {"query": "query: "}, "default_prompt_name": "other"}, f)
        self.assert_fails(run("embed", folder, "a"), 2, folder, "default_prompt_name")

    def test_classify(self):
        row = run("classify", CLASSIFY, "a text").rows()[0]
        self.assertEqual(len(row["probs"]), 3)
        self.assertAlmostEqual(sum(row["probs"]), 1.0, places=5)

    def test_score_pairs_a_query_with_each_document(self):
        for name in (CROSS, EMBED):
            rows = run("score", name, "query", "one", "two", "query").rows()
            self.assertEqual([r["index"] for r in rows], [0, 1, 2])
            lines = "".join(json.dumps({"query": "query", "document": d, "id": d}) + "\n"
                            for d in ("one", "two", "query"))
            by_line = run("score", name, "--input", "-", stdin=lines).rows()
            self.assertEqual([r["score"] for r in by_line], [r["score"] for r in rows])
            self.assertEqual([r["id"] for r in by_line], ["one", "two", "query"])
        self.assertAlmostEqual(rows[2]["score"], 1.0, places=5)  # cosine of equal texts

    def test_encode_gives_the_raw_values_of_a_classifier_as_reward(self):
        row = run("encode", CLASSIFY, "a text", "--task", "reward").rows()[0]
        self.assertEqual(row["shape"], [3])
        line = json.dumps({"text": "a text", "softmax": False})
        raw = run("classify", CLASSIFY, "--input", "-", stdin=line).rows()[0]
        self.assertEqual(row["data"], raw["probs"])

    def test_an_embedding_is_of_one_text(self):
        line = json.dumps({"text": "a", "text_pair": "b"})
        for command in ("embed", "encode"):
            result = run(command, EMBED, "--input", "-", stdin=line)
            self.assertEqual(result.status, 3)
            self.assertIn("found a pair", result.rows()[0]["error"]["message"])

    def test_reward_is_one_number(self):
        row = run("reward", REWARD, "an answer").rows()[0]
        self.assertEqual(list(row), ["index", "prompt_tokens", "reward"])
        rows = run("encode", REWARD, "an answer").rows()[0]
        self.assertEqual(rows["shape"], [row["prompt_tokens"], 1])
        self.assertEqual(rows["data"][-1], [row["reward"]])
        both = run("reward", REWARD, "an answer", "--return-tokens").rows()[0]
        self.assertEqual(both["data"], rows["data"])
        self.assertEqual(both["reward"], row["reward"])

    def test_the_steps_of_a_process_reward_are_reduced(self):
        # Any token can be the step tag; the text has it three times.
        ids = run("tokenize", STEPS, "a b c").rows()[0]["tokens"]
        line = json.dumps({"tokens": ids + ids[-1:] * 2, "step_tag_id": ids[-1]})

        def reward(*arguments):
            return run("reward", STEPS, "--input", "-", *arguments, stdin=line).rows()[0]
        steps = reward()["step_rewards"]
        self.assertEqual(len(steps), 3)
        self.assertEqual(reward()["reward"], steps[-1])
        self.assertEqual(reward("--reduce", "min")["reward"], min(steps))
        self.assertAlmostEqual(reward("--reduce", "mean")["reward"], sum(steps) / 3, places=6)
        self.assertAlmostEqual(reward("--reduce", "product")["reward"],
                               steps[0] * steps[1] * steps[2], places=6)
        self.assert_fails(run("reward", STEPS, "no step here"), 2, "has no step")

    def test_tokenize_needs_no_config(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(os.path.join(EMBED, name), folder)
            alone = run("tokenize", folder, "a text", "another")
            self.assertEqual(alone.status, 0, alone.err)
            self.assertEqual(alone.rows(), run("tokenize", EMBED, "a text", "another").rows())
            cut = run("tokenize", folder, "a " * 300, "--truncate-prompt-tokens", "-1")
            self.assertEqual(len(cut.rows()[0]["tokens"]), 96)  # model_max_length
            os.remove(os.path.join(folder, "tokenizer.json"))
            missing = run("tokenize", folder, "a text")
            self.assertNotEqual(missing.status, 0)
            self.assertIn("no tokenizer.json", missing.err)

    def test_inspect_says_what_the_tokenizer_is_read_as(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = os.path.join(folder, "model")
            shutil.copytree(EMBED, folder)
            path = os.path.join(folder, "tokenizer_config.json")
            with open(path, encoding="utf-8") as f:
                config = json.load(f)
            config.update(tokenizer_class="BertTokenizer", do_lower_case=False)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(config, f)
            described = json.loads(run("inspect", folder, "--json").out)["tokenizer"]
            self.assertEqual(described["class"], "BertTokenizer")
            self.assertIn("do_lower_case", described["applied"])
            self.assertTrue(described["token_types"])
            config.update(tokenizer_class="T5Tokenizer")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(config, f)
            refused = run("inspect", folder)
            self.assertNotEqual(refused.status, 0)
            self.assertIn('tokenizer_class: found "T5Tokenizer"', refused.err)

    def test_tokenize(self):
        result = run("tokenize", EMBED, "--input", "-", stdin="a text\nanother\n")
        self.assertEqual(result.status, 0)
        self.assertEqual([list(r) for r in result.rows()], [["index", "tokens"]] * 2)
        self.assertNotIn(b" ", result.out)  # {"index":0,"tokens":[…]}
        bare = run("tokenize", EMBED, "a text", "--no-add-special-tokens").rows()[0]["tokens"]
        self.assertEqual(result.rows()[0]["tokens"][1:-1], bare)
        # Length is no matter for a tokenizer, unless truncation is asked for.
        long_text = "a " * 3000
        self.assertGreater(len(run("tokenize", EMBED, long_text).rows()[0]["tokens"]), 2999)
        cut = run("tokenize", EMBED, long_text, "--truncate-prompt-tokens", "8")
        self.assertEqual(len(cut.rows()[0]["tokens"]), 8)

    def test_inspect_needs_no_weights_and_names_sources(self):
        table = run("inspect", EMBED)
        self.assertEqual(table.status, 0, table.err)
        self.assertIn(b"pooling_type", table.out)
        self.assertIn(b"(Sentence Transformers files)", table.out)
        described = json.loads(run("inspect", EMBED, "--json").out)
        self.assertEqual(described["pooler"]["pooling_type"]["value"], "MEAN")
        memory = described["memory"]
        self.assertGreaterEqual(memory["weights_bytes"], 4 * described["parameters"])
        self.assertGreater(memory["activations_bytes"], 0)
        self.assertEqual(memory["total_bytes"], memory["weights_bytes"] +
                         memory["activations_bytes"] + memory["workspace_bytes"])
        self.assertIn(b"total_bytes", table.out)
        half = json.loads(run("inspect", EMBED, "--json", "--dtype", "bfloat16").out)["memory"]
        self.assertLess(half["weights_bytes"], 0.6 * memory["weights_bytes"])

    def test_a_dash_alone_is_standard_input(self):
        self.assertEqual(run("tokenize", EMBED, "-", stdin="x\n").out,
                         run("tokenize", EMBED, "--input", "-", stdin="x\n").out)
        self.assertEqual(run("tokenize", EMBED, "--", "--quiet").status, 0)



class PlainEncoder(TestCase):
    def test_an_encoder_without_pooling_files_says_once_how_it_is_pooled(self):
        result = run("embed", model("bert-plain"), "a", "b")
        self.assertEqual(result.err.count("--override-pooler-config"), 1)
        said = run("embed", model("bert-plain"), "a", "--override-pooler-config",
                   '{"pooling_type":"MEAN","normalize":false}')
        self.assertEqual(said.err, "")
        self.assertEqual(run("embed", EMBED, "a").err, "")


class StreamedWeights(TestCase):
    """Texts as arguments stream the weights; --input and --stream-weights off keep them."""

    def test_the_answer_is_the_same_to_the_byte(self):
        for command, name in (("embed", "bert-st-dense"), ("embed", "qwen3-st-last"),
                              ("classify", "bert-classify-3"), ("classify", "mistral-classify-2"),
                              ("reward", "qwen2-reward"), ("encode", "xlmr-st-cls"),
                              ("encode", "llama-llama3"), ("encode", "roberta-plain")):
            for dtype in ("float32", "bfloat16"):
                with self.subTest(model=name, dtype=dtype):
                    texts = ["a red house", "b", "a red house and a green tree"]
                    options = [command, model(name), "--dtype", dtype,
                               "--max-num-batched-tokens", "8"]
                    streamed = run(*options, *texts)
                    self.assertEqual(streamed.status, 0, streamed.err)
                    kept = run(*options, "--stream-weights", "off", *texts)
                    self.assertEqual(streamed.out, kept.out)
                    lines = run(*options, "--input", "-", stdin="\n".join(texts))
                    self.assertEqual(streamed.out, lines.out)
                    forced = run(*options, "--input", "-", "--stream-weights", "on",
                                 stdin="\n".join(texts))
                    self.assertEqual(streamed.out, forced.out)


if __name__ == "__main__":
    unittest.main(verbosity=1)
