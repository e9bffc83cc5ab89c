"""The values of a tensor in a repeated field of protobuf, of which each type has its own.

    {6: 12 bytes} ─ collect, read ─▶ float32[3]          float32[3] ─ write ─▶ 12 bytes

Numbers may be packed into one field, or have a field each; there may be both.  Packed floats are
the array's own bytes.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.errors import SHOWN
from service.wire import raw, unseen, varints
from service.wire.body import LongReadError, is_in_loop, wrong
from service.wire.protobuf import DELIMITED, FIXED32, FIXED64, VARINT, delimited, fields
from service.wire.scalars import RANGES, expected_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from service.wire.body import Notes
    from service.wire.raw import Buffer, Piece

# The values that have a field each, in one request; each takes 16 bytes until it is read.
MOST_ALONE = 2**21
# Those that are read in an event loop.
ALONE_AT_ONCE = 2**12


class Field(NamedTuple):
    """A repeated field: its number and its name, and the kind of a value that is not packed.

    `signed` is whether its numbers, if they are whole ones, may be negative.
    """

    number: int
    name: str
    kind: int
    signed: bool


def field_for(number: int, name: str, dtype: str) -> Field:
    """Return the field that holds the values of a dtype."""
    fixed = {"float32": FIXED32, "float64": FIXED64, "string": DELIMITED}
    return Field(number, name, fixed.get(dtype, VARINT), signed=not name.startswith("uint"))


def by_dtype(fields_of: Mapping[str, Field]) -> dict[np.dtype[Any], Field]:
    """Return fields by the dtypes of arrays, in place of their names."""
    return {np.dtype(object if d == "string" else d): field for d, field in fields_of.items()}


Places = dict[int, "array[int]"]
"""For each repeated field of a message, by its number: the start and the stop of each part of it.

The lowest bit of a start says whether the part is packed.
"""


class Collector:
    """Notes the places of values in the repeated fields of messages, of one request."""

    def __init__(self, message: Buffer, known: Mapping[int, Field]) -> None:
        """Look for the fields in `known`, by number, in the bytes of a request."""
        self._message = message
        self._known = known
        self._in_loop = is_in_loop()
        self._left = ALONE_AT_ONCE if self._in_loop else MOST_ALONE

    def collect(self, start: int, stop: int, places: Places) -> list[tuple[int, int]]:
        """Note the places of values that a message has; return those of all its other fields.

        Args:
            start: where the message starts.
            stop: where it stops.
            places: takes the places of the values.

        Raises:
            BadRequest: the request has more than `MOST_ALONE` such fields.
            LongReadError: it has too many of them to be read in an event loop.
        """
        others: list[tuple[int, int]] = []
        known = self._known
        # One more, which is refused here.
        for tag, begin, content, end in fields(self._message, start, stop, self._left + 1):
            self._left -= 1
            if self._left < 0:
                if self._in_loop:
                    raise LongReadError
                raise wrong("body", f"at most {MOST_ALONE} values that are not packed", "one more")
            number, kind = tag >> 3, tag & 7
            field = known.get(number)
            if field is not None and kind in (DELIMITED, field.kind):
                packed = kind == DELIMITED and field.kind != DELIMITED
                if packed and content == end:
                    # No values are as good as no field.
                    continue
                spans = places.get(number)
                if spans is None:
                    spans = places[number] = array("Q")
                spans.extend((content << 1 | packed, end))
            elif others and others[-1][1] == begin:
                others[-1] = others[-1][0], end
            else:
                others.append((begin, end))
        return others


def count_of(field: Field, message: Buffer, places: Places) -> int:
    """Return the number of values of a field."""
    spans = places.get(field.number, array("Q"))
    if field.kind == DELIMITED:
        return len(spans) // 2
    if field.kind == VARINT:
        return sum(varints.count_in(part) for part in _parts(message, spans))
    size = sum(spans[1::2]) - sum(start >> 1 for start in spans[::2])
    return size // (4 if field.kind == FIXED32 else 8)


def _parts(message: Buffer, spans: Iterable[int]) -> Iterable[memoryview]:
    view = memoryview(message)
    each = iter(spans)
    return (view[start >> 1 : stop] for start, stop in zip(each, each, strict=True))


def read(field: Field, piece: Piece, message: Buffer, places: Places, notes: Notes) -> NDArray[Any]:
    """Return the values of a field as a flat array of a tensor's dtype.

    Args:
        field: the field.
        piece: the tensor; its path is that of the field.
        message: the bytes that hold the message.
        places: the places of the values.
        notes: takes the mistakes; if there are any, the array is meaningless.
    """
    spans = places.get(field.number, array("Q"))
    if field.kind == DELIMITED:
        return _read_texts(piece, message, spans, notes)
    parts = list(_parts(message, spans))
    content: Buffer = parts[0] if len(parts) == 1 else b"".join(parts)
    if field.kind != VARINT:
        if len(content) % (4 if field.kind == FIXED32 else 8):
            notes.add(piece.at, "whole values, packed", f"{len(content)} bytes")
            return np.empty(0, piece.dtype)
        values = np.frombuffer(content, piece.dtype)
        return values if values.flags.aligned else values.copy()
    return _narrow(field, piece, varints.read(content), notes)


def _narrow(field: Field, piece: Piece, wide: NDArray[np.uint64], notes: Notes) -> NDArray[Any]:
    """Convert numbers to a dtype; note those that it does not have."""
    dtype = piece.dtype
    if dtype == "bool":
        return wide.astype(np.bool_)
    if dtype == "float16":
        return wide.astype(np.uint16).view(np.float16)
    if dtype in ("int64", "uint64"):
        return wide.view(dtype)
    # A field of 32 bits has the lowest of a longer number.
    numbers = wide.astype(np.uint32)
    values = numbers.view(np.int32) if field.signed else numbers
    lowest, highest = RANGES[dtype]
    outside = np.flatnonzero((values < lowest) | (values > highest))
    for i in outside[:SHOWN].tolist():
        notes.add(f"{piece.at}[{i}]", expected_value(dtype), str(values[i]))
    notes.count += max(0, outside.size - SHOWN)
    return values.astype(dtype)


def _read_texts(piece: Piece, message: Buffer, spans: array[int], notes: Notes) -> NDArray[Any]:
    parts = enumerate(_parts(message, spans))
    texts = [raw.text_of(part, piece.at, i, notes) for i, part in parts]
    if piece.feature is not None:
        unseen.note_all(piece.feature, texts, lambda i: f"{piece.at}[{i}]", notes)
    return np.array(texts, dtype=object)


def write(field: Field, values: NDArray[Any]) -> bytes:
    """Return the field with the values of an array, row by row; nothing if there are none."""
    if values.dtype == object:
        # To join three objects for each of millions of strings would be one long call.
        data = bytearray()
        for text in values.reshape(-1).tolist():
            data += delimited(field.number, text.encode())
        return bytes(data)
    if not values.size:
        return b""
    if field.kind != VARINT:
        return delimited(field.number, values.tobytes())
    whole = np.ascontiguousarray(values).view(np.uint16) if values.dtype == np.float16 else values
    return delimited(field.number, varints.write(whole))
