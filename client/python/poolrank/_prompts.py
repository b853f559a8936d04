"""A caller's prompts and parameters become the engine's requests, or an error that names the
prompt.

What a client of a server may send is the same: client.py uses it too.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Iterable, Mapping, Optional, Sequence, TypeVar, Union

import numpy as np
import numpy.typing as npt

from .errors import Error, InputError
from .params import PoolingParams

#: "text", {"prompt": "text"}, {"prompt_token_ids": [1, 2]}, [1, 2], {"query": "a", "document": "b"},
#: {"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": True}
Prompt = Union[str, Mapping[str, Any], Sequence[int]]
Prompts = Union[Prompt, Sequence[Prompt]]
Params = Union[None, PoolingParams, Sequence[PoolingParams]]
T = TypeVar("T")


@dataclasses.dataclass
class Text:
    """What one prompt holds: tokens, or a text and perhaps a second one."""

    text: str = ""
    text_pair: Optional[str] = None
    tokens: Optional[npt.NDArray[np.int32]] = None
    messages: Optional[str] = None  #: a conversation and what belongs to it, as JSON


#: What may stand beside "messages".
CHAT_KEYS = {"tools", "documents", "chat_template", "chat_template_kwargs", "add_generation_prompt",
             "continue_final_message"}


def _is_token_list(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind in "iu"
    return (isinstance(value, (list, tuple)) and len(value) > 0
            and isinstance(value[0], (int, np.integer)) and not isinstance(value[0], bool))


def is_one_prompt(prompts: Prompts) -> bool:
    """Whether it is a prompt, not a list of them."""
    return isinstance(prompts, (str, Mapping)) or _is_token_list(prompts)


def prompts_list(prompts: Prompts) -> list[Any]:
    """One prompt or several, as a list of them."""
    if is_one_prompt(prompts):
        return [prompts]
    if isinstance(prompts, (bytes, bytearray)) or not isinstance(prompts, Iterable):
        raise InputError(f"prompts: found {type(prompts).__name__}, expected a text, a dict, a "
                         "list of token ids, or a list of these", code="argument")
    return list(prompts)


def text_of(prompt: Any) -> Text:
    """Raises InputError."""
    if isinstance(prompt, str):
        return Text(_text(prompt, "prompt"))
    if isinstance(prompt, Mapping):
        return _text_of_mapping(prompt)
    if _is_token_list(prompt) or (isinstance(prompt, (list, tuple)) and not prompt):
        return Text(tokens=tokens_of(prompt))
    raise InputError(f"found {type(prompt).__name__}, expected a text, a dict or a list of token "
                     "ids", code="input")


def _text_of_mapping(prompt: Mapping[str, Any]) -> Text:
    keys = {key for key, value in prompt.items() if value is not None}
    # vLLM's prompts may carry both: the ids are then those of the text.
    if keys in ({"prompt_token_ids"}, {"prompt_token_ids", "prompt"}):
        return Text(tokens=tokens_of(prompt["prompt_token_ids"]))
    if keys == {"prompt"}:
        return Text(_text(prompt["prompt"], "prompt"))
    if keys == {"query", "document"}:
        return Text(_text(prompt["query"], "query"), _text(prompt["document"], "document"))
    if "messages" in keys and keys <= CHAT_KEYS | {"messages"}:
        try:
            return Text(messages=json.dumps({key: prompt[key] for key in keys}))
        except (TypeError, ValueError) as error:
            raise InputError(f"messages: {error}", code="input") from None
    raise InputError(f"found a dict with {sorted(keys)}, expected prompt, prompt_token_ids, "
                     "messages, or query and document", code="input")


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{key}: found {type(value).__name__}, expected a text", code="input")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"{key}: character {error.start} is half of a surrogate pair, which "
                         "UTF-8 cannot say", code="input") from None
    return value


def tokens_of(ids: Any) -> npt.NDArray[np.int32]:
    """Raises InputError for what is no list of token ids."""
    try:
        array = np.asarray(ids)
    except (ValueError, OverflowError):  # ragged, or too large for any integer
        array = np.asarray(None)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError("prompt_token_ids: expected a list of integers", code="input")
    if array.size and (array.min() < 0 or array.max() > np.iinfo(np.int32).max):
        raise InputError("prompt_token_ids: found a number that is no token id", code="input")
    return np.ascontiguousarray(array, dtype=np.int32)


def params_list(params: Params, n: int) -> list[PoolingParams]:
    """One for each of n prompts."""
    if params is None or isinstance(params, PoolingParams):
        one = params_check(params or PoolingParams())
        return [one] * n
    several = list(params)
    if len(several) != n:
        raise InputError(f"the lengths of prompts ({n}) and pooling_params ({len(several)}) must "
                         "be the same", code="argument")
    return [params_check(one) for one in several]


def params_check(params: PoolingParams) -> PoolingParams:
    """What the engine's plain integers could not say."""
    if not isinstance(params, PoolingParams):
        raise InputError(f"pooling_params: found {type(params).__name__}, expected PoolingParams",
                         code="argument")
    for name, least in (("dimensions", 1), ("truncate_prompt_tokens", -1), ("step_tag_id", 0),
                        ("priority", -2**31)):
        value = getattr(params, name)
        if value is None:
            continue
        is_number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not is_number or not least <= value < 2**31 or (name[0] == "t" and value == 0):
            raise InputError(f"{name}: found {value!r}, expected an integer"
                             f"{' of at least 1' if least == 1 else ''}"
                             f"{' of at least 1, or -1' if least == -1 else ''}", code="argument")
    if params.truncation_side not in (None, "left", "right"):
        raise InputError(f"truncation_side: found {params.truncation_side!r}, expected left or "
                         "right", code="argument")
    if params.timeout is not None and not 0 < params.timeout < 4_000_000:
        raise InputError(f"timeout: found {params.timeout!r}, expected seconds", code="argument")
    if params.returned_token_ids is not None:
        tokens_of(params.returned_token_ids)
    return params


def pairs_of(text_1: Prompts, text_2: Prompts) -> list[tuple[str, str]]:
    """1:1, 1:N or N:N texts, as pairs."""
    first, second = ([_score_text(p) for p in prompts_list(side)] for side in (text_1, text_2))
    if not first or not second:
        raise InputError("At least one text element must be given", code="argument")
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise InputError(f"Input lengths must be either 1:1, 1:N or N:N; found {len(first)} and "
                         f"{len(second)}", code="argument")
    return list(zip(first, second))


def _score_text(prompt: Any) -> str:
    text = text_of(prompt)
    if text.tokens is not None or text.text_pair is not None or text.messages is not None:
        raise InputError("score: found token ids, a pair or messages, expected a text",
                         code="input")
    return text.text


def settle(outcomes: list[Union[T, Error]], on_error: str, noun: str = "prompt") -> list[Any]:
    """The outcomes, unless some are errors and the caller wants those raised."""
    if on_error == "per_item":
        return outcomes
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Error)]
    if not failed:
        return outcomes
    first = outcomes[failed[0]]
    assert isinstance(first, Error)
    others = f" ({len(failed) - 1} others failed too)" if len(failed) > 1 else ""
    where = f"{noun} {failed[0]} of {len(outcomes)}: " if len(outcomes) > 1 else ""
    raise type(first)(f"{where}{first.message}{others}", code=first.code, status=first.status,
                      retry_after=first.retry_after, index=failed[0], results=outcomes)


def on_error_check(on_error: str) -> None:
    if on_error not in ("raise", "per_item"):
        raise InputError(f"on_error: found {on_error!r}, expected raise or per_item",
                         code="argument")
