"""The native form once more, for bodies that are as they should be: bytes straight to arrays.

    bytes ── simdjson ──▶ buffers of float64 ──▶ arrays        whatever is unusual ──▶ native.decode

It decides nothing.  A body that it is not sure of (a missing value, a text where a number goes,
a key too many) is left to the plain path, which knows every rule and every message.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from service.wire import native
from service.wire.values import LARGEST, RANGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.signature import Input, Signature, Tensor
    from service.wire.dialect import Header

    Arrays = dict[str, NDArray[Any]]
    Reader = Callable[[list[Any], "_Found"], int]

_LATER: NDArray[Any] = np.empty(0)
_local = threading.local()
_FEW = 4096
# Looked up once: to make one of its name takes numpy longer than to convert a few numbers.
_DTYPES = {name: np.dtype(name) for name in (*LARGEST, *RANGES)}


class _UnsureError(Exception):
    """The plain path has to look at this body."""


_UNSURE = (
    *(_UnsureError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    # A sum of squares that overflows is past every limit, as it should be; a process that has not
    # told numpy so may have made its warnings errors.
    RuntimeWarning,
)


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
        except _UNSURE:
            # What simdjson refuses, and what an element of another kind than hoped raises.
            return native.decode(body, self._signature)

    def read(self, body: bytes, header: Header) -> native.Request:
        """As `decode`; no header changes what a body says."""
        del header
        return self.decode(body)

    def _decode(self, body: bytes) -> native.Request:
        # A byte order mark is white space to simdjson, and an error to everybody else.
        if body[:1] != b"{":
            raise _UnsureError
        said = _parse(body)
        keys = list(said.keys())
        heads, brackets = self._signature.head_names, 0
        if len(keys) == 2:  # noqa: PLR2004  a form, and the heads
            heads, brackets = self._heads(said["heads"]), 1
        elif len(keys) != 1:
            raise _UnsureError
        needed = self._signature.needed(heads)
        by_row = "instances" in keys
        if by_row:
            found = self._instances(said["instances"], needed)
            brackets += 1
        else:
            found = self._columns(said["inputs"], needed)
            brackets += len(found)
        made = _Found()
        for name, elements in found.items():
            brackets += self._readers[name](elements, made)
        made.make()
        arrays = made.arrays
        if len(found) != len(needed):
            # Nothing depends on the others: they were only checked.
            entries = [self._signature.inputs[name] for name in needed]
            arrays = {t.name: arrays[t.name] for entry in entries for t in entry.tensors}
        # simdjson flattens a list within a list of numbers, so [[1, 2], []] is two numbers in a
        # list of two.  No bracket more than are accounted for means that there is none of that.
        if body.count(b"[") != brackets:
            raise _UnsureError
        return native.Request(arrays, heads, by_row, [])

    def _heads(self, asked: Any) -> tuple[str, ...]:
        heads = tuple(asked)
        known = self._signature.heads.keys()
        if not heads or len(set(heads)) != len(heads) or not known >= set(heads):
            raise _UnsureError
        return heads

    def _instances(self, rows: Any, needed: tuple[str, ...]) -> dict[str, list[Any]]:
        """By input, a value for each row."""
        first = rows[0]
        if type(first) is simdjson.Array and len(self._every) == 1:
            return {self._every[0]: list(rows)}
        # All inputs, or just the needed ones; a row with as many keys as names and every name
        # among them has no key that is unknown and none that stands twice.
        names = needed if len(first) == len(needed) else self._every
        found: dict[str, list[Any]] = {name: [] for name in names}
        for row in rows:
            if type(row) is not simdjson.Object or len(row) != len(names):
                raise _UnsureError
            for name in names:
                found[name].append(row[name])
        return found

    def _columns(self, columns: Any, needed: tuple[str, ...]) -> dict[str, list[Any]]:
        """By input, a value for each row: as many in all."""
        if type(columns) is simdjson.Array and len(self._every) == 1:
            given = {self._every[0]: columns}
        else:
            names = list(columns.keys())
            given = {name: columns[name] for name in names}
            if len(given) != len(names) or not given.keys() >= set(needed):
                raise _UnsureError
        if any(type(column) is not simdjson.Array for column in given.values()):
            raise _UnsureError
        found = {name: list(column) for name, column in given.items()}
        heights = {len(elements) for elements in found.values()}
        if len(heights) != 1 or 0 in heights:
            raise _UnsureError
        return found


def _parse(body: bytes) -> Any:
    """The parsed object; a parser serves one thread, and one document at a time."""
    try:
        return _local.parser.parse(body)
    except (AttributeError, RuntimeError):
        # The thread's first, or the last document is still held somewhere (by a traceback, say):
        # leave it that parser.
        parser = _local.parser = simdjson.Parser()
        return parser.parse(body)


def _reader(entry: Input) -> Reader:
    """What takes up one input's rows, and counts the brackets they have."""
    if entry.features:
        return partial(_read_table, entry)
    tensor = entry.tensors[0]
    if tensor.size is None or not tensor.shape or tensor.dtype in ("bool", "string", "uint64"):
        return _leave
    return partial(_read_tensor, entry, "d" if tensor.dtype in LARGEST else "i")


