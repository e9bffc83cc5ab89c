"""The rows of a head whose targets are known, and their answers: a bounded number of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.evaluation import losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MOST_ROWS = 100_000  # of a head
MOST_VALUES = 8_000_000  # targets and answers of all heads: 32 MB of float32
WORST = 10
MOST_CELLS = 5  # of a worst row


@dataclass(frozen=True)
class WorstRow:
    """A row with a large loss: its place in words, its target, its answer, and some features.

    `target` is the index of the class, or else the values, as `answer` is.
    """

    loss: float
    place: str
    target: NDArray[Any]
    answer: NDArray[Any]
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """The answers of a head to `rows` rows whose targets are known, or to a sample of them.

    `distinct` is how many rows they are if each is answered several times, with other rows of
    another file, and else 0.
    `targets` and `answers` are as for `service.insight.scores.by_row`.  `target_columns` are
    the names of the columns of the targets, if they are known.  `worst` has the rows with the
    largest loss, among all rows, and `cell_columns` the names of their cells.
    """

    name: str
    kind: str
    labels: tuple[str, ...] | None
    cutoff: float
    targets: NDArray[Any]
    answers: NDArray[Any]
    rows: int
    distinct: int = 0
    target_columns: tuple[str, ...] = ()
    worst: tuple[WorstRow, ...] = ()
    cell_columns: tuple[str, ...] = ()

    def label(self, place: int) -> str:
        """Return the label at a place; its number if the labels are not known."""
        known = self.labels or (self.target_columns if self.kind == "multilabel" else ())
        return known[place] if known else str(place)

    def finite(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the targets and answers, [rows, values], of rows with finite answers.

        Numbers beyond float32 count as infinite, so that no figure overflows.
        """
        flat = self.answers.reshape(len(self.answers), -1)
        with np.errstate(over="ignore"):
            kept = np.isfinite(flat.astype(np.float32)).all(axis=1)
        return self.targets[kept], flat[kept]


class Sample:
    """A uniform sample of rows that come one batch after another, and the worst of all of them.

    The sample is J. S. Vitter's algorithm R, with a seed of its own: the same batches give the same
    sample.
    """

    def __init__(self, kind: str, most: int, seed: int = 0) -> None:
        """Keep at most `most` rows of a head of this kind."""
        self.rows = 0
        self.worst: tuple[WorstRow, ...] = ()
        self._kind = kind
        self._most = most
        self._random = np.random.default_rng(seed)
        self._targets: list[NDArray[Any]] = []
        self._answers: list[NDArray[Any]] = []
        self._full: tuple[NDArray[Any], NDArray[Any]] | None = None

    def add(
        self,
        targets: NDArray[Any],
        answers: NDArray[Any],
        describe: Callable[[int], tuple[str, tuple[str, ...]]],
    ) -> None:
        """Add a batch of rows.

        Args:
            targets: as for `service.insight.scores.by_row`.
            answers: the values of the head, [rows, …].
            describe: returns the place of a row of the batch, and its cells.
        """
        self._note_worst(losses.by_row(self._kind, targets, answers), targets, answers, describe)
        room = max(0, self._most - self.rows)
        if room:
            self._targets.append(targets[:room].copy())
            self._answers.append(answers[:room].copy())
        if len(targets) > room:
            kept_targets, kept_answers = self._whole()
            numbers = np.arange(self.rows + room, self.rows + len(targets))
            # Row n of all, from 0, takes the place of a kept one with the chance most / (n + 1).
            places = self._random.integers(0, numbers + 1)
            # Of several rows that take one place, numpy keeps the last.
            hit = np.flatnonzero(places < self._most)
            kept_targets[places[hit]] = targets[room + hit]
            kept_answers[places[hit]] = answers[room + hit]
        self.rows += len(targets)

    def kept(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Return the targets and answers of the sample; `None` without any rows."""
        return self._whole() if self.rows else None

    def _whole(self) -> tuple[NDArray[Any], NDArray[Any]]:
        if self._full is None or len(self._targets) > 1:
            self._full = np.concatenate(self._targets), np.concatenate(self._answers)
            self._targets, self._answers = [self._full[0]], [self._full[1]]
        return self._full

    def _note_worst(
        self,
        values: NDArray[np.float64],
        targets: NDArray[Any],
        answers: NDArray[Any],
        describe: Callable[[int], tuple[str, tuple[str, ...]]],
    ) -> None:
        least = self.worst[-1].loss if len(self.worst) == WORST else -np.inf
        new = []
        for row in map(int, losses.worst(values, WORST)):
            if values[row] > least:
                place, cells = describe(row)
                loss, pair = float(values[row]), (targets[row].copy(), answers[row].copy())
                new.append(WorstRow(loss, place, *pair, cells))
        # Sorting keeps the order of the file among equal losses.
        self.worst = tuple(sorted((*self.worst, *new), key=lambda row: -row.loss)[:WORST])


def most_rows(values: Sequence[int]) -> int:
    """Return the largest sample of each head, by the numbers of targets and answers of a row."""
    return max(1, min(MOST_ROWS, MOST_VALUES // max(1, sum(values))))
