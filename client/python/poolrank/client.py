"""poolrank.Client: asks a server, over HTTP or the socket protocol, and returns NumPy arrays."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import random
import ssl
import time
import urllib.parse
from typing import Any, Callable, Iterator, Optional, Sequence, TypeVar, Union

import numpy as np
import numpy.typing as npt

from ._http import HttpTransport
from ._prompts import (Prompts, Text, is_one_prompt, on_error_check, pairs_of, params_check,
                       prompts_list, settle, text_of, tokens_of)
from ._remote import Ask, Replies, Transport, item_bytes
from ._socket import SocketTransport
from .errors import Error, InputError
from .params import PoolingParams

__all__ = ["Client", "RankedDocument"]

Floats = npt.NDArray[np.float32]
T = TypeVar("T")
_HTTP = ("http", "https", "unix+http")
_SOCKET = ("tcp", "tls", "unix")
_RETRIED = ("overloaded", "unavailable")
BODY_BYTES_MAX = 4 << 20  # of one request; the server's own bound is far above it
DELAY_FIRST_S, DELAY_MAX_S = 0.1, 30.0


@dataclasses.dataclass(frozen=True)
class RankedDocument:
    index: int  #: in the list that was given
    score: float
    document: str


class Client:
    """A server of poolrank.

        with poolrank.Client("http://127.0.0.1:8000") as client:
            vectors = client.embed(["a text", "another"])        # [2, n] float32

    url     http://HOST:PORT, https://HOST:PORT, unix+http:///PATH; or, of the socket protocol,
            tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH
    timeout seconds that a call may take, with all that it waits and tries again
    retries how often a request that was refused for now (429, 503), or whose connection broke, is
            sent again: after the time that the server names, else after a growing delay

    Long lists go as several requests of batch_size items, n_parallel of them under way. A failing
    item is raised as in LLM, with .index and .results, or stands in the list with
    on_error="per_item". Any thread may call the methods, several at a time."""

    def __init__(self, url: str, api_key: Optional[str] = None, *, timeout: float = 600.0,
                 retries: int = 5, batch_size: int = 256, n_parallel: int = 4,
                 model: Optional[str] = None, ssl_context: Optional[ssl.SSLContext] = None) -> None:
        self.timeout = timeout
        self.retries = retries
        self.batch_size = batch_size
        self.model = model
        self._transport = _transport(url, api_key, ssl_context)
        self._pool = concurrent.futures.ThreadPoolExecutor(n_parallel, "poolrank-client")

    # ---- requests ----

    def embed(self, prompts: Prompts, *, params: Optional[PoolingParams] = None,
              on_error: str = "raise") -> Any:
        """[n, width] float32; of one prompt that is not in a list, [width]."""
        return self._arrays("embed", prompts, params, on_error)

    def classify(self, prompts: Prompts, *, params: Optional[PoolingParams] = None,
                 on_error: str = "raise") -> Any:
        """The probabilities of the labels: [n, labels] float32, or [labels] of one prompt."""
        return self._arrays("classify", prompts, params, on_error)

    def encode(self, prompts: Prompts, *, task: Optional[str] = None,
               params: Optional[PoolingParams] = None, on_error: str = "raise") -> list[Any]:
        """Whatever the pooler yields, for each prompt: [width], or [rows, width] of tokens or
        steps."""
        items = _items(prompts)
        return self._ask(items, "prompt", on_error, params, "encode", task=task)

    def score(self, text_1: Prompts, text_2: Prompts, *, params: Optional[PoolingParams] = None,
              on_error: str = "raise") -> Any:
        """How well the texts go together, one with one, one with many, or side by side: [n]
        float32."""
        pairs = pairs_of(text_1, text_2)
        query: Optional[str] = pairs[0][0]
        if any(first != query for first, _ in pairs):
            query = None
        items: list[Union[Text, Error]] = [
            Text(first, second) if query is None else Text(second) for first, second in pairs]
        replies = self._ask(items, "pair", on_error, params, "score", query=query)
        return _column(replies, on_error)

    def rerank(self, query: str, documents: Sequence[str], *, top_n: Optional[int] = None,
               params: Optional[PoolingParams] = None) -> list[RankedDocument]:
        """The documents with their scores, the best first; of equal ones the earlier first."""
        documents = list(documents)
        if not documents:
            return []
        scores = self.score(query, documents, params=params)
        order = np.argsort(-scores, kind="stable")[:top_n]
        return [RankedDocument(int(i), float(scores[i]), documents[i]) for i in order]

    def reward(self, prompts: Prompts, *, params: Optional[PoolingParams] = None,
               on_error: str = "raise") -> Any:
        """One number for each prompt, [n] float32: the last token's value, or the last step's."""
        on_error_check(on_error)
        items = _items(prompts)
        replies = self._ask(items, "prompt", "per_item", params, "reward")
        return _column(settle([_reward_of(r) for r in replies], on_error), on_error)

    def tokenize(self, prompts: Union[str, Sequence[str]], *,
                 params: Optional[PoolingParams] = None, on_error: str = "raise") -> list[Any]:
        """The token ids that the model reads of each text."""
        return self._ask(_items(prompts), "prompt", on_error, params, "tokenize")

    def detokenize(self, token_ids: Sequence[Sequence[int]], *, skip_special_tokens: bool = True,
                   on_error: str = "raise") -> list[Any]:
        """The texts of lists of token ids."""
        items: list[Union[Text, Error]] = [Text(tokens=tokens_of(ids)) for ids in token_ids]
        return self._ask(items, "list of token ids", on_error, None, "detokenize",
                         skip_special_tokens=skip_special_tokens)

    def info(self) -> dict[str, Any]:
        """What the server says of itself and of its model."""
        deadline = time.monotonic() + self.timeout
        return self._tried(lambda: self._transport.info(deadline), deadline)

    # ---- the end ----

    def close(self) -> None:
        """Ends the connections; what is under way fails."""
        self._transport.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----

    def _arrays(self, kind: str, prompts: Prompts, params: Optional[PoolingParams],
                on_error: str) -> Any:
        replies = self._ask(_items(prompts), "prompt", on_error, params, kind)
        if on_error == "per_item":
            return replies
        if is_one_prompt(prompts):
            return replies[0]
        return np.stack(replies) if replies else np.empty((0, 0), dtype=np.float32)

    def _ask(self, items: list[Union[Text, Error]], noun: str, on_error: str,
             params: Optional[PoolingParams], kind: str, **fields: Any) -> list[Any]:
        """Replies to all items, in their order; what is wrong with one was found before."""
        on_error_check(on_error)
        checked = params_check(params or PoolingParams())
        good = [item for item in items if isinstance(item, Text)]
        asks = [Ask(kind, batch, checked, model=self.model, **fields)
                for batch in self._batches(good)]
        deadline = time.monotonic() + self.timeout
        answers = iter(self._replies(asks, deadline))
        outcomes: list[Any] = [i if isinstance(i, Error) else next(answers) for i in items]
        return settle(outcomes, on_error, noun)

    def _replies(self, asks: list[Ask], deadline: float) -> Replies:
        """Of all of them; those of a request that was refused as a whole are its error."""
        def one(ask: Ask) -> Replies:
            try:
                return self._tried(lambda: self._transport.ask(ask, deadline), deadline)
            except Error as error:
                if len(asks) == 1:
                    raise
                return [error] * len(ask.items)
        if len(asks) == 1:
            return one(asks[0])
        return [reply for replies in self._pool.map(one, asks) for reply in replies]

    def _batches(self, items: list[Text]) -> Iterator[list[Text]]:
        batch: list[Text] = []
        n_bytes = 0
        for item in items:
            if batch and (len(batch) == self.batch_size or
                          n_bytes + item_bytes(item) > BODY_BYTES_MAX):
                yield batch
                batch, n_bytes = [], 0
            batch.append(item)
            n_bytes += item_bytes(item)
        if batch:
            yield batch

    def _tried(self, call: Callable[[], T], deadline: float) -> T:
        """Again while the server says "not now", within retries and the deadline."""
        for i in range(self.retries + 1):
            try:
                return call()
            except Error as error:
                if error.code not in _RETRIED or i == self.retries:
                    raise
                delay = error.retry_after
                if delay is None:
                    # Clients that were refused together do not come back together.
                    delay = min(DELAY_FIRST_S * 2**i, DELAY_MAX_S) * random.uniform(0.5, 1.5)
                if time.monotonic() + delay >= deadline:
                    raise
                time.sleep(delay)
        raise AssertionError("the last try returns or raises")


def _transport(url: str, api_key: Optional[str], context: Optional[ssl.SSLContext]) -> Transport:
    parts = urllib.parse.urlsplit(url)
    is_unix = parts.scheme in ("unix", "unix+http")
    if parts.scheme not in _HTTP + _SOCKET or (is_unix and not parts.path) or \
            (not is_unix and not parts.hostname):
        raise InputError(f"url: found {url!r}, expected http://HOST:PORT, https://HOST:PORT, "
                         "unix+http:///PATH, tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH",
                         code="argument")
    if parts.scheme in ("tcp", "tls") and parts.port is None:
        raise InputError(f"url: found {url!r}, expected a port", code="argument")
    make = HttpTransport if parts.scheme in _HTTP else SocketTransport
    return make(parts, api_key, context)


def _items(prompts: Prompts) -> list[Union[Text, Error]]:
    items: list[Union[Text, Error]] = []
    for prompt in prompts_list(prompts):
        try:
            text = text_of(prompt)
            if text.messages is not None:
                raise InputError("messages: this client sends texts; LLM takes messages, and so do "
                                 "the server's routes /pooling, /classify and /v1/embeddings",
                                 code="unsupported")
            items.append(text)
        except Error as error:
            items.append(error)
    return items


def _reward_of(reply: Any) -> Any:
    """Of rows of tokens or steps, the last number; an error stays what it is."""
    if isinstance(reply, Error):
        return reply
    if reply.size == 0:
        return InputError("the text has no step: the step's token does not occur in it",
                          code="input")
    if reply.shape[-1] > 2:  # a reward's row is one number, or [bad, good]
        return InputError("the model has no reward head; encode() gives its hidden states",
                          code="unsupported")
    return reply.ravel()[-1:]


def _column(replies: list[Any], on_error: str) -> Any:
    """One number of each reply."""
    if on_error == "per_item":
        return [r if isinstance(r, Error) else float(r[0]) for r in replies]
    return np.concatenate(replies) if replies else np.empty(0, dtype=np.float32)
