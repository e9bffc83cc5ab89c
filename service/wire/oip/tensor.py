"""One tensor of a request: its shape, its values in the JSON, and its bytes after that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import Notes, show, too_many
from service.wire.oip import binary
from service.wire.values import MISSING, Rows, read_tensor, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Tensor

_MOST = 2**63 - 1
_SHOWN_AXES = 8
# Rows of nothing are as many as their sender likes, for no more bytes; their answers are not.
_MOST_EMPTY = 1024


def is_whole(value: Any, least: int) -> bool:
    """Tell whether a JSON value is a whole number of at least so much, and of 64 bits."""
    return type(value) is int and least <= value <= _MOST


def shape_of(
    entry: Mapping[str, Any], tensor: Tensor, at: str, notes: Notes
) -> tuple[int, ...] | None:
    """An input's shape, if it is one of the tensor's."""
    given = entry.get("shape", MISSING)
    more = ""
    if (
        isinstance(given, list)
        and len(given) == len(tensor.shape) + 1
        and is_whole(given[0], 1)
        and all(
            is_whole(length, 0) and axis in (None, length)
            for length, axis in zip(given[1:], tensor.shape, strict=True)
        )
    ):
        if too_many(given[0], f"{at}.shape[0]", notes):
            return None
        if all(given) or max(given) <= _MOST_EMPTY:
            return tuple(given)
        more = f", and no axis above {_MOST_EMPTY} beside one of 0"
    axes = ["rows", *("any" if axis is None else str(axis) for axis in tensor.shape)]
    expected = f"[{', '.join(axes)}], with 1 row at least{more}"
    notes.add(f"{at}.shape", expected, _shown_shape(given))
    return None


def whole_shape_of(
    entry: Mapping[str, Any], tensor: Tensor, at: str, notes: Notes
) -> tuple[int, ...] | None:
    """An input's shape, if it is one of the whole tensor's: no axis of its is for rows."""
    given = entry.get("shape", MISSING)
    if (
        isinstance(given, list)
        and len(given) == len(tensor.shape)
        and all(
            is_whole(length, 1) if axis is None else type(length) is int and length == axis
            for length, axis in zip(given, tensor.shape, strict=True)
        )
    ):
        return tuple(given)
    axes = ["1 or more" if axis is None else str(axis) for axis in tensor.shape]
    notes.add(f"{at}.shape", f"[{', '.join(axes)}]", _shown_shape(given))
    return None


def _shown_shape(given: Any) -> str:
    """What stands in the place of a shape, in a message."""
    legible = (
        isinstance(given, list)
        and len(given) <= _SHOWN_AXES
        and not any(isinstance(length, (dict, list)) for length in given)
    )
    return json.dumps(given)[:40] if legible else shown(given)


def size_of(size: Any, entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes) -> int:
    """The bytes of an input that follows the JSON, which its dtype and shape must have."""
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
    entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes
) -> NDArray[Any] | None:
    """An input's values from the JSON, flat or nested."""
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
        # A scalar is the only one of its values.
        data = data[0]
    # All of it is one row of a tensor in just that shape: flat or nested, with the same words.
    found = read_tensor(wanted, Rows([data], lambda _: at), notes)
    return found[wanted.name].reshape(wanted.fixed) if found else None
