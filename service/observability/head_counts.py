"""The labels and scores that one head answers, counted many runs at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.observability.notes import take

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.observability.shared_memory import Region
    from service.signature import Head

# A head of more values a row is a picture, and no list of classes that anybody would chart.
MAX_VALUES = 1000


class HeadCounts:
    """Counts the labels and scores of one head."""

    def __init__(self, region: Region, who: tuple[str, str], head: Head) -> None:
        self._head = head
        self._score = region.place("head_score", *who, head.name)
        names = head.labels or ()
        places = [region.place("head_labels", *who, head.name, name) for name in names]
        self._labels = np.array(places, np.int64)
        self._name = head.name
        # What it has answered, and is not counted yet: as bytes, so that no array is kept for it,
        # whose memory the next run can use while it is in the cache.
        self._noted: list[bytes] = []

    def note(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Note what it answered in a run, if it had a part in that."""
        output = outputs.get(self._name)
        if output is not None:
            self._noted.append(output.tobytes())

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Count what has been noted."""
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
    """How many rows have each label, as `labels_of` gives them; and each row's score."""
    if head.kind == "binary":
        scores = rows[:, 0]
        above = np.count_nonzero(scores > head.cutoff)
        return np.array([len(rows) - np.count_nonzero(np.isnan(scores)) - above, above]), scores
    if head.kind == "multiclass":
        best = rows.argmax(axis=1)
        # Where there is a NaN, that is the largest.
        scores = rows[np.arange(len(rows)), best]
        return np.bincount(best[~np.isnan(scores)], minlength=rows.shape[1]), scores
    scores = rows[:, 0] if rows.shape[1] == 1 else rows.mean(axis=1, dtype=np.float64)
    if head.kind == "multilabel":
        known = rows[~np.isnan(rows).any(axis=1)]
        return np.count_nonzero(known > head.cutoff, axis=0), scores
    return np.zeros(0), scores
