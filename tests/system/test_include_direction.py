"""The house's order, read from every #include: runtime <- kernels <- worker <- coordinator <- server
<- program; client sees only runtime/base and runtime/wire; within runtime, base is below the rest and
no two folders include each other; the rooms of a floor stand in an order of their own (ROOMS). Own
header first, includes by path from the root, files under 800 lines."""
import os
import re
import subprocess
import unittest

from program import ROOT

# From left to right: a folder may include itself and what stands to its left.
ORDER = ["runtime", "kernels", "worker", "coordinator", "server", "program"]
# The rooms of a floor, likewise. A room that a floor's own list does not name fails.
ROOMS = {
    "runtime/text": ["unicode", "regex", "tokenizer", "template"],
    "coordinator": ["options", "model", "queue", "fleet", "engine"],
    "server": ["service", "net", "http", "socket"],
}
APART = [("server/net", "server/service"), ("server/http", "server/socket"),
         ("runtime/text/template", "runtime/text/tokenizer"),
         ("runtime/text/template", "runtime/text/regex")]  # neither sees the other
CLIENT_MAY = ("client/", "runtime/base/", "runtime/wire/", "include/poolrank/")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
# Modules (a .c and a .h of one name) that still include each other round and round. A circle that is
# in none of these fails; take out what is cut up.
CIRCLES_LEFT = [
    ["coordinator/engine/engine", "coordinator/engine/engine_admission",
     "coordinator/engine/engine_state"],
    ["kernels/cpu/cpu_backend", "kernels/cpu/gemm", "kernels/cpu/isa"],
    ["runtime/checkpoint/checkpoint", "runtime/checkpoint/safetensors"],
    ["runtime/model/activation", "runtime/model/families", "runtime/model/model_parse",
     "runtime/model/model_spec", "runtime/model/weight_names", "runtime/model/weight_rows"],
    ["runtime/plan/batch_plan", "runtime/plan/cache_stores", "runtime/plan/pool_plan",
     "runtime/plan/prefix_tree"],
    ["runtime/text/template/ast", "runtime/text/template/attributes", "runtime/text/template/call",
     "runtime/text/template/eval", "runtime/text/template/filters", "runtime/text/template/format",
     "runtime/text/template/functions", "runtime/text/template/globals",
     "runtime/text/template/iterate", "runtime/text/template/lexer",
     "runtime/text/template/methods", "runtime/text/template/operators",
     "runtime/text/template/parser", "runtime/text/template/parser_state",
     "runtime/text/template/render", "runtime/text/template/scope",
     "runtime/text/template/string_literal", "runtime/text/template/strings",
     "runtime/text/template/symbols", "runtime/text/template/template",
     "runtime/text/template/tests", "runtime/text/template/value",
     "runtime/text/template/value_text", "runtime/text/template/variables"],
    ["server/http/http_exchange", "server/http/http_params"],
    ["server/http/http_server", "server/http/http_transport"],
    ["server/socket/socket_connection", "server/socket/socket_info",
     "server/socket/socket_request", "server/socket/socket_server", "server/socket/socket_state"],
    ["worker/control", "worker/control_fields"],
    ["worker/cuda/device_memory", "worker/cuda/nccl_comm", "worker/cuda/plugin"],
]
LINES_MAX = 800
COLUMNS_MAX = 100
GENERATED = ("runtime/text/unicode/unicode_tables.h", "runtime/text/template/python_tables.h")


def sources(folder):
    for where, folders, files in os.walk(os.path.join(ROOT, folder)):
        folders.sort()
        for name in sorted(files):
            if name.endswith((".c", ".h", ".cu", ".cuh")):
                yield os.path.relpath(os.path.join(where, name), ROOT)


def includes(path, text=None):
    if text is None:
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = f.read()
    return [m.group(1) for m in map(INCLUDE.match, text.splitlines()) if m]


