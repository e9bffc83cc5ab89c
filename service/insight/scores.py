"""Scores of answers whose targets are known: the same numbers in training and in `triceps score`.

    targets, answers ── by_row ─▶ one number for each row ── mean ─▶ score

Each metric is a mean over rows, so that a file of any length is scored a batch at a time; `Tally`
is the sum so far.  This module needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.kinds import THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

METRICS = {
    "binary": "accuracy",
    "multiclass": "accuracy",
    "multilabel": "accuracy",
    "regression": "mae",
}
"""The metric of each kind of head."""


def by_row(
    kind: str, targets: NDArray[Any], answers: NDArray[Any], threshold: float = THRESHOLD
) -> NDArray[np.float64]:
    """Return the score of each row, [rows]: its mean is the metric of the kind.

    For a regression it is the mean absolute error of the row's values; for other heads 1 if the
    answer is right and 0 if not, and for several labels the share of them that are.  An answer that
    is not a number is wrong.

    Args:
        kind: the kind of the head, a key of `METRICS`.
        targets: the values that are right: the index of the class, int [rows], for a multiclass
            head; 0 or 1, [rows, labels], for binary and multilabel heads; else [rows, values].
        answers: the values of the head, [rows, …].
        threshold: the value above which a binary or multilabel head says yes.
    """
    flat = answers.reshape(len(answers), -1)
    scores: NDArray[np.float64]
    if kind == "multiclass":
        right = (flat.argmax(axis=1) == targets) & ~np.isnan(flat).any(axis=1)
        scores = right.astype(np.float64)
    elif kind == "regression":
        distance = np.abs(flat.astype(np.float64) - targets.reshape(flat.shape))
        scores = distance.mean(axis=1)
    else:
        wanted = targets.reshape(flat.shape) > THRESHOLD
        right = ((flat > threshold) == wanted) & ~np.isnan(flat)
        scores = right.mean(axis=1, dtype=np.float64)
    return scores


def target_sum(kind: str, targets: NDArray[Any], values: int) -> NDArray[np.float64]:
    """Return the sum of the targets as values of the head, [values], such as the rows by class.

    Args:
        kind: the kind of the head.
        targets: as for `by_row`.
        values: the number of values of one answer.
    """
    if kind == "multiclass":
        return np.bincount(targets, minlength=values).astype(np.float64)
    summed: NDArray[np.float64] = targets.reshape(-1, values).sum(axis=0, dtype=np.float64)
    return summed


def best_constant(kind: str, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best answer that ignores the inputs, [values], from the mean of the targets.

    It is the mean for a regression, else the commonest class, or whether most rows have each label.
    """
    if kind == "regression":
        return mean
    chosen = np.arange(len(mean)) == mean.argmax() if kind == "multiclass" else mean > THRESHOLD
    return np.where(chosen, 1.0, 0.0)


@dataclass(frozen=True)
class Tally:
    """The sums over the rows of a head so far.

    `total` is the sum of the rows' scores, `constant` that of the scores of the head's constant
    answer, and `targets` that of the targets, [values].
    """

    rows: int
    total: float
    constant: float
    targets: NDArray[np.float64]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.rows + other.rows,
            self.total + other.total,
            self.constant + other.constant,
            self.targets + other.targets,
        )


def tally(
    kind: str,
    targets: NDArray[Any],
    answers: NDArray[Any],
    threshold: float,
    constant: Sequence[float],
) -> Tally:
    """Return the sums over a batch of at least one row.

    Args:
        kind: as for `by_row`, and so are the next three.
        targets: the values that are right.
        answers: the values of the head.
        threshold: the threshold of the head.
        constant: the head's best constant answer, [values]; empty if it is not known.
    """
    rows = len(answers)
    values = answers.size // rows
    total = float(by_row(kind, targets, answers, threshold).sum())
    always = 0.0
    if constant:
        repeated = np.broadcast_to(np.array(constant), (rows, values))
        always = float(by_row(kind, targets, repeated, threshold).sum())
    return Tally(
        rows,
        total,
        always,
        target_sum(kind, targets, values),
    )


def baseline_score(kind: str, summed: Tally, constant: Sequence[float]) -> float | None:
    """Return the score of the head's constant answer, or else of the best one for these rows.

    Only for classes does the second follow from the sums; for a regression it is `None`.
    """
    if constant:
        return summed.constant / summed.rows
    if kind == "regression":
        return None
    mean = summed.targets / summed.rows
    always = best_constant(kind, mean)
    # The share of rows that have the class, or of labels that are as most rows have them.
    if kind == "multiclass":
        return float(mean.max())
    return float(np.where(always, mean, 1 - mean).mean())


def shown(score: float | None) -> str:
    """Return a score with four decimals, or a dash for none.

    Errors in the unit of a column may be of any size: one of thousands has one decimal, and one
    that would be 0 or too long for a table has four digits and an exponent.
    """
    if score is None:
        return "–"  # noqa: RUF001  (a dash)
    size = abs(score)
    if size == 0 or 1e-3 <= size < 1e3:  # noqa: PLR2004  (a score, or a small error)
        return f"{score:.4f}"
    return f"{score:,.1f}" if 1e3 <= size < 1e9 else f"{score:.4g}"  # noqa: PLR2004  (an error)
