"""Model folders that are broken, that lie or that lead astray: each is refused with status 2 and
one line that names the folder or the file, in bounded time; what is only unusual is served."""
import glob
import hashlib
import json
import os
import shutil
import socket
import struct
import unittest

from program import TestCase, model, run

EMBED = "bert-st-mean"
SHARDS = "bert-classify-3"
QUERY = "encoder.layer.0.attention.self.query.weight"
JSON_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "modules.json",
              "1_Pooling/config.json", "sentence_bert_config.json",
              "config_sentence_transformers.json"]
INDEX = "model.safetensors.index.json"


def cpu_flags():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        return {"avx512" if flag == "avx512f" else flag for line in f
                if line.startswith("flags") for flag in line.split()}


class Models(TestCase):
    def copy(self, name=EMBED):
        folder = self.path("model")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model(name), folder)
        return folder

    def edit(self, path, change):
        """Rewrites a JSON file: change works on the object, or returns another one."""
        with open(path, encoding="utf-8") as f:
            value = json.load(f)
        other = change(value)
        with open(path, "w", encoding="utf-8") as f:
            json.dump(value if other is None else other, f)

    def replace(self, path, data):
        os.unlink(path)
        with open(path, "wb") as f:
            f.write(data)

    def edit_tensors(self, path, change):
        """Rewrites the header of a safetensors file."""
        with open(path, "rb") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            header, data = json.loads(f.read(n)), f.read()
        data = change(header, data) or data
        text = json.dumps(header).encode()
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text + data)

    def assert_refused(self, folder, *says, command="embed", commands=()):
        for name in commands or (command,):
            result = run(name, folder, *([] if name == "inspect" else ["hi"]))
            self.assert_fails(result, 2, folder, *says)


