"""The comparison of two models' answers to the same rows, head by head, in constant memory.

    answers of both ── differences ─▶ Differences by row ── tally ─▶ Comparison, summed over batches

The difference of a row is the largest among the values of its answer.  Where both models have the
labels of a head, values are compared by label, whatever their order.  This module needs numpy
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Head

EDGES = tuple(10.0**power for power in range(-9, 7))
"""The bounds of the histogram's bins: up to the first (or no difference at all), …, the rest."""
_BY_LABEL = ("multiclass", "multilabel")


class Differences(NamedTuple):
    """The differences of some rows, [rows].

    `numbers` is the largest difference of a row's values, and infinite if only one of the two
    answers is a finite number; it is `None` for texts.  `labels` is whether the labels differ; it
    is `None` for a head without labels or classes.
    """

    rows: int
    numbers: NDArray[np.float64] | None
    labels: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Comparison:
    """The sums over the rows of a head so far.

    `not_finite` counts the rows whose difference is no finite number; they are in no other sum.
    `bins` counts the other rows by their difference, as `EDGES` divides them; a bin has its upper
    bound, as a bucket of Prometheus does.  `largest` and `total` are `None` for texts, and
    `labels_differ` for heads without labels.
    """

    rows: int
    labels_differ: int | None
    largest: float | None
    total: float | None
    not_finite: int = 0
    bins: tuple[int, ...] = (0,) * (len(EDGES) + 1)

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(
            self.rows + other.rows,
            None if self.labels_differ is None else self.labels_differ + (other.labels_differ or 0),
            None if self.largest is None else max(self.largest, other.largest or 0.0),
            None if self.total is None else self.total + (other.total or 0.0),
            self.not_finite + other.not_finite,
            tuple(a + b for a, b in zip(self.bins, other.bins, strict=True)),
        )

    @property
    def mean(self) -> float | None:
        """The mean difference of the rows whose difference is finite."""
        rows = self.rows - self.not_finite
        return None if self.total is None or rows == 0 else self.total / rows

    def exceeds(self, tolerance: float) -> bool:
        """Return whether a label differs, or a number by more than `tolerance`."""
        return bool(self.labels_differ or self.not_finite) or (self.largest or 0.0) > tolerance

    def as_json(self) -> dict[str, Any]:
        """Return the comparison for JSON; `labels_differ` is the share of the rows."""
        share = None if self.labels_differ is None else self.labels_differ / max(1, self.rows)
        return {
            "rows": self.rows,
            "labels_differ": share,
            "largest": self.largest,
            "mean": self.mean,
            "not_finite": self.not_finite,
            "histogram": {"edges": list(EDGES), "rows": list(self.bins)},
        }


def objection(first: Head, second: Head) -> str:
    """Return why the answers of two heads cannot be compared; "" if they can."""
    if first.kind != second.kind:
        return f"it is {first.kind} in one, and {second.kind} in the other"
    if (first.tensor.dtype == "string") != (second.tensor.dtype == "string"):
        return f"it answers {first.tensor.dtype} in one, and {second.tensor.dtype} in the other"
    if _has_both_labels(first, second):
        return "" if {*(first.labels or ())} & {*(second.labels or ())} else "no label is in both"
    if first.tensor.shape != second.tensor.shape:
        return f"it answers {first.tensor} in one, and {second.tensor} in the other"
    return ""


def differences(
    first: Head, second: Head, answers: NDArray[Any], others: NDArray[Any]
) -> Differences:
    """Return the differences of the answers to the same rows.

    Args:
        first: a head of one model.
        second: the head of the other model, to which there is no `objection`.
        answers: the answers of `first`, [rows, …].
        others: the answers of `second`, [rows, …].
    """
    rows = len(answers)
    if answers.shape[1:] != others.shape[1:] and not _has_both_labels(first, second):
        # Two free axes that turned out to have different lengths.
        return Differences(
            rows, np.full(rows, np.inf), np.ones(rows, bool) if first.labels else None
        )
    flat, other = answers.reshape(rows, -1), others.reshape(rows, -1)
    if answers.dtype == object:
        return Differences(rows, None, (flat != other).any(axis=1))
    return Differences(
        rows, _distance(*_aligned(first, second, flat, other)), _differ(first, second, flat, other)
    )


