"""Separation of the rows to be answered yes from the others, by a number and any threshold.

    yes, answers ── ranking ─▶ counts at each distinct answer ─┬─ roc, area_under_roc
                                                               ├─ precision_recall
                                                               └─ average_precision

Rows with equal answers are on the same side of any threshold, and so are one step of each curve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Ranking(NamedTuple):
    """The counts of the rows at or above each distinct answer, the highest answer first.

    `answers` has the distinct answers, [steps]; `said` the rows that have at least that answer, and
    `right` those among them that are to be answered yes, both int64 [steps].
    """

    answers: NDArray[np.floating[Any]]
    said: NDArray[np.int64]
    right: NDArray[np.int64]
    positives: int
    rows: int


class Curve(NamedTuple):
    """The points of a curve, `x` and `y`, float64 [points]."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def ranking(yes: NDArray[np.bool_], answers: NDArray[Any]) -> Ranking:
    """Return the counts at each distinct answer.

    Args:
        yes: whether the row is to be answered yes, [rows].
        answers: the finite answers, [rows]; they keep their dtype if it is one of floats.
    """
    floats = answers if answers.dtype.kind == "f" else answers.astype(np.float64)
    order = np.argsort(-floats, kind="stable")
    ranked = floats[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    right = np.cumsum(yes[order], dtype=np.int64)[last]
    return Ranking(ranked[last], last + 1, right, int(yes.sum()), len(yes))


def roc(ranked: Ranking) -> Curve | None:
    """Return the true positive rate by the false positive rate; `None` if one class has no row.

    Source: T. Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27 (2006).
    """
    negatives = ranked.rows - ranked.positives
    if not (ranked.positives and negatives):
        return None
    wrong = ranked.said - ranked.right
    return Curve(
        np.concatenate([[0.0], wrong / negatives]),
        np.concatenate([[0.0], ranked.right / ranked.positives]),
    )


def area_under_roc(ranked: Ranking) -> float | None:
    """Return the chance that a random yes has a higher answer than a random no; a tie is half.

    It is the area under the curve by the trapezoidal rule; `None` if one class has no row.
    """
    curve = roc(ranked)
    return None if curve is None else float(np.trapezoid(curve.y, curve.x))


def precision_recall(ranked: Ranking) -> Curve | None:
    """Return the precision by the recall, from the highest answer on; `None` without a yes."""
    if not ranked.positives:
        return None
    return Curve(ranked.right / ranked.positives, ranked.right / ranked.said)


def average_precision(ranked: Ranking) -> float | None:
    """Return the mean of the precisions, each weighed by the recall that its step adds.

    The sum is not interpolated, as in scikit-learn's `average_precision_score`: an area by
    trapezoids would be too optimistic (J. Davis and M. Goadrich, The relationship between
    precision-recall and ROC curves, ICML 2006).  `None` without a yes.
    """
    curve = precision_recall(ranked)
    if curve is None:
        return None
    return float((np.diff(curve.x, prepend=0.0) * curve.y).sum())
