"""The native form once more, for bodies that are as they should be: bytes straight to arrays.

    bytes ── simdjson ──▶ Numbers ── join ──▶ arrays        whatever is unusual ──▶ reference.decode

It decides nothing.  A body that it is not sure of (a missing value, a text where a number goes,
a key too many) is left to the plain path, which knows every rule and every message.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import simdjson

from service.wire.body import MOST_ROWS
from service.wire.native import reference
from service.wire.numbers import Numbers, group
from service.wire.quick import (
    UNSURE,
    UnsureError,
    brackets,
    count,
    is_nested,
    kind_of,
    parse,
)
from service.wire.scalars import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.signature import Input, Signature, Tensor
    from service.wire.dialect import Header

    Arrays = dict[str, NDArray[Any]]
    Reader = Callable[[list[Any], Numbers], int]

# Numbers of a body that are converted at once, at most (unless a single row has more).
_MANY = 2**19
# Rows that take some milliseconds, whatever they hold.
FEW_ROWS = 2**12


class Decoder:
    """The fast way for one signature, with what follows from it worked out beforehand."""

    def __init__(self, signature: Signature) -> None:
        """Prepare for bodies of `signature`."""
        self._signature = signature
        self._every = tuple(signature.inputs)
        entries = signature.inputs
        self._readers = {name: _reader(entry) for name, entry in entries.items()}
        self._groups = group([tensor for entry in entries.values() for tensor in entry.tensors])

    def decode(self, body: bytes) -> reference.Query:
        """As `native.decode`, of arrays some of which are `Numbers` still.

        Raises:
            BadRequest: with everything that is wrong with the body.
        """
        try:
            return self._decode(body)
        except UNSURE:
            return reference.decode(body, self._signature)

    def attempt(self, body: bytes) -> reference.Query | None:
        """As `decode`, of a body of few rows that is as it should be; `None` of any other."""
        try:
            return self._decode(body, FEW_ROWS)
        except UNSURE:
            return None

    def read(self, body: bytes, header: Header) -> reference.Query:
        """As `decode`; no header changes what a body says."""
        del header
        return self.decode(body)

    def _decode(self, body: bytes, most: int = MOST_ROWS) -> reference.Query:
        said = parse(body)
        if len(said) > 2:  # noqa: PLR2004  nor are they listed, of whom there may be a million
            raise UnsureError
        keys = list(said.keys())
        heads, opened = self._signature.head_names, 0
        if len(keys) == 2:  # noqa: PLR2004  a form, and the heads
            heads, opened = self._heads(said["heads"]), 1
        elif len(keys) != 1:
            raise UnsureError
        needed = self._signature.needed(heads)
        by_row = "instances" in keys
        if by_row:
            found = self._instances(said["instances"], needed, most)
            opened += 1
        else:
            found = self._columns(said["inputs"], needed, most)
            opened += len(found)
        made = Numbers(self._groups, len(next(iter(found.values()))))
        for name, elements in found.items():
            opened += self._readers[name](elements, made)
        made.check()
        arrays: Arrays | Numbers = made
        if len(found) != len(needed):
            # Nothing depends on the others: they were only checked.
            entries = [self._signature.inputs[name] for name in needed]
            whole = made.make()
            arrays = {t.name: whole[t.name] for entry in entries for t in entry.tensors}
        if count(body, b"[") != opened:
            raise UnsureError
        # Until they run, the batcher takes the one for the other.
        return reference.Query(cast("Arrays", arrays), heads, by_row, [])

    def _heads(self, asked: Any) -> tuple[str, ...]:
        # A text is a row of letters, each of which may be the name of a head.
        if type(asked) is not simdjson.Array or len(asked) > len(self._signature.heads):
            raise UnsureError
        heads: tuple[Any, ...] = tuple(asked)
        known = self._signature.heads.keys()
        if not heads or len(set(heads)) != len(heads) or not known >= set(heads):
            raise UnsureError
        return heads

    def _instances(self, rows: Any, needed: tuple[str, ...], most: int) -> dict[str, list[Any]]:
        """By input, a value for each row."""
        if len(rows) > most:
            raise UnsureError
        first = rows[0]
        if type(first) is simdjson.Array and len(self._every) == 1:
            return {self._every[0]: list(rows)}
        # All inputs, or just the needed ones; a row with as many keys as names and every name
        # among them has no key that is unknown and none that stands twice.
        names = needed if len(first) == len(needed) else self._every
        found: dict[str, list[Any]] = {name: [] for name in names}
        for row in rows:
            if type(row) is not simdjson.Object or len(row) != len(names):
                raise UnsureError
            for name in names:
                found[name].append(row[name])
        return found

    def _columns(self, columns: Any, needed: tuple[str, ...], most: int) -> dict[str, list[Any]]:
        """By input, a value for each row: as many in all."""
        if type(columns) is simdjson.Array and len(self._every) == 1:
            given = {self._every[0]: columns}
        else:
            # Each look-up goes through the keys from the first: of a million, the square is hours.
            if len(columns) > len(self._every):
                raise UnsureError
            names = list(columns.keys())
            given = {name: columns[name] for name in names}
            if len(given) != len(names) or not given.keys() >= set(needed):
                raise UnsureError
        if any(type(column) is not simdjson.Array for column in given.values()):
            raise UnsureError
        if any(len(column) > most for column in given.values()):
            raise UnsureError
        found = {name: list(column) for name, column in given.items()}
        heights = {len(elements) for elements in found.values()}
        if len(heights) != 1 or 0 in heights:
            raise UnsureError
        return found


def _reader(entry: Input) -> Reader:
    """What takes up one input's rows, and counts the brackets they have."""
    if entry.features:
        return partial(_read_table, entry)
    tensor = entry.tensors[0]
    if not tensor.size or not tensor.shape or kind_of(tensor.dtype) is None:
        return _leave
    return _tensor_reader(entry, tensor, tensor.size)


