"""What comes back, with the names of vLLM's outputs. Numbers are float32 in NumPy arrays.

    PoolingRequestOutput         .outputs.data       [n], or [rows, n] of tokens or steps
    EmbeddingRequestOutput       .outputs.embedding  [n]
    ClassificationRequestOutput  .outputs.probs      [n]
    ScoringRequestOutput         .outputs.score      float
    RewardRequestOutput          .outputs.reward     float, beside .data
"""

from __future__ import annotations

from typing import Any, Callable, Generic, Optional, TypeVar, Union

import numpy as np
import numpy.typing as npt

__all__ = ["ClassificationOutput", "ClassificationRequestOutput", "EmbeddingOutput",
           "EmbeddingRequestOutput", "PoolingOutput", "PoolingRequestOutput", "RewardOutput",
           "RewardRequestOutput", "ScoringOutput", "ScoringRequestOutput"]

Floats = npt.NDArray[np.float32]
Output = TypeVar("Output")
TokenIds = Callable[[], Optional[list[int]]]


class _Equal:
    """Compared by what they hold, as vLLM's are; arrays number by number."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = vars(self), vars(other)
        return all(np.array_equal(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in vars(self).items())})"


class PoolingOutput(_Equal):
    """Whatever the model's pooler yields."""

    def __init__(self, data: Floats) -> None:
        self.data = data


class EmbeddingOutput(_Equal):
    def __init__(self, embedding: Floats) -> None:
        self.embedding = embedding

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


class ClassificationOutput(_Equal):
    def __init__(self, probs: Floats) -> None:
        self.probs = probs

    @property
    def num_classes(self) -> int:
        return len(self.probs)


class ScoringOutput(_Equal):
    def __init__(self, score: float) -> None:
        self.score = score


class RewardOutput(_Equal):
    """reward is the last token's value, or what the steps come to; data has all of them."""

    def __init__(self, reward: float, data: Floats, step_rewards: Optional[Floats]) -> None:
        self.reward = reward
        self.data = data
        self.step_rewards = step_rewards


class RequestOutput(Generic[Output]):
    """The answer to one prompt."""

    def __init__(self, request_id: str, outputs: Output, n_prompt_tokens: int,
                 token_ids: TokenIds) -> None:
        self.request_id = request_id
        self.outputs = outputs
        self.n_prompt_tokens = n_prompt_tokens
        self.finished = True
        self._token_ids: Union[TokenIds, list[int], None] = token_ids

    @property
    def prompt_token_ids(self) -> Optional[list[int]]:
        """The tokens that the model read. They are asked for when this is read, since few callers
        want them; None when the LLM was closed before that."""
        if callable(self._token_ids):
            self._token_ids = self._token_ids()
        return self._token_ids

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_token_ids": self.prompt_token_ids}

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(request_id={self.request_id!r}, outputs={self.outputs!r}, "
                f"n_prompt_tokens={self.n_prompt_tokens}, finished={self.finished})")


class PoolingRequestOutput(RequestOutput[PoolingOutput]):
    pass


class EmbeddingRequestOutput(RequestOutput[EmbeddingOutput]):
    pass


class ClassificationRequestOutput(RequestOutput[ClassificationOutput]):
    pass


class ScoringRequestOutput(RequestOutput[ScoringOutput]):
    pass


class RewardRequestOutput(RequestOutput[RewardOutput]):
    pass
