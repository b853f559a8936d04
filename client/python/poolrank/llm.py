"""poolrank.LLM: a pooling model in this process, with the names of vLLM's LLM class."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import weakref
from typing import Any, Callable, Mapping, Optional, Sequence, TypeVar, Union, cast

import numpy as np

from ._engine import Engine, Outcome, Request, Result
from ._prompts import (Params, Prompts, Text, on_error_check, pairs_of, params_list, prompts_list,
                       settle, text_of)
from .errors import Error, InputError
from .outputs import (ClassificationOutput, ClassificationRequestOutput, EmbeddingOutput,
                      EmbeddingRequestOutput, Floats, PoolingOutput, PoolingRequestOutput,
                      RewardOutput, RewardRequestOutput, ScoringOutput, ScoringRequestOutput)
from .params import PoolerConfig, PoolingParams

__all__ = ["LLM"]

T = TypeVar("T")
Tqdm = Union[bool, Callable[..., Any]]
_REDUCE: dict[str, Callable[[Floats], float]] = {
    "last": lambda steps: float(steps[-1]),
    "mean": lambda steps: float(np.float32(np.mean(steps, dtype=np.float64))),
    "min": lambda steps: float(np.min(steps)),
    "product": lambda steps: float(np.float32(np.prod(steps, dtype=np.float64))),
}


class LLM:
    """A model that is loaded and ready.

        with poolrank.LLM(model="/models/all-MiniLM-L6-v2", task="embed") as llm:
            [output] = llm.embed("a text")
            output.outputs.embedding

    Any thread may call its methods, several at a time. The keyword arguments are the options of
    the command line in snake_case (tensor_parallel_size, max_model_len, dtype, hf_overrides,
    override_pooler_config, …; docs/engine-arguments.md): True and False for switches, None for
    "not given", and a dict, a list or JSON text where the option takes JSON.

    Of a list of prompts all are computed, whatever becomes of one: with on_error="raise" the first
    error is raised, with .index and, in .results, the outcome of every prompt; with
    on_error="per_item" an Error stands in the list in place of the output.
    """

    def __init__(self, model: Union[str, os.PathLike[str]], tokenizer: Optional[str] = None, *,
                 task: str = "auto", **engine_args: Any) -> None:
        options = {"block": True, "model": os.fspath(model), "task": task, "tokenizer": tokenizer}
        self._engine = Engine(_options(options | engine_args))
        self._request_ids = itertools.count()

    # ---- what it is ----

    @property
    def description(self) -> dict[str, Any]:
        """What was understood of the model, as `poolrank inspect --json` prints it."""
        return self._engine.description

    @property
    def task(self) -> str:
        """The task that "auto" came to."""
        return str(self.description["task"])

    # ---- requests ----

    def encode(self, prompts: Prompts, pooling_params: Params = None, *, use_tqdm: Tqdm = True,
               pooling_task: Optional[str] = None, on_error: str = "raise",
               lora_request: None = None,
               prompt_adapter_request: None = None) -> list[PoolingRequestOutput]:
        """Whatever the pooler of the model's task (or of pooling_task) yields."""
        _adapters_refuse(lora_request, prompt_adapter_request)
        requests = _requests(prompts, pooling_params, pooling_task or "auto")
        return self._ask(requests, self._pooling_output, use_tqdm, on_error)

    def embed(self, prompts: Prompts, *, pooling_params: Params = None, use_tqdm: Tqdm = True,
              on_error: str = "raise", lora_request: None = None,
              prompt_adapter_request: None = None) -> list[EmbeddingRequestOutput]:
        """A vector for each prompt."""
        _adapters_refuse(lora_request, prompt_adapter_request)
        requests = _requests(prompts, pooling_params, "embed")
        return self._ask(requests, self._embedding_output, use_tqdm, on_error)

    def classify(self, prompts: Prompts, *, pooling_params: Params = None, use_tqdm: Tqdm = True,
                 on_error: str = "raise", lora_request: None = None,
                 prompt_adapter_request: None = None) -> list[ClassificationRequestOutput]:
        """The probabilities of the labels for each prompt."""
        _adapters_refuse(lora_request, prompt_adapter_request)
        requests = _requests(prompts, pooling_params, "classify")
        return self._ask(requests, self._classification_output, use_tqdm, on_error)

    def score(self, text_1: Prompts, text_2: Prompts, *,
              truncate_prompt_tokens: Optional[int] = None, pooling_params: Params = None,
              use_tqdm: Tqdm = True, on_error: str = "raise", lora_request: None = None,
              prompt_adapter_request: None = None) -> list[ScoringRequestOutput]:
        """How well the texts go together: one with one, one with each of many, or side by side.
        What a cross-encoder's head says, or the cosine of two embeddings."""
        _adapters_refuse(lora_request, prompt_adapter_request)
        pairs = pairs_of(text_1, text_2)
        params = params_list(pooling_params, len(pairs))
        if truncate_prompt_tokens is not None:
            params = params_list([dataclasses.replace(
                p, truncate_prompt_tokens=truncate_prompt_tokens) for p in params], len(pairs))
        requests = [_request(Text(*pair), p, "score") for pair, p in zip(pairs, params)]
        return self._ask(requests, self._scoring_output, use_tqdm, on_error, "pair")

    def reward(self, prompts: Prompts, *, pooling_params: Params = None, reduce: str = "last",
               return_tokens: bool = True, use_tqdm: Tqdm = True, on_error: str = "raise",
               lora_request: None = None,
               prompt_adapter_request: None = None) -> list[RewardRequestOutput]:
        """One number for each prompt: the last token's value, or what the steps of a process reward
        model come to by `reduce`: last, mean, min, product.

        return_tokens=False: .data has only the row of the reward, for less work and memory."""
        _adapters_refuse(lora_request, prompt_adapter_request)
        if self.description["head"] == "none":
            raise InputError(f"reward: {self.description['architecture']} has no reward head; "
                             "encode(pooling_task=\"reward\") gives its hidden states",
                             code="unsupported")
        if reduce not in _REDUCE:
            raise InputError(f"reduce: found {reduce!r}, expected {', '.join(_REDUCE)}",
                             code="argument")
        requests = _requests(prompts, pooling_params, "reward")
        # What steps come to needs all of them.
        is_last_enough = not return_tokens and (reduce == "last" or not self._has_steps())
        for request in requests:
            if isinstance(request, Request):
                request.last_row_only = is_last_enough

        def output(request: Request, result: Result) -> Union[RewardRequestOutput, Error]:
            return self._reward_output(request, result, reduce)
        return self._ask(requests, output, use_tqdm, on_error)

    def tokenize(self, prompts: Prompts, *, pooling_params: Params = None,
                 on_error: str = "raise") -> list[list[int]]:
        """The token ids that the model would read."""
        requests = _requests(prompts, pooling_params, "auto")
        for request in requests:
            if isinstance(request, Request):
                request.tokenize_only = True
        return self._ask(requests, lambda request, result: result.tokens or [], False, on_error)

    # ---- the end ----

    def close(self) -> None:
        """Finishes what runs, then releases the model. Lists whose prompts have not all been handed
        over yet end with an error. Closing twice is fine."""
        self._engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- inside ----

    def _has_steps(self) -> bool:
        return bool(self.description["pooler"]["pooling_type"]["value"] == "STEP")

    def _ask(self, requests: Sequence[Union[Request, Error]],
             output: Callable[[Request, Result], Union[T, Error]],
             use_tqdm: Tqdm, on_error: str, noun: str = "prompt") -> list[T]:
        on_error_check(on_error)
        good = [request for request in requests if isinstance(request, Request)]
        with _Progress(use_tqdm, len(good)) as progress:
            answers = iter(self._engine.run(good, progress.update))
        outcomes: list[Union[T, Error]] = []
        for request in requests:
            answer: Outcome = request if isinstance(request, Error) else next(answers)
            if isinstance(answer, Result) and isinstance(request, Request):
                outcomes.append(output(request, answer))
            else:
                assert isinstance(answer, Error)
                outcomes.append(answer)
        return settle(outcomes, on_error, noun)

    def _common(self, request: Request, result: Result) -> tuple[str, int, Any]:
        return (str(next(self._request_ids)), result.n_prompt_tokens,
                _token_ids(weakref.ref(self._engine), request))

    def _pooling_output(self, request: Request, result: Result) -> PoolingRequestOutput:
        request_id, n, ids = self._common(request, result)
        return PoolingRequestOutput(request_id, PoolingOutput(_rows(result)), n, ids)

    def _embedding_output(self, request: Request, result: Result) -> EmbeddingRequestOutput:
        request_id, n, ids = self._common(request, result)
        return EmbeddingRequestOutput(request_id, EmbeddingOutput(_row(result, "embed")), n, ids)

    def _classification_output(self, request: Request,
                               result: Result) -> ClassificationRequestOutput:
        request_id, n, ids = self._common(request, result)
        probs = ClassificationOutput(_row(result, "classify"))
        return ClassificationRequestOutput(request_id, probs, n, ids)

    def _scoring_output(self, request: Request, result: Result) -> ScoringRequestOutput:
        request_id, n, ids = self._common(request, result)
        score = float(_row(result, "score")[0])
        return ScoringRequestOutput(request_id, ScoringOutput(score), n, ids)

    def _reward_output(self, request: Request, result: Result,
                       reduce: str) -> Union[RewardRequestOutput, Error]:
        data = _rows(result)
        if data.size == 0:
            return InputError("the text has no step: the step's token does not occur in it",
                              code="input")
        # A row of several columns is [bad, good] after softmax: the last one is the reward.
        values = data.reshape(-1, data.shape[-1])[:, -1]
        has_steps = self._has_steps()
        reward = _REDUCE[reduce](values) if has_steps else float(values[-1])
        request_id, n, ids = self._common(request, result)
        output = RewardOutput(reward, data, values.copy() if has_steps else None)
        return RewardRequestOutput(request_id, output, n, ids)


