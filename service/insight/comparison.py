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
    first: Head, second: Head, first_answers: NDArray[Any], second_answers: NDArray[Any]
) -> Differences:
    """Return the differences of the answers to the same rows.

    Args:
        first: a head of one model.
        second: the head of the other model, to which there is no `objection`.
        first_answers: the answers of `first`, [rows, …].
        second_answers: the answers of `second`, [rows, …].
    """
    rows = len(first_answers)
    shapes = {first_answers.shape[1:], second_answers.shape[1:]}
    if len(shapes) > 1 and not _has_both_labels(first, second):
        # Two free axes that turned out to have different lengths.
        return Differences(
            rows, np.full(rows, np.inf), np.ones(rows, bool) if first.labels else None
        )
    values = first_answers.reshape(rows, -1), second_answers.reshape(rows, -1)
    if first_answers.dtype == object:
        return Differences(rows, None, (values[0] != values[1]).any(axis=1))
    numbers = _distance(*_aligned(first, second, *values))
    return Differences(rows, numbers, _differ(first, second, *values))


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
    first: Head, second: Head, first_values: NDArray[Any], second_values: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of both that mean the same, in the same order, [rows, values]."""
    labels = first.labels or (), second.labels or ()
    if labels[0] == labels[1]:
        return first_values, second_values
    if _has_both_labels(first, second):
        shared = [label for label in labels[0] if label in labels[1]]
        places = [[own.index(label) for label in shared] for own in labels]
        return first_values[:, places[0]], second_values[:, places[1]]
    if first.kind == "binary" and labels[0] == labels[1][::-1]:
        # The value of a binary head is the probability of its second label.
        return first_values, 1 - second_values
    return first_values, second_values


def _distance(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference in each row, [rows]; NaN equals NaN."""
    floats = first.astype(np.float64), second.astype(np.float64)
    same = (floats[0] == floats[1]) | (np.isnan(floats[0]) & np.isnan(floats[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(floats[0] - floats[1])
    if first.dtype == second.dtype and first.dtype.kind in "iu":
        # A float64 does not tell large integers apart.
        same, distance = first == second, np.maximum(distance, 1.0)
    distance = np.where(same, 0.0, distance)
    largest: NDArray[np.float64] = np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(
        axis=1, initial=0.0
    )
    return largest


def _differ(
    first: Head, second: Head, first_values: NDArray[Any], second_values: NDArray[Any]
) -> NDArray[np.bool_] | None:
    """Return whether the labels of each row differ; `None` if the head has none."""
    different: NDArray[np.bool_]
    if first.kind in ("binary", *_BY_LABEL):
        names = [*dict.fromkeys([*(first.labels or ()), *(second.labels or ())])]
        chosen = _chosen(first, first_values, names), _chosen(second, second_values, names)
        different = (chosen[0] != chosen[1]).any(axis=1)
        return different
    if first.kind == "regression" or "float" in f"{first_values.dtype} {second_values.dtype}":
        return None
    different = (first_values != second_values).any(axis=1)  # classes by number
    return different


def _chosen(head: Head, values: NDArray[Any], names: list[str]) -> NDArray[np.int64]:
    """Return the labels of each row as numbers, [rows, …]: places in `names`, or -1 for none."""
    # Without labels, the number of a class is all that is known of it.
    known = [names.index(label) for label in head.labels or ()]
    places = np.array(known or range(max(2, values.shape[1])))
    unknown = np.isnan(values.astype(np.float64)).any(axis=1)
    if head.kind == "multilabel":
        width = max(len(names), values.shape[1])
        chosen = np.zeros((len(values), width), np.int64)
        chosen[:, places[: values.shape[1]]] = values > head.cutoff
    elif head.kind == "binary":
        chosen = places[(values > head.cutoff).astype(np.int64)]
    else:
        chosen = places[values.argmax(axis=1)][:, None]
    chosen[unknown] = -1
    return chosen
