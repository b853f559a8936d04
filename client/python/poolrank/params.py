"""What a caller may ask for: PoolingParams of a request, PoolerConfig of a model."""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence

__all__ = ["PoolerConfig", "PoolingParams"]


@dataclasses.dataclass
class PoolingParams:
    """Parameters of one prompt; None: as the engine was started."""

    dimensions: Optional[int] = None  #: keep so many values of an embedding
    normalize: Optional[bool] = None
    softmax: Optional[bool] = None
    use_activation: Optional[bool] = None  #: False: raw values, whatever the head's activation
    step_tag_id: Optional[int] = None  #: STEP: the token that ends a step
    returned_token_ids: Optional[Sequence[int]] = None  #: STEP: the columns to keep
    truncate_prompt_tokens: Optional[int] = None  #: cut longer prompts; -1: to the model's limit
    truncation_side: Optional[str] = None  #: "right" cuts the end, "left" the beginning
    add_special_tokens: Optional[bool] = None
    priority: int = 0  #: lower is earlier
    timeout: Optional[float] = None  #: seconds to wait for a place in a batch

    def clone(self) -> PoolingParams:
        return dataclasses.replace(self)


@dataclasses.dataclass
class PoolerConfig:
    """For LLM(override_pooler_config=…); a dict or JSON text does as well."""

    pooling_type: Optional[str] = None  #: LAST, CLS, MEAN, ALL, STEP
    normalize: Optional[bool] = None
    softmax: Optional[bool] = None
    step_tag_id: Optional[int] = None
    returned_token_ids: Optional[list[int]] = None
