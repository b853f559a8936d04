#!/usr/bin/env python3
"""Rewards of N answers to each of 4 questions, with shared prefixes computed once, or not.

    best_of_n.py [--answers N] [--rounds N] [--threads N] [--library FILE] [--transformers]

A model in the shape of Qwen2-0.5B with random weights in bfloat16 and a head of one label; questions
of 512 tokens, answers of 64. Prints seconds and counted tokens/s: all at once without sharing; with
sharing inside a batch; the same again, from the cache; and 16 requests in flight, from the cache.
Results are compared bit for bit. Needs a Python with torch and transformers to make the model.
"""
import argparse
import collections
import os
import random
import statistics
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tools"))
sys.path.insert(0, HERE)
from compare import processor  # noqa: E402
from poolrank_ctypes import Engine  # noqa: E402

QUESTIONS, QUESTION_TOKENS, ANSWER_TOKENS, IN_FLIGHT = 4, 512, 64, 16


def model_make(folder):
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForSequenceClassification
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=151936, hidden_size=896, intermediate_size=4864,
                         num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                         max_position_embeddings=8192, num_labels=1, pad_token_id=151643)
    Qwen2ForSequenceClassification(config).to(torch.bfloat16).save_pretrained(folder)
    small = f"{ROOT}/tests/parity/tokenizers/small/qwen2_bpe.json"
    PreTrainedTokenizerFast(tokenizer_file=small, pad_token="<|endoftext|>").save_pretrained(folder)


def requests(n_answers):
    rng = random.Random(1)

    def tokens(n):
        return [rng.randrange(1000, 150000) for _ in range(n)]
    return [question + tokens(ANSWER_TOKENS)
            for question in (tokens(QUESTION_TOKENS) for _ in range(QUESTIONS))
            for _ in range(n_answers)]


def all_at_once(engine, rows):
    begin = time.monotonic()
    tickets = [engine.submit(tokens=row, task="reward") for row in rows]
    values = [engine.wait(ticket).data for ticket in tickets]
    return time.monotonic() - begin, values


def a_few_at_a_time(engine, rows):
    begin = time.monotonic()
    under_way, values = collections.deque(), []
    for row in rows:
        if len(under_way) == IN_FLIGHT:
            values.append(engine.wait(under_way.popleft()).data)
        under_way.append(engine.submit(tokens=row, task="reward"))
    values += [engine.wait(ticket).data for ticket in under_way]
    return time.monotonic() - begin, values


def transformers_seconds(folder, rows, threads):
    import torch
    from transformers import AutoModelForSequenceClassification
    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    begin = time.monotonic()
    with torch.inference_mode():
        for i in range(0, len(rows), 16):
            model(torch.tensor(rows[i:i + 16]))
    return time.monotonic() - begin


def measure(args, folder):
    rows = requests(args.answers)
    n = sum(map(len, rows))
    common = dict(model=folder, threads=args.threads, task="reward")
    expected, seconds = None, collections.defaultdict(list)
    for _ in range(args.rounds):
        for name, options in (("without sharing", {"enable_prefix_caching": "false"}),
                              ("shared inside a batch", {"prefix_cache_bytes": "0"}),
                              ("with the cache, the first time", {})):
            engine = Engine(args.library, **common, **options)
            engine.ask(tokens=rows[0][-8:], task="reward")
            runs = [(name, all_at_once)]
            if not options:
                runs += [("again, from the cache", all_at_once),
                         ("again, 16 in flight", a_few_at_a_time)]
            for label, run in runs:
                took, values = run(engine, rows)
                seconds[label].append(took)
                expected = expected or values
                assert values == expected, label
            engine.close()
    base = statistics.median(seconds["without sharing"])
    if args.transformers:
        seconds["transformers, f32"] = [transformers_seconds(folder, rows, args.threads)]
    for name, all_seconds in seconds.items():
        took = statistics.median(all_seconds)
        print(f"  {name:32s} {took:8.2f} s {n / took:10.0f} tokens/s, {base / took:6.2f} times the "
              f"speed without sharing")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--library", default=f"{ROOT}/build/libpoolrank.so.0")
    parser.add_argument("--transformers", action="store_true")
    args = parser.parse_args()
    print(f"{processor()}; {QUESTIONS} questions of {QUESTION_TOKENS} tokens x {args.answers} "
          f"answers of {ANSWER_TOKENS}, {args.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        model_make(folder)
        measure(args, folder)


if __name__ == "__main__":
    main()
