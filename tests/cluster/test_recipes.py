"""launch/slurm, launch/mpirun, launch/systemd: run as they stand."""
import os
import pwd
import re
import shlex
import shutil
import subprocess
import time
import unittest

import cluster
import private
import ranks
from ranks import MODEL, TEXTS, Run

LAUNCH = os.path.join(private.ROOT, "launch")


def setUpModule():
    ranks.TestCase.open_cluster(FOLDER, 2, with_slurm=True)
    os.environ["POOLRANK"] = ranks.PROGRAM


def tearDownModule():
    ranks.TestCase.close_cluster()


class Base(ranks.TestCase):
    def setUp(self):
        super().setUp()
        self.out = self.path("out.jsonl")
        self.command = ["embed", "--model", MODEL, "--output", self.out]

    def assert_all_answered(self):
        rows = self.answers(self.out)
        self.assertEqual(len(rows), len(TEXTS))
        self.assert_right(rows)
        self.assert_nothing_is_left()


class Slurm(Base):
    def submit(self, script, *options, command=None):
        self.sbatch(*options, os.path.join(LAUNCH, "slurm", script),
                    *(command if command is not None else
                      [*self.command, "--input", self.texts_file()]))

    def finish(self):
        self.assertEqual(self.await_job(), 0, self.job_said())
        self.assert_all_answered()

    def test_one_node(self):
        self.submit("one-node.sbatch")
        self.finish()

    def test_several_nodes_with_a_group_each(self):
        self.submit("several-nodes.sbatch")
        self.finish()
        self.assertEqual([f for f in os.listdir(self.folder) if "key" in f], [])

    def test_several_nodes_with_one_group_over_them(self):
        self.submit("several-nodes.sbatch", "--export=ALL,NODES_PER_GROUP=2")
        self.finish()

    def in_a_running_job(self, script, *options, look):
        """Calls look() while the job waits for input that comes when it returns."""
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        self.submit(script, *options, command=[*self.command, "--input", pipe])
        # Opened for both directions: that does not wait for a reader, and a pipe without one keeps
        # what it is given.
        with open(os.open(pipe, os.O_RDWR), "w", encoding="utf-8") as f:
            f.writelines(t + "\n" for t in TEXTS)
            f.flush()
            look()
        self.finish()

    def test_the_ranks_of_each_node_are_a_group(self):
        def look():
            self.await_ranks(4)
            of = {pid: ranks.host_of(pid) for pid in ranks.worker_pids()}
            self.assertEqual(sorted(of.values()), ["n1", "n1", "n2", "n2"])
            # The ranks of a step are of one node.
            steps = {(ranks.environment_of(pid)["SLURM_STEP_ID"], host)
                     for pid, host in of.items()}
            self.assertEqual(len(steps), 2)
        self.in_a_running_job("several-nodes.sbatch", look=look)

    def test_every_rank_sees_all_devices_of_its_node(self):
        for script in ("one-node.sbatch", "several-nodes.sbatch"):
            n = 2 if script == "one-node.sbatch" else 4

            def look(n=n):
                self.await_ranks(n)
                seen = [ranks.environment_of(pid).get("CUDA_VISIBLE_DEVICES")
                        for pid in ranks.worker_pids()]
                # Unset where Slurm binds nothing: what the node has is then seen whole.
                self.assertLessEqual(set(seen), {None, "0,1"})
            self.in_a_running_job(script, "--gpus-per-node=2", look=look)
            os.unlink(self.path("pipe"))
            os.unlink(self.out)

    def test_a_job_that_is_told_to_end_finishes_what_it_has_accepted(self):
        for script, n in (("one-node.sbatch", 2), ("several-nodes.sbatch", 4)):
            def look(n=n):
                self.await_ranks(n)
                time.sleep(1)  # whatever was read by now is accepted
                # As --signal=B:TERM@120 does it.
                subprocess.run(["scancel", "--batch", "--signal=TERM", self.job], check=True)
                self.await_job(30)
            self.in_a_running_job(script, look=look)
            os.unlink(self.path("pipe"))
            os.unlink(self.out)

    def test_arguments_that_are_missing_are_named(self):
        for script in ("one-node.sbatch", "several-nodes.sbatch"):
            self.submit(script, command=[])
            self.assertEqual(self.await_job(), 2)
            self.assertIn("expected a command and its options", self.job_said())
        self.submit("several-nodes.sbatch", "--export=ALL,NODES_PER_GROUP=3")
        self.assertEqual(self.await_job(), 2)
        self.assertIn("found 3, expected a divisor of the 2 nodes", self.job_said())


