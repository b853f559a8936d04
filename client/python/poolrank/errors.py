"""What poolrank reports: one exception with the code, the HTTP status and the message.

A code is the word that poolrank's protocols use. Errors of the caller's arguments and inputs are
ValueErrors too, a lack of memory a MemoryError, a deadline a TimeoutError, the rest RuntimeErrors.
"""

from __future__ import annotations

from typing import Any, Optional

__all__ = ["Error", "InputError", "NotFoundError", "OutOfMemoryError", "RunError",
           "DeadlineError"]


class Error(Exception):
    """Something that poolrank refused or failed to do."""

    #: poolrank's word for what went wrong: "too_long", "overloaded", …
    code: str
    #: The HTTP status that goes with it, whatever the transport; 0: the server was not reached.
    status: int
    #: What, where, found, expected.
    message: str
    #: Seconds after which it is worth trying again; None: unknown.
    retry_after: Optional[float]
    #: Of a list: which item failed (the first of them), else None.
    index: Optional[int]
    #: Of a list: what became of every item, outputs and errors, else None.
    results: Optional[list[Any]]

    def __init__(self, message: str, *, code: str = "internal", status: Optional[int] = None,
                 retry_after: Optional[float] = None, index: Optional[int] = None,
                 results: Optional[list[Any]] = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = STATUS_OF_CODE.get(code, 500) if status is None else status
        self.retry_after = retry_after
        self.index = index
        self.results = results

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.__dict__)


class InputError(Error, ValueError):
    """An argument, an option or a text that cannot be served as it is."""


class NotFoundError(Error, LookupError):
    """A model or a file that is not there."""


class OutOfMemoryError(Error, MemoryError):
    """There is no memory."""


class DeadlineError(Error, TimeoutError):
    """A deadline passed."""


class RunError(Error, RuntimeError):
    """It failed while it ran, or there is nobody to run it."""


#: In the order of pr_status (include/poolrank/types.h).
_TABLE: tuple[tuple[str, int, type[Error]], ...] = (
    ("ok", 200, Error),
    ("argument", 400, InputError),
    ("input", 400, InputError),
    ("too_long", 400, InputError),
    ("too_large", 413, InputError),
    ("unsupported", 400, InputError),
    ("model", 500, RunError),
    ("not_found", 404, NotFoundError),
    ("io", 500, RunError),
    ("no_memory", 500, OutOfMemoryError),
    ("overloaded", 429, RunError),
    ("cancelled", 499, RunError),
    ("timeout", 503, DeadlineError),
    ("unavailable", 503, RunError),
    ("internal", 500, RunError),
)
CODE_OF_NUMBER = tuple(code for code, _, _ in _TABLE)
STATUS_OF_CODE = {code: status for code, status, _ in _TABLE} | {"unauthorized": 401}
_CODE_OF_STATUS = {400: "input", 401: "unauthorized", 404: "not_found", 413: "too_large",
                   429: "overloaded", 503: "unavailable"}
_CLASS_OF_CODE = {code: kind for code, _, kind in _TABLE}


def error_of_number(number: int, message: str) -> Error:
    """The error for a pr_status."""
    code = CODE_OF_NUMBER[number] if 0 < number < len(CODE_OF_NUMBER) else "internal"
    return error_of_code(code, message)


def error_of_code(code: str, message: str, *, retry_after: Optional[float] = None,
                  status: Optional[int] = None) -> Error:
    """The error for a word of the protocols; an unknown word is kept."""
    kind = _CLASS_OF_CODE.get(code)
    if kind is None:
        is_input = STATUS_OF_CODE.get(code, status or 500) in (400, 413, 415)
        kind = InputError if is_input else RunError
    return kind(message, code=code, status=status, retry_after=retry_after)


def error_of_status(status: int, message: str, *, retry_after: Optional[float] = None) -> Error:
    """The error for an HTTP status."""
    code = _CODE_OF_STATUS.get(status, "argument" if 400 <= status < 500 else "internal")
    return error_of_code(code, message, retry_after=retry_after, status=status)


def _restore(kind: type[Error], message: str, state: dict[str, Any]) -> Error:
    error = kind(message)
    error.__dict__.update(state)
    return error
