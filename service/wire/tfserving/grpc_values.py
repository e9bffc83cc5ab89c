"""The values of a TensorProto: its bytes, or values in the field of its type.

Of fewer values than the shape has, the last one is repeated, as TensorFlow does.

Source: tensorflow/tensorflow tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import packed, raw
from service.wire.body import Notes, count, listing
from service.wire.packed import Field, Places, field_for
from service.wire.protobuf import DELIMITED
from service.wire.tfserving.metadata import data_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.wire.raw import Buffer, Piece

VALUES = {
    "float32": field_for(5, "float_val", "float32"),
    "float64": field_for(6, "double_val", "float64"),
    **dict.fromkeys(
        ("int8", "int16", "int32", "uint8", "uint16"), field_for(7, "int_val", "int32")
    ),
    "string": field_for(8, "string_val", "string"),
    "int64": field_for(10, "int64_val", "int64"),
    "bool": field_for(11, "bool_val", "bool"),
    "float16": field_for(13, "half_val", "float16"),
    "uint32": field_for(16, "uint32_val", "uint32"),
    "uint64": field_for(17, "uint64_val", "uint64"),
}
"""For each dtype, the field of a TensorProto that has its values."""
_CONTENT = Field(4, "tensor_content", DELIMITED, signed=False)

KNOWN = {field.number: field for field in (_CONTENT, *VALUES.values())}
"""All fields that have values, by number."""


def read_values(piece: Piece, message: Buffer, places: Places, notes: Notes) -> NDArray[Any]:
    """Read a tensor.

    Args:
        piece: the tensor.
        message: the bytes that hold the message.
        places: the places of values in it.
        notes: takes the mistakes; if there are any, the array is meaningless.
    """
    field = VALUES[piece.dtype]
    # The last one counts.
    start, stop = places[_CONTENT.number][-2:] if _CONTENT.number in places else (0, 0)
    start >>= 1
    if start == stop:
        # No bytes are as good as no field.
        places = {number: spans for number, spans in places.items() if number != _CONTENT.number}
    if places.keys() == {_CONTENT.number} and piece.dtype != "string":
        piece = piece._replace(at=f"{piece.at}.tensor_content")
        if stop - start == piece.size:
            return raw.read(piece, message, start, notes)
        expected = f"{count(piece.size, 'byte')}, as dtype and shape say"
        notes.add(piece.at, expected, str(stop - start))
    elif places.keys() - {field.number}:
        either = (
            f"only {field.name}"
            if field.kind == DELIMITED
            else f"tensor_content or {field.name}, one"
        )
        names = [KNOWN[number].name for number in sorted(places)]
        notes.add(piece.at, f"{either}, for {data_type(piece.dtype)}", listing(names))
    else:
        return _read_field(field, piece, message, places, notes)
    return np.empty(0)


def _read_field(
    field: Field, piece: Piece, message: Buffer, places: Places, notes: Notes
) -> NDArray[Any]:
    size, number = math.prod(piece.shape), packed.count_of(field, message, places)
    piece = piece._replace(at=f"{piece.at}.{field.name}")
    if number > size or (size and not number):
        # Before they are read, since some bytes may be very many values.
        expected = count(size, "value") + (", or fewer, of which the last is repeated" * (size > 1))
        notes.add(piece.at, expected, str(number) if number else "nothing")
        return np.empty(0)
    if number < size:
        notes.miss(piece.at, size - number, "repeated values")
    values = packed.read(field, piece, message, places, notes)
    if len(values) < number:
        return values
    if number < size:
        last = np.full(size - number, values[-1], values.dtype)
        values = np.concatenate((values, last))
    return values.reshape(piece.shape)
