"""The hosts and the Slurm that the other tests of this folder stand on are what they say."""
import os
import subprocess
import unittest

import cluster
import private

PROBE = os.environ.get("POOLRANK_MPI_PROBE", os.path.join(private.BUILD, "mpi_probe"))


def setUpModule():
    global hosts, slurm
    hosts = cluster.Hosts(FOLDER, 2)
    slurm = cluster.Slurm(FOLDER, hosts)


def tearDownModule():
    slurm.close()
    hosts.close()


def output(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise AssertionError("%s: %d: %s%s" % (words, done.returncode, done.stderr, slurm.log()))
    return done.stdout


class Hosts(unittest.TestCase):
    def test_a_host_has_a_name_an_address_and_folders_of_its_own(self):
        for name in hosts.names:
            self.assertEqual(output(*hosts.on(name, "hostname")), name + "\n")
            self.assertIn(hosts.address(name) + "/24", output(*hosts.on(name, "ip", "address")))
            self.assertEqual(os.listdir("/proc/%d/root/dev/shm" % hosts.holders[name].pid), [])
        output(*hosts.on("n1", "touch", "/tmp/here", "/dev/shm/here"))
        self.assertNotIn("here", output(*hosts.on("n2", "ls", "/tmp", "/dev/shm")).split())
        self.assertEqual(output(*hosts.on("n1", "ls", "/tmp", "/dev/shm")).split().count("here"), 2)
        output(*hosts.on("n1", "rm", "/tmp/here", "/dev/shm/here"))

    def test_mpirun_starts_ranks_on_several_hosts(self):
        lines = output(*hosts.on("n1", "mpirun", "--allow-run-as-root", "--bind-to", "none",
                                 "--host", "n1:2,n2:2", "--mca", "plm_rsh_agent", cluster.AGENT,
                                 "-n", "4", PROBE))
        self.assertEqual(sorted(lines.splitlines()), ["0 4 n1 2 6", "1 4 n1 2 6",
                                                      "2 4 n2 2 6", "3 4 n2 2 6"])

    def test_a_host_can_be_cut_off(self):
        bash = ["timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/n2/6818"]
        self.assertEqual(subprocess.call(hosts.on("n1", *bash)), 0)
        hosts.cut("n2")
        try:
            self.assertNotEqual(subprocess.call(hosts.on("n1", *bash), stderr=subprocess.DEVNULL),
                                0)
        finally:
            hosts.mend("n2")
        for _ in range(20):  # an address that did not answer is asked for again after a while
            if subprocess.call(hosts.on("n1", *bash), stderr=subprocess.DEVNULL) == 0:
                return
        self.fail("n2 is not back after 20 tries of a second")


class Slurm(unittest.TestCase):
    def test_srun_starts_ranks_on_one_node_and_on_several(self):
        one = output("srun", "-N1", "-n2", "--mpi=pmix", PROBE).splitlines()
        self.assertEqual(sorted(one), ["0 2 n1 2 1", "1 2 n1 2 1"])
        two = output("srun", "-N2", "-n2", "--mpi=pmix", PROBE).splitlines()
        self.assertEqual(sorted(two), ["0 2 n1 1 1", "1 2 n2 1 1"])

    def test_a_job_script_runs_on_the_first_node(self):
        out = os.path.join(FOLDER, "job.out")
        output("sbatch", "-W", "-N2", "-o", out, "--wrap", "hostname; srun hostname")
        with open(out, encoding="utf-8") as f:
            lines = f.read().split()
        self.assertEqual((lines[0], sorted(lines[1:])), ("n1", ["n1", "n2"]))

    def test_devices_are_handed_out(self):
        seen = output("srun", "-n2", "-N1", "--gpus-per-task=1", "sh", "-c",
                      "echo $CUDA_VISIBLE_DEVICES").split()
        self.assertEqual(sorted(seen), ["0", "1"])


if __name__ == "__main__":
    FOLDER = private.enter("mpirun", *cluster.Slurm.PROGRAMS)
    unittest.main()
