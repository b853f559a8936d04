"""`cmake --install` gives a tree that works wherever it is put: the program, the library that
exports its interface only, headers, pkg-config file, man page, completions."""
import os
import re
import shutil
import subprocess
import unittest

from program import BUILD, ROOT, TestCase, environment, model

EXAMPLE = r"""
#include <poolrank/engine.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    pr_error err = {0};
    pr_engine *engine = NULL;
    pr_ticket *ticket = NULL;
    pr_result *result = NULL;
    pr_options *options = pr_options_create();
    if (argc < 3 || pr_options_set(options, "model", argv[1], &err)) return 1;
    if (pr_engine_open(options, &engine, &err)) return fprintf(stderr, "%s\n", err.message), 1;
    pr_request request;
    pr_request_init(&request);
    request.text = argv[2];
    request.n_text = strlen(argv[2]);
    if (pr_engine_submit(engine, &request, &ticket, &err)) return 1;
    if (pr_engine_wait(engine, ticket, &result, &err) || result->status) return 1;
    printf("%u %u\n", result->n_rows, result->n_columns);
    pr_result_free(result);
    pr_engine_close(engine);
    pr_options_free(options);
    return 0;
}
"""


def command(*words, **options):
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=120,
                          **options)


class InstallTree(TestCase):
    def setUp(self):
        super().setUp()
        first = os.path.join(self.folder.name, "first")
        done = command("cmake", "--install", BUILD, "--prefix", first)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.prefix = os.path.join(self.folder.name, "moved", "elsewhere")
        os.makedirs(os.path.dirname(self.prefix))
        shutil.move(first, self.prefix)

    def at(self, *parts):
        return os.path.join(self.prefix, *parts)

    def test_everything_is_there_and_works(self):
        for path in ("bin/poolrank", "lib/libpoolrank.so.0", "include/poolrank/engine.h",
                     "include/poolrank/types.h", "lib/pkgconfig/poolrank.pc",
                     "share/man/man1/poolrank.1", "share/bash-completion/completions/poolrank",
                     "share/zsh/site-functions/_poolrank"):
            self.assertTrue(os.path.exists(self.at(path)), path)
        self.assertEqual(command(self.at("bin/poolrank"), "--version").stdout, "poolrank 0.1.0\n")
        self.exports_are_the_interface()
        self.a_program_builds_against_it()
        self.completion_works()

    def exports_are_the_interface(self):
        listed = command("nm", "-D", "--defined-only", self.at("lib/libpoolrank.so.0")).stdout
        exported = {line.split()[2].split("@")[0] for line in listed.splitlines()
                    if line.split()[1] == "T"}
        with open(os.path.join(ROOT, "include/poolrank/engine.h"), encoding="utf-8") as f:
            declared = set(re.findall(r"^[a-z].*?\b(pr_[a-z_]+)\(", f.read(), re.M))
        declared = {name for name in declared if name != "pr_done"}
        self.assertEqual(exported, declared)

    def a_program_builds_against_it(self):
        source = self.path("example.c", EXAMPLE)
        env = environment({"PKG_CONFIG_PATH": self.at("lib/pkgconfig")})
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "poolrank"], env=env,
                               capture_output=True, text=True, check=True).stdout.split()
        program = self.path("example")
        done = command("cc", "-std=c17", "-Wall", "-Werror", source, "-o", program, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        env["LD_LIBRARY_PATH"] = self.at("lib")
        done = subprocess.run([program, model("bert-st-mean"), "a text"], env=env,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^1 \d+\n$")

    def completion_works(self):
        script = ('source "$1"; COMP_WORDS=(poolrank embed --max-mo); COMP_CWORD=2; _poolrank;'
                  ' echo "${COMPREPLY[*]}"; COMP_WORDS=(poolrank embed --dtype b); COMP_CWORD=3;'
                  ' _poolrank; echo "${COMPREPLY[*]}"; COMP_WORDS=(poolrank cl); COMP_CWORD=1;'
                  ' _poolrank; echo "${COMPREPLY[*]}"')
        done = command("bash", "-c", script, "-",
                       self.at("share/bash-completion/completions/poolrank"))
        self.assertEqual(done.stdout.split(), ["--max-model-len", "bfloat16", "classify"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
