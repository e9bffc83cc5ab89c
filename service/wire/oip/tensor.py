"""One tensor of a request: its values in the JSON, or their size in the bytes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.wire import raw
from service.wire.body import Notes, show
from service.wire.rows import MISSING, Rows, shown
from service.wire.shapes import is_whole
from service.wire.tensor_rows import read_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Feature, Tensor


class Beside(NamedTuple):
    """The mark of a tensor that is not in the JSON, nor in the bytes after it, as in gRPC.

    `at` is the path of its values, and `size` the number of bytes that they have; if it is `None`,
    the values are checked as they are read.
    """

    at: str
    size: int | None


def size_of(size: Any, entry: Mapping[str, Any], wanted: Tensor, at: str, notes: Notes) -> int:
    """Return the size in bytes of an input that follows the JSON.

    Note a size that does not fit the dtype and the shape, and return 0.
    """
    if entry.get("data") is not None:
        expected = "no data in the JSON, since binary_data_size says that it follows"
        notes.add(f"{at}.data", expected, show(entry["data"]))
    return checked_size(size, wanted, f"{at}.parameters.binary_data_size", notes)


def checked_size(size: Any, wanted: Tensor, at: str, notes: Notes) -> int:
    """Return the size of a tensor in bytes; note one that does not fit it, and return 0."""
    right = raw.size_of(wanted.dtype, wanted.fixed)
    least = 4 * (wanted.size or 0)
    if is_whole(size, 0) and (size >= least if right is None else size == right):
        return int(size)
    expected = f"at least {least}" if right is None else str(right)
    expected = f"{expected}, the bytes of {wanted}"
    notes.add(at, expected, show(size))
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
