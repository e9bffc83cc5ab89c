"""The shape that a request states for a tensor, in the protocols that state it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, too_many
from service.wire.rows import shown

if TYPE_CHECKING:
    from service.signature import Tensor

_MOST = 2**63 - 1
_SHOWN_AXES = 8
# The longest axis beside an axis of 0.  A request for any number of empty rows has the same few
# bytes, but its answer grows with them.
_MOST_EMPTY = 1024


def is_whole(value: Any, least: int) -> bool:
    """Return whether a JSON value is a whole number from `least` up to the largest of 64 bits."""
    return type(value) is int and least <= value <= _MOST


def shape_of(shape: Any, tensor: Tensor, at: str, notes: Notes) -> tuple[int, ...] | None:
    """Return the shape of the rows of a tensor; note one that they cannot have, and return `None`.

    Args:
        shape: the received value.
        tensor: the tensor, in the shape of one row.
        at: the path of the shape.
        notes: takes the mistakes.
    """
    more = ""
    if (
        isinstance(shape, list)
        and len(shape) == len(tensor.shape) + 1
        and is_whole(shape[0], 1)
        and all(
            is_whole(length, 0) and axis in (None, length)
            for length, axis in zip(shape[1:], tensor.shape, strict=True)
        )
    ):
        if too_many(shape[0], f"{at}[0]", notes):
            return None
        if all(shape) or max(shape) <= _MOST_EMPTY:
            return tuple(shape)
        more = f", and no axis above {_MOST_EMPTY} beside one of 0"
    axes = ["rows", *("any" if axis is None else str(axis) for axis in tensor.shape)]
    expected = f"[{', '.join(axes)}], with 1 row at least{more}"
    notes.add(at, expected, _shown_shape(shape))
    return None


def whole_shape_of(shape: Any, tensor: Tensor, at: str, notes: Notes) -> tuple[int, ...] | None:
    """Return a shape as `shape_of` does, for a whole tensor without an axis of rows."""
    if (
        isinstance(shape, list)
        and len(shape) == len(tensor.shape)
        and all(
            is_whole(length, 1) if axis is None else type(length) is int and length == axis
            for length, axis in zip(shape, tensor.shape, strict=True)
        )
    ):
        return tuple(shape)
    axes = ["1 or more" if axis is None else str(axis) for axis in tensor.shape]
    notes.add(at, f"[{', '.join(axes)}]", _shown_shape(shape))
    return None


def _shown_shape(shape: Any) -> str:
    """Return the text that a message shows for a shape, or for another value in its place."""
    legible = (
        isinstance(shape, list)
        and len(shape) <= _SHOWN_AXES
        and not any(isinstance(length, (dict, list)) for length in shape)
    )
    return json.dumps(shape)[:40] if legible else shown(shape)
