"""Labels for the scores of a head, the same in every dialect and in the metrics."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Head

# The number of rows up to which rows are labelled one by one.
_FEW_ROWS = 4


def labels_of(head: Head, output: NDArray[Any]) -> list[Any]:
    """Return the label of each row; for a multilabel head, all labels above its threshold.

    A multiclass head gets the likeliest label.  As in Keras' own metrics, a score must be greater
    than the threshold, not equal to it.  A row with a NaN has the label `None`: inputs near the
    limits of float32 can make a graph compute NaN.

    Args:
        head: a head with labels.
        output: its output, [rows, …].
    """
    rows = output.reshape(len(output), -1)
    # A call of numpy takes some microseconds at any size, and most requests have one row.
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
    """Return the label of one row, as `labels_of` does."""
    names = head.labels or ()
    if any(map(math.isnan, row)):
        return None
    if head.kind == "binary":
        return names[row[0] > head.cutoff]
    if head.kind == "multilabel":
        return [name for name, value in zip(names, row, strict=True) if value > head.cutoff]
    return names[row.index(max(row))]
