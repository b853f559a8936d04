"""client/python/build-wheel: the wheel carries library and program, and works outside the tree."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
import venv

import package


class Wheel(unittest.TestCase):
    def test_a_wheel_runs_a_model_from_an_empty_environment(self):
        with tempfile.TemporaryDirectory() as folder:
            # setuptools of the tests' own environment: no network is needed.
            done = subprocess.run(
                [os.path.join(package.ROOT, "client", "python", "build-wheel"),
                 os.environ["POOLRANK_BUILD"], folder], check=True, capture_output=True, text=True,
                env={**os.environ, "PYTHON": sys.executable,
                     "PIP_BUILD_OPTIONS": "--no-build-isolation"})
            wheel = done.stdout.strip()
            self.assertTrue(os.path.exists(wheel), done.stdout)
            empty = os.path.join(folder, "environment")
            venv.create(empty, with_pip=False)
            site = subprocess.run([os.path.join(empty, "bin", "python"), "-c",
                                   "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                  check=True, capture_output=True, text=True).stdout.strip()
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
                            "--no-index", "--target", site, wheel], check=True)
            # NumPy and msgpack of the tests' environment stand behind it on the path.
            script = ("import sys, poolrank; assert sys.prefix in poolrank.__file__; "
                      "llm = poolrank.LLM(sys.argv[1]); "
                      "print(llm.embed('a text')[0].outputs.embedding.tolist())")
            behind = os.path.dirname(os.path.dirname(package.np.__file__))
            env = package.environment({"PATH": "/usr/bin:/bin"})
            out = subprocess.run(
                [os.path.join(empty, "bin", "python"), "-c",
                 "import sys; sys.path.append(%r); " % behind + script,
                 package.model("bert-st-mean")], cwd=folder, env=env, check=True,
                capture_output=True, text=True).stdout
            [row] = package.command("embed", "bert-st-mean", "a text")
            self.assertEqual([package.np.float32(x) for x in json.loads(out)],
                             [package.np.float32(x) for x in row["embedding"]])


if __name__ == "__main__":
    package.main()
