"""poolrank for Python: LLM runs a pooling model in this process, Client asks a server."""

from ._version import __version__
from .client import Client, RankedDocument
from .errors import (DeadlineError, Error, InputError, NotFoundError, OutOfMemoryError, RunError)
from .llm import LLM
from .outputs import (ClassificationOutput, ClassificationRequestOutput, EmbeddingOutput,
                      EmbeddingRequestOutput, PoolingOutput, PoolingRequestOutput, RewardOutput,
                      RewardRequestOutput, ScoringOutput, ScoringRequestOutput)
from .params import PoolerConfig, PoolingParams

__all__ = [
    "Client", "LLM", "PoolerConfig", "PoolingParams", "RankedDocument", "__version__",
    "DeadlineError", "Error", "InputError", "NotFoundError", "OutOfMemoryError", "RunError",
    "ClassificationOutput", "ClassificationRequestOutput", "EmbeddingOutput",
    "EmbeddingRequestOutput", "PoolingOutput", "PoolingRequestOutput", "RewardOutput",
    "RewardRequestOutput", "ScoringOutput", "ScoringRequestOutput",
]
