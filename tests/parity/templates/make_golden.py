"""Writes tests/parity/templates/golden.json: small templates of our own, and what jinja2 makes of them in
the environment that transformers sets up. tests/unit/text/test_template.c reads it, without any Python.

    python make_golden.py > tests/parity/templates/golden.json

Needs jinja2 (3.1.6 made the committed file), and transformers if it is to be the judge.
"""
import json

import compare

VARIABLES = {
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": " Größe?\n"},
                 {"role": "assistant", "content": "42", "tool_calls": [
                     {"function": {"name": "f", "arguments": {"x": 1.0, "y": [True, None]}}}]}],
    "bos_token": "<s>", "eos_token": "</s>", "tools": None, "add_generation_prompt": True,
    "s": "Hello wörld ß ΑΣ", "n": 7, "f": 2.5, "l": [3, 1, 2], "none": None, "t": True, "e": "",
    "d": {"b": 1, "a": 2, "C": [1, {"x": None}]}, "ls": ["b", "A", "a", "B"], "html": "<b>&'\"x",
    "objs": [{"n": "x", "v": 2, "s": {"k": "z"}}, {"n": "Y", "v": 1}, {"n": "x", "v": 3}],
    "nested": [[1, 2], [3, 4]], "it": {"items": 5, "get": 1}, "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}],
}