def runtime_folder(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "runtime" and len(parts) > 2 else None


def room_error(path, target):
    """Why `path` may not include `target`, a file of the same floor, or None."""
    here, there = os.path.dirname(path), os.path.dirname(target)
    for floor, rooms in ROOMS.items():
        inside = [os.path.relpath(folder, floor) for folder in (here, there)
                  if folder.startswith(floor + "/")]
        if len(inside) < 2:
            continue
        unknown = [room for room in inside if room not in rooms]
        if unknown:
            return "%s/%s is not in ROOMS" % (floor, unknown[0])
        if rooms.index(inside[1]) > rooms.index(inside[0]):
            return "%s is to the right of %s" % (there, here)
    if (here, there) in APART or (there, here) in APART:
        return "%s and %s do not know each other" % (here, there)
    return None


def direction_error(path, target, edges):
    """Why `path` may not include `target`, or None. Notes edges between runtime's folders."""
    top, target_top = path.split("/")[0], target.split("/")[0]
    if target_top == "include":
        return None
    if top == "client":
        return None if target.startswith(CLIENT_MAY) else "client sees only base and wire"
    if target_top not in ORDER:
        return "not a path from the root"
    if ORDER.index(target_top) > ORDER.index(top):
        return "%s is to the right of %s" % (target_top, top)
    here, there = runtime_folder(path), runtime_folder(target)
    if here and there and here != there:
        if here == "base":
            return "base is below the rest of runtime"
        edges.add((here, there))
    return room_error(path, target)


def circles(edges):
    """The strongly connected sets of more than one module. edges: {module: modules}. Tarjan 1972."""
    index, low, stack, found = {}, {}, [], []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in edges.get(v, ()):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(edges):
        if v not in index:
            visit(v)
    return found


def module_edges():
    edges = {}
    for folder in ORDER + ["client"]:
        for path in sources(folder):
            here = os.path.splitext(path)[0]
            there = {os.path.splitext(target)[0] for target in includes(path)}
            edges.setdefault(here, set()).update(there - {here})
    return edges


class IncludeDirection(unittest.TestCase):
    def test_no_folder_includes_what_stands_to_its_right(self):
        errors, edges = [], set()
        for folder in ORDER + ["client"]:
            for path in sources(folder):
                for target in includes(path):
                    why = direction_error(path, target, edges)
                    if why:
                        errors.append("%s: #include \"%s\": %s" % (path, target, why))
                    elif not os.path.exists(os.path.join(ROOT, target)):
                        errors.append("%s: #include \"%s\": no such file" % (path, target))
        for here, there in sorted(edges):
            if (there, here) in edges:
                errors.append("runtime/%s and runtime/%s include each other" % (here, there))
        self.assertEqual(errors, [])

    def test_the_rule_can_fail(self):
        edges = set()
        for path, target in [("runtime/base/a.c", "runtime/text/b.h"),
                             ("runtime/text/a.c", "kernels/backend.h"),
                             ("kernels/cpu/a.c", "worker/comm.h"),
                             ("worker/a.c", "coordinator/options/config.h"),
                             ("client/a.c", "runtime/text/tokenizer/tokenizer.h"),
                             ("worker/a.c", "comm.h"),
                             ("runtime/text/regex/a.c", "runtime/text/tokenizer/vocab.h"),
                             ("coordinator/options/a.c", "coordinator/engine/engine.h"),
                             ("coordinator/other/a.c", "coordinator/options/config.h"),
                             ("server/socket/a.c", "server/http/http_api.h"),
                             ("server/service/a.c", "server/http/http_api.h")]:
            self.assertIsNotNone(direction_error(path, target, edges), (path, target))
        self.assertIsNone(direction_error("worker/a.c", "kernels/backend.h", edges))
        self.assertEqual(includes("x", '#include "a/b.h"\n# include <c.h>\n// #include "d.h"'),
                         ["a/b.h"])

    def test_no_modules_include_each_other(self):
        new = [c for c in circles(module_edges())
               if not any(set(c) <= set(left) for left in CIRCLES_LEFT)]
        self.assertEqual(new, [])
        self.assertEqual(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}), [["b", "c"]])

    def test_installed_headers_include_only_each_other(self):
        for path in sources("include"):
            for target in includes(path):
                self.assertTrue(os.path.exists(os.path.join(ROOT, "include/poolrank", target)),
                                "%s: %s" % (path, target))

    def test_a_module_includes_its_own_header_first(self):
        errors = []
        for folder in ORDER:
            for path in sources(folder):
                own = path[:-2] + ".h"
                if path.endswith(".c") and os.path.exists(os.path.join(ROOT, own)):
                    if includes(path)[:1] != [own]:
                        errors.append("%s: expected #include \"%s\" first" % (path, own))
        self.assertEqual(errors, [])

    def test_files_are_short_enough_to_read(self):
        errors = []
        for folder in ORDER + ["client", "include", "tests"]:
            for path in sources(folder):
                if path in GENERATED:
                    continue  # made by a program, data only
                with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                    n = sum(1 for _ in f)
                if n > LINES_MAX:
                    errors.append("%s: %d lines, expected at most %d" % (path, n, LINES_MAX))
        self.assertEqual(errors, [])

    def test_numbers_are_read_without_the_processes_locale(self):
        banned = re.compile(r"\b(strto(d|f|ld)|atof)\s*\(|\bstrftime\s*\(\w|scanf\s*\([^;]*%\*?[0-9]*[lL]?[aefgAEFG]")
        errors = []
        for folder in ORDER + ["client"]:
            for path in sources(folder):
                if path == "runtime/base/number_locale.c":
                    continue
                with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                    errors += ["%s:%d: %s: see runtime/base/number.h" % (path, i, line.strip())
                               for i, line in enumerate(f, 1)
                               if banned.search(line.split("//")[0]) and not
                               line.lstrip().startswith(("*", "/*"))]
        self.assertEqual(errors, [])
        self.assertTrue(banned.search("double x = strtod(text, &end);"))
        self.assertTrue(banned.search('sscanf(text, "%d %lf", &i, &x)'))
        self.assertFalse(banned.search('sscanf(text, "rank %u of", &rank)'))

    def test_lines_are_of_at_most_100_columns(self):
        errors = []
        for folder in ORDER + ["client", "include", "tests"]:
            for path in sources(folder):
                if path in GENERATED:
                    continue
                with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                    errors += ["%s:%d" % (path, i) for i, line in enumerate(f, 1)
                               if len(line.rstrip("\n")) > COLUMNS_MAX]
        self.assertEqual(errors, [])

    def test_every_header_compiles_alone(self):
        flags = ["-std=c17", "-fsyntax-only", "-D_POSIX_C_SOURCE=200809L", "-I" + ROOT]
        for library in ("jansson", "libpcre2-8", "libuv", "nettle", "msgpack", "ompi-c"):
            try:
                found = subprocess.run(["pkg-config", "--cflags", library], capture_output=True,
                                       text=True, check=True)
                flags += found.stdout.split()
            except (OSError, subprocess.CalledProcessError):
                if library == "ompi-c":  # a build without MPI
                    flags.append("-DNO_MPI")
        homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
        cuda = [home + "/include" for home in homes
                if home and os.path.exists(home + "/include/cuda_runtime_api.h")]
        flags += ["-isystem" + folder for folder in cuda[:1]]
        errors = []
        for folder in ORDER + ["include"]:
            for path in sources(folder):
                # Bodies and instruction sets are not headers of a module: included once, inside.
                if not path.endswith(".h") or re.search(r"(_body|_impl|_avx2|_avx512|_tile|_rows)"
                                                        r"\.h$|rowwise\.h$|vmath", path):
                    continue
                if "-DNO_MPI" in flags and path.startswith("worker/mpi/"):
                    continue
                if not cuda and path.startswith("kernels/cuda/"):  # no toolkit
                    continue
                done = subprocess.run(["cc", *flags, "-include", os.path.join(ROOT, path), "-x",
                                       "c", "/dev/null"], capture_output=True, text=True)
                if done.returncode:
                    errors.append(path + ": " + done.stderr.splitlines()[0])
        self.assertEqual(errors, [])


if __name__ == "__main__":
    unittest.main(verbosity=1)
