"""A server over the socket protocol (docs/socket-protocol.md): one connection that all threads of
a client share, requests on it at once, answers as they are ready, numbers as raw bytes.

A thread reads answers and hands each to whoever asked.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import socket
import ssl
import struct
import threading
import urllib.parse
from typing import Any, Optional

import msgpack  # type: ignore[import-untyped]
import numpy as np

from ._remote import Ask, Replies, seconds_left, unreached
from ._prompts import Text
from ._version import __version__
from .errors import Error, RunError, error_of_code

VERSION = 1
FRAME_BYTES_MAX = 256 << 20
_NUMBERS = {"f32": "<f4", "f16": "<f2", "int8": "i1", "i32": "<i4"}
Message = dict[str, Any]


class SocketTransport:
    """tcp://HOST:PORT, tls://HOST:PORT, or unix:///PATH."""

    def __init__(self, url: urllib.parse.SplitResult, api_key: Optional[str],
                 context: Optional[ssl.SSLContext]) -> None:
        self._url = url
        self._api_key = api_key
        self._context = context
        self._lock = threading.Lock()
        self._connection: Optional[_Connection] = None

    def ask(self, ask: Ask, deadline: float) -> Replies:
        answer = self._exchange(_message_of(ask), deadline)
        replies = _replies_of(answer)
        if len(replies) != len(ask.items):
            raise RunError(f"{self._url.geturl()}: found {len(replies)} answers, expected "
                           f"{len(ask.items)}")
        return replies

    def info(self, deadline: float) -> dict[str, Any]:
        answer = self._exchange({"kind": "info"}, deadline)
        return {key: value for key, value in answer.items() if key not in ("kind", "id")}

    def _exchange(self, message: Message, deadline: float) -> Message:
        """A connection that has broken meanwhile is made anew, once."""
        for is_last in (False, True):
            connection, is_kept = self._connected(deadline)
            try:
                answer = connection.exchange(message, deadline)
            except _Broken as error:
                with self._lock:
                    if self._connection is connection:
                        self._connection = None
                if is_kept and not is_last:
                    continue
                raise unreached(self._url.geturl(), error) from None
            if answer.get("kind") == "error":
                raise _error_of(answer)
            return answer
        raise AssertionError("the last try returns or raises")

    def _connected(self, deadline: float) -> tuple[_Connection, bool]:
        with self._lock:
            if self._connection is not None and not self._connection.is_broken:
                return self._connection, True
            try:
                self._connection = _Connection(self._dial(seconds_left(deadline)), self._api_key,
                                               deadline)
            except (_Broken, OSError) as error:
                raise unreached(self._url.geturl(), error) from None
            return self._connection, False

    def _dial(self, timeout_s: float) -> socket.socket:
        if self._url.scheme == "unix":
            return _unix_dial(self._url.path, timeout_s)
        host, port = self._url.hostname or "", self._url.port
        assert port is not None
        s = socket.create_connection((host, port), timeout=timeout_s)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._url.scheme == "tls":
            context = self._context or ssl.create_default_context()
            try:
                return context.wrap_socket(s, server_hostname=host)
            except BaseException:
                s.close()
                raise
        return s

    def close(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(RunError("the client is closed", code="unavailable", status=0))


def _unix_dial(path: str, timeout_s: float) -> socket.socket:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.settimeout(timeout_s)
        s.connect(path)
    except BaseException:
        s.close()
        raise
    return s


class _Broken(Exception):
    """The connection ended; what was asked may be asked again on another."""


class _Connection:
    """A connection that has said hello."""

    def __init__(self, s: socket.socket, api_key: Optional[str], deadline: float) -> None:
        self._socket = s
        self._sending = threading.Lock()
        self._ids = itertools.count(1)
        self._pending: dict[int, concurrent.futures.Future[Message]] = {}
        self._changing = threading.Lock()
        self._failure: Optional[BaseException] = None
        hello: Message = {"kind": "hello", "version": VERSION,
                          "client": f"poolrank-python/{__version__}"}
        try:
            self._send(hello | ({"key": api_key} if api_key else {}))
            answer = self._receive()
        except (_Broken, OSError):
            s.close()
            raise
        if answer.get("kind") != "hello":
            s.close()
            raise _refusal_of(answer)
        # Who waits has its own deadline; a thread that reads has none.
        s.settimeout(None)
        self._reader = threading.Thread(target=self._read, name="poolrank-socket", daemon=True)
        self._reader.start()

    @property
    def is_broken(self) -> bool:
        return self._failure is not None

    def exchange(self, message: Message, deadline: float) -> Message:
        answer: concurrent.futures.Future[Message] = concurrent.futures.Future()
        with self._changing:
            if self._failure is not None:
                raise _Broken(str(self._failure))
            i = next(self._ids)
            self._pending[i] = answer
        try:
            self._send({**message, "id": i})
            return answer.result(seconds_left(deadline))
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise RunError("no answer in time", code="timeout", status=0) from None
            self.close(error)
            raise _Broken(str(error)) from None
        except concurrent.futures.TimeoutError:
            raise RunError("no answer in time", code="timeout", status=0) from None
        finally:
            with self._changing:
                is_open = self._pending.pop(i, None) is not None
            if is_open and not answer.done():
                self._cancel(i)

    def _cancel(self, i: int) -> None:
        """Nobody waits for the answer any more; it is dropped if it comes all the same."""
        try:
            self._send({"kind": "cancel", "id": i})
        except OSError as error:
            self.close(error)

    def _send(self, message: Message) -> None:
        payload = msgpack.packb(message)
        with self._sending:
            self._socket.sendall(struct.pack("<I", len(payload)) + payload)

    def _receive(self) -> Message:
        [n] = struct.unpack("<I", self._bytes(4))
        if not 0 < n <= FRAME_BYTES_MAX:
            raise _Broken(f"found a frame of {n} bytes, expected 1 to {FRAME_BYTES_MAX}")
        try:
            message = msgpack.unpackb(self._bytes(n))
        except ValueError as error:
            raise _Broken(f"found no msgpack: {error}") from None
        if not isinstance(message, dict):
            raise _Broken("found no map in a frame")
        return message

    def _bytes(self, n: int) -> bytes:
        out = bytearray(n)
        view, at = memoryview(out), 0
        while at < n:
            got = self._socket.recv_into(view[at:])
            if got == 0:
                raise _Broken("the server closed the connection")
            at += got
        return bytes(out)

    def _read(self) -> None:
        try:
            while True:
                message = self._receive()
                if message.get("kind") == "error" and message.get("id") is None:
                    raise _Broken(str(message.get("message")))
                with self._changing:
                    answer = self._pending.pop(message.get("id", 0), None)
                if answer is not None:
                    answer.set_result(message)
        except (_Broken, OSError) as error:
            self.close(error)
        finally:
            # Closed here and nowhere else, with nobody sending: a descriptor that is closed while
            # a thread uses it may be another connection's by the time it is used.
            with self._sending:
                self._socket.close()

    def close(self, reason: BaseException) -> None:
        with self._changing:
            if self._failure is not None:
                return
            self._failure = reason
            pending, self._pending = self._pending, {}
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the reader
        except OSError:
            pass
        for answer in pending.values():
            answer.set_exception(reason if isinstance(reason, Error) else _Broken(str(reason)))
        if threading.current_thread() is not self._reader:
            self._reader.join(1)


# ---- messages and answers ----

def _item_of(item: Text) -> Any:
    if item.tokens is not None:
        return item.tokens.astype("<i4").tobytes()
    return item.text if item.text_pair is None else [item.text, item.text_pair]


def _message_of(ask: Ask) -> Message:
    p = ask.params
    returned = p.returned_token_ids
    message: Message = {
        "kind": ask.kind, "items": [_item_of(item) for item in ask.items], "query": ask.query,
        "model": ask.model, "task": ask.task, "dimensions": p.dimensions,
        "normalize": p.normalize, "softmax": p.softmax, "use_activation": p.use_activation,
        "step_tag_id": p.step_tag_id,
        "returned_token_ids": None if returned is None else [int(i) for i in returned],
        "truncate_prompt_tokens": p.truncate_prompt_tokens, "truncation_side": p.truncation_side,
        "add_special_tokens": p.add_special_tokens, "priority": p.priority or None,
        "timeout_ms": None if p.timeout is None else max(1, round(p.timeout * 1000)),
        "skip_special_tokens": ask.skip_special_tokens, "on_error": "per_item",
    }
    return {key: value for key, value in message.items() if value is not None}


def _replies_of(answer: Message) -> Replies:
    errors = {e["item"]: error_of_code(e["status"], e["message"]) for e in answer.get("errors", ())}
    if "texts" in answer:
        return [errors.get(i, text) for i, text in enumerate(answer["texts"])]
    data = answer["data"]
    rows = np.frombuffer(data["bytes"], dtype=_NUMBERS[data["dtype"]]).reshape(data["shape"])
    is_ids = data["dtype"] == "i32"
    replies: Replies = []
    begin = 0
    for i, n_rows in enumerate(data["rows"]):
        own = rows[begin:begin + n_rows]
        begin += n_rows
        if i in errors:
            replies.append(errors[i])
        elif is_ids:
            replies.append(own.ravel().tolist())
        else:
            # A copy: an item that is kept does not keep the whole answer.
            replies.append((own if answer.get("token_wise") else own[0]).astype(np.float32))
    return replies


def _refusal_of(message: Message) -> Error:
    """What a server says in place of its hello. Of this hello only the key can be wrong."""
    if message.get("kind") != "error":
        return RunError(f"found a message of kind {message.get('kind')!r}, expected hello")
    error = _error_of(message)
    return error if error.code != "argument" else error_of_code("unauthorized", error.message,
                                                                status=401)


def _error_of(message: Message) -> Error:
    return error_of_code(str(message.get("status")), str(message.get("message")),
                         retry_after=message.get("retry_after_s"))