def _leave(elements: list[Any], found: _Found) -> int:
    del elements, found
    raise _UnsureError


def _read_table(entry: Input, elements: list[Any], found: _Found) -> int:
    names = entry.feature_names
    brackets = 0
    rows = []
    for element in elements:
        if len(element) != len(names):
            raise _UnsureError
        if type(element) is simdjson.Array:
            brackets += 1
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
                raise _UnsureError
            found.arrays[tensor.name] = np.array(values, dtype=object).reshape(shape)
        elif kinds <= {int, float} and tensor.dtype in LARGEST:
            found.add(tensor, shape, len(values), [np.array(values, dtype=np.float64)])
        else:
            raise _UnsureError
    return brackets


def _read_tensor(entry: Input, kind: Any, elements: list[Any], found: _Found) -> int:
    tensor = entry.tensors[0]
    size = tensor.size or 0
    brackets = 0
    buffers = []
    for element in elements:
        flat = len(element) == size and type(element[0]) is not simdjson.Array
        brackets += 1 if flat else _brackets(element, entry)
        buffers.append(element.as_buffer(of_type=kind))
    rows = len(elements)
    found.add(tensor, (rows, *tensor.fixed), rows * size, buffers)
    return brackets


def _brackets(element: Any, entry: Input) -> int:
    """How many a row has that is nested in one of the shapes that it may have."""
    for shape in (entry.size, entry.tensors[0].fixed):
        if shape is not None and len(shape) > 1 and _nested(element, shape):
            brackets = 1
            for axis in shape[:-1]:
                brackets = brackets * axis + 1
            return brackets
    raise _UnsureError


def _nested(element: Any, shape: tuple[int, ...]) -> bool:
    if len(element) != shape[0]:
        return False
    return len(shape) == 1 or all(
        type(part) is simdjson.Array and _nested(part, shape[1:]) for part in element
    )


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
            flat = _narrow(dtype, joined)
            start = 0
            for name, shape, size in places:
                end = start + size
                # Raises ValueError where there are fewer values than there should be.
                self.arrays[name] = flat[start:end].reshape(shape)
                start = end
            if start != len(flat):
                raise _UnsureError


def _narrow(dtype: str, numbers: Any) -> NDArray[Any]:
    """The same numbers in a dtype, if they all fit."""
    largest = LARGEST.get(dtype)
    if largest is None:
        return _narrow_whole(dtype, np.frombuffer(numbers, np.int64))
    wide = np.frombuffer(numbers, np.float64)
    if dtype == "float64":
        return wide  # every number that simdjson reads is one
    # No value is larger than the root of the sum of their squares, which for a few costs least;
    # over many, BLAS would call in its threads.
    if len(wide) <= _FEW:
        fitting = wide.dot(wide) <= largest * largest
    else:
        fitting = -largest <= wide.min() and wide.max() <= largest
    if not fitting:
        raise _UnsureError
    return wide.astype(_DTYPES[dtype])


def _narrow_whole(dtype: str, wide: NDArray[Any]) -> NDArray[Any]:
    least, most = RANGES[dtype]
    if not (least <= wide.min() and wide.max() <= most):
        raise _UnsureError
    return wide.astype(_DTYPES[dtype])
