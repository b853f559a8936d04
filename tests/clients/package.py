"""What the tests of this folder share: models, golden answers, servers, rows of a command."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "service"))

import numpy as np

from running_server import (PROGRAM, Server, TestCase, environment, model,  # noqa: F401
                            wait_for)

TEXTS = ["The harbour was quiet before the morning boats came in.", "a text",
         "Ünïcödé, 每天早上!",
         "a longer text that goes on for a while, about bread and rivers"]


def command(name, model_name, *texts, options=()):
    """The rows that `poolrank NAME` prints for the texts."""
    done = subprocess.run([PROGRAM, name, "--model", model(model_name), "--quiet", *options, "--",
                           *texts], capture_output=True, env=environment(), timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def command_floats(name, key, model_name, *texts, options=()):
    return [np.float32(row[key]) for row in command(name, model_name, *texts, options=options)]


def temporary_folder():
    """Short enough for a Unix socket's path."""
    return tempfile.TemporaryDirectory(prefix="poolrank-clients-")


class Golden:
    """The golden answers of a model of tests/parity: what transformers computed."""

    def __init__(self, model_name, group):
        folder = model(model_name)
        with open(os.path.join(folder, "golden.json"), encoding="utf-8") as f:
            golden = json.load(f)
        self.values = np.fromfile(os.path.join(folder, "golden.f32"), dtype="<f4")
        self.group = next(g for g in golden["groups"] if g["name"] == group)
        self.requests = golden["requests"]

    def plain_texts(self):
        """(text, its rows) of requests without parameters."""
        for case in self.group["cases"]:
            request = self.requests[case["request"]]
            if set(request) == {"text", "ids"}:
                n = int(np.prod(case["shape"]))
                rows = self.values[case["at"]:case["at"] + n].reshape(case["shape"])
                yield request["text"], request["ids"], rows


def error_of(a, b):
    """As the parity tests: max |a - b| / max(1, max |b|)."""
    return float(np.max(np.abs(a - b)) / max(1.0, float(np.max(np.abs(b)))))


def main(warnings=None):
    unittest.main(verbosity=2, warnings=warnings)
