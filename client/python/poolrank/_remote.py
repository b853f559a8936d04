"""What a client asks a server, whatever the transport, and what comes back."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any, Optional, Protocol, Union

import numpy as np
import numpy.typing as npt

from ._prompts import Text
from .errors import Error, RunError
from .params import PoolingParams

Rows = npt.NDArray[np.float32]


@dataclasses.dataclass
class Ask:
    """One request: some items of one kind, with the same parameters."""

    kind: str  #: embed, classify, score, reward, encode, tokenize, detokenize
    items: list[Text]
    params: PoolingParams
    query: Optional[str] = None  #: score: the first text of every item
    task: Optional[str] = None  #: encode
    skip_special_tokens: Optional[bool] = None  #: detokenize
    model: Optional[str] = None


#: Of each item: its rows, its token ids or text (tokenize, detokenize), or why it failed.
Replies = list[Union[Rows, list[int], str, Error]]


class Transport(Protocol):
    """A way to a server; several threads may ask at a time."""

    def ask(self, ask: Ask, deadline: float) -> Replies:
        """Raises Error when the request as a whole is refused or the server is not reached."""

    def info(self, deadline: float) -> dict[str, Any]:
        """What the server says of itself and its model."""

    def close(self) -> None:
        """Ends the connections."""


def seconds_left(deadline: float) -> float:
    """Until the deadline, of time.monotonic(); raises when it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise RunError("the client's timeout has passed", code="timeout", status=0)
    return left


def unreached(where: str, error: BaseException) -> RunError:
    """The server was not reached, or left in the middle."""
    return RunError(f"{where}: {error or type(error).__name__}", code="unavailable", status=0)


def item_bytes(item: Text) -> int:
    """About what an item takes on its way."""
    if item.tokens is not None:
        return 8 * len(item.tokens)
    return len(item.text) + len(item.text_pair or "")


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
