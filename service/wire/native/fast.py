"""The fast reader of the native format: regular bodies, directly to arrays.

    bytes ── simdjson ──▶ Numbers ── join ──▶ arrays        any irregular body ──▶ reference.decode

It decides nothing.  A doubtful body (a missing value, a text in place of a number, an unknown key)
is left to the reference reader, which knows every rule and every message.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

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
    from service.wire.numbers import Tensors

    Arrays = dict[str, NDArray[Any]]
    Reader = Callable[[list[Any], Numbers], int]

# Numbers of a body that are converted in one call, at most (unless a single row has more).
MANY = 2**19
# The most rows that can be read within a few milliseconds, whatever they contain.
FEW_ROWS = 2**12


class Decoder:
    """The fast reader for one signature, prepared from it."""

    def __init__(self, signature: Signature, many: int = MANY) -> None:
        """Prepare to read bodies for `signature`, and to convert at most `many` numbers at once."""
        self._signature = signature
        self._every = tuple(signature.inputs)
        entries = signature.inputs
        self._readers = {name: _reader(entry, many) for name, entry in entries.items()}
        self._groups = group([tensor for entry in entries.values() for tensor in entry.tensors])

    def read(self, body: bytes, header: Header) -> reference.Query[Tensors]:
        """Decode a body; headers do not change its meaning."""
        del header
        return self.decode(body)

    def decode(self, body: bytes) -> reference.Query[Tensors]:
        """Decode a body as `native.decode` does; the arrays may be `Numbers` until they run.

        Raises:
            BadRequest: the body has mistakes; the error has all of them.
        """
        try:
            return self._decode(body)
        except UNSURE:
            return reference.decode(body, self._signature)

    def attempt(self, body: bytes) -> reference.Query[Tensors] | None:
        """Decode a regular body of few rows; return `None` for any other body."""
        try:
            return self._decode(body, FEW_ROWS)
        except UNSURE:
            return None

    def _decode(self, body: bytes, most: int = MOST_ROWS) -> reference.Query[Tensors]:
        parsed = parse(body)
        if len(parsed) > 2:  # noqa: PLR2004  before the keys are listed: there may be a million
            raise UnsureError
        keys = list(parsed.keys())
        heads, opened = self._signature.head_names, 0
        if len(keys) == 2:  # noqa: PLR2004  "instances" or "inputs", and "heads"
            heads, opened = self._heads(parsed["heads"]), 1
        elif len(keys) != 1:
            raise UnsureError
        needed = self._signature.needed(heads)
        by_row = "instances" in keys
        if by_row:
            elements_by_input = self._instances(parsed["instances"], needed, most)
            opened += 1
        else:
            elements_by_input = self._columns(parsed["inputs"], needed, most)
            opened += len(elements_by_input)
        numbers = Numbers(self._groups, len(next(iter(elements_by_input.values()))))
        for name, elements in elements_by_input.items():
            opened += self._readers[name](elements, numbers)
        numbers.check()
        tensors: Tensors = numbers
        if len(elements_by_input) != len(needed):
            # No requested head depends on the other inputs: they were only checked.
            entries = [self._signature.inputs[name] for name in needed]
            whole = numbers.make()
            tensors = {t.name: whole[t.name] for entry in entries for t in entry.tensors}
        if count(body, b"[") != opened:
            raise UnsureError
        # The batcher takes `Numbers` in place of arrays, and turns them into arrays for the run.
        return reference.Query(tensors, heads, by_row, [])

    def _heads(self, value: Any) -> tuple[str, ...]:
        # A string is a sequence of letters, each of which may be the name of a head.
        if type(value) is not simdjson.Array or len(value) > len(self._signature.heads):
            raise UnsureError
        heads: tuple[Any, ...] = tuple(value)
        known = self._signature.heads.keys()
        if not heads or len(set(heads)) != len(heads) or not known >= set(heads):
            raise UnsureError
        return heads

    def _instances(self, rows: Any, needed: tuple[str, ...], most: int) -> dict[str, list[Any]]:
        """Return for each input the values of its rows."""
        if len(rows) > most:
            raise UnsureError
        first = rows[0]
        if type(first) is not simdjson.Object and len(self._every) == 1:
            return {self._every[0]: list(rows)}
        # Rows have either all inputs, or only the needed ones.  A row with as many keys as there
        # are names, and with every name, has no unknown key and no key twice.
        names = needed if len(first) == len(needed) else self._every
        values: dict[str, list[Any]] = {name: [] for name in names}
        for row in rows:
            if type(row) is not simdjson.Object or len(row) != len(names):
                raise UnsureError
            for name in names:
                values[name].append(row[name])
        return values

    def _columns(self, columns: Any, needed: tuple[str, ...], most: int) -> dict[str, list[Any]]:
        """Return for each input the values of its rows; all inputs have the same number of rows."""
        if type(columns) is simdjson.Array and len(self._every) == 1:
            by_name = {self._every[0]: columns}
        else:
            # Each look-up searches the keys from the first.  For a million keys, the quadratic time
            # would be hours.
            if len(columns) > len(self._every):
                raise UnsureError
            names = list(columns.keys())
            by_name = {name: columns[name] for name in names}
            if len(by_name) != len(names) or not by_name.keys() >= set(needed):
                raise UnsureError
        if any(type(column) is not simdjson.Array for column in by_name.values()):
            raise UnsureError
        if any(len(column) > most for column in by_name.values()):
            raise UnsureError
        values = {name: list(column) for name, column in by_name.items()}
        heights = {len(elements) for elements in values.values()}
        if len(heights) != 1 or 0 in heights:
            raise UnsureError
        return values


def _reader(entry: Input, many: int) -> Reader:
    """Return a function that reads an input's rows and returns the number of opening brackets."""
    if entry.features:
        return partial(_read_table, entry)
    tensor = entry.tensors[0]
    lists: Reader = _refuse
    if tensor.size and tensor.shape and kind_of(tensor.dtype) is not None:
        lists = _tensor_reader(entry, tensor, tensor.size, many)
    return partial(_read_values, tensor, lists) if tensor.size == 1 else lists


