"""Triton's binary tensor data: tensors as bytes after the JSON, in requests and in answers.

    Inference-Header-Content-Length: 213
    {"inputs": [{…, "parameters": {"binary_data_size": 16}}, …]}‖16 bytes‖…

Values are little-endian and row by row, with nothing in between.  A boolean is one byte, 0 or 1; a
text is its length in four bytes, followed by the text in UTF-8.  With a header of 0 there is no
JSON: the body is one row of the model's only input.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import raw, unseen
from service.wire.body import Notes, count, wrong
from service.wire.raw import Piece

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Tensor
    from service.wire.raw import Buffer

LENGTH = "Inference-Header-Content-Length"
CONTENT_TYPE = "application/octet-stream"

_LENGTH = Struct("<I")
# The digits of a length; no body is longer, and a string with more digits is not parsed.
_DIGITS = 18


def split(body: bytes, length: str) -> int:
    """Return the place where the JSON of a body ends, which the header `LENGTH` gives.

    Raises:
        BadRequest: the header is not a number, or is past the end of the body.
    """
    if length.isascii() and length.isdigit() and len(length) <= _DIGITS:
        end = int(length)
        if end <= len(body):
            return end
    expected = f"the bytes of the JSON, a number from 0 to the {len(body)} of the body"
    raise wrong(LENGTH, expected, length[:40])


def read(piece: Piece, body: Buffer, start: int, notes: Notes) -> NDArray[Any]:
    """Read a tensor from its bytes; they are copied only if they are not aligned for its dtype.

    Args:
        piece: the tensor; its size is that of its dtype and shape, unless it has strings.
        body: the body that has the bytes.
        start: the place where the bytes begin.
        notes: takes the mistakes; if there are any, the returned array is meaningless.
    """
    if piece.dtype == "string":
        return _read_texts(piece, body, start, notes)
    return raw.read(piece, body, start, notes)


def _read_texts(piece: Piece, body: Buffer, start: int, notes: Notes) -> NDArray[Any]:
    texts: list[str] = []
    end, number = start + piece.size, math.prod(piece.shape)
    for i in range(number):
        left = end - start - _LENGTH.size
        length = _LENGTH.unpack_from(body, start)[0] if left >= 0 else 0
        if length > left:
            expected = f"a length in 4 bytes, and {count(length, 'byte')} of text"
            notes.add(f"{piece.at}[{i}]", expected, f"{count(end - start, 'byte')} to the end")
            return np.empty(0, object)
        start += _LENGTH.size
        texts.append(raw.text_of(body[start : start + length], piece.at, i, notes))
        start += length
    if piece.feature is not None:
        unseen.note_all(piece.feature, texts, lambda i: f"{piece.at}[{i}]", notes)
    if start != end:
        expected = f"{count(number, 'text')} and nothing else"
        notes.add(piece.at, expected, f"{count(end - start, 'byte')} after them")
    return np.array(texts, dtype=object).reshape(piece.shape)


def read_alone(
    body: bytes,
    tensors: Sequence[Tensor],
    rows: tuple[int, ...],
    categorical: Mapping[str, Feature],
    notes: Notes,
) -> dict[str, NDArray[Any]]:
    """Read a row of a model's only tensor, or the whole tensor, from a body that is only its bytes.

    Args:
        body: the bytes.
        tensors: all input tensors of the model.
        rows: the axes in front of a row's shape: (1,) for a row, () for a whole tensor.
        categorical: by tensor, the features that have a vocabulary.
        notes: takes unseen values.

    Raises:
        BadRequest: the model has several tensors, the bytes do not determine the shape, or they do
            not fit it.
    """
    need = "more than 0, for a JSON that says which bytes are what"
    if len(tensors) != 1:
        names = ", ".join(tensor.name for tensor in tensors)
        raise wrong(LENGTH, f"{need}: the model has {len(tensors)} inputs ({names})", "0")
    (tensor,) = tensors
    if tensor.dtype == "string" and tensor.size == 1:
        # A single string comes without a length in front of it.
        body = _LENGTH.pack(len(body)) + body
        shape = tensor.fixed
    elif tensor.dtype == "string" or len(tensor.shape) > len(tensor.fixed) + 1:
        raise wrong(LENGTH, f"{need}: {tensor.name} is {tensor} a row", "0")
    else:
        shape = _only_shape(body, tensor)
    feature = categorical.get(tensor.name)
    piece = Piece("", len(body), tensor.dtype, (*rows, *shape), "body", feature)
    array = read(piece, body, 0, notes)
    notes.stop()
    return {tensor.name: array}


def _only_shape(body: bytes, tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of the row that a body has, from its number of bytes."""
    step = raw.size_of(tensor.dtype, tensor.fixed) or 1
    rest = len(body) % step if tensor.size is None else len(body) - step
    if rest or not body:
        multiple = "a multiple of " if tensor.size is None else ""
        expected = f"{multiple}{count(step, 'byte')}: {tensor.name} is {tensor} a row"
        raise wrong("body", expected, str(len(body)))
    return tuple(len(body) // step if axis is None else axis for axis in tensor.shape)


def write(array: NDArray[Any]) -> bytes:
    """Return the bytes of a tensor."""
    if array.dtype != object:
        return array.tobytes()
    # To join two objects for each of millions of strings would be one long call.
    data = bytearray()
    for text in array.reshape(-1).tolist():
        content = text.encode()
        data += _LENGTH.pack(len(content))
        data += content
    return bytes(data)
