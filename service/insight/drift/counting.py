"""Counts of rows by quantity and cell: what is kept of rows that are compared with a reference.

The cells of a number are: missing, below all bins, its bins, above all bins.  Those of a category:
missing, the listed texts or labels, the others, and texts that the vocabulary does not have.  The
counts of a model are one vector, and those of more rows are added to it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.drift.quantities import columns, quantities
from service.reference import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from service.insight.drift.quantities import Quantity
    from service.reference import Categories, Distribution, Reference
    from service.signature import Signature

    Counts = NDArray[np.int64]
    CountCells = Callable[[NDArray[Any]], Counts]


@dataclass(frozen=True)
class Place:
    """The cells of a quantity in the vector of counts: from `start` on, as many as in `expected`.

    `expected` has the counts of the reference.
    """

    quantity: Quantity
    reference: Distribution
    start: int
    expected: Counts

    @property
    def stop(self) -> int:
        """The end of its cells, that is the start of those of the next quantity."""
        return self.start + len(self.expected)


class Layout:
    """The cells of all quantities that a signature's reference has."""

    def __init__(self, signature: Signature, most: int | None = None) -> None:
        """Lay out the cells; there are none if the signature has no reference.

        Args:
            signature: the signature of a model or view.
            most: the most cells; the quantities after these are left out.
        """
        places: list[Place] = []
        self.size = 0
        for quantity in () if signature.reference is None else quantities(signature):
            one = reference_of(quantity, signature.reference)
            if one is not None:
                place = Place(quantity, one, self.size, expected(one))
                if most is not None and place.stop > most:
                    break
                places.append(place)
                self.size = place.stop
        self.places = tuple(places)
        self._quantities = tuple(place.quantity for place in places)
        self._counters = [_counter(place.quantity, place.reference) for place in places]

    def cell(self, place: Place, value: NDArray[Any]) -> int:
        """Return the cell that a value of a feature, [1], is counted in."""
        dtype = object if place.quantity.dtype == "string" else place.quantity.dtype
        count = self._counters[self.places.index(place)]
        return place.start + int(count(value.astype(dtype)).argmax())

    def count(self, arrays: Mapping[str, NDArray[Any]], missing: Mapping[str, Any]) -> Counts:
        """Return the counts of the rows of one run; a quantity without its tensor has none.

        Args:
            arrays: inputs and answers by tensor, [rows, …].
            missing: by the full name of a feature, a mask or the indices of the rows without a
                value.
        """
        counts = np.zeros(self.size, np.int64)
        read = columns(self._quantities, arrays, missing)
        for place, values, cells_of in zip(self.places, read, self._counters, strict=True):
            if values is not None:
                counts[place.start : place.stop] = cells_of(values)
        return counts


def reference_of(quantity: Quantity, reference: Reference | None) -> Distribution | None:
    """Return the distribution of a quantity in a reference, if that has one of its kind."""
    if reference is None:
        return None
    owners = reference.heads if quantity.is_head else reference.inputs
    one = owners.get(quantity.owner, {}).get(quantity.part)
    is_number = quantity.labels is None and quantity.dtype != "string"
    return one if isinstance(one, Numbers) == is_number else None


def expected(one: Distribution) -> Counts:
    """Return the counts of a distribution by cell."""
    if isinstance(one, Numbers):
        return np.array([one.missing, 0, *one.counts, 0], np.int64)
    unseen = one.unseen or 0
    return np.array([one.missing, *one.counts[:-1], one.counts[-1] - unseen, unseen], np.int64)


def compared(one: Distribution, counts: Counts) -> tuple[Counts, Counts]:
    """Return the counts of a distribution and those of other rows, by the cells to compare.

    Unseen texts are among the others, like the rare ones that they are, unless they are more than
    the reference lets expect.
    """
    reference = expected(one)
    if isinstance(one, Numbers):
        return reference, counts
    before, after = (float(side[-1]) / max(float(side.sum()), 1.0) for side in (reference, counts))
    if one.unseen is not None and after > before:
        return reference, counts
    return _without_unseen(reference), _without_unseen(counts)


def _without_unseen(counts: Counts) -> Counts:
    joined = counts[:-1].copy()
    joined[-1] += counts[-1]
    return joined


def counted(one: Distribution, values: NDArray[Any], known: frozenset[str] | None = None) -> Counts:
    """Return the counts of numbers or texts by the cells of a distribution.

    Args:
        one: the distribution.
        values: the numbers or texts, [rows].
        known: the vocabulary of the texts, if there is one.
    """
    if isinstance(one, Numbers):
        return _of_numbers(one, str(values.dtype))(values)
    return _of_texts(one, known)(values)


def _counter(quantity: Quantity, one: Distribution) -> CountCells:
    """Return a function that counts values by cell."""
    if isinstance(one, Numbers):
        return _of_numbers(one, quantity.dtype)
    return _of_labels(one, quantity.labels) if quantity.labels else _of_texts(one, quantity.known)


def _of_numbers(one: Numbers, dtype: str) -> CountCells:
    with np.errstate(over="ignore"):
        edges = np.array(one.edges, dtype)
        # The last bin includes its upper edge.
        edges[-1] = np.nextafter(edges[-1], np.inf, dtype=edges.dtype)
    size = len(edges) + 2

    def count(values: NDArray[Any]) -> Counts:
        finite = np.isfinite(values)
        cells = np.searchsorted(edges, values, side="right") + 1
        return np.bincount(np.where(finite, cells, 0), minlength=size)

    return count


def _of_labels(one: Categories, labels: tuple[str, ...]) -> CountCells:
    places = {text: cell for cell, text in enumerate(one.texts, 1)}
    others = len(one.texts) + 1
    # `NO_CODE` is the index of the last entry.
    cells = np.array([*(places.get(label, others) for label in labels), 0], np.int64)

    def count(codes: NDArray[Any]) -> Counts:
        return np.bincount(cells[codes], minlength=others + 2)

    return count


def _of_texts(one: Categories, known: frozenset[str] | None) -> CountCells:
    places: dict[str | None, int] = {text: cell for cell, text in enumerate(one.texts, 1)}
    places[None] = 0
    others = len(one.texts) + 1

    def count(values: NDArray[Any]) -> Counts:
        counts = np.zeros(others + 2, np.int64)
        for text, rows in Counter(values.tolist()).items():
            unlisted = others + (known is not None and text not in known)
            counts[places.get(text, unlisted)] += rows
        return counts

    return count
