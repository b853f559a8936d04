"""Everything compiles with clang too, warnings as errors (the build under test is gcc's)."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from program import ROOT


class ClangBuild(unittest.TestCase):
    def test_clang_has_no_warnings(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja",
                                   "-DCMAKE_C_COMPILER=clang", "-DCMAKE_BUILD_TYPE=Debug",
                                   "-DPOOLRANK_MPI=OFF", "-DPOOLRANK_TESTS=OFF"],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            done = subprocess.run(["cmake", "--build", folder, "--target", "poolrank",
                                   "libpoolrank", "-j", str(os.cpu_count())],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:])


if __name__ == "__main__":
    if not shutil.which("clang"):
        print("SKIPPED: clang is not installed")
        sys.exit(77)
    unittest.main(verbosity=1)
