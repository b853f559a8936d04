#!/usr/bin/env python3
"""What serving costs: `poolrank serve` under load, beside the offline command.

    serve.py [--model DIR] [--tiny DIR] [--seconds S] [--rounds N] [--program FILE] [--load FILE]
    serve.py --smoke          a second or two: only whether all of it works

1. Overhead, with a model so small that it costs nothing (--tiny): requests a second and embeddings
   per second of server core, over HTTP and over the socket protocol; goal 15,000 over HTTP.
2. Throughput with a real model (--model, for instance all-MiniLM-L6-v2; left out without one) as a
   share of `poolrank embed --input`, in turn; goal 0.90.
3. Fairness: the latency of single texts while a request of 2,048 texts runs. First come, first
   served would make them wait for all of it."""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "service"))
BULK = 2048     # texts of a bulk request: --max-client-batch-size
PATIENCE_S = 600


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return "%s, %d processors" % (names[0] if names else "unknown",
                                  len(os.sched_getaffinity(0)))


def texts(n, words, seed=5):
    rng = random.Random(seed)
    vocabulary = ("the river runs below old houses and a bridge of stone keeps its name while "
                  "people cross it every day on their way to work in the town").split()
    return [" ".join(rng.choice(vocabulary) for _ in range(words)) for _ in range(n)]


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        from running_server import Server  # reads POOLRANK_PROGRAM
        self.make_server = Server

    def serve(self, model, *options):
        socket = os.path.join(self.folder, "socket")
        server = self.make_server(self.folder, "--socket", "unix://" + socket, *options,
                                  model_name=os.path.abspath(model), log_level="warning")
        server.socket = socket
        return server.wait_ready()

    def load(self, server, *options, over="http"):
        """What poolrank_load says; an answer that is wrong or missing ends the benchmark."""
        address = ("unix://" + server.socket if over == "socket"
                   else "tcp://127.0.0.1:%d" % server.port)
        done = subprocess.run([self.args.load, address, "--protocol", over, "--pid",
                               str(server.pid), "--json", *map(str, options)],
                              capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode != 0:
            raise SystemExit("poolrank_load %s: %s%s" % (" ".join(map(str, options)), done.stdout,
                                                         done.stderr))
        return json.loads(done.stdout)

    def file(self, name, lines):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("".join(line + "\n" for line in lines))
        return path

    # ---- 1 ----

    def overhead(self):
        cases = [("HTTP, 64 connections, one text", "http", ["--connections", 64]),
                 ("the same, base64", "http", ["--connections", 64, "--format", "base64"]),
                 ("HTTP, one connection", "http", ["--connections", 1]),
                 ("HTTP, 64 connections, 16 texts", "http", ["--connections", 64, "--texts", 16]),
                 ("socket, 64 connections, one text", "socket", ["--connections", 64]),
                 ("socket, 8 connections, 8 requests each open", "socket",
                  ["--connections", 8, "--in-flight", 8])]
        print("\n1. Overhead, %s" % os.path.basename(self.args.tiny))
        print("%-46s %10s %8s %8s %9s %9s %9s" % ("", "requests/s", "p50 ms", "p99 ms",
                                                  "server", "load", "texts/core s"))
        server = self.serve(self.args.tiny)
        try:
            for name, over, options in cases:
                r = self.load(server, *options, "--compare", "--seconds", self.args.seconds,
                              "--warm-up", self.args.seconds / 3, over=over)
                print("%-46s %10.0f %8.2f %8.2f %7.0f %% %7.0f %% %12.0f" % (
                    name, r["answered"] / r["seconds"], r["p50_ms"], r["p99_ms"],
                    100 * r["server_cpu_s"] / r["seconds"], 100 * r["own_cpu_s"] / r["seconds"],
                    r["texts"] / r["server_cpu_s"]))
        finally:
            server.stop()

    # ---- 2 ----

    def offline_seconds(self, path):
        begin = time.monotonic()
        subprocess.run([self.args.program, "embed", "--model", self.args.model, "--quiet",
                        "--input", path, "--output", os.path.join(self.folder, "out.jsonl")],
                       check=True, timeout=PATIENCE_S)
        return time.monotonic() - begin

    def throughput(self):
        n = self.args.texts
        path = self.file("texts", texts(n, self.args.words))
        one = self.file("one", texts(1, self.args.words))
        start_s = min(self.offline_seconds(one) for _ in range(2))
        server = self.serve(self.args.model)
        cases = [("bulk, 2 connections, 256 texts", ["--texts", 256, "--connections", 2]),
                 ("64 connections, one text", ["--connections", 64])]
        found = {name: [] for name, _ in cases}
        try:
            self.load(server, "--connections", 8, "--input", path, "--seconds", 1)
            for _ in range(self.args.rounds):
                offline = n / (self.offline_seconds(path) - start_s)
                for name, options in cases:
                    n_requests = -(-n // 256) if "--texts" in options else n
                    r = self.load(server, "--input", path, *options, "--requests", n_requests)
                    found[name].append((r["texts"] / r["seconds"], offline, r))
        finally:
            server.stop()
        print("\n2. Throughput, %s, %d texts of %d words, %d rounds in turn"
              % (os.path.basename(self.args.model.rstrip("/")), n, self.args.words,
                 self.args.rounds))
        for name, rows in found.items():
            shares = [served / offline for served, offline, _ in rows]
            print("%-34s %7.1f texts/s, offline %7.1f: share %.3f (%.3f to %.3f), p99 %.0f ms" % (
                name, statistics.median(r[0] for r in rows), statistics.median(r[1] for r in rows),
                statistics.median(shares), min(shares), max(shares),
                statistics.median(r[2]["p99_ms"] for r in rows)))

    # ---- 3 ----

    @staticmethod
    def single_ms(connection, text):
        begin = time.monotonic()
        answer = connection.ask("POST", "/v1/embeddings", {"input": text})
        if answer.status != 200:
            raise SystemExit("single text: %d %s" % (answer.status, answer.text))
        return 1e3 * (time.monotonic() - begin)

    def fairness(self):
        print("\n3. Fairness: single texts, one after the other, beside a request of %d texts"
              % self.args.bulk)
        for budget in self.args.budgets:
            self.fairness_with(budget)

    def fairness_with(self, budget):
        server = self.serve(self.args.model or self.args.tiny,
                            "--max-num-batched-tokens", str(budget))
        bulk_texts = texts(self.args.bulk, 16, seed=6)
        took = []

        def bulk():
            connection = server.connect()
            begin = time.monotonic()
            answer = connection.ask("POST", "/v1/embeddings", {"input": bulk_texts})
            took.append((time.monotonic() - begin, answer.status))
            connection.close()
        try:
            connection = server.connect()
            idle = [self.single_ms(connection, text) for text in texts(50, 16)]
            thread = threading.Thread(target=bulk)
            thread.start()
            busy = []
            while thread.is_alive():
                busy.append(self.single_ms(connection, "a text of a person who waits for it"))
            thread.join()
            connection.close()
        finally:
            server.stop()
        if took[0][1] != 200:
            raise SystemExit("bulk request: status %d" % took[0][1])
        print("batches of %d tokens" % budget)
        for name, ms in (("idle server", idle), ("beside the bulk request", busy)):
            print("  %-32s p50 %.1f ms, mean %.1f ms, worst %.1f ms (%d texts)"
                  % (name, statistics.median(ms), statistics.mean(ms), max(ms), len(ms)))
        print("  %-32s %.0f ms: what first come, first served would cost"
              % ("the bulk request itself", 1e3 * took[0][0]))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--tiny", default=f"{ROOT}/tests/parity/models/bert-st-mean")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1024, help="of part 2")
    parser.add_argument("--words", type=int, default=32, help="of each text of part 2")
    parser.add_argument("--only", choices=["overhead", "throughput", "fairness"])
    parser.add_argument("--program", default=f"{ROOT}/build/poolrank")
    parser.add_argument("--load", help="default: tests/bench/poolrank_load beside the program")
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    args.bulk, args.budgets = BULK, [2048, 256]
    if args.smoke:
        args.seconds, args.rounds, args.texts, args.bulk = 0.15, 1, 64, 64
        args.model, args.budgets = args.tiny, [2048]
    args.load = args.load or f"{os.path.dirname(args.program)}/tests/bench/poolrank_load"
    os.environ["POOLRANK_PROGRAM"] = args.program
    print(processor())
    with tempfile.TemporaryDirectory(prefix="poolrank-bench-") as folder:
        bench = Bench(args, folder)
        if args.only in (None, "overhead"):
            bench.overhead()
        if args.model and args.only in (None, "throughput"):
            bench.throughput()
        if args.only in (None, "fairness"):
            bench.fairness()


if __name__ == "__main__":
    main()