def _rows(result: Result) -> Floats:
    assert result.data is not None
    return result.data


def _row(result: Result, method: str) -> Floats:
    if result.is_token_wise:
        raise InputError(f"{method}: the pooler gives several rows a prompt, and this method "
                         "returns one; encode() returns them all", code="unsupported")
    return _rows(result)


def _token_ids(engine: weakref.ref[Engine], request: Request) -> Callable[[], Optional[list[int]]]:
    """Asks for a prompt's tokens. The output does not keep the model in memory."""
    def ask() -> Optional[list[int]]:
        alive = engine()
        if alive is None or not alive.is_open:
            return None
        [result] = alive.run([dataclasses.replace(request, tokenize_only=True)])
        return result.tokens if isinstance(result, Result) else None
    return ask


def _requests(prompts: Prompts, params: Params, task: str) -> list[Union[Request, Error]]:
    items = prompts_list(prompts)
    requests: list[Union[Request, Error]] = []
    for prompt, one in zip(items, params_list(params, len(items))):
        try:
            requests.append(_request(text_of(prompt), one, task))
        except Error as error:
            requests.append(error)
    return requests


def _request(text: Text, params: PoolingParams, task: str) -> Request:
    if task not in ("auto", "embed", "classify", "score", "reward"):
        raise InputError(f"pooling_task: found {task!r}, expected embed, classify, score or reward",
                         code="argument")
    pair = None if text.text_pair is None else text.text_pair.encode("utf-8")
    messages = None if text.messages is None else text.messages.encode("utf-8")
    return Request(task, text.text.encode("utf-8"), pair, text.tokens, params, messages=messages)


