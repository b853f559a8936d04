"""A client of the socket protocol, written from docs/socket-protocol.md: Python's standard library
only, with a reader and writer of msgpack of its own, or with the package msgpack."""
import socket
import ssl
import struct

HELLO_VERSION = 1


# ---- msgpack, as far as the protocol needs it ----

def pack(v):
    if v is None:
        return b"\xc0"
    if v is True or v is False:
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        if 0 <= v < 128:
            return bytes([v])
        return b"\xcf" + struct.pack(">Q", v) if v >= 0 else b"\xd3" + struct.pack(">q", v)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, str):
        data = v.encode("utf-8", "surrogateescape")
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(v, (bytes, bytearray)):
        return b"\xc6" + struct.pack(">I", len(v)) + bytes(v)
    if isinstance(v, (list, tuple)):
        return b"\xdd" + struct.pack(">I", len(v)) + b"".join(map(pack, v))
    if isinstance(v, dict):
        pairs = b"".join(pack(k) + pack(x) for k, x in v.items())
        return b"\xdf" + struct.pack(">I", len(v)) + pairs
    raise TypeError(type(v))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def value(self):
        first = self.number("B")
        if first < 0x80:
            return first
        if first >= 0xE0:
            return first - 256
        if first < 0x90:
            return self.map(first & 15)
        if first < 0xA0:
            return [self.value() for _ in range(first & 15)]
        if first < 0xC0:
            return self.take(first & 31).decode("utf-8")
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        sized = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H",
                 0xDD: "I", 0xDE: "H", 0xDF: "I"}
        if first in sized:
            n = self.number(sized[first])
            if first <= 0xC6:
                return bytes(self.take(n))
            if first <= 0xDB:
                return self.take(n).decode("utf-8")
            return [self.value() for _ in range(n)] if first <= 0xDD else self.map(n)
        return self.number({0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q",
                            0xD0: "b", 0xD1: "h", 0xD2: "i", 0xD3: "q"}[first])

    def map(self, n):
        return {self.value(): self.value() for _ in range(n)}


def unpack(data):
    return Reader(data).value()


# ---- the protocol ----

class Refused(Exception):
    """An error frame."""

    def __init__(self, frame):
        super().__init__("%s: %s" % (frame["status"], frame["message"]))
        self.frame = frame
        self.status = frame["status"]


class Client:
    """codec: (pack, unpack). Answers come in any order; receive() gives the next one."""

    def __init__(self, address, key=None, codec=(pack, unpack), tls=None, timeout=60, greet=True):
        self.pack, self.unpack = codec
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
        else:
            self.socket = socket.socket()
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        self.n_sent = 0
        self.waiting = {}
        if greet:
            hello = {"kind": "hello", "version": HELLO_VERSION, "client": "test"}
            if key:
                hello["key"] = key
            self.send_raw(hello)
            self.hello = self.checked(self.receive())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_bytes(self, payload):
        self.socket.sendall(struct.pack("<I", len(payload)) + payload)

    def send_raw(self, message):
        self.send_bytes(self.pack(message))

    def send(self, kind, items=None, **params):
        self.n_sent += 1
        message = {"kind": kind, "id": self.n_sent, **params}
        if items is not None:
            message["items"] = items
        self.send_raw(message)
        return self.n_sent

    def read_exactly(self, n):
        data = bytearray()
        while len(data) < n:
            got = self.socket.recv(min(n - len(data), 1 << 20))
            if not got:
                raise EOFError
            data += got
        return bytes(data)

    def receive(self):
        """The next message that says something."""
        while True:
            n = struct.unpack("<I", self.read_exactly(4))[0]
            message = self.unpack(self.read_exactly(n))
            if message["kind"] != "alive":
                return message

    @staticmethod
    def checked(message):
        if message["kind"] == "error":
            raise Refused(message)
        return message

    def answer(self, i):
        """The answer to request i; others are kept."""
        while i not in self.waiting:
            message = self.receive()
            if message.get("id") is None:
                self.checked(message)
            self.waiting[message["id"]] = message
        return self.checked(self.waiting.pop(i))

    def ask(self, kind, items=None, **params):
        return self.answer(self.send(kind, items, **params))

    def at_end(self):
        """Whether nothing more comes: the server has closed."""
        try:
            return self.socket.recv(1) == b""
        except (ConnectionError, ssl.SSLError):
            return True


def rows(data):
    """{"dtype", "shape", "rows", "bytes"[, "scales"]} → for each item a list of rows."""
    n, width = data["shape"]
    form = {"f32": "f", "f16": "e", "int8": "b", "i32": "i"}[data["dtype"]]
    flat = struct.unpack("<%d%s" % (n * width, form), data["bytes"])
    table = [list(flat[i * width:(i + 1) * width]) for i in range(n)]
    if data["dtype"] == "int8":
        scales = struct.unpack("<%df" % n, data["scales"])
        table = [[q * scale for q in row] for row, scale in zip(table, scales)]
    items, at = [], 0
    for count in data["rows"]:
        items.append(table[at:at + count])
        at += count
    return items
