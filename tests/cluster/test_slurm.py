"""Ranks inside Slurm allocations: steps that the coordinator starts, and a job's own tasks."""
import os
import signal
import subprocess
import time
import unittest

import cluster
import private
import ranks
from ranks import TEXTS, Run, embed


def setUpModule():
    ranks.TestCase.open_cluster(FOLDER, 2, with_slurm=True)


def tearDownModule():
    ranks.TestCase.close_cluster()


class Base(ranks.TestCase):
    def batch_answers(self, options, *words):
        """A job whose script is the command; all its answers must be there and right."""
        out = self.path("out.jsonl")
        words = embed("--input", self.texts_file(), "--output", out, *words)
        script = self.path("job.sh", "#!/bin/sh\nexec %s\n" % " ".join(
            "'%s'" % word for word in words))
        self.sbatch(*options, script)
        self.assertEqual(self.await_job(), 0, self.job_said())
        rows = self.answers(out)
        self.assertEqual(len(rows), len(TEXTS))
        self.assert_right(rows)
        self.assert_nothing_is_left()

    def salloc(self, options, *words):
        return Run(["salloc", "-Q", *options, *embed("--input", "-", *words)])

    def hosts_of_ranks(self):
        return sorted(ranks.host_of(pid) for pid in ranks.worker_pids())


class OneNode(Base):
    NODE = ["-N1", "-n2"]

    def test_a_batch_job_runs_its_ranks_as_a_step(self):
        self.batch_answers(self.NODE, "-tp", "2", "--worker-launch", "srun")

    def test_from_a_login_node_the_ranks_run_on_the_allocated_node(self):
        run = self.salloc(self.NODE, "-tp", "2", "--worker-launch", "srun", *self.key())
        self.assert_right(run.ask(*TEXTS[:3]))
        self.assertEqual(self.hosts_of_ranks(), ["n1", "n1"])
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_inside_an_allocation_srun_is_what_auto_means(self):
        run = self.salloc(self.NODE, "-tp", "2", *self.key())
        self.assert_right(run.ask(TEXTS[0]))
        for pid in ranks.worker_pids():
            self.assertIn("SLURM_STEP_ID", ranks.environment_of(pid))
        self.assertEqual(run.end()[0], 0)
        self.assert_nothing_is_left()

    def test_mpirun_starts_ranks_inside_an_allocation_too(self):
        self.batch_answers(self.NODE, "-tp", "2", "--worker-launch", "mpirun")

    def test_further_words_reach_srun(self):
        run = self.salloc(self.NODE, "-tp", "2", "--worker-launch", "srun", "--srun-args",
                          "--job-name='two words'", *self.key())
        self.assert_right(run.ask(TEXTS[0]))
        names = subprocess.run(["squeue", "--steps", "-h", "-o", "%j"], capture_output=True,
                               text=True, check=True).stdout
        self.assertIn("two words", names)
        self.assertEqual(run.end()[0], 0)
        self.assert_nothing_is_left()


class TwoNodes(Base):
    NODES = ["-N2", "--ntasks-per-node=2"]

    def test_tensor_parallel_ranks_on_two_nodes(self):
        self.batch_answers(["-N2", "-n2"], "-tp", "2", "--worker-launch", "srun",
                           *self.key())

    def test_pipeline_stages_on_two_nodes(self):
        self.batch_answers(["-N2", "-n2"], "-pp", "2", "--worker-launch", "srun",
                           *self.key())

    def test_tensor_parallel_within_a_node_and_stages_between_nodes(self):
        self.batch_answers(self.NODES, "-tp", "2", "-pp", "2", "--worker-launch", "srun",
                           *self.key())

    def test_a_replica_group_on_each_node(self):
        run = self.salloc(self.NODES, "-tp", "2", "-dp", "2", "--worker-launch", "srun",
                          *self.key())
        self.assert_right(run.ask(TEXTS[0]))
        cluster.wait_for("both groups", lambda: len(ranks.worker_pids()) == 4)
        self.assertEqual(self.hosts_of_ranks(), ["n1", "n1", "n2", "n2"])
        self.assert_right(run.ask(*TEXTS))
        self.assertEqual(run.end()[0], 0)
        self.assert_nothing_is_left()


