#!/usr/bin/env python3
"""How much faster poolrank renders chat templates than transformers with jinja2.

    python templates.py --tool build/tests/tools/render_template --packages DIR [--every 20]

DIR: as for tests/parity/templates/compare.py. Each template renders one conversation of 7 turns with a
system message, with the parsed template at hand on both sides; poolrank starts from parsed JSON, jinja2
from Python objects. Says the ratio of the medians of each template: its median, its least and its most.
"""
import argparse
import os
import statistics
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "parity", "templates"))
import compare  # noqa: E402

TURNS = [{"role": "system", "content": "You are a careful assistant. Answer in one sentence."}]
for i in range(3):
    TURNS += [{"role": "user", "content": "Question %d: what is %d * 7, and why does it matter here?" % (i, i)},
              {"role": "assistant", "content": "It is %d, because seven of them make that sum." % (7 * i)}]
CASE = {"messages": TURNS + [{"role": "user", "content": "Thank you. And 7 * 7?"}], "tools": None,
        "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>"}


def time_jinja2(template, repeat):
    rounds = []
    for _ in range(5):
        begin = time.perf_counter()
        for _ in range(repeat):
            template.render(**CASE)
        rounds.append((time.perf_counter() - begin) / repeat)
    return statistics.median(rounds)


def time_poolrank(tool, source, repeat):
    rounds = []
    for _ in range(5):
        answer = tool.ask({"template": source, "cases": [CASE], "now_us": 0, "repeat": repeat})
        rounds.append(answer["cases"][0]["ns"] / 1e9)
    return statistics.median(rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--packages", required=True)
    parser.add_argument("--every", type=int, default=20)
    args = parser.parse_args()
    compile_template, judge = compare.compiler()
    tool, seen, ratios = compare.Tool(args.tool), {}, []
    for name, source in compare.templates(args.packages):
        seen.setdefault(source, name)
    for source, name in list(seen.items())[::args.every]:
        template, failed = compare.judge_parse(compile_template, source)
        if failed or "text" not in compare.judge_render(template, CASE):
            continue
        theirs, ours = time_jinja2(template, 200), time_poolrank(tool, source, 2000)
        ratios.append((theirs / ours, name, theirs, ours))
    tool.close()
    ratios.sort()
    middle = ratios[len(ratios) // 2]
    print("%s; %d templates, a conversation of 8 messages" % (judge, len(ratios)))
    print("times faster: median %.1f, least %.1f (%s), most %.1f" % (
        statistics.median(r[0] for r in ratios), ratios[0][0], ratios[0][1], ratios[-1][0]))
    print("the median one: jinja2 %.1f us, poolrank %.2f us" % (middle[2] * 1e6, middle[3] * 1e6))


if __name__ == "__main__":
    main()
