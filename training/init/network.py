"""The sizes of the network and the settings of its fit, by rows and features.

They were chosen on twenty public tables, for all of them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.init.features import LOG, NUMBER
from training.rows import ENOUGH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.init.features import Choice

# Fewer rows than this cannot spare any to be held out.
_SPARE = 20
# So many rows can spare some that choose the epoch, and others that score the model.
_TESTED = 250
# The epochs of fewer rows, which no held-out row chooses.
_EPOCHS = 60
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

    `validation` and `test` are the parts of the rows that are held out, to be watched or only to be
    scored.  Without `patience` the fit ends after its `epochs`, and nothing held out changes it.
    `decay_steps` is the number of steps of all epochs.
    """

    learning_rate: float
    decay_steps: int
    weight_decay: float
    epochs: int
    batch_size: int
    validation: float
    test: float
    patience: int | None


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


def fit(rows: int, rarest: int | None = None) -> Fit:
    """Return the settings for so many rows, of which `rarest` have the rarest class of a head."""
    batch = 32
    while batch < 1024 and batch * 60 < rows:  # noqa: PLR2004  (a power of two)
        batch *= 2
    validation, test = _held_out(rows, rarest)
    steps = max(-(-round(rows * (1 - validation - test)) // batch), 1)
    epochs = min(max(3000 // steps, 40), 100) if test else _EPOCHS
    patience = max(epochs // 5, 8) if test else None
    return Fit(0.002, steps * epochs, 0.02, epochs, batch, validation, test, patience)


def _held_out(rows: int, rarest: int | None) -> tuple[float, float]:
    """Return the parts of the rows to hold out: for validation, and for the test.

    Few rows are held out once, to score the model, and choose no epoch.  The part is larger where
    that makes the score of the rarest class mean something.
    """
    if rows < _SPARE:
        return 0, 0
    least, most = (0.1, 0.15) if rows >= _TESTED else (0.15, 0.25)
    wanted = math.ceil(100 * ENOUGH / rarest) / 100 if rarest else least
    part = max(wanted, least) if wanted <= most else least
    return part, part if rows >= _TESTED else 0
