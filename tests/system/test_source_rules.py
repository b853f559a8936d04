"""What the sources may not say, read from every line of code: calls whose answer depends on something
that another part of the process can change behind our back."""
import os
import re
import unittest

from program import ROOT
from test_include_direction import ORDER, sources

# rule: (pattern, what to use, files that may)
RULES = {
    "the environment is read once, where a process begins": (
        r"\benviron\b|\bgetenv\s*\(",
        "a copy (pr_words_copy) or what the options hold",
        {"coordinator/options/options_sources.c", "coordinator/fleet/fleet.c",
         "coordinator/fleet/placement.c", "program/main.c", "program/command_worker.c",
         "program/worker_process.c", "program/job_launch.c", "worker/device.c",
         "worker/mpi/mpi_plugin.c"}),
    "waits and durations are by a clock that nobody sets": (
        r"\bCLOCK_REALTIME\b|\bgettimeofday\s*\(",
        "CLOCK_MONOTONIC, or pr_clock_ns",
        # the time of day, in answers and logs; bulk.c: its comment says why
        {"runtime/base/clock.h", "server/service/metrics.c", "server/service/call.c",
         "runtime/base/log.c", "program/bulk.c"}),
}
COMMENT = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)


def code(text):
    """The text without comments, and without what stands in strings; lines stay where they are."""
    return COMMENT.sub(lambda m: "\n" * m.group().count("\n") or '""', text)


def breaches(pattern, allowed, files):
    found = []
    for path, text in files:
        for i, line in enumerate(code(text).splitlines(), 1):
            if re.search(pattern, line) and path not in allowed:
                found.append("%s:%d: %s" % (path, i, line.strip()))
    return found


def all_sources():
    for folder in ORDER + ["client"]:
        for path in sources(folder):
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                yield path, f.read()


class SourceRules(unittest.TestCase):
    def test_every_rule_is_kept(self):
        files = list(all_sources())
        for rule, (pattern, instead, allowed) in RULES.items():
            with self.subTest(rule):
                self.assertEqual(breaches(pattern, allowed, files), [], "use " + instead)

    def test_files_that_may_break_a_rule_do(self):
        files = list(all_sources())
        for rule, (pattern, _, allowed) in RULES.items():
            said = {line.split(":")[0] for line in breaches(pattern, (), files)}
            self.assertEqual(allowed - said, set(), rule)

    def test_the_rules_can_fail(self):
        text = '/* getenv("X") */\nchar *s = "getenv(";\nchar *t = getenv("X");\n'
        pattern = RULES["the environment is read once, where a process begins"][0]
        self.assertEqual(breaches(pattern, (), [("a.c", text)]), ['a.c:3: char *t = getenv("");'])
        self.assertEqual(breaches(pattern, {"a.c"}, [("a.c", text)]), [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
