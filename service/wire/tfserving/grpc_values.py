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
from service.wire.packed import Field, Found, field
from service.wire.protobuf import DELIMITED
from service.wire.tfserving.metadata import data_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.wire.raw import Buffer, Piece

VALUES = {
    "float32": field(5, "float_val", "float32"),
    "float64": field(6, "double_val", "float64"),
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), field(7, "int_val", "int32")),
    "string": field(8, "string_val", "string"),
    "int64": field(10, "int64_val", "int64"),
    "bool": field(11, "bool_val", "bool"),
    "float16": field(13, "half_val", "float16"),
    "uint32": field(16, "uint32_val", "uint32"),
    "uint64": field(17, "uint64_val", "uint64"),
}
"""For each dtype, the field of a TensorProto that has its values."""
_CONTENT = Field(4, "tensor_content", DELIMITED, signed=False)

KNOWN = {of.number: of for of in (_CONTENT, *VALUES.values())}
"""All fields that have values, by number."""


def read_values(piece: Piece, message: Buffer, found: Found, notes: Notes) -> NDArray[Any]:
    """Read a tensor.

    Args:
        piece: the tensor.
        message: the bytes that hold the message.
        found: the places of values in it.
        notes: takes the mistakes; if there are any, the array is meaningless.
    """
    of = VALUES[piece.dtype]
    # The last one counts.
    start, stop = found[_CONTENT.number][-2:] if _CONTENT.number in found else (0, 0)
    start >>= 1
    if start == stop:
        # No bytes are as good as no field.
        found = {number: places for number, places in found.items() if number != _CONTENT.number}
    if found.keys() == {_CONTENT.number} and piece.dtype != "string":
        piece = piece._replace(at=f"{piece.at}.tensor_content")
        if stop - start == piece.size:
            return raw.read(piece, message, start, notes)
        expected = f"{count(piece.size, 'byte')}, as dtype and shape say"
        notes.add(piece.at, expected, str(stop - start))
    elif found.keys() - {of.number}:
        either = f"only {of.name}" if of.kind == DELIMITED else f"tensor_content or {of.name}, one"
        names = [KNOWN[number].name for number in sorted(found)]
        notes.add(piece.at, f"{either}, for {data_type(piece.dtype)}", listing(names))
    else:
        return _read_field(of, piece, message, found, notes)
    return np.empty(0)


def _read_field(
    of: Field, piece: Piece, message: Buffer, found: Found, notes: Notes
) -> NDArray[Any]:
    size, number = math.prod(piece.shape), packed.count_of(of, message, found)
    piece = piece._replace(at=f"{piece.at}.{of.name}")
    if number > size or (size and not number):
        # Before they are read, since some bytes may be very many values.
        expected = count(size, "value") + (", or fewer, of which the last is repeated" * (size > 1))
        notes.add(piece.at, expected, str(number) if number else "nothing")
        return np.empty(0)
    if number < size:
        notes.miss(piece.at, size - number, "repeated values")
    values = packed.read(of, piece, message, found, notes)
    if len(values) < number:
        return values
    if number < size:
        last = np.full(size - number, values[-1], values.dtype)
        values = np.concatenate((values, last))
    return values.reshape(piece.shape)
