"""An engine inside this process: requests in, NumPy rows out.

An Engine owns a pr_engine and the threads of the lists that are being run; each list has one, so
that the caller's thread only waits, and Ctrl-C works. Any thread may call run and close.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import threading
import weakref
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence, TypeVar, Union

import numpy as np
import numpy.typing as npt

from . import _library
from ._library import PrError, PrRequest, PrResult, check
from .errors import Error, RunError, error_of_number
from .params import PoolingParams

# Of one list, so many requests are under way at most. The engine's own bound on those without an
# answer is lower by default, so the oldest of these is always done or nearly so.
N_UNDER_WAY_MAX = 8192
PROGRESS_S = 0.1
_SIDES = {"right": 0, "left": 1}
T = TypeVar("T")


@dataclasses.dataclass
class Request:
    """One text, pair or list of token ids."""

    task: str = "auto"
    text: Optional[bytes] = None
    text_pair: Optional[bytes] = None
    tokens: Optional[npt.NDArray[np.int32]] = None
    params: Optional[PoolingParams] = None
    tokenize_only: bool = False
    last_row_only: bool = False
    messages: Optional[bytes] = None


class Result(NamedTuple):
    n_prompt_tokens: int
    data: Optional[npt.NDArray[np.float32]]  #: [n], or [rows, n] where rows are tokens or steps
    is_token_wise: bool
    tokens: Optional[list[int]]  #: of tokenize_only


Outcome = Union[Result, Error]


class _Handle:
    """The pr_engine and who is using it; what outlives the Engine when that is collected."""

    def __init__(self, library: ctypes.CDLL, pointer: int) -> None:
        self.library = library
        self.pointer: Optional[int] = pointer
        self.pid = os.getpid()
        self.changed = threading.Condition()
        self.lists: set[_List] = set()
        self.is_closing = False


def _handle_close(handle: _Handle, must_wait: bool) -> None:
    # The engine's threads are the parent's: a forked child has nothing that could be closed.
    if os.getpid() != handle.pid:
        return
    with handle.changed:
        handle.is_closing = True
        for running in handle.lists:
            running.is_abandoned = True
        if handle.lists and not must_wait:
            return  # Ctrl-C, and now the process ends: it does not wait for what nobody wants
        while handle.lists:
            handle.changed.wait()
        pointer, handle.pointer = handle.pointer, None
    if pointer is not None:
        handle.library.pr_engine_close(pointer)


class Engine:
    """A model that is loaded."""

    def __init__(self, options: Mapping[str, str]) -> None:
        library = _library.library_load()
        opening = _Opening(library, options)
        threading.Thread(target=opening.run, name="poolrank-open", daemon=True).start()
        self._handle = _Handle(library, opening.wait())
        self._close = weakref.finalize(self, _handle_close, self._handle, False)
        self.description: dict[str, Any] = json.loads(
            library.pr_engine_describe(self._handle.pointer))

    def run(self, requests: Sequence[Request],
            progress: Optional[Callable[[int], None]] = None) -> list[Outcome]:
        """Submits all of them, then waits. progress is told how many are done, now and then."""
        handle = self._handle
        if os.getpid() != handle.pid:
            raise RunError("the model was loaded before this process was forked off; its threads "
                           "are the other process's: open an LLM of its own here",
                           code="unavailable")
        running = _List(self, requests)
        with handle.changed:
            if handle.is_closing:
                raise RunError("the LLM is closed", code="unavailable")
            handle.lists.add(running)
        threading.Thread(target=running.run, name="poolrank-list", daemon=True).start()
        return running.wait(progress)

    def close(self) -> None:
        """Finishes what was accepted, then releases the model. Again: nothing."""
        self._close.detach()
        _handle_close(self._handle, True)

    @property
    def is_open(self) -> bool:
        return not self._handle.is_closing and os.getpid() == self._handle.pid


class _Opening:
    """pr_engine_open on a thread of its own."""

    def __init__(self, library: ctypes.CDLL, options: Mapping[str, str]) -> None:
        self.library = library
        self.options = dict(options)
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.is_abandoned = False
        self.pointer: Optional[int] = None
        self.failure: Optional[Error] = None

    def run(self) -> None:
        try:
            pointer = self._open()
        except Error as error:
            self.failure = error
        else:
            with self.lock:
                self.pointer = pointer
                if self.is_abandoned:
                    self.library.pr_engine_close(pointer)
        self.done.set()

    def _open(self) -> int:
        error = PrError()
        options = self.library.pr_options_create()
        if not options:
            raise error_of_number(_library.NO_MEMORY, "options")
        try:
            for name, value in self.options.items():
                check(self.library.pr_options_set(options, name.encode(), value.encode(),
                                                  ctypes.byref(error)), error)
            pointer = ctypes.c_void_p()
            check(self.library.pr_engine_open(options, ctypes.byref(pointer),
                                              ctypes.byref(error)), error)
            assert pointer.value
            return pointer.value
        finally:
            self.library.pr_options_free(options)

    def wait(self) -> int:
        try:
            self.done.wait()
        except BaseException:
            with self.lock:
                self.is_abandoned = True
                if self.pointer is not None:
                    self.library.pr_engine_close(self.pointer)
            raise
        if self.failure:
            raise self.failure
        assert self.pointer is not None
        return self.pointer


class _List:
    """Requests that were given together, on their way through the engine."""

    def __init__(self, engine: Engine, requests: Sequence[Request]) -> None:
        self.engine: Optional[Engine] = engine  # kept alive until the last one is answered
        self.handle = engine._handle
        self.requests = requests
        self.outcomes: list[Outcome] = []
        self.failure: Optional[BaseException] = None
        self.is_abandoned = False
        self.done = threading.Event()

    def wait(self, progress: Optional[Callable[[int], None]]) -> list[Outcome]:
        try:
            while not self.done.wait(PROGRESS_S if progress else None):
                if progress:
                    progress(len(self.outcomes))
            if progress:
                progress(len(self.outcomes))
        except BaseException:
            self.is_abandoned = True
            raise
        if self.failure:
            raise self.failure
        return self.outcomes

    def run(self) -> None:
        try:
            self._run()
        except BaseException as failure:  # raised where the answers are waited for
            self.failure = failure
        with self.handle.changed:
            self.handle.lists.discard(self)
            self.handle.changed.notify_all()
        self.engine = None
        self.done.set()

    def _run(self) -> None:
        under_way: list[Union[int, Error]] = []
        for request in self.requests:
            if self.is_abandoned:
                break
            under_way.append(self._submit(request))
            n_answered = len(self.outcomes)
            if len(under_way) - n_answered >= N_UNDER_WAY_MAX:
                self.outcomes.append(self._wait(under_way[n_answered]))
        for ticket in under_way[len(self.outcomes):]:
            self.outcomes.append(self._wait(ticket))
        if len(self.outcomes) < len(self.requests):
            raise RunError("the LLM was closed while requests waited", code="cancelled")

    def _submit(self, request: Request) -> Union[int, Error]:
        error, ticket = PrError(), ctypes.c_void_p()
        library = self.handle.library
        try:
            filled = _request_fill(library, request)
            check(library.pr_engine_submit(self.handle.pointer, ctypes.byref(filled),
                                           ctypes.byref(ticket), ctypes.byref(error)), error)
        except Error as failure:
            return failure
        assert ticket.value
        return ticket.value

    def _wait(self, ticket: Union[int, Error]) -> Outcome:
        if isinstance(ticket, Error):
            return ticket
        library = self.handle.library
        error, result = PrError(), ctypes.POINTER(PrResult)()
        status = library.pr_engine_wait(self.handle.pointer, ticket, ctypes.byref(result),
                                        ctypes.byref(error))
        if status != 0:
            return error_of_number(status, error.message.decode("utf-8", "replace"))
        try:
            return _result_take(result.contents)
        finally:
            library.pr_result_free(result)


def _flag(value: Optional[bool]) -> int:
    return -1 if value is None else int(value)


def _request_fill(library: ctypes.CDLL, request: Request) -> PrRequest:
    """The C structure, which borrows from `request` and from itself."""
    filled = PrRequest()
    library.pr_request_init_size(ctypes.byref(filled), ctypes.sizeof(filled))
    filled.task = _library.TASKS.index(request.task)
    filled.tokenize_only = request.tokenize_only
    filled.last_row_only = request.last_row_only
    if request.tokens is not None:
        filled.tokens = request.tokens.ctypes.data
        filled.n_tokens = len(request.tokens)
    elif request.messages is not None:
        filled.messages, filled.n_messages = request.messages, len(request.messages)
    else:
        filled.text, filled.n_text = request.text, len(request.text or b"")
    if request.text_pair is not None:
        filled.text_pair, filled.n_text_pair = request.text_pair, len(request.text_pair)
    if request.params is not None:
        _params_fill(filled, request.params)
    return filled


def _params_fill(filled: PrRequest, params: PoolingParams) -> None:
    filled.normalize = _flag(params.normalize)
    filled.softmax = _flag(params.softmax)
    filled.use_activation = _flag(params.use_activation)
    filled.add_special_tokens = _flag(params.add_special_tokens)
    filled.priority = params.priority
    if params.truncation_side is not None:
        filled.truncation_side = _SIDES[params.truncation_side]
    if params.truncate_prompt_tokens is not None:
        filled.truncate_prompt_tokens = params.truncate_prompt_tokens
    if params.dimensions is not None:
        filled.dimensions = params.dimensions
    if params.step_tag_id is not None:
        filled.step_tag_id = params.step_tag_id
    if params.timeout is not None:
        filled.timeout_ms = max(1, round(params.timeout * 1000))
    if params.returned_token_ids is not None:
        ids = np.asarray(params.returned_token_ids, dtype=np.int32)
        filled.returned_token_ids, filled.n_returned_token_ids = ids.ctypes.data, len(ids)
        filled._ids = ids  # lives as long as the structure


def _result_take(result: PrResult) -> Outcome:
    if result.status != 0:
        return error_of_number(result.status, (result.message or b"").decode("utf-8", "replace"))
    n_tokens = result.n_prompt_tokens
    if result.tokens:
        return Result(n_tokens, None, False, result.tokens[:n_tokens])
    shape = (result.n_rows, result.n_columns) if result.is_token_wise else (result.n_columns,)
    data = np.empty(shape, dtype=np.float32)
    if data.nbytes:
        ctypes.memmove(data.ctypes.data, result.data, data.nbytes)
    return Result(n_tokens, data, result.is_token_wise, None)
