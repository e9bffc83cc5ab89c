"""The confusion matrix: the rows by class and by answer, with the rarer classes as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Confusion(NamedTuple):
    """The rows by class and by answer.

    `classes` are the indices of the classes of the lines, ascending, [lines].  `counts` has a line
    for each of them and, if `rest` is above 0, a last one for that many other classes: the rows
    whose target is the class, by the class that is answered, int64 [lines, lines].
    """

    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    rest: int


class ClassFigures(NamedTuple):
    """The figures of a class; a share of nothing is `None`."""

    rows: int
    precision: float | None
    recall: float | None


def confusion(
    targets: NDArray[np.integer[Any]], said: NDArray[np.integer[Any]], classes: int, most: int
) -> Confusion:
    """Count the rows by class and by answer, for at most `most` classes by themselves.

    They are all classes, or else those with the most rows; of equally common ones the first.

    Args:
        targets: the index of the right class, [rows].
        said: the index of the class that is answered, [rows].
        classes: the number of classes.
        most: the largest number of classes that have a line.
    """
    rows = np.bincount(targets, minlength=classes)
    chosen = np.sort(np.argsort(-rows, kind="stable")[:most])
    rest = classes - len(chosen)
    lines = len(chosen) + (rest > 0)
    line = np.full(classes, lines - 1)
    line[chosen] = np.arange(len(chosen))
    cells = np.bincount(line[targets] * lines + line[said], minlength=lines * lines)
    return Confusion(chosen, cells.reshape(lines, lines), rest)


def by_class(counted: Confusion) -> list[ClassFigures]:
    """Return the figures of each class that has a line of its own."""
    right = counted.counts.diagonal()
    rows, said = counted.counts.sum(axis=1), counted.counts.sum(axis=0)
    return [
        ClassFigures(
            int(rows[line]),
            float(right[line] / said[line]) if said[line] else None,
            float(right[line] / rows[line]) if rows[line] else None,
        )
        for line in range(len(counted.classes))
    ]
