"""Counts of the labels and scores that one head answers, updated for many runs at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.observability.notes import take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.observability.shared_memory import Region
    from service.signature import Head

# A head with more values per row is an image rather than a list of classes to chart.
MAX_VALUES = 1000


class HeadCounts:
    """The counts of the labels and scores of one head."""

    def __init__(self, region: Region, version: tuple[str, str], head: Head) -> None:
        """Find the series of a head in `region`, or add them; called while `region.writing()`.

        Args:
            region: the worker's region of shared memory.
            version: the name of the model, and its version.
            head: the head to count.
        """
        self._head = head
        self._score = region.place("head_score", *version, head.name)
        names = head.labels or ()
        places = [region.place("head_labels", *version, head.name, name) for name in names]
        self._labels = np.array(places, np.int64)
        self._name = head.name
        # Answers that are not counted yet.  They are kept as bytes and not as arrays, so that the
        # next run can reuse an array's memory while it is still in the processor's cache.
        self._noted: list[bytes] = []

    def note(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Note the answers of the head in a run, if the run computed the head."""
        output = outputs.get(self._name)
        if output is not None:
            self._noted.append(output.tobytes())

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Count the noted answers into `numbers`, the numbers of the region."""
        if not self._noted:
            return
        tensor = self._head.tensor
        values = np.frombuffer(b"".join(take(self._noted)), tensor.dtype)
        counts, scores = _judge(self._head, values.reshape(-1, tensor.size or 1))
        if len(self._labels):
            numbers[self._labels] += counts
        scores = scores[np.isfinite(scores)]
        numbers[self._score] += len(scores)
        numbers[self._score + 1] += scores.sum(dtype=np.float64)


def _judge(head: Head, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the number of rows with each label, as `labels_of` gives them, and all rows' scores.

    Args:
        head: the head that answered.
        rows: its answers, [rows, values].
    """
    if head.kind == "binary":
        scores = rows[:, 0]
        above = np.count_nonzero(scores > head.cutoff)
        return np.array([len(rows) - np.count_nonzero(np.isnan(scores)) - above, above]), scores
    if head.kind == "multiclass":
        best = rows.argmax(axis=1)
        # `argmax` treats NaN as the largest value, so a row with a NaN has the score NaN.
        scores = rows[np.arange(len(rows)), best]
        return np.bincount(best[~np.isnan(scores)], minlength=rows.shape[1]), scores
    scores = rows[:, 0] if rows.shape[1] == 1 else rows.mean(axis=1, dtype=np.float64)
    if head.kind == "multilabel":
        known = rows[~np.isnan(rows).any(axis=1)]
        return np.count_nonzero(known > head.cutoff, axis=0), scores
    return np.zeros(0), scores
