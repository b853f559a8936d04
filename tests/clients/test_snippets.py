"""Every piece of code of docs/clients.md runs, with the servers and models of this test in place
of the document's."""
import os
import re
import subprocess
import sys

import package

DOCUMENT = os.path.join(package.ROOT, "docs", "clients.md")
#: What the document calls them: the model behind, and the name it is served by.
SERVERS = {"8000": ("bert-st-mean", "embedder"), "8001": ("xlmr-classify-1", "reranker"),
           "8002": ("llama-classify-1", "reward")}
MODELS = {"/models/embed": "bert-st-mean", "/models/reward": "llama-classify-1"}


def snippets():
    """(language, code, number of its first line)"""
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.S | re.M):
        yield block.group(1), block.group(2), text.count("\n", 0, block.start()) + 2


class Snippets(package.TestCase):
    def setUp(self):
        super().setUp()
        socket = os.path.join(self.folder, "socket")
        self.places = {"unix:///run/poolrank.sock": "unix://" + socket}
        for port, (model, name) in SERVERS.items():
            extra = ["--socket", "unix://" + socket] if port == "8000" else []
            server = self.serve("--served-model-name", name, *extra, model_name=model)
            self.places["http://127.0.0.1:%s" % port] = "http://127.0.0.1:%d" % server.port
        for path, name in MODELS.items():
            self.places[path] = package.model(name)

    def placed(self, code):
        for name, place in self.places.items():
            code = code.replace(name, place)
        return code

    def test_every_piece_of_code_runs(self):
        languages = []
        for language, code, line in snippets():
            with self.subTest("docs/clients.md:%d" % line):
                out = getattr(self, "run_" + language)(self.placed(code))
                self.assertNotEqual(out, "")
                languages.append(language)
        self.assertEqual(set(languages), {"python", "c", "sh"})
        self.assertGreater(len(languages), 8)

    def finished(self, words, **named):
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=self.folder,
                              check=False, **named)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def run_python(self, code):
        return self.finished([sys.executable, "-B", "-W", "error::SyntaxWarning", "-c", code])

    def run_c(self, code):
        build = os.environ["POOLRANK_BUILD"]
        program = os.path.join(self.folder, "program")
        self.finished([os.environ.get("POOLRANK_CC", "cc"), "-std=c17", "-Wall", "-Werror", "-x",
                       "c", "-", "-o", program, "-I", os.path.join(package.ROOT, "include"), "-L",
                       build, "-lpoolrank-client", "-Wl,-rpath," + os.path.abspath(build)],
                      input=code)
        return self.finished([program])

    def run_sh(self, code):
        out = self.finished(["sh", "-eu"], input=code)
        self.assertNotIn('"error"', out)
        return out


if __name__ == "__main__":
    package.main()
