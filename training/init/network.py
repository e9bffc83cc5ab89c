"""The sizes of the network and the settings of its fit, by rows and features.

They were chosen on twenty public tables, for all of them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.init.features import LOG, NUMBER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.init.features import Choice

# Fewer rows than this cannot spare any to be held out.
_SPARE = 20
_WIDEST = 2048  # values of all pieces together


@dataclass(frozen=True)
class Trunk:
    """The layers between the features and the heads.  Without `pieces` there is no such layer."""

    pieces: int
    units: int
    dropout: float


@dataclass(frozen=True)
class Fit:
    """The settings of the fit.

    Without a `split` nothing is held out, so nothing can be watched: `patience` has no meaning.
    `decay_steps` is the number of steps of all epochs.
    """

    learning_rate: float
    decay_steps: int
    weight_decay: float
    epochs: int
    batch_size: int
    split: float
    patience: int


def trunk(rows: int, choices: Iterable[Choice]) -> Trunk:
    """Return the sizes for so many training rows and these features."""
    bends = sum(choice.use in (NUMBER, LOG) and choice.values > 2 for choice in choices)  # noqa: PLR2004
    pieces = min(max(rows // 40, 4), 32)
    if bends * pieces > _WIDEST:
        pieces = _WIDEST // bends
    units = 32 if rows < 500 else 64 if rows < 3000 else 128  # noqa: PLR2004  (a scale)
    dropout = 0.2 if rows < 3000 else 0.1  # noqa: PLR2004  (a scale)
    return Trunk(pieces if bends and pieces > 1 else 0, units, dropout)


def embedding(categories: int) -> int:
    """Return the length of the vector for each of so many categories."""
    return min(max(math.isqrt(categories), 4), 32)


def fit(rows: int) -> Fit:
    """Return the settings for so many rows."""
    batch = 32
    while batch < 1024 and batch * 60 < rows:  # noqa: PLR2004  (a power of two)
        batch *= 2
    split = 0.15 if rows < 10000 else 0.1  # noqa: PLR2004  (a scale)
    split = split if rows >= _SPARE else 0
    steps = max(-(-round(rows * (1 - split)) // batch), 1)
    epochs = min(max(3000 // steps, 40), 100)
    patience = max(epochs // 5, 8)
    return Fit(0.002, steps * epochs, 0.02, epochs, batch, split, patience)