class Files(Models):
    def test_a_broken_json_file_is_named(self):
        broken = [b"", b"[" * 100000, b'{"a":' * 100000 + b"1" + b"}" * 100000, b'{"a": [1, 2',
                  b'{"a": "\xff"}', b"null", b"[1]"]
        for name in JSON_FILES:
            for data in broken:
                with self.subTest(name, data=data[:12]):
                    folder = self.copy()
                    self.replace(os.path.join(folder, name), data)
                    self.assert_refused(folder, name)
        for data in broken:
            folder = self.copy(SHARDS)
            self.replace(os.path.join(folder, INDEX), data)
            self.assert_refused(folder, INDEX, command="classify")

    def test_what_is_no_regular_file_is_never_opened(self):
        def fifo(path):
            os.mkfifo(path)

        def device(path):
            os.symlink("/dev/zero", path)

        def unix_socket(path):
            here = os.getcwd()
            os.chdir(os.path.dirname(path))  # the address is short
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(os.path.basename(path))
            os.chdir(here)

        def loop(path):
            os.symlink(os.path.basename(path), path)
        for name in JSON_FILES + ["model.safetensors"]:
            for kind in (fifo, device, unix_socket, os.mkdir, loop):
                with self.subTest(name, kind=kind.__name__):
                    folder = self.copy()
                    path = os.path.join(folder, name)
                    os.unlink(path)
                    kind(path)
                    self.assert_refused(folder, name, commands=("embed", "inspect"))
        folder = self.copy(SHARDS)
        shard = os.path.join(folder, "model-00002-of-00002.safetensors")
        os.unlink(shard)
        os.mkfifo(shard)
        self.assert_refused(folder, "model-00002", "FIFO", commands=("classify", "inspect"))

    def test_a_file_that_may_not_be_read_is_the_callers_mistake(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        folder = self.copy()
        os.chmod(os.path.join(folder, "config.json"), 0)
        self.assert_refused(folder, "config.json")

    def test_missing_files_are_named_and_optional_ones_are_not_needed(self):
        for name, says in (("config.json", "config.json"), ("tokenizer.json", "save_pretrained"),
                           ("model.safetensors", "found neither model.safetensors"),
                           ("1_Pooling/config.json", "1_Pooling/config.json")):
            folder = self.copy()
            os.unlink(os.path.join(folder, name))
            self.assert_refused(folder, says)
        folder = self.copy(SHARDS)
        os.unlink(os.path.join(folder, "model-00002-of-00002.safetensors"))
        self.assert_refused(folder, "model-00002-of-00002", commands=("classify", "inspect"))
        for name in ("tokenizer_config.json", "sentence_bert_config.json",
                     "config_sentence_transformers.json", "modules.json"):
            folder = self.copy()
            os.unlink(os.path.join(folder, name))
            self.assertEqual(run("embed", folder, "hi").status, 0)

    def test_pickles_and_code_are_never_touched(self):
        folder = self.copy()
        os.rename(os.path.join(folder, "model.safetensors"),
                  os.path.join(folder, "pytorch_model.bin"))
        self.assert_refused(folder, "pytorch_model.bin", "save_file")
        folder = self.copy()
        expected = run("embed", folder, "hi").out
        touched = self.path("touched")
        with open(os.path.join(folder, "modeling_x.py"), "w", encoding="utf-8") as f:
            f.write("open(%r, 'w')\n" % touched)
        self.edit(os.path.join(folder, "config.json"),
                  lambda c: c.update(auto_map={"AutoModel": "modeling_x.Model"}))
        self.assert_refused(folder, "modeling_x.Model", "--ignore-auto-map")
        self.assertEqual(run("embed", folder, "--ignore-auto-map", "hi").out, expected)
        self.assertFalse(os.path.exists(touched))


class Paths(Models):
    def test_paths_that_leave_the_folder_are_refused(self):
        for path in ("../outside.safetensors", "/etc/passwd", "..", "a/../../b"):
            folder = self.copy(SHARDS)
            self.edit(os.path.join(folder, INDEX),
                      lambda c: c["weight_map"].update({"bert.pooler.dense.bias": path}))
            self.assert_refused(folder, "leaves the model folder", commands=("classify", "inspect"))
        for path in ("../1_Pooling", "/etc", "1_Pooling/../../x"):
            folder = self.copy()
            self.edit(os.path.join(folder, "modules.json"), lambda c: c[1].update(path=path))
            self.assert_refused(folder, "modules.json[1]", "leaves the model folder")
        folder = self.copy()
        weights = os.path.join(folder, "model.safetensors")
        shutil.move(weights, self.path("outside"))
        os.symlink("../outside", weights)
        self.assert_refused(folder, "outside the model folder", commands=("embed", "inspect"))

    def hub(self):
        """The fixture as the Hugging Face cache keeps a model: links into blobs/."""
        repo = self.path("hub/models--org--mini")
        snapshot = os.path.join(repo, "snapshots", "abc123")
        for root, _, names in os.walk(model(EMBED)):
            below = os.path.relpath(root, model(EMBED))
            os.makedirs(os.path.join(snapshot, below), exist_ok=True)
            os.makedirs(os.path.join(repo, "blobs"), exist_ok=True)
            for name in names:
                with open(os.path.join(root, name), "rb") as f:
                    blob = os.path.join(repo, "blobs", hashlib.sha1(f.read()).hexdigest())
                shutil.copy(os.path.join(root, name), blob)
                link = os.path.join(snapshot, below, name)
                os.symlink(os.path.relpath(blob, os.path.dirname(link)), link)
        os.makedirs(os.path.join(repo, "refs"))
        with open(os.path.join(repo, "refs", "main"), "w", encoding="utf-8") as f:
            f.write("abc123")
        return repo

    def test_a_hub_name_is_found_in_the_cache(self):
        repo = self.hub()
        expected = run("embed", model(EMBED), "hi").out
        env = {"HF_HUB_CACHE": self.path("hub")}
        self.assertEqual(run("embed", "org/mini", "hi", env=env).out, expected)
        self.assertEqual(run("embed", "org/mini", "hi", "--revision", "abc123", env=env).out,
                         expected)
        self.assertEqual(run("embed", "org/mini", "hi", "--download-dir", self.path("hub")).out,
                         expected)
        self.assert_fails(run("embed", "org/mini", "hi", "--revision", "v2", env=env), 2,
                          "hf download org/mini --revision v2")
        self.assert_fails(run("embed", "org/other", "hi", env=env), 2, "hf download org/other")
        self.assert_fails(run("embed", "org/mini", "hi", "--revision", "../..", env=env), 2,
                          "revision")
        # A link of the snapshot into anything but its own blobs.
        config = os.path.join(repo, "snapshots", "abc123", "config.json")
        os.unlink(config)
        os.symlink("../../refs/main", config)
        self.assert_fails(run("embed", "org/mini", "hi", env=env), 2, "outside the model folder")


class Tensors(Models):
    def test_a_lying_safetensors_file_is_refused(self):
        cases = [
            (lambda h: h[QUERY].update(dtype="F16"), QUERY),
            (lambda h: h[QUERY].update(dtype="F99"), "F99"),
            (lambda h: h[QUERY].update(shape=[2 ** 40, 2 ** 40]), QUERY),
            (lambda h: h[QUERY].update(shape=[-1, 32]), QUERY),
            (lambda h: h[QUERY].update(data_offsets=[0, 2 ** 40]), "leaves the file"),
            (lambda h: h[QUERY].update(data_offsets=[4096, 0]), "data_offsets"),
            (lambda h: h[QUERY].update(data_offsets=[0, 4096]), "overlaps"),
            (lambda h: h.pop(QUERY) and None, "hole"),
        ]
        for change, says in cases:
            with self.subTest(says):
                folder = self.copy()
                self.edit_tensors(os.path.join(folder, "model.safetensors"),
                                  lambda h, d: change(h))
                self.assert_refused(folder, "model.safetensors", says,
                                    commands=("embed", "inspect"))

    def test_a_cut_file_is_refused(self):
        size = os.path.getsize(os.path.join(model(EMBED), "model.safetensors"))
        for n in (0, 4, 100, size - 10):
            folder = self.copy()
            os.truncate(os.path.join(folder, "model.safetensors"), n)
            self.assert_refused(folder, "model.safetensors", commands=("embed", "inspect"))
        for length in (2 ** 63, 2 ** 64 - 1, 10 ** 9, 0):
            folder = self.copy()
            with open(os.path.join(folder, "model.safetensors"), "r+b") as f:
                f.write(struct.pack("<Q", length))
            self.assert_refused(folder, "model.safetensors")

    def test_a_tensor_that_does_not_fit_is_named_with_what_was_expected(self):
        def integers(header, data):
            header[QUERY].update(dtype="I32")

        def narrow(header, data):
            header[QUERY].update(shape=[16, 64])
        for change, says in ((integers, ["dtype I32", "expected F32, F16 or BF16"]),
                             (narrow, ["shape [16, 64]", "expected [32, 32]", "hidden_size"])):
            folder = self.copy()
            self.edit_tensors(os.path.join(folder, "model.safetensors"), change)
            self.assert_refused(folder, QUERY, *says, commands=("embed", "inspect"))
        for field, value, says in (("num_hidden_layers", 3, "not in the checkpoint"),
                                   ("vocab_size", 10, "expected [10, 32] (vocab_size"),
                                   ("intermediate_size", 7, "intermediate_size")):
            folder = self.copy()
            self.edit(os.path.join(folder, "config.json"), lambda c: c.update({field: value}))
            self.assert_refused(folder, "tensor ", says, commands=("embed", "inspect"))

    def test_dense_modules_are_checked_like_the_model(self):
        def weights(folder):
            return os.path.join(folder, "2_Dense", "model.safetensors")

        def transpose(header, data):
            header["linear.weight"]["shape"].reverse()
        cases = [(lambda f: os.unlink(weights(f)), "2_Dense"),
                 (lambda f: os.truncate(weights(f), 50), "2_Dense"),
                 (lambda f: self.edit_tensors(weights(f), transpose), "out_features"),
                 (lambda f: self.edit(os.path.join(f, "2_Dense", "config.json"),
                                      lambda c: c.update(in_features=7)), "in_features")]
        for change, says in cases:
            with self.subTest(says):
                folder = self.copy("bert-st-dense")
                change(folder)
                self.assert_refused(folder, "2_Dense", says, commands=("embed", "inspect"))

    def test_prefixes_of_names_may_be_there_or_not(self):
        folder = self.copy()
        expected = run("embed", folder, "hi").out

        def prefixed(header, data):
            for name in [n for n in header if n != "__metadata__"]:
                header["bert." + name] = header.pop(name)
        self.edit_tensors(os.path.join(folder, "model.safetensors"), prefixed)
        self.assertEqual(run("embed", folder, "hi").out, expected)


class Configs(Models):
    def test_a_field_that_cannot_be_is_named(self):
        cases = {"hidden_size": [0, -1, 33, 2 ** 40, "x", None], "num_hidden_layers": [0, 10 ** 6],
                 "num_attention_heads": [0, 5], "vocab_size": [0, 2 ** 31, 10 ** 9],
                 "max_position_embeddings": [0, 10 ** 9], "layer_norm_eps": [-1, "a"],
                 "hidden_act": ["foo", 5], "architectures": [["Foo"], "BertModel"],
                 "quantization_config": [{"quant_method": "awq"}]}
        for field, values in cases.items():
            for value in values:
                with self.subTest(field, value=value):
                    folder = self.copy()
                    self.edit(os.path.join(folder, "config.json"),
                              lambda c: c.update({field: value}))
                    self.assert_refused(folder, "config.json", field,
                                        commands=("embed", "inspect"))

    def test_an_unknown_architecture_is_told_the_known_ones(self):
        folder = self.copy()
        self.edit(os.path.join(folder, "config.json"),
                  lambda c: c.update(architectures=["GPT2LMHeadModel"]))
        self.assert_refused(folder, "GPT2LMHeadModel", "BertModel", "Qwen2ForRewardModel")


class Unread(Models):
    def rename(self, header, old, new):
        header[new] = header.pop(old)

    def test_a_head_that_nobody_reads_is_refused_by_name(self):
        for extra in ("regression_layer.weight", "gating.weight", "v_head.summary.weight",
                      "encoder.layer.0.attention.self.query.lora_A.weight"):
            folder = self.copy("bert-st-dense")

            def add(header, data):
                header[extra] = {"dtype": "F32", "shape": [1, 2],
                                 "data_offsets": [len(data), len(data) + 8]}
                return data + b"\0" * 8
            path = os.path.join(folder, "model.safetensors")
            with self.subTest(extra):
                self.edit_tensors(path, add)
                self.assert_refused(folder, extra, "--ignore-unread-tensors",
                                    commands=("embed", "inspect"))
                result = run("embed", folder, "--ignore-unread-tensors", "hi")
                self.assertEqual(result.status, 0, result.err)

    def test_harmless_tensors_are_left_out(self):
        for extra in ("embeddings.position_ids", "cls.predictions.bias", "lm_head.weight",
                      "encoder.layer.77.output.dense.bias"):
            folder = self.copy("bert-st-dense")

            def add(header, data):
                header[extra] = {"dtype": "F32", "shape": [1, 2],
                                 "data_offsets": [len(data), len(data) + 8]}
                return data + b"\0" * 8
            with self.subTest(extra):
                self.edit_tensors(os.path.join(folder, "model.safetensors"), add)
                self.assertEqual(run("embed", folder, "hi").status, 0)

    def test_weights_of_another_model_are_told_as_such(self):
        folder = self.copy()
        self.edit_tensors(os.path.join(folder, "model.safetensors"),
                          lambda header, data: self.rename(header, QUERY, "encoder.Wqkv.weight"))
        self.assert_refused(folder, QUERY, "not in the checkpoint", "encoder.Wqkv.weight")


class NotFinite(Models):
    def spoil(self, path, wanted, value):
        """Puts a number into every row of one tensor."""
        def change(header, data):
            begin, end = header[wanted]["data_offsets"]
            row = header[wanted]["shape"][-1] * 4
            data = bytearray(data)
            for at in range(begin, end, row):
                data[at:at + 4] = struct.pack("<f", value)
            return bytes(data)
        self.edit_tensors(path, change)

    def names(self, path):
        with open(path, "rb") as f:
            n = struct.unpack("<Q", f.read(8))[0]
            return {name: t for name, t in json.loads(f.read(n)).items() if name != "__metadata__"}

    def test_no_number_that_comes_from_not_a_number_is_answered(self):
        kinds = ["c", "auto"] + [kind for kind in ("avx2", "avx512") if kind in cpu_flags()]
        for name, command in (("bert-st-mean", "embed"), ("qwen2-reward", "reward"),
                              ("xlmr-classify-1", "score"), ("mistral-classify-2", "classify")):
            source = glob.glob(os.path.join(model(name), "*.safetensors"))[0]
            if len(glob.glob(os.path.join(model(name), "*.safetensors"))) > 1:
                continue
            for i, (tensor, about) in enumerate(sorted(self.names(source).items())):
                if about["dtype"] != "F32" or "lm_head" in tensor or "pooler" in tensor:
                    continue
                folder = self.copy(name)
                path = os.path.join(folder, os.path.basename(source))
                self.spoil(path, tensor, float("nan"))
                texts = ["a query", "a document"] if command == "score" else ["some words"]
                kind = kinds[i % len(kinds)]
                with self.subTest(name, tensor=tensor, isa=kind):
                    lines = (json.dumps({"query": texts[0], "document": texts[1]})
                             if command == "score" else texts[0]) + "\n"
                    result = run(command, folder, "--cpu-isa", kind, "--input", "-", stdin=lines)
                    self.assertEqual(result.status, 3, result.out)
                    self.assertIn("not finite", result.rows()[0]["error"]["message"])

    def test_inspect_names_the_first_layer_whose_weights_are_not_finite(self):
        folder = self.copy()
        path = os.path.join(folder, "model.safetensors")
        result = run("inspect", folder, "--check-finite", "--json")
        self.assertEqual(result.status, 0, result.err)
        self.assertIsNone(json.loads(result.out)["weights_finite"]["first"])
        self.spoil(path, "encoder.layer.1.output.dense.weight", float("inf"))
        self.spoil(path, QUERY, float("nan"))
        result = run("inspect", folder, "--check-finite", "--json")
        self.assertEqual(result.status, 1)
        found = json.loads(result.out)["weights_finite"]
        self.assertEqual(found["not_finite"], 2)
        self.assertEqual(found["first"]["name"], QUERY)
        self.assertEqual(found["first"]["element"], 0)
        self.assertIn(QUERY, result.err)


class Tokenizers(Models):
    def test_the_side_of_truncation_is_left_or_right(self):
        for side, kept in (("left", "c"), ("right", "a")):
            folder = self.copy()
            self.edit(os.path.join(folder, "tokenizer_config.json"),
                      lambda c: c.update(truncation_side=side))
            cut = run("tokenize", folder, "a b c", "--truncate-prompt-tokens", "3").rows()
            self.assertEqual(cut, run("tokenize", folder, kept).rows())
        folder = self.copy()
        self.edit(os.path.join(folder, "tokenizer_config.json"),
                  lambda c: c.update(truncation_side="LEFT"))
        self.assert_refused(folder, "tokenizer_config.json", "truncation_side", "LEFT")

    def test_a_length_without_limit_is_the_models_limit(self):
        """transformers writes int(1e30) where a tokenizer has no limit."""
        for length in (int(1e30), 10 ** 18, 1e30, None):
            folder = self.copy()
            self.edit(os.path.join(folder, "tokenizer_config.json"),
                      lambda c: c.update(model_max_length=length))
            described = json.loads(run("inspect", folder, "--json").out)
            self.assertEqual(described["limits"]["max_model_len"]["value"], 160)

    def test_an_id_outside_the_vocabulary_is_an_error_of_its_text(self):
        folder = self.copy()

        def add(tokenizer):
            tokenizer["added_tokens"].append(
                {"id": 900, "content": "<outside>", "single_word": False, "lstrip": False,
                 "rstrip": False, "normalized": False, "special": True})
        self.edit(os.path.join(folder, "tokenizer.json"), add)
        result = run("embed", folder, "--input", "-", stdin="a\nb <outside> c\nd\n")
        self.assertEqual(result.status, 3)
        self.assertIn("vocab_size is 900", result.err)
        self.assertEqual(["error" in row for row in result.rows()], [False, True, False])
        self.assertIn("id 900", result.rows()[1]["error"]["message"])

    def test_a_type_id_outside_the_models_table_is_refused_when_it_is_loaded(self):
        folder = self.copy("bert-classify-1")

        def one_type(header, data):  # the table keeps its first row
            out = b""
            for name, tensor in header.items():
                if name == "__metadata__":
                    continue
                begin, end = tensor["data_offsets"]
                if name.endswith("token_type_embeddings.weight"):
                    end = begin + (end - begin) // tensor["shape"][0]
                    tensor["shape"][0] = 1
                tensor["data_offsets"] = [len(out), len(out) + end - begin]
                out += data[begin:end]
            return out
        for shard in glob.glob(os.path.join(folder, "*.safetensors")):
            self.edit_tensors(shard, one_type)
        self.edit(os.path.join(folder, "config.json"),
                  lambda config: config.update(type_vocab_size=1))
        result = run("score", folder, "a query", "a document")
        self.assert_fails(result, 2, folder, "type id 1", "type_vocab_size")

    def test_a_pattern_that_backtracks_costs_its_text_alone(self):
        folder = self.copy("llama-classify-1")  # whose class takes the file's own pieces

        def backtrack(tokenizer):
            tokenizer["pre_tokenizer"] = {
                "type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": "(a+)+(?=b)(?<=c)|x"},
                     "behavior": "Isolated", "invert": False},
                    tokenizer["pre_tokenizer"]]}
        self.edit(os.path.join(folder, "tokenizer.json"), backtrack)
        result = run("reward", folder, "--input", "-", stdin="one\n%s!\nthree\n" % ("a" * 40))
        self.assertEqual(result.status, 3, result.err)
        self.assertEqual(["error" in row for row in result.rows()], [False, True, False])

    def test_an_unknown_component_is_named(self):
        for section in ("normalizer", "pre_tokenizer", "post_processor", "model", "decoder"):
            folder = self.copy()
            self.edit(os.path.join(folder, "tokenizer.json"),
                      lambda t: t.update({section: {"type": "Elsewhere"}}))
            with self.subTest(section):
                self.assert_refused(folder, "Elsewhere")


if __name__ == "__main__":
    unittest.main(verbosity=1)
