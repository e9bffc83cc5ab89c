"""Rows that a worker hands to the process of the shadow: arrays and answers as one message.

the length of the header ─ header, JSON ─ the numbers of each array, one after another
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from service.insight.shadow.figures import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LENGTH = 8


class Handed(NamedTuple):
    """Some rows of a request that was answered."""

    pair: Pair
    files: str
    """A digest of the files of both versions."""
    file: str
    """A digest of the file of shares: once it changes, what has stopped starts again."""
    arrays: Mapping[str, NDArray[Any]]
    """The rows by tensor, [rows, …]."""
    outputs: Mapping[str, NDArray[Any]]
    """The answers by head, [rows, …]."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.outputs.values())))

    def encode(self) -> bytes:
        """Return the message."""
        described: list[list[Any]] = []
        contents = []
        for group in (self.arrays, self.outputs):
            described.append([])
            for name, array in group.items():
                texts = array.ravel().tolist() if array.dtype == object else None
                described[-1].append([name, array.dtype.str, array.shape, texts])
                if texts is None:
                    contents.append(array.tobytes())
        header = orjson.dumps([[*self.pair], self.files, self.file, *described])
        return b"".join([len(header).to_bytes(_LENGTH, "little"), header, *contents])


def decode(message: bytes) -> Handed:
    """Return the rows of a message."""
    end = _LENGTH + int.from_bytes(message[:_LENGTH], "little")
    pair, files, file, arrays, outputs = orjson.loads(message[_LENGTH:end])
    groups: list[dict[str, NDArray[Any]]] = []
    for described in (arrays, outputs):
        groups.append({})
        for name, dtype, shape, texts in described:
            if texts is None:
                number = math.prod(shape)
                array = np.frombuffer(message, dtype, number, end)
                end += array.nbytes
            else:
                array = np.array(texts, object)
            groups[-1][name] = array.reshape(shape)
    return Handed(Pair(*pair), files, file, *groups)


def size_of(array: NDArray[Any]) -> int:
    """Return the bytes that an array takes in a message, about."""
    if array.dtype == object:
        return sum(len(text) + 3 for text in array.ravel())
    return int(array.nbytes)