def _adapters_refuse(lora_request: Any, prompt_adapter_request: Any) -> None:
    if lora_request is not None or prompt_adapter_request is not None:
        raise InputError("adapters are not built; merge them into the weights", code="unsupported")


# ---- options ----

def _options(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("_", "-"): _option(name, value)
            for name, value in arguments.items() if value is not None}


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, PoolerConfig):
        value = {key: v for key, v in dataclasses.asdict(value).items() if v is not None}
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value)
    if callable(value):
        raise InputError(f"{name}: found a function, expected a value; poolrank runs no Python of "
                         "its caller", code="argument")
    text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    return text.removeprefix("torch.") if name == "dtype" else text


class _Progress:
    """A bar of tqdm where that is installed and there is a terminal."""

    def __init__(self, use_tqdm: Tqdm, n: int) -> None:
        self.bar: Any = None
        self.update: Optional[Callable[[int], None]] = None
        make = use_tqdm if callable(use_tqdm) else _tqdm() if use_tqdm and n > 1 else None
        if make is None:
            return
        self.bar = make(total=n, desc="Processed prompts", dynamic_ncols=True, disable=None)
        self.update = self._to

    def _to(self, n_done: int) -> None:
        self.bar.update(n_done - self.bar.n)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _tqdm() -> Optional[Callable[..., Any]]:
    try:
        from tqdm import tqdm as make  # type: ignore[import-untyped]
    except ImportError:
        return None
    return cast(Callable[..., Any], make)
