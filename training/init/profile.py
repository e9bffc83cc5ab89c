"""The facts of one column that decide what it can be: its cells, counted by what they look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.cells import is_missing, is_whole, number, show, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from training.table import Column

_SHOWN = 3


@dataclass(frozen=True)
class Profile:
    """One column.

    `codes` has for each row the position of its cell in `texts`, the distinct cells that are not
    missing, or -1 where the cell is missing.  `counts` has the rows of each of `texts`, and
    `values` its number as float64, or not-a-number if it is none.
    """

    name: str
    codes: NDArray[np.int64]
    texts: tuple[str, ...]
    counts: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.codes)

    @property
    def cells(self) -> int:
        """The number of cells that are not missing."""
        return int(self.counts.sum())

    @property
    def missing(self) -> int:
        """The number of missing cells."""
        return self.rows - self.cells

    @property
    def numbers(self) -> int:
        """The number of cells that are numbers."""
        return int(self.counts[~np.isnan(self.values)].sum())

    @property
    def is_numeric(self) -> bool:
        """True if every cell is a number or missing, and one is a number."""
        return bool(self.texts) and not np.isnan(self.values).any()

    @property
    def is_whole(self) -> bool:
        """True if every cell is a whole number, such as 3 or 3.0, and none an infinity."""
        whole = np.isfinite(self.values) & (self.values == np.floor(self.values))
        return self.is_numeric and bool(whole.all())

    @property
    def distinct(self) -> NDArray[np.float64]:
        """The distinct numbers, in ascending order."""
        return np.unique(self.values[~np.isnan(self.values)])

    @property
    def different(self) -> int:
        """The number of different whole numbers, exact beyond what a float64 tells apart."""
        return len({whole(text) if is_whole(text) else number(text) for text in self.texts})

    def count(self, fits: Callable[[str], bool]) -> int:
        """Return the number of cells that are not missing and fit."""
        return int(sum(self.counts[place] for place, text in enumerate(self.texts) if fits(text)))

    def every(self, fits: Callable[[str], bool]) -> bool:
        """Return whether every cell that is not missing fits."""
        return all(map(fits, self.texts))

    def cell_values(self) -> NDArray[np.float64]:
        """Return the numbers of the rows that have one, in the order of the rows."""
        values = self.values[self.codes[self.codes >= 0]]
        return values[~np.isnan(values)]


def some(column: Profile) -> str:
    """Return the first few cells for a message."""
    shown = ", ".join(map(show, column.texts[:_SHOWN]))
    return f"{shown}, …" if len(column.texts) > _SHOWN else shown


def profile(column: Column) -> Profile:
    """Return the facts of a column."""
    present = np.array([not is_missing(text) for text in column.texts], bool)
    place = np.where(present, np.cumsum(present) - 1, -1)
    codes = place[column.codes]
    texts = tuple(text for text in column.texts if not is_missing(text))
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    values = np.array([number(text) for text in texts], np.float64)
    return Profile(column.name, codes, texts, counts, values)
