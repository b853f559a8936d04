"""Collectives between private hosts: shared memory inside a host, MPI over TCP between them."""
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))
import cluster  # noqa: E402
import private  # noqa: E402

TEST = os.environ.get("POOLRANK_COMM_TEST")
PLUGIN = os.environ.get("POOLRANK_MPI_PLUGIN")


def setUpModule():
    global hosts
    hosts = cluster.Hosts(FOLDER, 2)


def tearDownModule():
    hosts.close()


class Hosts(unittest.TestCase):
    def check(self, slots, tp_size, n_stages, name):
        """A group over both hosts, `slots` ranks on each of them in turn."""
        n = tp_size * n_stages
        command = hosts.on("n1", "mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to",
                           "none", "--host", "n1:%d,n2:%d" % (slots, n - slots), "--mca",
                           "plm_rsh_agent", cluster.AGENT, "-n", str(n), TEST, PLUGIN,
                           str(tp_size), str(n_stages), name)
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_stage_on_each_host(self):
        self.check(2, 2, 2, "shm+mpi")

    def test_a_stage_over_both_hosts(self):
        self.check(2, 4, 1, "mpi")

    def test_three_ranks_over_both_hosts(self):
        self.check(2, 3, 1, "mpi")


if __name__ == "__main__":
    FOLDER = private.enter("mpirun")
    unittest.main(verbosity=2)
