"""Conversion of the rows of a tensor, which are nested lists of JSON values, to its array.

rows ─▶ lists in one of the allowed shapes ─▶ values of the right type ─▶ an array
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import unseen
from service.wire.body import Notes, count, show
from service.wire.rows import MISSING, Rows
from service.wire.scalars import convert, expected_value, fits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.signature import Tensor

# For each dtype, the noun for its values in messages, and the Python types of these in JSON.
_NOUNS: dict[str, tuple[str, tuple[type, ...]]] = {
    "string": ("text", (str,)),
    "bool": ("boolean", (bool,)),
}
_NUMBER: tuple[str, tuple[type, ...]] = ("number", (int, float))
# The nesting up to which a message shows the shape of a list.
_DEEPEST = 8


def read_tensor(
    tensor: Tensor,
    rows: Rows,
    notes: Notes,
    size: tuple[int, ...] | None = None,
    *,
    bare: bool = False,
) -> dict[str, NDArray[Any]]:
    """Convert the rows of a tensor to its array, [rows, …] in its dtype, under its name.

    Args:
        tensor: a tensor of the graph; a row has its shape, or is flat.
        rows: as for `read`.
        notes: as for `read`.
        size: the size of an image, which is another shape that a row may have.
        bare: whether a row of one value may be that value, without brackets.
    """
    shapes = _shapes(tensor, size, bare=bare)
    flat: list[Any] = []
    places: list[tuple[int, tuple[int, ...]]] = []
    for i, row in enumerate(rows.values):
        shape = _shape_of(row)
        at = rows.at(i)
        if row is MISSING:
            notes.miss(at)
            notes.add(at, _expected_row(tensor, size), "nothing")
        elif not any(_matches(shape, wanted) for wanted in shapes):
            if notes.full:
                notes.count += 1
                continue
            notes.add(at, _expected_row(tensor, size), _received_row(row, shape, tensor))
        elif tensor.size is None and places and shape != places[0][1]:
            expected = f"the shape of {rows.at(places[0][0])}, {_times(places[0][1])}"
            notes.add(at, expected, _times(shape))
        elif _flatten(row, shape, at, notes, flat):
            places.append((i, shape))
    array = convert(flat, tensor.dtype)
    if array is None:
        _explain(flat, tensor.dtype, places, rows, notes)
    if rows.feature is not None:
        unseen.note_all(rows.feature, flat, partial(_path, rows, places), notes)
    if array is None or notes.count:
        return {}
    shape = places[0][1] if tensor.size is None else tensor.fixed
    return {tensor.name: array.reshape(len(rows.values), *shape)}


def _shapes(
    tensor: Tensor, size: tuple[int, ...] | None, *, bare: bool
) -> list[tuple[int | None, ...]]:
    """Return the shapes that a row may have: the graph's, an image's size, flat, and one value."""
    shapes: list[tuple[int | None, ...]] = [tensor.shape]
    if size is not None:
        shapes.append(size)
    if tensor.size is not None and tensor.shape:
        shapes.append((tensor.size,))
        if bare and tensor.size == 1:
            shapes.append(())
    return shapes


def _shape_of(row: Any) -> tuple[int, ...]:
    """Return the shape that a row has if it is regular: the lengths of its first elements."""
    shape = []
    while isinstance(row, list):
        shape.append(len(row))
        row = row[0] if row else None
    return tuple(shape)


def _matches(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        axis is None or axis == length for length, axis in zip(shape, wanted, strict=True)
    )


def _flatten(row: Any, shape: tuple[int, ...], at: str, notes: Notes, flat: list[Any]) -> bool:
    """Append a row's values to `flat`; return whether all lists in it are as long as the first."""
    if not shape:
        flat.append(row)
        return True
    if len(shape) == 1:
        flat.extend(row)
        return True
    level: list[tuple[str, Any]] = [(at, row)]
    for length in shape[1:]:
        level = [(f"{path}[{i}]", part) for path, value in level for i, part in enumerate(value)]
        irregular = [
            (path, part)
            for path, part in level
            if not isinstance(part, list) or len(part) != length
        ]
        for path, part in irregular:
            notes.add(path, f"a list of {length}, as its neighbours are", show(part))
        if irregular:
            return False
    for _, part in level:
        flat.extend(part)
    return True


def _expected_row(tensor: Tensor, size: tuple[int, ...] | None) -> str:
    noun, _ = _NOUNS.get(tensor.dtype, _NUMBER)
    if not tensor.shape:
        return expected_value(tensor.dtype)
    if tensor.size is None:
        return f"{noun}s in the shape {_times(tensor.shape)}"
    shape = size or tensor.shape
    return count(tensor.size, noun) + (f", flat or as {_times(shape)}" if len(shape) > 1 else "")


def _received_row(row: Any, shape: tuple[int, ...], tensor: Tensor) -> str:
    if not shape:
        alone = tensor.shape and isinstance(row, (bool, int, float, str))
        return f"{show(row)}, not in a list" if alone else show(row)
    if not shape[0]:
        return "an empty list"
    if len(shape) == 1:
        noun, kinds = _NOUNS.get(tensor.dtype, _NUMBER)
        return count(shape[0], noun if all(type(value) in kinds for value in row) else "value")
    if len(shape) > _DEEPEST:
        return f"a list nested {len(shape)} deep"
    return f"a list in the shape {_times(shape)}"


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if axis is None else str(axis) for axis in shape) or "one value"


def _explain(
    flat: list[Any],
    dtype: str,
    places: list[tuple[int, tuple[int, ...]]],
    rows: Rows,
    notes: Notes,
) -> None:
    """Note every value that does not fit, by its place in the body."""
    values = enumerate(flat)
    for n, value in values:
        if not fits(value, dtype):
            notes.add(_path(rows, places, n), expected_value(dtype, value), show(value))
            if notes.full:
                notes.count += sum(not fits(value, dtype) for _, value in values)
                return


def _path(rows: Rows, places: list[tuple[int, tuple[int, ...]]], n: int) -> str:
    """Return the path of the n-th value, from the rows that have values and their shapes."""
    place, rest = divmod(n, math.prod(places[0][1]))
    i, shape = places[place]
    return rows.at(i) + "".join(f"[{step}]" for step in np.unravel_index(rest, shape))
