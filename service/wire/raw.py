"""The values of a tensor from their bytes: little-endian, row by row, with nothing in between.

A boolean is one byte, 0 or 1; a text is bytes in UTF-8, whose ends each protocol marks differently.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.errors import SHOWN
from service.wire.scalars import LARGEST, RANGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.signature import Feature
    from service.wire.body import Notes

Buffer = bytes | memoryview

# numpy takes longer to read an array by the name of its dtype.
_DTYPES = {dtype: np.dtype(dtype) for dtype in (*LARGEST, *RANGES, "bool")}


class Piece(NamedTuple):
    """A tensor that is bytes in a body: its name, size in bytes, dtype and shape, and its path.

    The name is empty if no requested head needs the tensor.  `feature` is the feature whose texts
    are to be checked (`unseen.checked`), if there is one.
    """

    name: str
    size: int
    dtype: str
    shape: tuple[int, ...]
    at: str
    feature: Feature | None = None


def size_of(dtype: str, shape: Sequence[int]) -> int | None:
    """Return the size of a tensor in bytes; `None` for strings, which may have any length."""
    return None if dtype == "string" else math.prod(shape) * _DTYPES[dtype].itemsize


def read(piece: Piece, body: Buffer, start: int, notes: Notes) -> NDArray[Any]:
    """Read a tensor from its bytes; they are copied only if they are not aligned for its dtype.

    Args:
        piece: the tensor, whose dtype is not that of strings.
        body: the body that has the bytes.
        start: the place where the bytes begin.
        notes: takes bytes that are no booleans.
    """
    size = math.prod(piece.shape)
    if size == 0:
        return np.empty(piece.shape, piece.dtype)
    if piece.dtype == "bool":
        values = np.frombuffer(body, np.uint8, size, start)
        _note_bytes(values, piece.at, notes)
        return values.view(np.bool_).reshape(piece.shape)
    array = np.frombuffer(body, _DTYPES[piece.dtype], size, start).reshape(piece.shape)
    return array if array.flags.aligned else array.copy()


def _note_bytes(values: NDArray[Any], at: str, notes: Notes) -> None:
    """Note the first bytes that are not booleans, and count the others."""
    wrong_ones = values > 1
    number, i = int(np.count_nonzero(wrong_ones)), -1
    for _ in range(min(number, SHOWN)):
        i += 1 + int(wrong_ones[i + 1 :].argmax())
        notes.add(f"{at}[{i}]", "0 or 1 in a byte", str(values[i]))
    notes.count += max(0, number - SHOWN)


def text_of(content: Buffer, at: str, i: int, notes: Notes) -> str:
    """Return a text from its bytes; note bytes that are not UTF-8, and return an empty text.

    Args:
        content: the bytes.
        at: the path of the texts.
        i: the place of the text among them.
        notes: takes the mistake.
    """
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as error:
        if notes.full:
            notes.count += 1
        else:
            received = f"the byte 0x{content[error.start]:02x} at offset {error.start}"
            notes.add(f"{at}[{i}]", "text in UTF-8", received)
        return ""