def _leave(elements: list[Any], found: Numbers) -> int:
    del elements, found
    raise UnsureError


def _read_table(entry: Input, elements: list[Any], found: Numbers) -> int:
    names = entry.feature_names
    opened = 0
    rows = []
    for element in elements:
        if len(element) != len(names):
            raise UnsureError
        if type(element) is simdjson.Array:
            opened += 1
            rows.append(list(element))
        else:
            rows.append([element[name] for name in names])
    for tensor in entry.tensors:
        places = entry.places[tensor.name]
        values = [row[i] for row in rows for i in places]
        kinds = set(map(type, values))
        if tensor.dtype == "string":
            if kinds != {str}:
                raise UnsureError
            found.arrays[tensor.name] = np.array(values, dtype=object).reshape(
                len(rows), len(places)
            )
        elif kinds <= {int, float} and tensor.dtype in LARGEST:
            found.numbers[tensor.name] = [np.array(values, dtype=np.float64)]
        else:
            raise UnsureError
    return opened


def _tensor_reader(entry: Input, tensor: Tensor, size: int) -> Reader:
    name, kind, most = tensor.name, kind_of(tensor.dtype), max(1, _MANY // size)

    def read(elements: list[Any], found: Numbers) -> int:
        if len(elements) > most:
            return _read_many(tensor, read, most, elements, found)
        opened = 0
        buffers = []
        for element in elements:
            # One nested in a shape that begins with its size has more brackets than counted here.
            opened += 1 if len(element) == size else _brackets(element, entry)
            buffers.append(element.as_buffer(of_type=kind))
        found.numbers[name] = buffers
        return opened

    return read


def _read_many(tensor: Tensor, read: Reader, most: int, elements: list[Any], found: Numbers) -> int:
    """As `read`, some rows at a time: of all, float64 would take thrice the memory."""
    opened = 0
    pieces = []
    for start in range(0, len(elements), most):
        rows = elements[start : start + most]
        piece = Numbers(group([tensor]), len(rows))
        opened += read(rows, piece)
        piece.check()
        pieces.append(piece.make()[tensor.name])
    found.arrays[tensor.name] = np.concatenate(pieces)
    return opened


def _brackets(element: Any, entry: Input) -> int:
    """How many a row has that is nested in one of the shapes that it may have."""
    for shape in (entry.size, entry.tensors[0].fixed):
        if shape is not None and len(shape) > 1 and is_nested(element, shape):
            return brackets(shape)
    raise UnsureError
