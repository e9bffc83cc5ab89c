"""The native form once more, for bodies that are as they should be: bytes straight to arrays.

    bytes ── simdjson ──▶ buffers of float64 ──▶ arrays        whatever is unusual ──▶ native.decode

It decides nothing.  A body that it is not sure of (a missing value, a text where a number goes,
a key too many) is left to the plain path, which knows every rule and every message.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from service.wire import native
from service.wire.values import LARGEST, RANGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.signature import Input, Signature
    from service.wire.dialect import Header
    from service.wire.dialect import Reader as BodyReader

    Arrays = dict[str, NDArray[Any]]
    Reader = Callable[[list[Any]], tuple[Arrays, int]]
    Narrower = partial[NDArray[Any]]

_local = threading.local()
_FEW = 4096


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


def _body_reader(signature: Signature) -> BodyReader:
    decoder = Decoder(signature)

    def read(body: bytes, header: Header) -> native.Request:
        del header
        return decoder.decode(body)

    return read


DIALECT = replace(native.DIALECT, reader=_body_reader)
"""The native dialect by this path."""


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
        arrays: Arrays = {}
        for name, elements in found.items():
            made, inside = self._readers[name](elements)
            brackets += inside
            if name in needed:
                arrays.update(made)
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
    """What makes one input's rows into arrays by tensor, and counts the brackets they have."""
    if entry.features:
        return partial(_read_table, entry)
    tensor = entry.tensors[0]
    if tensor.size is None or not tensor.shape or tensor.dtype in ("bool", "string", "uint64"):
        return _leave
    return partial(_read_tensor, entry, tensor.name, tensor.size, _narrower(tensor.dtype))


def _leave(elements: list[Any]) -> tuple[Arrays, int]:
    del elements
    raise _UnsureError


def _read_table(entry: Input, elements: list[Any]) -> tuple[Arrays, int]:
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
    arrays: Arrays = {}
    for tensor in entry.tensors:
        places = entry.places[tensor.name]
        values = [row[i] for row in rows for i in places]
        kinds = set(map(type, values))
        if tensor.dtype == "string":
            if kinds != {str}:
                raise _UnsureError
            array = np.array(values, dtype=object)
        elif kinds <= {int, float} and tensor.dtype.startswith("float"):
            array = _narrower(tensor.dtype)(np.array(values, dtype=np.float64))
        else:
            raise _UnsureError
        arrays[tensor.name] = array.reshape(len(rows), len(places))
    return arrays, brackets


def _read_tensor(
    entry: Input, name: str, size: int, narrow: Narrower, elements: list[Any]
) -> tuple[Arrays, int]:
    whole = narrow.func is _narrow_whole
    kind: Any = "i" if whole else "d"
    brackets = 0
    buffers = []
    for element in elements:
        flat = len(element) == size and type(element[0]) is not simdjson.Array
        brackets += 1 if flat else _brackets(element, entry)
        buffers.append(element.as_buffer(of_type=kind))
    joined = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    array = narrow(np.frombuffer(joined, np.int64 if whole else np.float64))
    # Raises ValueError where there are more or fewer values than the rows should have.
    return {name: array.reshape(len(elements), *entry.tensors[0].fixed)}, brackets


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


@cache
def _narrower(dtype: str) -> Narrower:
    """What gives the same values in a dtype, if they all fit."""
    if dtype == "float64":
        return partial(_narrow_not)  # every number that simdjson reads is one
    if dtype in LARGEST:
        return partial(_narrow, np.dtype(dtype), LARGEST[dtype])
    return partial(_narrow_whole, np.dtype(dtype), *RANGES[dtype])


def _narrow_not(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _narrow(dtype: np.dtype[Any], largest: float, array: NDArray[Any]) -> NDArray[Any]:
    # No value is larger than the root of the sum of their squares, which for a few costs least;
    # over many, BLAS would call in its threads.
    if len(array) <= _FEW:
        fitting = array.dot(array) <= largest * largest
    else:
        fitting = -largest <= array.min() and array.max() <= largest
    if not fitting:
        raise _UnsureError
    return array.astype(dtype)


def _narrow_whole(dtype: np.dtype[Any], least: int, most: int, array: NDArray[Any]) -> NDArray[Any]:
    if len(array) and not (least <= array.min() and array.max() <= most):
        raise _UnsureError
    return array.astype(dtype)
