#!/usr/bin/env python3
"""A server on simulated GPU ranks: which device each rank has, and ranks that are killed or stopped
under load, half of it over HTTP and half over the socket protocol (tests/fault/test_service_faults.py
does the same on the CPU): every request is answered once and right, to the bit.

POOLRANK_TEST_PLUGIN: libpoolrank-cuda-sim.so. POOLRANK_FAULT_ROUNDS: how often each fault happens
(default 2). Needs mpirun."""
import os
import re
import shutil
import sys
import tempfile
import unittest
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "..", part) for part in ("fault", "service")]
os.environ.setdefault("POOLRANK_FAULT_ROUNDS", "2")
import test_service_faults as faults  # noqa: E402
from running_server import Server  # noqa: E402

OPTIONS = ["--device", "cuda", "--dtype", "bfloat16", "--worker-launch", "mpirun"]
DEVICES = {"POOLRANK_CUDA_PLUGIN": os.environ["POOLRANK_TEST_PLUGIN"],
           "POOLRANK_SIM_DEVICES": "4"}
HANG_SECONDS = "3"  # a batch takes some hundredths of one, on a machine that is not busy
faults.REQUESTS = 240
faults.SHAPES = {"two ranks": ["-tp", "2"]}
faults.Expected.options = OPTIONS
faults.Expected.env = DEVICES


class RankDeviceTest(unittest.TestCase):
    def test_two_groups_take_different_devices(self):
        for options, devices in (([], ["cuda 0", "cuda 1", "cuda 2", "cuda 3"]),
                                 (["--devices", "3,1,0,2"],
                                  ["cuda 3", "cuda 1", "cuda 0", "cuda 2"])):
            with self.subTest(options), tempfile.TemporaryDirectory() as folder:
                server = Server(folder, *OPTIONS, "-tp", "2", "-dp", "2", *options,
                                model_name="qwen2-plain", env=DEVICES)
                self.addCleanup(server.stop)
                server.wait_logged(r"group 0\.1: rank 1 ")
                server.wait_logged(r"group 1\.1: rank 1 ")
                found = dict(re.findall(r"group (\d\.1: rank \d) .*?: (cuda \d),", server.log()))
                self.assertEqual([found[key] for key in sorted(found)], devices)
                self.assertEqual(server.embed().status, 200)
                self.assertIn('device="cuda', server.ask("GET", "/metrics").text)
                self.assertEqual(server.stop(), 0, server.log())


class LostDeviceTest(unittest.TestCase):
    """A device that fails for good: CUDA answers nothing more in that process."""

    def serve(self, folder, *options, fail_copy):
        server = Server(folder, "--device", "cuda", "--dtype", "float32", *options,
                        model_name="qwen2-plain",
                        env={**DEVICES, "POOLRANK_SIM_FAIL_COPY": str(fail_copy)})
        self.addCleanup(server.stop)
        return server.wait_ready()

    def test_in_one_process_it_is_told_and_the_server_is_no_longer_ready(self):
        with tempfile.TemporaryDirectory() as folder:
            server = self.serve(folder, fail_copy=150)
            for i in range(200):
                answer = server.embed()
                if answer.status != 200:
                    break
            self.assertEqual(answer.status, 500, answer.text)
            self.assertIn("cudaErrorECCUncorrectable", answer.text)
            answer = server.embed()
            self.assertEqual(answer.status, 503, answer.text)
            self.assertIn("the device is lost until a restart", answer.text)
            self.assertEqual(server.ask("GET", "/health").status, 503)
            self.assertEqual(server.ask("GET", "/livez").status, 200)

    def test_in_a_process_of_its_own_the_rank_is_started_again(self):
        with tempfile.TemporaryDirectory() as folder:
            server = self.serve(folder, "--worker-launch", "mpirun", fail_copy=150)
            for i in range(60):
                answer = server.embed()
                self.assertEqual(answer.status, 200, answer.text)
            self.assertIn("cudaErrorECCUncorrectable", server.log())


class GpuServiceFaultTest(faults.ServiceFaultTest):
    # What does not touch a rank is tested on the CPU.
    test_what_a_full_queue_refuses_is_answered_later = None
    test_clients_that_leave_harm_nobody = None

    def serve(self, *options, pace_us=0):
        mark = uuid.uuid4().hex
        self.mark = "POOLRANK_FAULT_MARK=" + mark
        path = os.path.join(self.folder, "socket")
        server = Server(self.folder, *OPTIONS, *options, "--socket", "unix://" + path,
                        model_name="qwen2-plain",
                        env={**DEVICES, "XDG_RUNTIME_DIR": self.runtime, "POOLRANK_FAULT_MARK": mark})
        server.socket_path = path
        self.addCleanup(server.stop)
        return server.wait_ready()

    def for_shapes(self, options, fault, **how):
        if "--hang-timeout" in options:
            options = ["--hang-timeout", HANG_SECONDS]
        return super().for_shapes(options, fault, **how)


if __name__ == "__main__":
    if not shutil.which("mpirun"):
        print("mpirun is missing", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
