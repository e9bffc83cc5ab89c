"""The decoded request of TensorFlow Serving's API, for all of its verbs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.wire.body import Imputed, Unseen
    from service.wire.explanations import Explain, Explanations

SIGNATURE = "serving_default"
"""TensorFlow Serving's name for the only signature of a model, with all its inputs and heads."""


@dataclass(frozen=True)
class Query:
    """A decoded body: arrays by tensor, [rows, …], and the form of the answer."""

    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    by_row: bool = True
    imputed: Sequence[Imputed] = ()
    unseen: Sequence[Unseen] = ()
    explain: Explain | None = None
    explained: Explanations | None = None

    def with_explanations(self, explained: Explanations) -> Query:
        """Return the request with its explanations, for the encoder."""
        return replace(self, explained=explained)
