"""`cmake --install` gives a tree that works wherever it is put: the program, the library that
exports its interface only, headers, pkg-config file, man page, completions."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import time
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

CLIENT = r"""
#include <poolrank/client.h>
#include <stdio.h>
#include <string.h>
static int failed(const char *what, const pr_error *err)
{
    fprintf(stderr, "%s: %s: %s\n", what, pr_client_status_name(err->status), err->message);
    return 1;
}
int main(int argc, char **argv)
{
    pr_error err = {0};
    pr_client *client = NULL;
    pr_client_info info;
    pr_client_answer *one = NULL, *other = NULL;
    uint64_t id = 0;
    if (argc < 3) return 2;
    pr_client_input inputs[] = {{.text = argv[2], .n_text = strlen(argv[2])},
                                {.text = "b", .n_text = 1}};
    pr_client_options options;
    pr_client_options_init(&options);
    if (argc > 3) options.ca_file = argv[3];
    if (pr_client_open(argv[1], &options, &client, &err)) return failed("open", &err);
    do {
        if (pr_client_info_get(client, &info, &err)) return failed("info", &err);
    } while (!info.is_loaded);
    if (pr_client_send(client, PR_CLIENT_EMBED, inputs, 2, NULL, &id, &err)) {
        return failed("send", &err);
    }
    pr_client_params params;
    pr_client_params_init(&params);
    params.format = PR_CLIENT_F16;
    if (pr_client_embed(client, inputs, 1, &params, &one, &err)) return failed("embed", &err);
    if (pr_client_receive(client, &other, &err)) return failed("receive", &err);
    if (pr_client_ping(client, &err)) return failed("ping", &err);
    float difference = 0;
    for (size_t i = 0; i < one->n_columns; i++) {
        float d = one->data[i] - other->data[i];
        if (d > difference || -d > difference) difference = d < 0 ? -d : d;
    }
    printf("%zu %zu %d %d %d\n", other->n_rows, other->n_columns - info.dimensions,
           other->id == id, one->n_prompt_tokens[0] == other->n_prompt_tokens[0],
           difference < 1e-3f);
    pr_client_answer_free(one);
    pr_client_answer_free(other);
    params.dimensions = 1 << 20;
    if (pr_client_embed(client, inputs, 1, &params, &one, &err) != PR_E_ARGUMENT) return 1;
    pr_client_close(client);
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
                     "lib/libpoolrank-client.so.0", "include/poolrank/client.h",
                     "lib/pkgconfig/poolrank-client.pc", "share/man/man1/poolrank.1", "share/bash-completion/completions/poolrank",
                     "share/zsh/site-functions/_poolrank"):
            self.assertTrue(os.path.exists(self.at(path)), path)
        self.assertEqual(command(self.at("bin/poolrank"), "--version").stdout, "poolrank 0.1.0\n")
        self.exports_are_the_interface("libpoolrank.so.0", "engine.h")
        self.exports_are_the_interface("libpoolrank-client.so.0", "client.h")
        self.a_client_builds_against_it()
        self.a_program_builds_against_it()
        self.completion_works()

    def exports_are_the_interface(self, library, header):
        listed = command("nm", "-D", "--defined-only", self.at("lib", library)).stdout
        exported = {line.split()[2].split("@")[0] for line in listed.splitlines()
                    if line.split()[1] == "T"}
        with open(os.path.join(ROOT, "include/poolrank", header), encoding="utf-8") as f:
            declared = set(re.findall(r"^(?!static inline)[a-z].*?\b(pr_[a-z_]+)\(", f.read(),
                                      re.M))
        declared = {name for name in declared if name != "pr_done"}
        self.assertEqual(exported, declared)

    def build_against_it(self, name, text, package):
        """Returns the program's path, and the environment that it runs in."""
        source = self.path(name + ".c", text)
        env = environment({"PKG_CONFIG_PATH": self.at("lib/pkgconfig")})
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", package], env=env,
                               capture_output=True, text=True, check=True).stdout.split()
        program = self.path(name)
        done = command("cc", "-std=c17", "-Wall", "-Werror", source, "-o", program, *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        env["LD_LIBRARY_PATH"] = self.at("lib")
        return program, env

    def a_program_builds_against_it(self):
        program, env = self.build_against_it("example", EXAMPLE, "poolrank")
        done = subprocess.run([program, model("bert-st-mean"), "a text"], env=env,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"^1 \d+\n$")

    def a_client_builds_against_it(self):
        program, env = self.build_against_it("client", CLIENT, "poolrank-client")
        needed = command("readelf", "-d", self.at("lib/libpoolrank-client.so.0")).stdout
        self.assertNotIn("libuv", needed)
        address = "unix://" + self.path("socket")
        cert, key = self.certificate()

        def ask(url, *words):
            return subprocess.run([program, url, "a text", *words], env=env, capture_output=True,
                                  text=True, timeout=60)
        with self.server("--socket", address):
            done = ask(address)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(done.stdout, "2 0 1 1 1\n")
        with self.server("--socket", "tcp://127.0.0.1:0", "--ssl-certfile", cert, "--ssl-keyfile",
                         key) as ports:
            done = ask("tls://127.0.0.1:%d" % ports["socket_port"], cert)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(done.stdout, "2 0 1 1 1\n")
            done = ask("tls://127.0.0.1:%d" % ports["socket_port"])  # nobody known has signed it
            self.assertEqual(done.returncode, 1)
            self.assertIn("certificate", done.stderr)

    def certificate(self):
        cert, key = self.path("cert.pem"), self.path("key.pem")
        command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=here",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert)
        return cert, key

    @contextlib.contextmanager
    def server(self, *options):
        """The installed program; yields what its port file says."""
        ports = self.path("ports")
        process = subprocess.Popen([self.at("bin/poolrank"), "serve", model("bert-st-mean"),
                                    "--port", "0", "--port-file", ports, "--quiet", *options],
                                   env=environment())
        try:
            deadline = time.monotonic() + 60
            while not os.path.exists(ports) and process.poll() is None:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.005)
            with open(ports, encoding="utf-8") as f:
                yield json.load(f)
        finally:
            process.terminate()
            status = process.wait(60)
        self.assertEqual(status, 0)

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
