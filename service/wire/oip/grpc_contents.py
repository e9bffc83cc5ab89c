"""The contents of an input or an output: values in the field of its datatype."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import packed
from service.wire.body import Notes, count, listing
from service.wire.oip.request import DATATYPES
from service.wire.packed import Field, Found, field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.wire.raw import Buffer, Piece

CONTENTS = {
    "bool": field(1, "bool_contents", "bool"),
    **{f"int{bits}": field(2, "int_contents", "int32") for bits in (8, 16, 32)},
    "int64": field(3, "int64_contents", "int64"),
    **{f"uint{bits}": field(4, "uint_contents", "uint32") for bits in (8, 16, 32)},
    "uint64": field(5, "uint64_contents", "uint64"),
    "float32": field(6, "fp32_contents", "float32"),
    "float64": field(7, "fp64_contents", "float64"),
    "string": field(8, "bytes_contents", "string"),
}
"""For each dtype but float16, the field of InferTensorContents that has its values."""
BY_NUMBER = {of.number: of for of in CONTENTS.values()}


def read_contents(piece: Piece, message: Buffer, found: Found, notes: Notes) -> NDArray[Any]:
    """Read a tensor from the field of its dtype."""
    of = CONTENTS.get(piece.dtype)
    is_empty = not (found or math.prod(piece.shape))
    if of is not None and (is_empty or found.keys() == {of.number}):
        return _read_field(of, piece, message, found, notes)
    received = listing([BY_NUMBER[number].name for number in sorted(found)]) or "nothing"
    if of is None:
        expected = "none, but raw_input_contents, since FP16 has no field of contents"
        notes.add(piece.at, expected, received)
    elif not found:
        notes.add(piece.at, f"the values, in {of.name} or in raw_input_contents", received)
    else:
        notes.add(piece.at, f"only {of.name}, for {DATATYPES[piece.dtype]}", received)
    return np.empty(0)


def _read_field(
    of: Field, piece: Piece, message: Buffer, found: Found, notes: Notes
) -> NDArray[Any]:
    size, number = math.prod(piece.shape), packed.count_of(of, message, found)
    piece = piece._replace(at=f"{piece.at}.{of.name}")
    if number != size:
        # Before they are read, since some bytes may be very many values.
        notes.add(piece.at, f"{count(size, 'value')}, as the shape says", str(number))
        return np.empty(0)
    values = packed.read(of, piece, message, found, notes)
    return values.reshape(piece.shape) if values.size == size else values
