"""include/poolrank/engine.h for Python: finds libpoolrank, checks its version, declares its calls.

tests/clients/test_layout.py compares the structures below with what a C compiler makes of the
header.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import os
import shutil
from ctypes import (POINTER, Structure, c_bool, c_char, c_char_p, c_float, c_int, c_int8, c_int32,
                    c_size_t, c_uint32, c_uint64, c_void_p)
from typing import Any, Optional

from ._version import __version__
from .errors import RunError, error_of_number

FILE_NAME = "libpoolrank.so.0"
ERROR_BYTES = 1024
NO_MEMORY = 9  #: PR_E_NOMEM
TASKS = ("auto", "embed", "classify", "score", "reward")  #: in the order of pr_task


class PrError(Structure):
    """pr_error"""

    _fields_ = [("status", c_int), ("message", c_char * ERROR_BYTES)]


class PrRequest(Structure):
    """pr_request; pr_request_init_size fills it."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("task", c_int),
        ("text", c_char_p),
        ("n_text", c_size_t),
        ("text_pair", c_char_p),
        ("n_text_pair", c_size_t),
        ("tokens", c_void_p),
        ("n_tokens", c_size_t),
        ("truncate_prompt_tokens", c_int32),
        ("truncation_side", c_int8),
        ("add_special_tokens", c_int8),
        ("normalize", c_int8),
        ("softmax", c_int8),
        ("use_activation", c_int8),
        ("dimensions", c_int32),
        ("step_tag_id", c_int32),
        ("returned_token_ids", c_void_p),
        ("n_returned_token_ids", c_size_t),
        ("priority", c_int32),
        ("timeout_ms", c_uint32),
        ("tokenize_only", c_bool),
        ("last_row_only", c_bool),
        ("cache_salt", c_uint64),
        ("done", c_void_p),
        ("context", c_void_p),
        ("messages", c_char_p),
        ("n_messages", c_size_t),
    ]


class PrResult(Structure):
    """pr_result"""

    _fields_ = [
        ("status", c_int),
        ("message", c_char_p),
        ("n_prompt_tokens", c_uint32),
        ("n_rows", c_uint32),
        ("n_columns", c_uint32),
        ("data", POINTER(c_float)),
        ("is_token_wise", c_bool),
        ("tokens", POINTER(c_int32)),
        ("tokenize_ns", c_uint64),
        ("queue_ns", c_uint64),
        ("run_ns", c_uint64),
    ]


_STATUS = c_int
_HANDLE = c_void_p
#: Of every function: what it returns, what it takes.
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pr_version": (c_char_p, ()),
    "pr_options_create": (_HANDLE, ()),
    "pr_options_free": (None, (_HANDLE,)),
    "pr_options_set": (_STATUS, (_HANDLE, c_char_p, c_char_p, POINTER(PrError))),
    "pr_engine_open": (_STATUS, (_HANDLE, POINTER(_HANDLE), POINTER(PrError))),
    "pr_engine_close": (None, (_HANDLE,)),
    "pr_engine_describe": (c_char_p, (_HANDLE,)),
    "pr_request_init_size": (None, (POINTER(PrRequest), c_size_t)),
    "pr_engine_submit": (_STATUS, (_HANDLE, POINTER(PrRequest), POINTER(_HANDLE),
                                   POINTER(PrError))),
    "pr_engine_wait": (_STATUS, (_HANDLE, _HANDLE, POINTER(POINTER(PrResult)), POINTER(PrError))),
    "pr_result_free": (None, (POINTER(PrResult),)),
}


def library_find() -> Optional[str]:
    """Where the library is: POOLRANK_LIBRARY, the copy in this package, the system's."""
    named = os.environ.get("POOLRANK_LIBRARY")
    if named:
        return named
    inside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib", FILE_NAME)
    if os.path.exists(inside):
        return inside
    program = shutil.which("poolrank")
    if program:
        # Beside it in a build folder, in ../lib of an installed tree.
        folder = os.path.dirname(os.path.realpath(program))
        for place in (folder, os.path.join(folder, os.pardir, "lib")):
            if os.path.exists(os.path.join(place, FILE_NAME)):
                return os.path.join(place, FILE_NAME)
    return ctypes.util.find_library("poolrank")


@functools.lru_cache(maxsize=None)
def _library_open(path: str) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(path)
        version = library.pr_version
    except (OSError, AttributeError) as error:
        raise RunError(f"load {path}: {error}", code="not_found") from None
    version.restype = c_char_p
    found = version().decode("utf-8", "replace")
    if found != __version__:
        raise RunError(f"{path}: found version {found} of the library, expected {__version__}, "
                       "that of the Python package", code="unsupported")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def library_load() -> ctypes.CDLL:
    """The library, opened once. Raises RunError: not found, or another version."""
    path = library_find()
    if path is None:
        raise RunError(f"{FILE_NAME} was not found: neither inside the package, nor beside a "
                       "program `poolrank` in PATH, nor among the system's libraries; "
                       "POOLRANK_LIBRARY may name it", code="not_found")
    return _library_open(path)


def check(status: int, error: PrError) -> None:
    """Raises what a call reports."""
    if status != 0:
        raise error_of_number(status, error.message.decode("utf-8", "replace"))
