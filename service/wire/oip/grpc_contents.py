"""The contents of an input or an output: values in the field of its datatype."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import packed
from service.wire.body import Notes, count, listing
from service.wire.oip.request import DATATYPES
from service.wire.packed import Field, Places, field_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.wire.raw import Buffer, Piece

CONTENTS = {
    "bool": field_for(1, "bool_contents", "bool"),
    **{f"int{bits}": field_for(2, "int_contents", "int32") for bits in (8, 16, 32)},
    "int64": field_for(3, "int64_contents", "int64"),
    **{f"uint{bits}": field_for(4, "uint_contents", "uint32") for bits in (8, 16, 32)},
    "uint64": field_for(5, "uint64_contents", "uint64"),
    "float32": field_for(6, "fp32_contents", "float32"),
    "float64": field_for(7, "fp64_contents", "float64"),
    "string": field_for(8, "bytes_contents", "string"),
}
"""For each dtype but float16, the field of InferTensorContents that has its values."""
BY_NUMBER = {field.number: field for field in CONTENTS.values()}


def read_contents(piece: Piece, message: Buffer, places: Places, notes: Notes) -> NDArray[Any]:
    """Read a tensor from the field of its dtype."""
    field = CONTENTS.get(piece.dtype)
    is_empty = not (places or math.prod(piece.shape))
    if field is not None and (is_empty or places.keys() == {field.number}):
        return _read_field(field, piece, message, places, notes)
    received = listing([BY_NUMBER[number].name for number in sorted(places)]) or "nothing"
    if field is None:
        expected = "none, but raw_input_contents, since FP16 has no field of contents"
        notes.add(piece.at, expected, received)
    elif not places:
        notes.add(piece.at, f"the values, in {field.name} or in raw_input_contents", received)
    else:
        notes.add(piece.at, f"only {field.name}, for {DATATYPES[piece.dtype]}", received)
    return np.empty(0)


def _read_field(
    field: Field, piece: Piece, message: Buffer, places: Places, notes: Notes
) -> NDArray[Any]:
    size, number = math.prod(piece.shape), packed.count_of(field, message, places)
    piece = piece._replace(at=f"{piece.at}.{field.name}")
    if number != size:
        # Before they are read, since some bytes may be very many values.
        notes.add(piece.at, f"{count(size, 'value')}, as the shape says", str(number))
        return np.empty(0)
    values = packed.read(field, piece, message, places, notes)
    return values.reshape(piece.shape) if values.size == size else values
