"""Numbers of a body as they came, made into arrays once for all requests that run together.

    one request        ─▶ all its numbers of a dtype ─▶ one array ─▶ a slice for each tensor
    several of them    ─▶ all their numbers of a tensor ─▶ one array, [rows, …]

For the most frequent request, of one row, each call of numpy costs more than its work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.wire.quick import FEW, UnsureError, check, convert, kind_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Tensor

    Arrays = Mapping[str, NDArray[Any]]
    # A tensor's name, and the length and the shape of a row of it.
    _Row = tuple[str, int, tuple[int, ...]]
    _ByDtype = list[tuple[str, list[_Row], int]]


class Groups(NamedTuple):
    """Tensors of numbers, by dtype, and how many they are."""

    by_dtype: _ByDtype
    tensors: int


class Numbers:
    """What a body holds, by tensor: whole arrays, and numbers that are yet to become some."""

    __slots__ = ("_groups", "_whole", "arrays", "numbers", "rows")

    def __init__(self, groups: Groups, rows: int) -> None:
        """Make room for so many rows of the tensors in `groups`, as `group` has them."""
        self.rows = rows
        self.arrays: dict[str, NDArray[Any]] = {}
        # Those of all rows, as `quick.kind_of` has them, a buffer each or one for some.
        self.numbers: dict[str, list[Any]] = {}
        self._groups = groups
        # By dtype, all of those, and which tensors they are of.
        self._whole: list[tuple[str, Any, list[_Row]]] = []

    def check(self) -> None:
        """Have it known that all is there.

        Raises:
            UnsureError: the numbers are not as many as they should be, or do not fit.
        """
        rows, numbers = self.rows, self.numbers
        many = False
        groups = self._groups.by_dtype
        if len(numbers) < self._groups.tensors:
            groups = _those_in(groups, numbers)
        for dtype, tensors, length in groups:
            buffers = [buffer for name, _, _ in tensors for buffer in numbers[name]]
            size = rows * length
            whole = buffers[0] if len(buffers) == 1 else b"".join(buffers)
            if check(dtype, whole) != size:
                raise UnsureError
            self._whole.append((dtype, whole, tensors))
            many = many or size > FEW
        if many:
            # Nothing is saved by keeping those.
            self.make()

    def make(self) -> Arrays:
        """By tensor, [rows, …] in its dtype."""
        rows = self.rows
        for dtype, whole, tensors in self._whole:
            flat = convert(dtype, whole)
            start = 0
            for name, length, shape in tensors:
                end = start + rows * length
                self.arrays[name] = flat[start:end].reshape(rows, *shape)
                start = end
        self.numbers, self._whole = {}, []
        return self.arrays

    def add_to(self, joined: dict[str, NDArray[Any]], parts: Sequence[Numbers]) -> None:
        """Make arrays of the numbers of several, this among them, which have the same tensors."""
        for dtype, _, tensors in self._whole:
            for name, _, shape in tensors:
                whole = b"".join([buffer for part in parts for buffer in part.numbers[name]])
                joined[name] = convert(dtype, whole).reshape(-1, *shape)


def group(tensors: Iterable[Tensor]) -> Groups:
    """Those of some tensors whose rows are a known number of numbers."""
    found: dict[str, list[_Row]] = {}
    for tensor in tensors:
        if tensor.size is not None and kind_of(tensor.dtype) is not None:
            found.setdefault(tensor.dtype, []).append((tensor.name, tensor.size, tensor.fixed))
    return Groups(_measured(found.items()), sum(map(len, found.values())))


def _those_in(groups: _ByDtype, names: Container[str]) -> _ByDtype:
    return _measured((dtype, [row for row in rows if row[0] in names]) for dtype, rows, _ in groups)


def _measured(groups: Iterable[tuple[str, list[_Row]]]) -> _ByDtype:
    """Those that are not empty, with how many numbers a row of all their tensors is."""
    return [(dtype, rows, sum(length for _, length, _ in rows)) for dtype, rows in groups if rows]


def join(parts: Sequence[Arrays | Numbers]) -> Arrays:
    """The rows of several requests for the same, one after another, or those of one."""
    if len(parts) == 1:
        return _made(parts[0])
    numbers = [part for part in parts if isinstance(part, Numbers)]
    first = numbers[0].numbers if len(numbers) == len(parts) else {}
    if not first or any(part.numbers.keys() != first.keys() for part in numbers):
        return _concatenate([_made(part) for part in parts])
    joined = _concatenate([part.arrays for part in numbers])
    numbers[0].add_to(joined, numbers)
    return joined


def _made(part: Arrays | Numbers) -> Arrays:
    return part.make() if isinstance(part, Numbers) else part


def _concatenate(arrays: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