class Mpirun(Base):
    AGENT = ["--mca", "plm_rsh_agent", cluster.AGENT]

    def hostfile(self):
        with open(os.path.join(LAUNCH, "mpirun", "hosts.example"), encoding="utf-8") as f:
            return self.path("hosts", f.read().replace("node", "n"))

    def test_several_hosts(self):
        done = self.run_command(
            *self.hosts.on("n1", os.path.join(LAUNCH, "mpirun", "several-hosts"),
                           self.hostfile(), *self.command, "-tp", "2", "-pp", "2", "--input",
                           self.texts_file(), "--mpirun-args", " ".join(self.AGENT)),
            cwd=self.folder)
        self.assertEqual(done.stdout, "")
        self.assert_all_answered()
        self.assertEqual([f for f in os.listdir(self.folder) if "key" in f], [])

    def test_own_job(self):
        self.run_command(
            *self.hosts.on("n1", os.path.join(LAUNCH, "mpirun", "own-job"), "4", *self.AGENT,
                           "--hostfile", self.hostfile(), "--", *self.command, "-tp", "2",
                           "-pp", "2", "--input", self.texts_file(), "--hang-timeout", "10",
                           *self.key()))
        self.assert_all_answered()


class Systemd(Base):
    UNIT = os.path.join(LAUNCH, "systemd", "poolrank-worker@.service")

    def test_the_unit_is_one(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is missing")
        with open(self.UNIT, encoding="utf-8") as f:
            text = f.read().replace("/usr/local/bin/poolrank", ranks.PROGRAM)
        unit = self.path("poolrank-worker@main.service", text)
        done = self.run_command("systemd-analyze", "verify", unit)
        self.assertEqual(done.stderr.strip(), "")

    def test_its_command_joins_a_coordinator_as_a_user_without_rights(self):
        with open(self.UNIT, encoding="utf-8") as f:
            line = re.search(r"^ExecStart=(.*)$", f.read(), re.M).group(1)
        nobody = pwd.getpwnam("nobody")
        key = self.key()
        theirs = self.key("theirs.key")
        os.chown(theirs[1], nobody.pw_uid, nobody.pw_gid)
        os.chmod(self.folder, 0o755)
        # What is built and checked out may stand where only its owner may look.
        own = self.path("installed")
        os.mkdir(own)
        for name in ("poolrank", "libpoolrank-mpi.so"):
            shutil.copy(os.path.join(os.path.dirname(ranks.PROGRAM), name), own)
        shutil.copytree(ranks.MODEL, os.path.join(own, "model"))
        tmp = self.path("tmp")
        os.mkdir(tmp)
        os.chown(tmp, nobody.pw_uid, nobody.pw_gid)
        line = line.replace("/usr/local/bin/poolrank", os.path.join(own, "poolrank"))
        line = line.replace("/etc/poolrank/cluster.key", theirs[1])
        for name, value in (("${RANKS}", "2"), ("${CONNECT}", "tcp:n1:7200"),
                            ("$OPTIONS", "--threads 1 --model " + os.path.join(own, "model"))):
            line = line.replace(name, value)
        run = Run(self.hosts.on("n1", ranks.PROGRAM, *self.command, "--input", "-", "-tp", "2",
                                "--worker-launch", "external", "--ctrl-interface", "eth0:7200",
                                *key))
        worker = subprocess.Popen(
            self.hosts.on("n2", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                          "--no-new-privs", "env", "-i", "PATH=/usr/bin:/bin", "TMPDIR=" + tmp,
                          *shlex.split(line)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd="/")  # as systemd does
        run.write(*TEXTS)
        status, _, said = run.end()
        self.assertEqual(status, 0, said)
        said, _ = worker.communicate(timeout=30)
        self.assertEqual(worker.returncode, 0, said)
        self.assert_all_answered()


if __name__ == "__main__":
    FOLDER = private.enter("mpirun", "setpriv", *cluster.Slurm.PROGRAMS)
    ranks.skip_without_ranks()
    unittest.main()
