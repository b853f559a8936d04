#!/usr/bin/env python3
"""Asks a running `poolrank serve` over HTTP, and over the socket protocol with a client of 40 lines,
written from docs/socket-protocol.md. Python's standard library only.

    poolrank serve --model DIR --port-file ports.json --socket unix:///tmp/poolrank.sock &
    ask_server.py ports.json /tmp/poolrank.sock [PID]       PID: give up when it has ended
"""
import json
import os
import socket
import struct
import sys
import time
import urllib.error
import urllib.request

QUESTION = "Why does bread rise?"
DOCUMENTS = ["Bees dance to tell each other where flowers are.",
             "Yeast eats sugar in the dough and gives off a gas.",
             "The harbour was built in the shelter of an island."]


# ---- HTTP ----

def ask(base, path, body):
    request = urllib.request.Request(base + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def wait_until_ready(port_file, pid):
    """The server's address, once its model is loaded."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            with open(port_file, encoding="utf-8") as f:
                base = "http://127.0.0.1:%d" % json.load(f)["port"]
            with urllib.request.urlopen(base + "/readyz", timeout=60):
                return base
        except (FileNotFoundError, urllib.error.URLError):
            time.sleep(0.05)
        if pid:
            os.kill(pid, 0)
    raise SystemExit("the server is not ready after 60 s")


# ---- socket protocol: a length, then a map of msgpack ----

def pack(value):
    if isinstance(value, dict):
        return b"\xdf" + struct.pack(">I", len(value)) + b"".join(
            pack(key) + pack(v) for key, v in value.items())
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    if isinstance(value, str):
        data = value.encode("utf-8")
        return b"\xdb" + struct.pack(">I", len(data)) + data
    return b"\xcf" + struct.pack(">Q", value)


def unpack(data, at=0):
    """(value, place behind it)"""
    first, at = data[at], at + 1
    if first < 0x80 or first >= 0xE0:
        return (first if first < 0x80 else first - 256), at
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    numbers = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
               0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
    if first in numbers:
        form = numbers[first]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    lengths = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I",
               0xDC: ">H", 0xDD: ">I", 0xDE: ">H", 0xDF: ">I"}
    if first in lengths:
        n = struct.unpack_from(lengths[first], data, at)[0]
        at += struct.calcsize(lengths[first])
    else:
        n = first & (0x1F if first >= 0xA0 else 0x0F)
    if first in (0xC4, 0xC5, 0xC6):
        return data[at:at + n], at + n
    if 0xA0 <= first < 0xC0 or first in (0xD9, 0xDA, 0xDB):
        return data[at:at + n].decode("utf-8"), at + n
    values = []
    is_map = first < 0x90 or first in (0xDE, 0xDF)
    for _ in range(2 * n if is_map else n):
        value, at = unpack(data, at)
        values.append(value)
    return (dict(zip(values[::2], values[1::2])) if is_map else values), at


def exactly(stream, n):
    data = stream.read(n)
    if len(data) < n:
        raise SystemExit("the server closed the connection")
    return data


def exchange(connection, stream, message):
    payload = pack(message)
    connection.sendall(struct.pack("<I", len(payload)) + payload)
    answer = {"kind": "alive"}
    while answer["kind"] == "alive":
        answer = unpack(exactly(stream, struct.unpack("<I", exactly(stream, 4))[0]))[0]
    if answer["kind"] == "error":
        raise SystemExit("%s: %s" % (answer["status"], answer["message"]))
    return answer


def embed(path, texts):
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as stream:
        connection.settimeout(60)
        connection.connect(path)
        exchange(connection, stream, {"kind": "hello", "version": 1})
        data = exchange(connection, stream, {"kind": "embed", "id": 1, "items": texts})["data"]
        n_rows, n_columns = data["shape"]
        numbers = struct.unpack("<%df" % (n_rows * n_columns), data["bytes"])
        return [numbers[i * n_columns:(i + 1) * n_columns] for i in range(n_rows)]


def main():
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    base = wait_until_ready(sys.argv[1], int(sys.argv[3]) if len(sys.argv) == 4 else None)
    ranked = ask(base, "/v2/rerank", {"query": QUESTION, "documents": DOCUMENTS})["results"]
    print("   HTTP, POST /v2/rerank: " + QUESTION)
    for result in ranked:
        print("     %6.3f  %s" % (result["relevance_score"], DOCUMENTS[result["index"]]))
    over_http = ask(base, "/v1/embeddings", {"input": QUESTION})["data"][0]["embedding"]
    over_socket = embed(sys.argv[2], [QUESTION])[0]
    print("   socket, embed:  [%.4f, %.4f, %.4f, ...]" % tuple(over_socket[:3]))
    form = "<%df" % len(over_http)
    as_sent = struct.unpack(form, struct.pack(form, *over_http))
    print("   HTTP, /v1/embeddings: %s" % ("the same %d numbers, to the bit" % len(as_sent)
                                           if as_sent == over_socket else "OTHER NUMBERS"))
    if as_sent != over_socket:
        sys.exit(1)


if __name__ == "__main__":
    main()
