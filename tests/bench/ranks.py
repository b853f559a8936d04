#!/usr/bin/env python3
"""Two tensor-parallel ranks of one thread beside one rank of two threads: the same model, the same
token ids, in turn; and how long a group takes to start.

    ranks.py --model DIR [--rounds N] [--ranks N] [--library FILE] [--program FILE]

DIR: for instance the random model in the shape of Qwen2-0.5B that compare.py makes. Prints tokens/s
of both and the ratio of each round's pair (median), and the seconds from opening to readiness. The
share of time that ranks spend in collectives is in the log of the ranks (--log-level info).
"""
import argparse
import os
import random
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tools"))
from compare import processor  # noqa: E402
from poolrank_ctypes import Engine  # noqa: E402


def loads(rng):
    def texts(lengths):
        return [[rng.randrange(1000) for _ in range(n)] for n in lengths]
    return {"64 texts of 128 tokens": texts([128] * 64),
            "64 texts of 16 to 512 tokens": texts([rng.randint(16, 512) for _ in range(64)]),
            "one text of 32 tokens": texts([32])}


def seconds(engine, texts):
    begin = time.monotonic()
    for ticket in [engine.submit(tokens=t) for t in texts]:
        engine.wait(ticket)
    return time.monotonic() - begin


def opened(args, **options):
    begin = time.monotonic()
    engine = Engine(args.library, model=args.model, block="true", **options)
    return engine, time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--library", default=f"{ROOT}/build/libpoolrank.so.0")
    parser.add_argument("--program", default=f"{ROOT}/build/poolrank")
    args = parser.parse_args()
    os.environ["POOLRANK_PROGRAM"] = args.program
    print(processor())
    one, one_s = opened(args, threads=args.ranks)
    ranks, ranks_s = opened(args, threads=1, tensor_parallel_size=args.ranks,
                            worker_launch="mpirun", log_level="info")
    print(f"opening: one rank {one_s:.2f} s, {args.ranks} ranks {ranks_s:.2f} s")
    for name, texts in loads(random.Random(7)).items():
        n = sum(map(len, texts))
        seconds(one, texts[:8]), seconds(ranks, texts[:8])
        pairs = [(seconds(one, texts), seconds(ranks, texts)) for _ in range(args.rounds)]
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name}: one rank of {args.ranks} threads "
              f"{n / statistics.median(a for a, _ in pairs):.0f} tokens/s, {args.ranks} ranks of "
              f"one thread {n / statistics.median(b for _, b in pairs):.0f} tokens/s, ratio "
              f"{ratio:.2f}")
    one.close()
    ranks.close()


if __name__ == "__main__":
    main()