class Deaths(Base):
    def start(self):
        run = self.salloc(["-N2", "-n2"], "-tp", "2", "--worker-launch", "srun", *self.key())
        self.assert_right(run.ask(*TEXTS[:5]))
        self.assertEqual(self.hosts_of_ranks(), ["n1", "n2"])
        return run

    def test_requests_survive_a_killed_rank(self):
        run = self.start()
        for i in range(2):
            killed = ranks.worker_pids()
            os.kill(killed[i], signal.SIGKILL)
            self.assert_right(run.ask(*TEXTS))
            self.assertEqual(set(ranks.worker_pids()) & set(killed), set())
        status, rows, said = run.end()
        self.assertEqual((status, rows), (0, []), said)
        self.assert_nothing_is_left()

    def test_a_rank_killed_in_the_middle_loses_no_request(self):
        n = 20
        run = self.start()
        for _ in range(n):
            run.write(*TEXTS)
        rows = run.read(10)
        os.kill(ranks.worker_pids()[0], signal.SIGKILL)
        rows += run.read(n * len(TEXTS) - 10)
        self.assertEqual([row["index"] for row in rows],
                         list(range(5, 5 + n * len(TEXTS))))
        self.assert_right(rows)
        self.assertEqual(run.end()[:2], (0, []))
        self.assert_nothing_is_left()

    def test_ranks_leave_when_the_coordinator_is_killed(self):
        run = self.start()
        for pid in ranks.coordinator_pids():
            os.kill(pid, signal.SIGKILL)
        run.process.wait(timeout=30)
        run.end()
        end = time.monotonic() + 20
        while time.monotonic() < end and self.new_processes():
            time.sleep(0.1)
        self.assertEqual(self.new_processes(), {})
        self.assertEqual(self.slurm.steps(), "")

    def test_sigterm_finishes_what_was_accepted(self):
        run = self.start()
        run.write(*TEXTS)
        rows = run.read(1)
        for pid in ranks.coordinator_pids():
            os.kill(pid, signal.SIGTERM)
        status, left, said = run.end()
        rows += left
        self.assertEqual((status, len(rows)), (0, len(TEXTS)), said)
        self.assert_right(rows)
        self.assert_nothing_is_left()


class Job(Base):
    """srun -n N poolrank … --worker-launch job: the tasks are the ranks."""

    def srun(self, *options):
        return ["srun", "-Q", "--mpi=pmix", "-n2", *options,
                *embed("-tp", "2", "--worker-launch", "job", *self.key())]

    def test_the_tasks_of_a_step_are_the_ranks(self):
        for nodes in ("-N1", "-N2"):
            out = self.path("out%s.jsonl" % nodes)
            self.run_command(*self.srun(nodes), "--input", self.texts_file(), "--output", out)
            rows = self.answers(out)
            self.assertEqual(len(rows), len(TEXTS))
            self.assert_right(rows)
            self.assert_nothing_is_left()

    def test_a_killed_rank_ends_the_step_with_an_error(self):
        run = Run([*self.srun("-N2", "--kill-on-bad-exit=1"), "--input", "-"])
        self.assert_right(run.ask(TEXTS[0]))
        os.kill(ranks.coordinator_pids()[0], 0)  # they are here
        victims = [pid for pid in self.new_processes()
                   if "SLURM_PROCID=1" in
                   ["%s=%s" % item for item in ranks.environment_of(pid).items()]]
        os.kill(victims[-1], signal.SIGKILL)
        self.assertNotEqual(run.end(30)[0], 0)
        self.assert_nothing_is_left()

    def test_the_number_of_tasks_must_be_that_of_the_ranks(self):
        done = subprocess.run(["srun", "-Q", "--mpi=pmix", "-n3", "-N1", "--kill-on-bad-exit=1",
                               *embed("-tp", "2", "--worker-launch", "job"), "text"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("3", done.stderr)
        self.assert_nothing_is_left()


if __name__ == "__main__":
    FOLDER = private.enter("mpirun", *cluster.Slurm.PROGRAMS)
    ranks.skip_without_ranks()
    unittest.main()