def _refuse(elements: list[Any], numbers: Numbers) -> int:
    del elements, numbers
    raise UnsureError


def _read_table(entry: Input, elements: list[Any], numbers: Numbers) -> int:
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
            numbers.arrays[tensor.name] = np.array(values, dtype=object).reshape(
                len(rows), len(places)
            )
        elif kinds <= {int, float} and tensor.dtype in LARGEST:
            numbers.numbers[tensor.name] = [np.array(values, dtype=np.float64)]
        else:
            raise UnsureError
    return opened


def _read_values(tensor: Tensor, lists: Reader, elements: list[Any], numbers: Numbers) -> int:
    """Read rows of one value, with or without brackets: all of them, or none."""
    kinds = set(map(type, elements))
    if tensor.dtype == "string" and kinds == {str}:
        texts: NDArray[Any] = np.array(elements, dtype=object)
        numbers.arrays[tensor.name] = texts.reshape(-1, *tensor.fixed)
    elif kinds <= {int, float} and tensor.dtype in LARGEST:
        numbers.numbers[tensor.name] = [np.array(elements, dtype=np.float64)]
    elif kinds == {int} and kind_of(tensor.dtype) is not None:
        numbers.numbers[tensor.name] = [np.array(elements, dtype=np.int64)]
    else:
        return lists(elements, numbers)
    return 0


def _tensor_reader(entry: Input, tensor: Tensor, size: int, many: int) -> Reader:
    name, kind, most = tensor.name, kind_of(tensor.dtype), max(1, many // size)

    def read(elements: list[Any], numbers: Numbers) -> int:
        if len(elements) > most:
            return _read_many(tensor, read, most, elements, numbers)
        opened = 0
        buffers = []
        for element in elements:
            # A nested row whose first axis is as long as the whole row has more brackets than are
            # counted here, so the total does not match.
            opened += 1 if len(element) == size else _brackets(element, entry)
            buffers.append(element.as_buffer(of_type=kind))
        numbers.numbers[name] = buffers
        return opened

    return read


def _read_many(
    tensor: Tensor, read: Reader, most: int, elements: list[Any], numbers: Numbers
) -> int:
    """Read some rows at a time: all rows, as float64, would take three times the memory."""
    opened = 0
    pieces = []
    for start in range(0, len(elements), most):
        rows = elements[start : start + most]
        piece = Numbers(group([tensor]), len(rows))
        opened += read(rows, piece)
        piece.check()
        pieces.append(piece.make()[tensor.name])
    numbers.arrays[tensor.name] = np.concatenate(pieces)
    return opened


def _brackets(element: Any, entry: Input) -> int:
    """Return the number of opening brackets of a row, nested in one of its allowed shapes."""
    for shape in (entry.size, entry.tensors[0].fixed):
        if shape is not None and len(shape) > 1 and is_nested(element, shape):
            return brackets(shape)
    raise UnsureError
