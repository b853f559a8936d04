"""A server over HTTP, with Python's own http.client: connections are kept and used again.

Vectors travel as base64 of float32, so that no number is printed and parsed.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import socket
import ssl
import urllib.parse
from typing import Any, Callable, Optional

import numpy as np

from ._remote import Ask, Replies, Rows, json_bytes, seconds_left, unreached
from ._prompts import Text
from ._version import __version__
from .errors import Error, RunError, error_of_status
from .params import PoolingParams

RETRY_AFTER_MAX_S = 3600.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class HttpTransport:
    """http://HOST:PORT, https://HOST:PORT, or unix+http:///PATH of a Unix socket."""

    def __init__(self, url: urllib.parse.SplitResult, api_key: Optional[str],
                 context: Optional[ssl.SSLContext]) -> None:
        self._where = url.geturl()
        self._prefix = url.path.rstrip("/") if url.scheme != "unix+http" else ""
        self._make = self._maker(url, context)
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self._headers = {"Content-Type": "application/json",
                         "User-Agent": f"poolrank-python/{__version__}"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    @staticmethod
    def _maker(url: urllib.parse.SplitResult, context: Optional[ssl.SSLContext]
               ) -> Callable[[], http.client.HTTPConnection]:
        if url.scheme == "unix+http":
            return lambda: _UnixConnection(url.path)
        host, port = url.hostname or "", url.port
        if url.scheme == "https":
            secure = context or ssl.create_default_context()
            return lambda: http.client.HTTPSConnection(host, port, context=secure)
        return lambda: http.client.HTTPConnection(host, port)

    # ---- requests ----

    def ask(self, ask: Ask, deadline: float) -> Replies:
        if ask.kind in ("tokenize", "detokenize"):
            return [self._one(ask, item, deadline) for item in ask.items]
        path, body = _body_of(ask)
        answer = self._json("POST", path, body | _params_of(ask), deadline)
        replies: Replies = [_reply_of(ask, item) for item in answer["data"]]
        if len(replies) != len(ask.items):
            raise RunError(f"{self._where}: found {len(replies)} answers, expected "
                           f"{len(ask.items)}")
        return replies

    def _one(self, ask: Ask, item: Text, deadline: float) -> Any:
        """tokenize and detokenize take one item a request."""
        if ask.kind == "tokenize":
            body = {"prompt": item.text} | _params_of(ask)
            return self._json("POST", "/tokenize", body, deadline)["tokens"]
        assert item.tokens is not None
        body = {"tokens": item.tokens.tolist()} | _params_of(ask)
        return self._json("POST", "/detokenize", body, deadline)["prompt"]

    def info(self, deadline: float) -> dict[str, Any]:
        """With the names that the socket protocol has for the same."""
        info: dict[str, Any] = self._json("GET", "/info", None, deadline)
        return {"server": f"poolrank {info['version']}", "model": info["model_id"],
                "max_model_len": info["max_input_length"],
                "limits": {"items": info["max_client_batch_size"]}}

    def _json(self, method: str, path: str, body: Optional[dict[str, Any]],
              deadline: float) -> Any:
        status, headers, answer = self._exchange(
            method, path, None if body is None else json_bytes(body), deadline)
        if status != 200:
            raise _error_of(status, headers, answer)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise RunError(f"{self._where}{path}: found no JSON: {error}") from None

    def _exchange(self, method: str, path: str, body: Optional[bytes], deadline: float
                  ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request and its answer. A kept connection that the server has closed meanwhile is
        replaced, once: what is asked here may be asked twice."""
        for is_last in (False, True):
            connection, is_kept = self._connection(fresh=is_last)
            connection.timeout = seconds_left(deadline)
            if connection.sock is not None:
                connection.sock.settimeout(connection.timeout)
            try:
                connection.request(method, self._prefix + path, body, self._headers)
                response = connection.getresponse()
                answer = response.read()
            except TimeoutError:
                connection.close()
                seconds_left(deadline)
                raise RunError(f"{self._where}: no answer in time", code="timeout",
                               status=0) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_kept:
                    continue
                raise unreached(self._where, error) from None
            except BaseException:
                connection.close()  # an answer that nobody reads would be the next one's
                raise
            if connection.sock is not None:
                self._idle.put(connection)
            return response.status, response.headers, answer
        raise AssertionError("a fresh connection is not a kept one")

    def _connection(self, fresh: bool) -> tuple[http.client.HTTPConnection, bool]:
        if not fresh:
            try:
                return self._idle.get_nowait(), True
            except queue.Empty:
                pass
        return self._make(), False

    def close(self) -> None:
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


# ---- bodies and answers ----

def _input_of(item: Text) -> Any:
    return item.text if item.tokens is None else item.tokens.tolist()


def _body_of(ask: Ask) -> tuple[str, dict[str, Any]]:
    if ask.kind == "score":
        first = ask.query if ask.query is not None else [item.text for item in ask.items]
        return "/score", {"text_1": first, "text_2": [
            item.text if ask.query is not None else item.text_pair for item in ask.items]}
    body: dict[str, Any] = {"input": [_input_of(item) for item in ask.items],
                            "encoding_format": "base64"}
    if ask.kind == "embed":
        return "/v1/embeddings", body
    task = ask.task if ask.kind == "encode" else ask.kind
    return "/pooling", body | ({"task": task} if task else {})


def _params_of(ask: Ask) -> dict[str, Any]:
    p: PoolingParams = ask.params
    returned = p.returned_token_ids
    named = {
        "model": ask.model, "dimensions": p.dimensions, "normalize": p.normalize,
        "softmax": p.softmax, "use_activation": p.use_activation, "step_tag_id": p.step_tag_id,
        "returned_token_ids": None if returned is None else [int(i) for i in returned],
        "truncate_prompt_tokens": p.truncate_prompt_tokens, "truncation_side": p.truncation_side,
        "add_special_tokens": p.add_special_tokens, "priority": p.priority or None,
        "timeout": p.timeout, "skip_special_tokens": ask.skip_special_tokens,
    }
    if ask.kind not in ("tokenize", "detokenize"):
        named["on_error"] = "per_item"
    return {name: value for name, value in named.items() if value is not None}


def _reply_of(ask: Ask, item: dict[str, Any]) -> Rows | Error:
    error = item.get("error")
    if error is not None:
        return error_of_status(int(error.get("code", 500)), str(error.get("message")))
    if ask.kind == "score":
        return np.asarray([item["score"]], dtype=np.float32)
    encoded = item["embedding" if ask.kind == "embed" else "data"]
    rows = np.frombuffer(base64.b64decode(encoded), dtype="<f4").astype(np.float32)
    shape = item.get("shape")
    return rows.reshape(shape) if shape else rows


def _error_of(status: int, headers: http.client.HTTPMessage, answer: bytes) -> Error:
    try:
        message = str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):  # not poolrank: a proxy on the way
        message = answer[:200].decode("utf-8", "replace") or f"HTTP status {status}"
    after: Optional[float]
    try:
        after = min(float(headers.get("Retry-After", "")), RETRY_AFTER_MAX_S)
    except ValueError:
        after = None
    return error_of_status(status, message, retry_after=after)
