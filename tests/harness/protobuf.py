"""Protobuf's wire format in a few lines, so that tests depend on no generated code of anyone.

A message is its fields one after another: number and kind, then a varint, or a length and bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.harness.forms import DATATYPES, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

INFER = "/inference.GRPCInferenceService/ModelInfer"
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
DTYPES = {name: np.dtype(dtype) for dtype, name in DATATYPES.items() if dtype != "object"}


def varint(value: int) -> bytes:
    """Return a whole number that is not negative."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field: a whole number, a text, or bytes, which may be a message."""
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field, as they come."""
    place = 0

    def read() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(message):
        key = read()
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            yield number, read()
            continue
        size = {_EIGHT: 8, _FOUR: 4}.get(kind) or read()
        yield number, message[place : place + size]
        place += size


def framed(message: bytes, *, compressed: bool = False) -> bytes:
    """Return a message as gRPC sends it: a flag, the length, and the message."""
    return struct.pack(">BI", compressed, len(message)) + message


def unframed(content: bytes) -> tuple[bool, int, bytes]:
    """Return the flag, the announced length and the message of what `framed` made."""
    compressed, size = struct.unpack(">?I", content[:5])
    return compressed, size, content[5:]


# ── the messages of the Open Inference Protocol ──────────────────────────────────────────────────


def infer_request(
    model: str, arrays: Mapping[str, NDArray[Any]], outputs: Sequence[str] = (), version: str = ""
) -> bytes:
    """Return a ModelInferRequest whose tensors are bytes."""
    parts = [field(1, model)]
    if version:
        parts.append(field(2, version))
    for name, array in arrays.items():
        shape = field(3, b"".join(map(varint, array.shape)))
        parts.append(
            field(5, field(1, name) + field(2, DATATYPES[str(array.dtype)]) + shape),
        )
    parts += [field(6, field(1, name)) for name in outputs]
    parts += [field(7, raw_bytes(array)) for array in arrays.values()]
    return b"".join(parts)


def infer_response(message: bytes) -> dict[str, NDArray[Any]]:
    """Return the numbers of a ModelInferResponse by head."""
    heads, raw = [], []
    for number, value in fields(message):
        if number == 5:
            heads.append(_head(value))
        elif number == 6:
            raw.append(value)
    return {
        name: np.frombuffer(content, DTYPES[datatype]).reshape(shape)
        for (name, datatype, shape), content in zip(heads, raw, strict=True)
    }


def _head(message: bytes) -> tuple[str, str, list[int]]:
    name = datatype = ""
    shape: list[int] = []
    for number, value in fields(message):
        if number == 1:
            name = value.decode()
        elif number == 2:
            datatype = value.decode()
        elif number == 3:
            shape += [value] if isinstance(value, int) else _varints(value)
    return name, datatype, shape


def _varints(content: bytes) -> list[int]:
    """Return the whole numbers of a packed field."""
    found, value, shift = [], 0, 0
    for byte in content:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found
