"""Two servers behind a balancer are rolled one after the other; no client notices."""
import signal
import threading

import numpy as np

import package
from balancer import Balancer
from package import TEXTS, command_floats
from poolrank import Client, Error

N_CLIENTS = 8


class Rolling(package.TestCase):
    def test_two_servers_are_rolled_with_no_failed_request(self):
        expected = np.stack(command_floats("embed", "embedding", "bert-st-mean", *TEXTS))
        servers = [self.start(), self.start()]
        balancer = Balancer([server.port for server in servers])
        self.addCleanup(balancer.close)
        for server in servers:
            self.wait_forwarded(balancer, server)
        failures, counts, stop = [], [0] * N_CLIENTS, threading.Event()

        def ask(i):
            # retries=0: what fails, fails.
            with Client("http://127.0.0.1:%d" % balancer.port, retries=0) as client:
                while not stop.is_set():
                    try:
                        if not np.array_equal(client.embed(TEXTS), expected):
                            failures.append("wrong numbers")
                    except Error as error:
                        failures.append(repr(error))
                    counts[i] += 1
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for old in servers:
                self.wait_answers(counts, 50)
                old.signal(signal.SIGTERM)
                self.assertEqual(old.wait_end(), 0, old.log())
                balancer.remove(old.port)
                new = self.start()
                balancer.add(new.port)
                self.wait_forwarded(balancer, new)
            self.wait_answers(counts, 50)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertTrue(all(n > 0 for n in balancer.n_forwarded.values()), balancer.n_forwarded)

    def start(self):
        # As long as a balancer may take to notice; its probes come every 20 ms.
        return self.serve("--drain-delay", "1", "--drain-timeout", "30")

    @staticmethod
    def wait_forwarded(balancer, server):
        package.wait_for("the balancer's probe", lambda: balancer.is_ready(server.port))

    @staticmethod
    def wait_answers(counts, n):
        """Until every client has had n more answers."""
        before = list(counts)
        package.wait_for("answers", lambda: all(c - b >= n for c, b in zip(counts, before)))


if __name__ == "__main__":
    package.main()