TEMPLATES = r"""
{% for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% if not loop.last %}
{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}
=
{%- for m in messages -%}
    {%- if m.role == 'user' %}
U: {{ m.content -}}
    {%- elif m.role == "assistant" and m.tool_calls is defined %}
        {{- m.tool_calls[0].function | tojson }}
    {%- else %}{{ m }}{% endif -%}
{%- endfor %}
=
  {# a comment #}
  {% set x = 1 %}
 a {%+ if x %} b {% endif +%}
c {{- x -}}  d
=
{% raw %}{{ not }} {% this %}{% endraw %} {%- raw -%}  x  {%- endraw %} y
=
{% set ns = namespace(found=false, n=0) %}{% for x in l if x > 1 %}{% set ns.n = ns.n + x %}{% set ns.found = true %}{% set gone = 1 %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ gone is defined }}{{ ns }}
=
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}|{% else %}none{% endfor %}
=
{% for x in [] %}{{ x }}{% else %}none{% endfor %}{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% if x == 2 %}{% break %}{% endif %}{% endfor %}
=
{% for x in [1] %}{% break %}{% else %}else runs behind a break in the first round{% endfor %}
=
{% for node in tree recursive %}{{ node.n }}:{{ loop.depth }}[{{ loop(node.c) }}]{% endfor %}
=
{% macro f(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1) }}{{ f(1, 3, 4, 5, z=6) }}{{ f() }}
=
{% macro box(t) %}[{{ t }}:{{ caller(7) }}]{% endmacro %}{% call(n) box('x') %}{{ n }}{{ t }}{% endcall %}
=
{% macro f(x) %}{{ x }}{% endmacro %}{{ f(1, 2) }}
=
{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}{{ f }}
=
{% macro late() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ late() }}{% set x = 2 %}{{ late() }}
=
{% set x = 1 %}{% if n > 100 %}{% set x = 2 %}{% endif %}{{ x }}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}
=
{% if n > 100 %}{% set messages = [] %}{% endif %}{{ messages | length }}{% if true %}{% set y = 3 %}{% endif %}{{ y }}
=
{% set x %}a{{ n }}b{% endset %}{{ x }}{% set y | upper | replace('A', '-') %}a{{ n }}{% endset %}{{ y }}
=
{% filter upper %}hello {{ s }}{% endfilter %}{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
=
{% generation %}{{ s }}{% set inside = 1 %}{% endgeneration %}{{ inside is defined }}
=
{{ 1 if n > 3 }}{{ 1 if n > 30 }}{{ 1 if n > 30 else 2 }}{{ (1 if n > 30) is undefined }}
=
{{ 1 + 2 * 3 ** 2 // 4 % 5 - 1 }}{{ 7 // -2 }}{{ -7 % 3 }}{{ 7 / 2 }}{{ 2 ** -1 }}{{ 2.5 // 1 }}{{ 1e16 }}{{ 1e-5 }}{{ 0.1 + 0.2 }}{{ 123456789.0 }}{{ 1_000 }}{{ 0x1F }}
=
{{ 1 < n < 9 }}{{ 1 < n > 9 }}{{ 'a' in 'abc' }}{{ 'z' not in ls }}{{ 'a' in d }}{{ not none }}{{ none or 'x' }}{{ 0 and 1 }}{{ 1 == 1.0 }}{{ true == 1 }}{{ [1] == (1,) }}
=
{{ 'a' 'b' "c" }}{{ 'x' ~ 1 ~ none ~ [1.0, 'q'] }}{{ '\n\t\x41\u00e9\\\'' }}{{ "it's" }}{{ ["it's", 'a"b', 'é\n'] }}
=
{{ [1, 'a', none, true, 1.5, {'k': (1,)}, (), (1, 2)] }}{{ {'a': 1, 2: 'b'} }}{{ {} }}{{ [[]] }}
=
{{ s[0] }}{{ s[-1] }}{{ s[1:4] }}{{ s[::-1] }}{{ l[1:] }}{{ l[-2:] }}{{ l[::2] }}{{ (1, 2, 3)[:1] }}{{ l[9] is undefined }}{{ s[99:] }}{{ l.1 }}{{ d['C'][1].x }}
=
{{ d.items() | list }}{{ d.keys() }}{{ d.get('q') }}{{ d.get('q', 1) }}{{ it.items() }}
=
{{ it['items'] }}{{ it.get is callable }}
=
{{ l.append(1) }}
=
{{ d.update({}) }}
=
{{ s.__class__ }}
=
{{ s.__class__.__name__ }}
=
{{ undefined_name.x }}
=
{{ messages[0].nope.x }}
=
{{ messages[9].role }}
=
{{ undefined_name + 1 }}
=
{{ 'a' + 1 }}
=
{{ 1 + 'a' }}
=
{{ l + 1 }}
=
{{ none + 'a' }}
=
{{ 'a' < 1 }}
=
{{ 1 in 'a' }}
=
{{ 'a' in none }}
=
{{ none | length }}
=
{% for x in none %}{% endfor %}
=
{% for a, b in l %}{% endfor %}
=
{% for a, b in nested %}{{ a }}{{ b }}{% endfor %}{% for k, v in d.items() %}{{ k }}{{ v }}{% endfor %}{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a + b + c }}{% endfor %}
=
{{ raise_exception('Roles must alternate: ' ~ n) }}
=
{{ n() }}
=
{{ s.nope() }}
=
{{ l | nosuch }}
=
{% if false %}{{ l | nosuch }}{% endif %}ok{{ l is nosuch if false else 1 }}
=
{% if true %}{{ l | nosuch }}{% endif %}
=
{% if n %}
=
{% endif %}
=
{% for x in %}{% endfor %}
=
{{ n }
=
{% nosuch %}
=
{{ a b }}
=
{# never closed
=
{{ 'x' if }}
=
{% set 1 = 2 %}
=
{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ s.capitalize() }}{{ s.swapcase() }}{{ s | title }}{{ s | upper }}{{ s | capitalize }}
=
{{ ' a b  c '.split() }}{{ 'a,b,,c'.split(',') }}{{ 'a,b,c'.split(',', 1) }}{{ 'a b c'.rsplit(' ', 1) }}{{ 'a,b'.partition(',') }}{{ 'a\nb\r\nc\x85d'.splitlines() }}
=
{{ 'xxaxx'.strip('x') }}|{{ '  a '.lstrip() }}|{{ ' a  '.rstrip() }}|{{ '\u3000a\x1c'.strip() }}|{{ 'abc'.startswith(('x', 'ab')) }}{{ 'abc'.endswith('c') }}{{ 'aXbX'.replace('X', '--', 1) }}{{ 'abc'.replace('', '.') }}
=
{{ 'abcabc'.find('c') }}{{ 'abc'.find('z') }}{{ 'äbc'.index('c') }}{{ 'aaa'.count('a') }}{{ '7'.zfill(3) }}{{ 'a'.center(4, '*') }}{{ ', '.join(ls) }}{{ 'ab'.isalpha() }}{{ '١'.isdigit() }}{{ 'abc'.removeprefix('a') }}
=
{{ 'abc'.index('z') }}
=
{{ 'abc'.split('') }}
=
{{ ','.join(l) }}
=
{{ l | join }}{{ l | join(', ') }}{{ objs | join('-', attribute='n') }}{{ l | first }}{{ l | last }}{{ [] | first is undefined }}{{ l | min }}{{ l | max }}{{ l | sum }}{{ l | reverse | list }}{{ 'abc' | reverse }}{{ l | length }}
=
{{ l | sort }}{{ ls | sort }}{{ ls | sort(case_sensitive=true) }}{{ l | sort(reverse=true) }}{{ objs | sort(attribute='n,v') | map(attribute='v') | list }}{{ d | dictsort }}{{ d | dictsort(true, 'key', true) }}{{ ls | unique | list }}{{ objs | groupby('n') }}
=
{{ objs | map(attribute='s.k', default='-') | list }}{{ ls | map('upper') | join }}{{ l | select('odd') | list }}{{ l | reject('gt', 1) | list }}{{ objs | selectattr('n', 'equalto', 'x') | list | length }}{{ objs | rejectattr('s') | list | length }}{{ [0, 1, '', 'a'] | select | list }}
=
{{ l | batch(2, 'x') | list }}{{ l | slice(2) | list }}{{ d | items | list }}{{ 'abc' | list }}
=
{{ none | default('x') }}{{ none | default('x', true) }}{{ nope | default('x') }}{{ '' | d('x', true) }}{{ nope | default }}
=
{{ '42' | int }}{{ '4.9' | int }}{{ 'x' | int(5) }}{{ '0x1f' | int(0, 16) }}{{ 3.7 | int }}{{ '2.5' | float }}{{ 'x' | float }}{{ 2.5 | round }}{{ 2.567 | round(1) }}{{ 2.1 | round(0, 'ceil') }}{{ 7 | round }}{{ -3 | abs }}{{ -3 | string }}
=
{{ d | tojson }}{{ d | tojson(indent=2) }}{{ s | tojson }}{{ s | tojson(ensure_ascii=true) }}{{ d | tojson(separators=(',', ':')) }}{{ d | tojson(sort_keys=true) }}{{ '\x7f\u2028"\\\n' | tojson }}{{ [1.0, 1e300, none, true, ()] | tojson }}{{ {1: 2, none: 3} | tojson }}{{ [] | tojson(indent=1) }}
=
{{ nope | tojson }}
=
{{ html | e }}{{ html | safe }}{{ (html | safe) + html }}{{ html ~ (html | safe) }}{{ (html | safe) | upper }}{{ ('%s' | safe) % html }}{{ [html | safe] }}{{ (html | safe) is escaped }}
=
{{ 'a\nb\n\nc' | indent }}{{ 'a\nb' | indent(2, true) }}{{ 'a\n\nb' | indent('> ', blank=true) }}{{ 'a b c d e f g' | truncate(6) }}{{ 'abcdefgh' | truncate(5, true, '', 0) }}{{ 'a b-c' | wordcount }}{{ 'a b/ü' | urlencode }}
=
{{ '%s is %d and %5.2f%% %r %x' % ('a', 3, 2.567, 'q', 255) }}{{ '%(a)s' % {'a': 1} }}{{ '%-5s|%05d|%+d' | format('a', 42, 7) }}
=
{{ '%d' % 'x' }}
=
{{ '%s %s' % 'x' }}
=
{{ '{} {1}'.format(1, 2) }}
=
{{ '{} {}'.format(1, 'b') }}{{ '{0}{1}{0}'.format('a', 'b') }}{{ '{x:>5}|{y:05.1f}|{z!r}'.format(x='a', y=2.25, z='q') }}{{ '{0[a]} {1.n}'.format(d, objs[0]) }}{{ '{{}}{:,}'.format(1234567) }}
=
{{ n is odd }}{{ n is divisibleby 7 }}{{ n is number }}{{ n is integer }}{{ f is float }}{{ s is string }}{{ d is mapping }}{{ l is sequence }}{{ d.items() is iterable }}{{ none is none }}{{ t is true }}{{ t is boolean }}{{ nope is defined }}{{ n is in [7] }}{{ n is eq 7 }}{{ 'upper' is filter }}{{ 'x' is not lower }}
=
{{ range(5) | list }}{{ range(1, 9, 3) | list }}{{ range(3) }}{{ dict(a=1, **{'b': 2}) }}{{ dict([('x', 1)]) }}
=
{{ range(1000000) }}
=
{{ strftime_now('%Y-%m-%d %H:%M:%S.%f %A %-d %B %j|%Z') }}
=
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{% set j = joiner('|') %}{{ j() }}{{ j() }}
=
{% set a, b = 1, 2 %}{{ a + b }}{% set ns = namespace() %}{% set ns.x, c = 3, 4 %}{{ ns.x + c }}{% set d.x = 1 %}
=
{% print 1, 'a' %}{% if n: %}x{% endif %}
=
{{ loop }}{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
=
{{ messages | selectattr('role', 'ne', 'system') | map(attribute='content') | join(' / ') }}{{ (messages | last).tool_calls[0].function.arguments | tojson }}
=
{% block x %}{% endblock %}
=
{% include 'x' %}
"""


def main():
    compile_template, judge = compare.compiler()
    cases = []
    for source in TEMPLATES.strip("\n").split("\n=\n"):
        template, failed = compare.judge_parse(compile_template, source)
        case = {"template": source}
        if source.startswith(("{% block", "{% include")):  # ours to refuse
            case.update(kind="Unsupported", message="the tag '%s'" % source.split()[1])
        elif failed:
            case.update(kind=failed[0], message=failed[1], line=failed[2])
        else:
            case.update(compare.judge_render(template, VARIABLES))
        cases.append(case)
    now_us = int(compare.NOW.replace(tzinfo=compare.datetime.timezone.utc).timestamp() * 1e6)
    print(json.dumps({"judge": judge, "now_us": now_us, "variables": VARIABLES, "cases": cases},
                     ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
