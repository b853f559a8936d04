"""Everything compiles with clang too, warnings as errors (the build under test is gcc's), in a
folder whose name has a blank."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from program import ROOT


class ClangBuild(unittest.TestCase):
    def test_clang_has_no_warnings(self):
        with tempfile.TemporaryDirectory() as temporary:
            tree = os.path.join(temporary, "a tree")
            os.symlink(ROOT, tree)
            folder = os.path.join(temporary, "a build")
            done = subprocess.run(["cmake", "-S", tree, "-B", folder, "-G", "Ninja",
                                   "-DCMAKE_C_COMPILER=clang", "-DCMAKE_BUILD_TYPE=Debug",
                                   "-DPOOLRANK_MPI=OFF", "-DPOOLRANK_TESTS=OFF"],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            done = subprocess.run(["cmake", "--build", folder, "--target", "poolrank",
                                   "libpoolrank", "-j", str(os.cpu_count())],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:] + done.stderr)


if __name__ == "__main__":
    if not shutil.which("clang"):
        print("SKIPPED: clang is not installed")
        sys.exit(77)
    unittest.main(verbosity=1)