def tally(batch: Differences) -> Comparison:
    """Return the sums over a batch of rows."""
    differ = None if batch.labels is None else int(batch.labels.sum())
    if batch.numbers is None:
        return Comparison(batch.rows, differ, None, None)
    finite = batch.numbers[np.isfinite(batch.numbers)]
    places = np.searchsorted(EDGES, finite)
    return Comparison(
        batch.rows,
        differ,
        float(finite.max(initial=0.0)),
        float(finite.sum()),
        batch.rows - len(finite),
        tuple(np.bincount(places, minlength=len(EDGES) + 1).tolist()),
    )


def _has_both_labels(first: Head, second: Head) -> bool:
    return first.kind in _BY_LABEL and bool(first.labels) and bool(second.labels)


def _aligned(
    first: Head, second: Head, flat: NDArray[Any], other: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of both that mean the same, in the same order, [rows, values]."""
    ours, theirs = first.labels or (), second.labels or ()
    if ours == theirs:
        return flat, other
    if _has_both_labels(first, second):
        shared = [label for label in ours if label in theirs]
        mine, yours = ([labels.index(label) for label in shared] for labels in (ours, theirs))
        return flat[:, mine], other[:, yours]
    if first.kind == "binary" and ours == theirs[::-1]:
        # The value of a binary head is the probability of its second label.
        return flat, 1 - other
    return flat, other


def _distance(flat: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference in each row, [rows]; NaN equals NaN."""
    mine, yours = flat.astype(np.float64), other.astype(np.float64)
    same = (mine == yours) | (np.isnan(mine) & np.isnan(yours))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(mine - yours)
    if flat.dtype == other.dtype and flat.dtype.kind in "iu":
        # A float64 does not tell large integers apart.
        same, distance = flat == other, np.maximum(distance, 1.0)
    distance = np.where(same, 0.0, distance)
    largest: NDArray[np.float64] = np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(
        axis=1, initial=0.0
    )
    return largest


def _differ(
    first: Head, second: Head, flat: NDArray[Any], other: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """Return whether the labels of each row differ; `None` if the head has none."""
    different: NDArray[np.bool_]
    if first.kind in ("binary", *_BY_LABEL):
        names = [*dict.fromkeys([*(first.labels or ()), *(second.labels or ())])]
        mine, yours = _chosen(first, flat, names), _chosen(second, other, names)
        different = (mine != yours).any(axis=1)
        return different
    if first.kind == "regression" or "float" in f"{flat.dtype} {other.dtype}":
        return None
    different = (flat != other).any(axis=1)  # classes by number
    return different


def _chosen(head: Head, flat: NDArray[Any], names: list[str]) -> NDArray[np.int64]:
    """Return the labels of each row as numbers, [rows, …]: places in `names`, or -1 for none."""
    # Without labels, the number of a class is all that is known of it.
    known = [names.index(label) for label in head.labels or ()]
    places = np.array(known or range(max(2, flat.shape[1])))
    unknown = np.isnan(flat.astype(np.float64)).any(axis=1)
    if head.kind == "multilabel":
        width = max(len(names), flat.shape[1])
        chosen = np.zeros((len(flat), width), np.int64)
        chosen[:, places[: flat.shape[1]]] = flat > head.cutoff
    elif head.kind == "binary":
        chosen = places[(flat > head.cutoff).astype(np.int64)]
    else:
        chosen = places[flat.argmax(axis=1)][:, None]
    chosen[unknown] = -1
    return chosen
