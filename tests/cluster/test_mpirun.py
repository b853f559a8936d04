"""Ranks on several hosts under mpirun: the coordinator's own, and the user's."""
import os
import signal
import unittest

import cluster
import private
import ranks
from ranks import TEXTS, Run, embed

AGENT = "--mca plm_rsh_agent " + cluster.AGENT


def setUpModule():
    ranks.TestCase.open_cluster(FOLDER, 2, with_slurm=False)


def tearDownModule():
    ranks.TestCase.close_cluster()


class Base(ranks.TestCase):
    def hostfile(self, slots):
        return self.path("hosts", "".join("%s slots=%d\n" % (name, slots)
                                          for name in self.hosts.names))

    def on_hosts(self, slots):
        """The options that put ranks on both hosts."""
        return ["--worker-launch", "mpirun", "--hostfile", self.hostfile(slots), "--mpirun-args",
                AGENT, *self.key()]

    def start(self, *options):
        return Run(self.hosts.on("n1", *embed("--input", "-", *options)))

    def assert_ranks_on(self, *names):
        self.assertEqual(sorted(ranks.host_of(pid) for pid in ranks.worker_pids()), list(names))


class Hostfile(Base):
    def test_tensor_parallel_ranks_on_two_hosts(self):
        run = self.start("-tp", "2", *self.on_hosts(1))
        self.assert_right(run.ask(*TEXTS))
        self.assert_ranks_on("n1", "n2")
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_stages_on_two_hosts(self):
        run = self.start("-tp", "2", "-pp", "2", *self.on_hosts(2))
        self.assert_right(run.ask(*TEXTS))
        self.assert_ranks_on("n1", "n1", "n2", "n2")
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_the_coordinator_listens_where_it_is_told(self):
        run = self.start("-tp", "2", *self.on_hosts(1), "--ctrl-interface", "eth0:7123")
        self.assert_right(run.ask(TEXTS[0]))
        listening = self.run_command(*self.hosts.on("n1", "ss", "-Hltn")).stdout
        self.assertIn(self.hosts.address("n1") + ":7123", listening)
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_requests_survive_a_rank_killed_on_the_other_host(self):
        run = self.start("-tp", "2", *self.on_hosts(1))
        self.assert_right(run.ask(*TEXTS[:3]))
        run.write(*TEXTS)
        other = [pid for pid in ranks.worker_pids() if ranks.host_of(pid) == "n2"]
        os.kill(other[0], signal.SIGKILL)
        self.assert_right(run.read(len(TEXTS)))
        status, rows, said = run.end()
        self.assertEqual((status, rows), (0, []), said)
        self.assert_nothing_is_left()

    def test_nothing_is_left_of_killed_ranks_that_share_memory(self):
        run = self.start("-tp", "2", "-dp", "2", *self.on_hosts(2))
        cluster.wait_for("four ranks", lambda: len(ranks.worker_pids()) == 4)
        self.assert_right(run.ask(*TEXTS[:3]))
        for pid in ranks.worker_pids()[:2]:
            os.kill(pid, signal.SIGKILL)
        self.assert_right(run.ask(*TEXTS))
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_requests_survive_a_host_that_is_cut_off(self):
        run = self.start("-tp", "2", *self.on_hosts(1), "--hang-timeout", "2")
        self.assert_right(run.ask(*TEXTS[:3]))
        cut_off = [pid for pid in ranks.worker_pids() if ranks.host_of(pid) == "n2"]
        self.hosts.cut("n2")
        try:
            run.write(*TEXTS)
            here = [pid for pid in ranks.worker_pids() if pid not in cut_off]
            cluster.wait_for("the end of the group's rank on this host",
                             lambda: not set(here) & set(ranks.worker_pids()), 30)
        finally:
            self.hosts.mend("n2")
        self.assert_right(run.read(len(TEXTS)))
        status, rows, said = run.end()
        self.assertEqual((status, rows), (0, []), said)
        self.assert_nothing_is_left(30)

    def test_ranks_leave_when_the_coordinator_is_killed(self):
        run = self.start("-tp", "2", *self.on_hosts(1))
        self.assert_right(run.ask(TEXTS[0]))
        for pid in ranks.coordinator_pids():
            os.kill(pid, signal.SIGKILL)
        run.end(30)
        cluster.wait_for("the ranks' end", lambda: not self.new_processes(), 10)


class Job(Base):
    """mpirun -n N poolrank … --worker-launch job: all processes are ranks."""

    def mpirun(self, n, *options):
        return self.hosts.on("n1", "mpirun", "--bind-to", "none", "--hostfile", self.hostfile(1),
                             "--oversubscribe", *AGENT.split(), "-n", str(n),
                             *embed(*options, "--worker-launch", "job", "--hang-timeout", "10",
                                    *self.key()))

    def test_the_processes_of_the_users_mpirun_are_the_ranks(self):
        out = self.path("out.jsonl")
        self.run_command(*self.mpirun(2, "-tp", "2", "--input", self.texts_file(), "--output",
                                      out))
        rows = self.answers(out)
        self.assertEqual(len(rows), len(TEXTS))
        self.assert_right(rows)
        self.assert_nothing_is_left()

    def test_two_groups_in_one_job(self):
        out = self.path("out.jsonl")
        self.run_command(*self.mpirun(4, "-tp", "2", "-dp", "2", "--input", self.texts_file(),
                                      "--output", out))
        rows = self.answers(out)
        self.assertEqual(len(rows), len(TEXTS))
        self.assert_right(rows)
        self.assert_nothing_is_left()

    def test_a_killed_rank_ends_the_job_with_an_error(self):
        run = Run(self.mpirun(2, "-tp", "2", "--input", "-"))
        self.assert_right(run.ask(TEXTS[0]))
        other = [pid for pid, line in self.new_processes().items()
                 if line.startswith(ranks.PROGRAM) and ranks.host_of(pid) == "n2"]
        os.kill(other[0], signal.SIGKILL)
        self.assertNotEqual(run.end(30)[0], 0)
        end = self.new_processes
        cluster.wait_for("the end of all processes", lambda: not end(), 10)

    def test_without_the_option_a_launcher_is_ignored_with_a_warning(self):
        done = self.run_command("mpirun", "-n", "1", *embed("one text"))
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertIn("worker-launch", done.stderr)


if __name__ == "__main__":
    FOLDER = private.enter("mpirun", "ss")
    ranks.skip_without_ranks()
    unittest.main()
