"""The native form once more, for bodies that are as they should be: bytes straight to arrays.

    bytes ── simdjson ──▶ buffers of float64 ──▶ arrays        whatever is unusual ──▶ native.decode

It decides nothing.  A body that it is not sure of (a missing value, a text where a number goes,
a key too many) is left to the plain path, which knows every rule and every message.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from service.wire import native
from service.wire.body import MOST_ROWS
from service.wire.quick import UNSURE, UnsureError, brackets, is_nested, kind_of, narrow, parse
from service.wire.values import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.signature import Input, Signature, Tensor
    from service.wire.dialect import Header

    Arrays = dict[str, NDArray[Any]]
    Reader = Callable[[list[Any], "_Found"], int]

# Numbers of a body that are converted at once, at most (unless a single row has more).
_MANY = 2**19
_LATER: NDArray[Any] = np.empty(0)


def decode(body: bytes, signature: Signature) -> native.Request:
    """As `native.decode`: the same arrays, the same errors.

    Raises:
        BadRequest: with everything that is wrong with the body.
    """
    return Decoder(signature).decode(body)


class Decoder:
    """`decode` for one signature, with what follows from it worked out beforehand."""

    def __init__(self, signature: Signature) -> None:
        """Prepare for bodies of `signature`."""
        self._signature = signature
        self._every = tuple(signature.inputs)
        self._readers = {name: _reader(entry) for name, entry in signature.inputs.items()}

    def decode(self, body: bytes) -> native.Request:
        """As `native.decode`: the same arrays, the same errors.

        Raises:
            BadRequest: with everything that is wrong with the body.
        """
        try:
            return self._decode(body)
        except UNSURE:
            return native.decode(body, self._signature)

    def read(self, body: bytes, header: Header) -> native.Request:
        """As `decode`; no header changes what a body says."""
        del header
        return self.decode(body)

    def _decode(self, body: bytes) -> native.Request:
        said = parse(body)
        keys = list(said.keys())
        heads, opened = self._signature.head_names, 0
        if len(keys) == 2:  # noqa: PLR2004  a form, and the heads
            heads, opened = self._heads(said["heads"]), 1
        elif len(keys) != 1:
            raise UnsureError
        needed = self._signature.needed(heads)
        by_row = "instances" in keys
        if by_row:
            found = self._instances(said["instances"], needed)
            opened += 1
        else:
            found = self._columns(said["inputs"], needed)
            opened += len(found)
        made = _Found()
        for name, elements in found.items():
            opened += self._readers[name](elements, made)
        made.make()
        arrays = made.arrays
        if len(found) != len(needed):
            # Nothing depends on the others: they were only checked.
            entries = [self._signature.inputs[name] for name in needed]
            arrays = {t.name: arrays[t.name] for entry in entries for t in entry.tensors}
        if body.count(b"[") != opened:
            raise UnsureError
        return native.Request(arrays, heads, by_row, [])

    def _heads(self, asked: Any) -> tuple[str, ...]:
        # A text is a row of letters, each of which may be the name of a head.
        if type(asked) is not simdjson.Array:
            raise UnsureError
        heads: tuple[Any, ...] = tuple(asked)
        known = self._signature.heads.keys()
        if not heads or len(set(heads)) != len(heads) or not known >= set(heads):
            raise UnsureError
        return heads

    def _instances(self, rows: Any, needed: tuple[str, ...]) -> dict[str, list[Any]]:
        """By input, a value for each row."""
        if len(rows) > MOST_ROWS:
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

    def _columns(self, columns: Any, needed: tuple[str, ...]) -> dict[str, list[Any]]:
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
        if any(len(column) > MOST_ROWS for column in given.values()):
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
    kind = kind_of(tensor.dtype)
    if tensor.size is None or not tensor.shape or kind is None:
        return _leave
    return partial(_read_tensor, entry, kind)


def _leave(elements: list[Any], found: _Found) -> int:
    del elements, found
    raise UnsureError


def _read_table(entry: Input, elements: list[Any], found: _Found) -> int:
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
        shape = (len(rows), len(places))
        if tensor.dtype == "string":
            if kinds != {str}:
                raise UnsureError
            found.arrays[tensor.name] = np.array(values, dtype=object).reshape(shape)
        elif kinds <= {int, float} and tensor.dtype in LARGEST:
            found.add(tensor, shape, len(values), [np.array(values, dtype=np.float64)])
        else:
            raise UnsureError
    return opened


def _read_tensor(entry: Input, kind: Any, elements: list[Any], found: _Found) -> int:
    tensor = entry.tensors[0]
    size = tensor.size or 0
    opened = 0
    buffers = []
    rows = len(elements)
    if rows > 1 and rows * size > _MANY:
        return _read_many(entry, kind, elements, found)
    for element in elements:
        flat = len(element) == size and type(element[0]) is not simdjson.Array
        opened += 1 if flat else _brackets(element, entry)
        buffers.append(element.as_buffer(of_type=kind))
    found.add(tensor, (rows, *tensor.fixed), rows * size, buffers)
    return opened


def _read_many(entry: Input, kind: Any, elements: list[Any], found: _Found) -> int:
    """As `_read_tensor`, some rows at a time: of all, float64 would take thrice the memory."""
    tensor = entry.tensors[0]
    most = max(1, _MANY // (tensor.size or 1))
    opened = 0
    pieces = []
    for start in range(0, len(elements), most):
        piece = _Found()
        opened += _read_tensor(entry, kind, elements[start : start + most], piece)
        piece.make()
        pieces.append(piece.arrays[tensor.name])
    found.arrays[tensor.name] = np.concatenate(pieces)
    return opened


def _brackets(element: Any, entry: Input) -> int:
    """How many a row has that is nested in one of the shapes that it may have."""
    for shape in (entry.size, entry.tensors[0].fixed):
        if shape is not None and len(shape) > 1 and is_nested(element, shape):
            return brackets(shape)
    raise UnsureError


class _Found:
    """What a body holds: whole arrays, and numbers that are yet to be made into some.

    The numbers of one dtype are checked and converted together, since for the most frequent
    request, of one row, each call of numpy costs more than its work.
    """

    __slots__ = ("arrays", "numbers")

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.numbers: dict[str, tuple[list[Any], list[tuple[str, tuple[int, ...], int]]]] = {}

    def add(self, tensor: Tensor, shape: tuple[int, ...], size: int, buffers: list[Any]) -> None:
        """Take up a tensor's numbers, float64 or int64, `size` in all."""
        # Keeps its place among the arrays.
        self.arrays[tensor.name] = _LATER
        known = self.numbers.get(tensor.dtype)
        if known is None:
            self.numbers[tensor.dtype] = buffers, [(tensor.name, shape, size)]
        else:
            known[0].extend(buffers)
            known[1].append((tensor.name, shape, size))

    def make(self) -> None:
        """Make arrays of all numbers."""
        for dtype, (buffers, places) in self.numbers.items():
            joined = buffers[0] if len(buffers) == 1 else b"".join(buffers)
            flat = narrow(dtype, joined)
            start = 0
            for name, shape, size in places:
                end = start + size
                # Raises ValueError where there are fewer values than there should be.
                self.arrays[name] = flat[start:end].reshape(shape)
                start = end
            if start != len(flat):
                raise UnsureError
