"""Numbers of a body that become arrays only once, for all requests that run together.

    one request          ─▶ all its numbers of a dtype ─▶ one array ─▶ a slice for each tensor
    several requests     ─▶ all their numbers of a tensor ─▶ one array, [rows, …]

Most requests have one row, and there a call of numpy costs more than the work that it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from service.wire.quick import FEW, UnsureError, check, convert, kind_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Tensor

    Arrays = Mapping[str, NDArray[Any]]
    # The content of a request by tensor, [rows, …]: arrays, or the numbers that become arrays.
    Tensors: TypeAlias = "Arrays | Numbers"
    # The name of a tensor, and the length and the shape of one of its rows.
    _Row = tuple[str, int, tuple[int, ...]]
    _ByDtype = list[tuple[str, list[_Row], int]]


class Groups(NamedTuple):
    """Tensors of numbers by dtype, and the number of these tensors."""

    by_dtype: _ByDtype
    tensors: int


class Numbers:
    """The content of a body by tensor: finished arrays, and numbers that will become arrays."""

    __slots__ = ("_groups", "_whole", "arrays", "numbers", "rows")

    def __init__(self, groups: Groups, rows: int) -> None:
        """Prepare for `rows` rows of the tensors in `groups`, which `group` returned."""
        self.rows = rows
        self.arrays: dict[str, NDArray[Any]] = {}
        # By tensor, buffers of the type that `quick.kind_of` names; each has one or several rows.
        self.numbers: dict[str, list[Any]] = {}
        self._groups = groups
        # For each dtype: its numbers in one buffer, and the tensors that they belong to.
        self._whole: list[tuple[str, Any, list[_Row]]] = []

    def check(self) -> None:
        """Check the numbers, once all of them have been added.

        Raises:
            UnsureError: a tensor has too few or too many numbers, or one that its dtype cannot
                hold.
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
            if len(check(dtype, whole)) != size:
                raise UnsureError
            self._whole.append((dtype, whole, tensors))
            many = many or size > FEW
        if many:
            # Deferring large arrays saves nothing.
            self.make()

    def make(self) -> Arrays:
        """Turn the numbers into arrays; return all arrays by tensor, [rows, …] in their dtypes."""
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
        """Add to `joined` the arrays of the numbers of all `parts`, which have the same tensors.

        `self` must be one of `parts`.
        """
        for dtype, _, tensors in self._whole:
            for name, _, shape in tensors:
                whole = b"".join([buffer for part in parts for buffer in part.numbers[name]])
                joined[name] = convert(dtype, whole).reshape(-1, *shape)


def group(tensors: Iterable[Tensor]) -> Groups:
    """Group tensors by dtype; skip those without numbers, or with rows of unknown length."""
    by_dtype: dict[str, list[_Row]] = {}
    for tensor in tensors:
        if tensor.size is not None and kind_of(tensor.dtype) is not None:
            by_dtype.setdefault(tensor.dtype, []).append((tensor.name, tensor.size, tensor.fixed))
    return Groups(_measured(by_dtype.items()), sum(map(len, by_dtype.values())))


def _those_in(groups: _ByDtype, names: Container[str]) -> _ByDtype:
    return _measured((dtype, [row for row in rows if row[0] in names]) for dtype, rows, _ in groups)


def _measured(groups: Iterable[tuple[str, list[_Row]]]) -> _ByDtype:
    """Add to each group the count of numbers in one row of all its tensors; drop empty groups."""
    return [(dtype, rows, sum(length for _, length, _ in rows)) for dtype, rows in groups if rows]


def join(parts: Sequence[Arrays | Numbers]) -> Arrays:
    """Concatenate the rows of one or several requests for the same heads, in their order."""
    if len(parts) == 1:
        return _arrays_of(parts[0])
    numbers = [part for part in parts if isinstance(part, Numbers)]
    first = numbers[0].numbers if len(numbers) == len(parts) else {}
    if not first or any(part.numbers.keys() != first.keys() for part in numbers):
        return _concatenate([_arrays_of(part) for part in parts])
    joined = _concatenate([part.arrays for part in numbers])
    numbers[0].add_to(joined, numbers)
    return joined


def _arrays_of(part: Arrays | Numbers) -> Arrays:
    return part.make() if isinstance(part, Numbers) else part


def _concatenate(arrays: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}
