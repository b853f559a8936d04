"""launch/: what is missing is listed in one go, and nothing is installed that was not asked for."""
import os
import shutil
import subprocess
import unittest

from program import ROOT, TestCase, environment

# What any system has.
BASIC = ["sh", "bash", "dirname", "sed", "tr", "cat", "mktemp", "rm", "tee", "grep", "env", "id"]


class BareSystem(TestCase):
    """A PATH with basic programs, and package managers that write down that they were called."""

    def setUp(self):
        super().setUp()
        self.calls = self.path("calls")
        self.bin = self.path("bin")
        os.mkdir(self.bin)
        for name in BASIC:
            os.symlink(shutil.which(name), os.path.join(self.bin, name))
        for name in ("apt-get", "apt", "sudo", "dpkg-query"):
            self.program(name, 'echo "$(basename "$0") $*" >>"%s"' % self.calls)

    def program(self, name, script):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n%s\n" % script)
        os.chmod(path, 0o755)

    def launch(self, *words):
        env = environment({"PATH": self.bin})
        env.pop("CC", None)
        return subprocess.run([os.path.join(ROOT, "launch", words[0]), *words[1:]], env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def test_system_dependencies_that_are_missing_are_all_listed(self):
        done = self.launch("build", "--deps=system")
        self.assertEqual(done.returncode, 1, done.stderr)
        for name in ("cmake", "ninja", "pkg-config", "compiler", "jansson", "PCRE2", "utf8proc"):
            self.assertIn(name, done.stderr)
        self.assertFalse(os.path.exists(self.calls))

    def test_tests_with_system_dependencies_install_nothing(self):
        done = self.launch("test", "--deps=system", "--group", "fast")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(done.stdout.splitlines()[-1], "0 passed, 1 failed, 0 skipped")
        self.assertFalse(os.path.exists(self.calls))

    def test_without_root_and_sudo_the_packages_are_named(self):
        os.remove(os.path.join(self.bin, "sudo"))
        os.remove(os.path.join(self.bin, "id"))
        self.program("id", "echo 1000")
        done = self.launch("install", "build")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("ask an administrator for apt-get install gcc", done.stderr)
        self.assertNotIn("clang", done.stderr)

    def test_a_word_that_is_not_known_is_refused(self):
        for words in (("build", "--presets"), ("build", "--preset"), ("build", "--preset=fast"),
                      ("test", "--group", "slow"), ("install", "everything")):
            with self.subTest(words):
                done = self.launch(*words)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertFalse(os.path.exists(self.calls))


if __name__ == "__main__":
    unittest.main(verbosity=1)
