"""One tensor of a request: its shape, and its values in the JSON or in the bytes after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import Notes, show, too_many
from service.wire.oip import binary
from service.wire.rows import MISSING, Rows, shown
from service.wire.tensor_rows import read_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Feature, Tensor

_MOST = 2**63 - 1
_SHOWN_AXES = 8
# The longest axis beside an axis of 0.  A request for any number of empty rows has the same few
# bytes, but its answer grows with them.
_MOST_EMPTY = 1024


def is_whole(value: Any, least: int) -> bool:
    """Return whether a JSON value is a whole number from `least` up to the largest of 64 bits."""
    return type(value) is int and least <= value <= _MOST


def shape_of(
    entry: Mapping[str, Any], tensor: Tensor, at: str, notes: Notes
) -> tuple[int, ...] | None:
    """Return the shape of an input; note one that the tensor cannot have, and return `None`."""
    shape = entry.get("shape", MISSING)
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
        if too_many(shape[0], f"{at}.shape[0]", notes):
            return None
        if all(shape) or max(shape) <= _MOST_EMPTY:
            return tuple(shape)
        more = f", and no axis above {_MOST_EMPTY} beside one of 0"
    axes = ["rows", *("any" if axis is None else str(axis) for axis in tensor.shape)]
    expected = f"[{', '.join(axes)}], with 1 row at least{more}"
    notes.add(f"{at}.shape", expected, _shown_shape(shape))
    return None


def whole_shape_of(
    entry: Mapping[str, Any], tensor: Tensor, at: str, notes: Notes
) -> tuple[int, ...] | None:
    """Return an input's shape as `shape_of` does, for a whole tensor without an axis of rows."""
    shape = entry.get("shape", MISSING)
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
    notes.add(f"{at}.shape", f"[{', '.join(axes)}]", _shown_shape(shape))
    return None


def _shown_shape(shape: Any) -> str:
    """Return the text that a message shows for a shape, or for another value in its place."""
    legible = (
        isinstance(shape, list)
        and len(shape) <= _SHOWN_AXES
        and not any(isinstance(length, (dict, list)) for length in shape)
    )
    return json.dumps(shape)[:40] if legible else shown(shape)


def size_of(size: Any, entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes) -> int:
    """Return the size in bytes of an input that follows the JSON.

    Note a size that does not fit the dtype and the shape, and return 0.
    """
    if entry.get("data") is not None:
        expected = "no data in the JSON, since binary_data_size says that it follows"
        notes.add(f"{at}.data", expected, show(entry["data"]))
    right = binary.size_of(wanted.dtype, wanted.fixed)
    least = 4 * (wanted.size or 0)
    if is_whole(size, 0) and (size >= least if right is None else size == right):
        return int(size)
    expected = f"at least {least}" if right is None else str(right)
    expected = f"{expected}, the bytes of {wanted}"
    notes.add(f"{at}.parameters.binary_data_size", expected, show(size))
    return 0


def values_of(
    entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes, feature: Feature | None = None
) -> NDArray[Any] | None:
    """Return the values of an input in the JSON, flat or nested, in its shape.

    Note values that do not fit, and return `None`.  `feature` is that of `Rows`.
    """
    data = entry.get("data", MISSING)
    if wanted.dtype == "float16":
        notes.add(at, "binary data, since FP16 has no form in JSON", shown(data))
        return None
    if isinstance(data, np.ndarray):
        return data.reshape(wanted.fixed)
    if data is MISSING or data is None:
        expected = "the values, flat or nested, or the parameter binary_data_size"
        notes.add(at, expected, shown(data))
        return None
    if not wanted.shape and isinstance(data, list) and len(data) == 1:
        # A scalar may come as a list of one value.
        data = data[0]
    # The whole tensor is read as the only row of a tensor of that shape, for the same messages.
    row = read_tensor(wanted, Rows([data], lambda _: at, feature), notes)
    return row[wanted.name].reshape(wanted.fixed) if row else None
