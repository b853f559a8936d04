#!/usr/bin/env python3
"""Compiles the CUDA kernels with nvcc and says how many registers each takes and what it spills.

    registers.py --nvcc NVCC --source DIR --work DIR [--architectures "80;90"] [--check | --write]

--check compares with the table tests/simcuda/registers.txt, line by line, for the architectures
named, and fails with the lines that differ; --write makes the table anew. Another version of nvcc
than the table's skips the comparison (its first line says which), and still requires no spill.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys

FILES = ("attention", "attention_f32", "pool", "rope", "rowwise")


def compile_file(arguments, name, arch):
    os.makedirs(arguments.work, exist_ok=True)
    command = [arguments.nvcc, "-O3", "-std=c++17", f"-arch=sm_{arch}", "-Xptxas", "-v",
               "-I", arguments.source, "-c",
               os.path.join(arguments.source, "kernels", "cuda", name + ".cu"),
               "-o", os.path.join(arguments.work, f"{name}.sm_{arch}.o")]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(f"{name}.cu for sm_{arch}: nvcc failed:\n{run.stderr}")
    return run.stdout + run.stderr


def demangle(name):
    """_Z19pr_attention_kernelI13__nv_bfloat16Li64ELi64EEv... -> pr_attention_kernel<bf16,64,64>"""
    found = re.search(r"pr_\w+?_kernel(?=[<Iv1-9])", name)
    base = found.group(0) if found else name
    rest = name[found.end():] if found else ""
    if rest.startswith("<"):
        inside = rest[1:rest.index(">")]
        words = [w.strip() for w in inside.split(",")]
        short = {"__nv_bfloat16": "bf16", "__half": "f16", "float": "f32"}
        return f"{base}<{','.join(short.get(w, w) for w in words)}>"
    if not rest.startswith("I"):
        return base
    words, at = [], 1
    last = None
    while at < len(rest) and rest[at] != "E":
        if rest.startswith("13__nv_bfloat16", at):
            last, at = "bf16", at + 15
        elif rest.startswith("6__half", at):
            last, at = "f16", at + 7
        elif rest.startswith("5uint4", at):
            last, at = "16B", at + 6
        elif rest[at] in "fjt":
            last, at = {"f": "f32", "j": "4B", "t": "2B"}[rest[at]], at + 1
        elif rest.startswith("S_", at) or rest.startswith("S0_", at):
            at = rest.index("_", at) + 1
        elif rest.startswith("Li", at):
            end = rest.index("E", at)
            last, at = rest[at + 2:end], end + 1
        else:
            break
        words.append(last)
    return f"{base}<{','.join(words)}>"


def measure(compiled, arch):
    rows = {}
    for name in FILES:
        kernel = None
        spills = (0, 0)
        for line in compiled[name, arch].result().splitlines():
            found = re.search(r"Compiling entry function '(.*?)' for", line)
            if found:
                kernel = demangle(found.group(1))
            found = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)
            if found:
                spills = (int(found.group(1)), int(found.group(2)))
            found = re.search(r"Used (\d+) registers", line)
            if found and kernel:
                rows[kernel] = f"sm_{arch} {kernel} {found.group(1)} {spills[0]} {spills[1]}"
                kernel = None
    return [rows[k] for k in sorted(rows)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nvcc", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--architectures", default="80;90")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    version = subprocess.run([arguments.nvcc, "--version"], capture_output=True, text=True).stdout
    version = "nvcc " + re.search(r"V([\d.]+)", version).group(1)
    archs = [a for a in re.split(r"[;,\s]+", arguments.architectures) if a]
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        compiled = {(name, arch): pool.submit(compile_file, arguments, name, arch)
                    for arch in archs for name in FILES}
        rows = [row for arch in archs for row in measure(compiled, arch)]
    path = os.path.join(arguments.source, "tests", "simcuda", "registers.txt")
    if arguments.write:
        with open(path, "w", encoding="utf-8") as out:
            out.write(f"# {version}: architecture, kernel, registers, bytes of spill stores, loads\n")
            out.write("\n".join(rows) + "\n")
        return
    if not arguments.check:
        print("\n".join(rows))
        return
    wrong = [row for row in rows if row.split()[3:] != ["0", "0"]]
    if wrong:
        sys.exit("kernels that spill:\n" + "\n".join(wrong))
    with open(path, encoding="utf-8") as table:
        lines = table.read().splitlines()
    if version not in lines[0]:
        print(f"table is of another nvcc than {version}; only spills were checked")
        return
    expected = [line for line in lines[1:] if line.split()[0] in {f"sm_{a}" for a in archs}]
    wrong = sorted(set(rows) ^ set(expected))
    if wrong:
        sys.exit(f"{path}: other than what {version} says (--write renews it):\n" + "\n".join(wrong))
    print(f"{len(rows)} kernels as in the table")


if __name__ == "__main__":
    main()
