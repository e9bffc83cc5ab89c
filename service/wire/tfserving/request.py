"""A decoded body of TensorFlow Serving's, whichever its verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.wire.body import Imputed

SIGNATURE = "serving_default"
"""The name of a model's only signature, which has all its inputs and heads."""


@dataclass(frozen=True)
class Query:
    """A decoded body: arrays by tensor, and how the answer is wanted."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    by_row: bool = True
    imputed: Sequence[Imputed] = ()
