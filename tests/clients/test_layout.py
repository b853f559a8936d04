"""The package's idea of the C interface is the header's: sizes and offsets from a compiler,
versions from the sources; and the package compiles."""
import ctypes
import os
import re
import subprocess
import sys
import tempfile
import unittest

import package
from poolrank import __version__, _library, errors

STRUCTURES = {"pr_error": _library.PrError, "pr_request": _library.PrRequest,
              "pr_result": _library.PrResult}
TYPES_H = os.path.join(package.ROOT, "include", "poolrank", "types.h")


def compiled_layout():
    """{"pr_request": size, "pr_request.task": offset, …} as a C compiler has it."""
    lines = []
    for name, structure in STRUCTURES.items():
        lines.append('printf("%s %%zu\\n", sizeof(%s));' % (name, name))
        for field, *_ in structure._fields_:
            lines.append('printf("%s.%s %%zu %%zu\\n", offsetof(%s, %s), sizeof ((%s *)0)->%s);'
                         % (name, field, name, field, name, field))
    source = ('#include <poolrank/engine.h>\n#include <stdio.h>\nint main(void)\n{\n%s\n}\n'
              % "\n".join(lines))
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "layout")
        subprocess.run([os.environ.get("POOLRANK_CC", "cc"), "-x", "c", "-", "-o", program, "-I",
                        os.path.join(package.ROOT, "include")], input=source.encode(), check=True)
        out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in out.splitlines())
    return {name: tuple(map(int, numbers)) for name, *numbers in rows}


def declared_fields(name):
    """The names of a structure's fields, in order, as the header says."""
    with open(os.path.join(package.ROOT, "include", "poolrank", "engine.h"),
              encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    body = re.search(r"struct %s \{(.*?)\}" % name, text, re.S).group(1)
    return [re.sub(r"[\s*]+", "", word.split()[-1]) if i == 0 else word.strip()
            for statement in body.split(";") if statement.strip()
            for i, word in enumerate(statement.split(","))]


class Layout(unittest.TestCase):
    def test_structures_are_laid_out_as_the_compiler_does(self):
        expected = compiled_layout()
        for name, structure in STRUCTURES.items():
            self.assertEqual((ctypes.sizeof(structure),), expected[name], name)
            for field, *_ in structure._fields_:
                place = getattr(structure, field)
                self.assertEqual((place.offset, place.size), expected[name + "." + field],
                                 name + "." + field)

    def test_structures_have_all_fields_of_the_header(self):
        for name in ("pr_request", "pr_result"):
            self.assertEqual([f[0] for f in STRUCTURES[name]._fields_], declared_fields(name))

    def test_statuses_and_tasks_are_those_of_the_header(self):
        with open(TYPES_H, encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        tasks = re.findall(r"PR_TASK_(\w+)", text)[:-1]
        statuses = re.findall(r"PR_(?:E_)?(OK|ARGUMENT|INPUT|TOO_LONG|TOO_LARGE|UNSUPPORTED|MODEL|"
                              r"NOT_FOUND|IO|NOMEM|OVERLOADED|CANCELLED|TIMEOUT|UNAVAILABLE|"
                              r"INTERNAL)\b", text)
        self.assertEqual(tuple(t.lower() for t in tasks), _library.TASKS)
        self.assertEqual(len(re.findall(r"^\s*PR_(?:OK|E_\w+)\b", text, re.M)), len(statuses))
        names = ["no_memory" if s == "NOMEM" else s.lower() for s in statuses]
        self.assertEqual(tuple(names), errors.CODE_OF_NUMBER)
        self.assertEqual(names[_library.NO_MEMORY], "no_memory")

    def test_version_is_the_library_s(self):
        with open(os.path.join(package.ROOT, "include", "poolrank", "engine.h"),
                  encoding="utf-8") as f:
            self.assertIn('#define POOLRANK_VERSION "%s"' % __version__, f.read())

    def test_package_compiles(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-X", "pycache_prefix=" + folder, "-m", "compileall", "-q",
                 os.path.dirname(_library.__file__)], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    package.main()
