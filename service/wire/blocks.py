"""Conversion of the numbers of many rows to one array, a block of rows at a time.

    lists of a block ── simdjson ──▶ float64 or int64 ── check ──▶ the rows of the array

A block is small enough to stay in a processor's cache between these steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.quick import check, kind_of
from service.wire.scalars import FIRST_INEXACT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.signature import Tensor

# Numbers of a block: 256 kB before they are converted.
BLOCK = 2**15
# The dtypes that hold every int64, rounded.
_ROUNDING = ("float32", "float64")


def array_of(tensor: Tensor, rows: Sequence[Any], size: int, block: int) -> NDArray[Any]:
    """Convert rows to an array, [rows, …] in the tensor's dtype.

    Args:
        tensor: a tensor of numbers; its rows have a fixed shape.
        rows: simdjson's lists, each of `size` numbers, nested in any way.
        size: the numbers of one row.
        block: the numbers of a block, at most, unless a single row has more.

    Raises one of `quick.UNSURE` if a block has too few or too many numbers, or one that does not
    fit the dtype.
    """
    array = np.empty((len(rows), size), tensor.dtype)
    step = max(1, block // size)
    # Pixels and counts are whole numbers, which take less time.
    read = _read_whole if tensor.dtype in _ROUNDING else _read
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        try:
            wide = read(tensor.dtype, some)
        except (TypeError, ValueError):
            if read is _read:
                raise
            read = _read
            wide = read(tensor.dtype, some)
        array[start : start + step] = wide.reshape(len(some), size)
    return array.reshape(len(rows), *tensor.fixed)


def _read(dtype: str, rows: Sequence[Any]) -> NDArray[Any]:
    """Return the numbers of rows, flat, as float64 or int64, if they fit a dtype."""
    kind = kind_of(dtype)
    return check(dtype, b"".join([row.as_buffer(of_type=kind) for row in rows]))


def _read_whole(dtype: str, rows: Sequence[Any]) -> NDArray[Any]:
    """Return whole numbers as `_read` does, in a dtype that is rounded to float32 rightly.

    Raises:
        TypeError, ValueError: a number has a fraction or an exponent, or does not fit int64.
    """
    del dtype
    wide = np.frombuffer(b"".join([row.as_buffer(of_type="i") for row in rows]), np.int64)
    # The bits of all numbers together are below a power of two if every number is.
    if 0 <= np.bitwise_or.reduce(wide) < FIRST_INEXACT:
        return wide
    # float64 first, as the reference reader rounds.
    return wide.astype(np.float64)
