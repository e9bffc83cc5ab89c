"""Counts of yes and no on both sides of a threshold, and the figures that follow from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from service.insight.evaluation.ranking import Ranking

EVEN = tuple(step / 10 for step in range(1, 10))
DIGITS = 17  # of a float64


class Outcome(NamedTuple):
    """The rows on each side of a threshold, which says yes to the answers above it."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def said(self) -> int:
        """The rows that are answered yes."""
        return self.true_positives + self.false_positives

    @property
    def share(self) -> float | None:
        """The share of rows that are answered yes; `None` without rows."""
        return _share(self.said, self.said + self.false_negatives + self.true_negatives)

    @property
    def precision(self) -> float | None:
        """The share of the yeses that are right; `None` if no row is answered yes."""
        return _share(self.true_positives, self.said)

    @property
    def recall(self) -> float | None:
        """The share of the rows to be answered yes that are; `None` if there are none."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; `None` if nothing is yes and nothing ought."""
        wrong = self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, 2 * self.true_positives + wrong)


def at(ranked: Ranking, threshold: float) -> Outcome:
    """Return the counts at a threshold, rounded to the dtype of the answers as serving does."""
    cut = ranked.answers.dtype.type(threshold)
    above = int(np.searchsorted(-ranked.answers, -cut, side="left"))
    said, right = (int(ranked.said[above - 1]), int(ranked.right[above - 1])) if above else (0, 0)
    missed = ranked.positives - right
    return Outcome(threshold, right, said - right, missed, ranked.rows - said - missed)


def spread(ranked: Ranking, *, probabilities: bool) -> list[float]:
    """Return some nine thresholds: even ones for probabilities, else quantiles of the answers."""
    if probabilities or not ranked.rows:
        return list(EVEN)
    # The answers at or above which a tenth, two tenths … of the rows are.
    ranks = np.searchsorted(ranked.said, [ranked.rows * part for part in EVEN])
    return sorted({float(answer) for answer in ranked.answers[ranks]})


def best(ranked: Ranking) -> float | None:
    """Return the shortest number that, as a threshold, has the highest F1 on these rows.

    Of several, it is the highest.  `None` if no row is to be answered yes, or if the best is to
    answer yes to all rows.
    """
    if not ranked.positives:
        return None
    place = int(np.argmax(2 * ranked.right / (ranked.said + ranked.positives)))
    if place + 1 == len(ranked.answers):
        return None
    high, low = float(ranked.answers[place]), float(ranked.answers[place + 1])
    middle = low + (high - low) / 2
    short = (float(f"{middle:.{digits}g}") for digits in range(2, DIGITS + 1))
    kind = ranked.answers.dtype.type
    return next((number for number in short if low <= kind(number) < high), low)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
