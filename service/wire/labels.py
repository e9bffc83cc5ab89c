"""A head's scores to its labels, the same in every dialect and in what is counted of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Head

# Up to so many rows are labelled one by one.
_FEW_ROWS = 4


def labels_of(head: Head, output: NDArray[Any]) -> list[Any]:
    """A head's labels, a row each: the likeliest, or for a multilabel head all above its threshold.

    As in Keras' own metrics, a score must be greater than the threshold, not equal to it.  A row
    with a NaN has no label: numbers near the end of float32 bring a graph to that.
    """
    rows = output.reshape(len(output), -1)
    # numpy takes some microseconds whatever the size, and the most frequent request has one row.
    if len(rows) <= _FEW_ROWS:
        return [_label(head, row) for row in rows.tolist()]
    names = head.labels or ()
    labels: list[Any]
    if head.kind == "binary":
        labels = [names[above] for above in (rows[:, 0] > head.cutoff).tolist()]
    elif head.kind == "multilabel":
        labels = [
            [name for name, above in zip(names, row, strict=True) if above]
            for row in (rows > head.cutoff).tolist()
        ]
    else:
        labels = [names[i] for i in rows.argmax(axis=1).tolist()]
    unknown = np.isnan(rows)
    if unknown.any():
        for i in np.flatnonzero(unknown.any(axis=1)):
            labels[i] = None
    return labels


def _label(head: Head, row: list[Any]) -> Any:
    """`labels_of` one row."""
    names = head.labels or ()
    if any(map(math.isnan, row)):
        return None
    if head.kind == "binary":
        return names[row[0] > head.cutoff]
    if head.kind == "multilabel":
        return [name for name, value in zip(names, row, strict=True) if value > head.cutoff]
    return names[row.index(max(row))]
