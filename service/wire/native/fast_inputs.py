"""The fast readers of a single input: of its rows, and of its columns.

    rows, or columns ─▶ buffers of numbers, and arrays of texts, in `Numbers`

Each of them returns the number of brackets that it expects in the body (`wire.quick`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from service.wire.blocks import array_of
from service.wire.quick import FEW, UnsureError, brackets, is_nested, kind_of
from service.wire.scalars import LARGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from service.signature import Input, Tensor
    from service.wire.numbers import Numbers

    RowReader = Callable[[list[Any], Numbers], int]

# Columns of a table that can be found within a few milliseconds, since each look-up searches the
# keys from the first.
_MOST_FEATURES = 2**10


def read_column(entry: Input, column: Any, read_rows: RowReader, numbers: Numbers) -> int:
    """Read an input by column: the list of its rows, or for a table the object of its columns."""
    if type(column) is simdjson.Object:
        return _read_columns(entry, column, numbers)
    _check_column(column, numbers)
    tensor = entry.tensors[0]
    if tensor.size == 1 and not entry.features and type(column[0]) is not simdjson.Array:
        _read_values(tensor, [column], numbers)
        return 1
    return 1 + read_rows(list(column), numbers)


def _check_column(column: Any, numbers: Numbers) -> None:
    """Refuse a column of another length, and a text: its letters are no values."""
    if type(column) is not simdjson.Array or len(column) != numbers.rows:
        raise UnsureError


def _read_columns(entry: Input, table: Any, numbers: Numbers) -> int:
    """Read the columns of a table, all of them."""
    names = entry.feature_names
    if not 0 < len(names) == len(table) <= _MOST_FEATURES:
        raise UnsureError
    columns = [table[name] for name in names]
    for column in columns:
        _check_column(column, numbers)
    for tensor in entry.tensors:
        _read_values(tensor, [columns[i] for i in entry.places[tensor.name]], numbers)
        if tensor.dtype == "string":
            _check_known(entry, tensor, numbers.arrays[tensor.name].ravel())
    return len(columns)


def _check_known(entry: Input, tensor: Tensor, texts: Iterable[Any]) -> None:
    """Leave texts that training never saw to the reference: the answer has their places."""
    feature = entry.categorical.get(tensor.name)
    if feature is not None and not feature.known.issuperset(texts):
        raise UnsureError


def _read_values(tensor: Tensor, columns: list[Any], numbers: Numbers) -> None:
    """Read all values of a tensor from its columns, each a list with a value for each row."""
    kind, rows = kind_of(tensor.dtype), numbers.rows
    if tensor.dtype == "string":
        texts = [list(column) for column in columns]
        if {type(text) for column in texts for text in column} != {str}:
            raise UnsureError
        array: NDArray[Any] = np.array(texts, dtype=object)
        numbers.arrays[tensor.name] = array.T.reshape(rows, *tensor.fixed)
    elif kind is None:
        raise UnsureError
    else:
        buffers = [column.as_buffer(of_type=kind) for column in columns]
        if rows > 1 and len(columns) > 1:
            dtype = np.float64 if kind == "d" else np.int64
            # The numbers of a row stand together.  Columns of other lengths, which are nested, do
            # not fit together.
            buffers = [np.stack([np.frombuffer(b, dtype) for b in buffers], axis=1).ravel()]
        numbers.numbers[tensor.name] = buffers


def row_reader(entry: Input, block: int) -> RowReader:
    """Return a function that reads an input's rows and returns the number of opening brackets.

    Args:
        entry: the input.
        block: the numbers that are converted in one call, as for `blocks.array_of`.
    """
    tensor = entry.tensors[0]
    if entry.features:
        plain = len(entry.tensors) == 1 and tensor.dtype in LARGEST
        return partial(_read_numbers if plain else _read_table, entry)
    lists: RowReader = _refuse
    if tensor.size and tensor.shape and kind_of(tensor.dtype) is not None:
        lists = _tensor_reader(entry, tensor, tensor.size, block)
    return partial(_read_bare, tensor, lists) if tensor.size == 1 else lists


def _refuse(elements: list[Any], numbers: Numbers) -> int:
    del elements, numbers
    raise UnsureError


def _read_numbers(entry: Input, elements: list[Any], numbers: Numbers) -> int:
    """Read the rows of a table whose features are floats of one tensor."""
    if type(elements[0]) is not simdjson.Array:
        return _read_table(entry, elements, numbers)
    if not _are_flat(elements, len(entry.features)):
        raise UnsureError
    numbers.numbers[entry.tensors[0].name] = _buffers(elements, "d")
    return len(elements)


def _are_flat(elements: list[Any], size: int) -> bool:
    """Return whether all rows are lists of `size`.

    A nested row of that size has more brackets than one, so the total does not match.
    """
    return len(elements[0]) == size and (len(elements) == 1 or set(map(len, elements)) == {size})


def _buffers(elements: list[Any], kind: str) -> list[Any]:
    """Return the numbers of each row."""
    if len(elements) == 1:
        return [elements[0].as_buffer(of_type=kind)]
    return [element.as_buffer(of_type=kind) for element in elements]


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
            _check_known(entry, tensor, values)
            numbers.arrays[tensor.name] = np.array(values, dtype=object).reshape(
                len(rows), len(places)
            )
        elif kinds <= {int, float} and tensor.dtype in LARGEST:
            numbers.numbers[tensor.name] = [np.array(values, dtype=np.float64)]
        else:
            raise UnsureError
    return opened


def _read_bare(tensor: Tensor, lists: RowReader, elements: list[Any], numbers: Numbers) -> int:
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


def _tensor_reader(entry: Input, tensor: Tensor, size: int, block: int) -> RowReader:
    name, kind, few = tensor.name, kind_of(tensor.dtype), min(FEW, block) // size

    def read(elements: list[Any], numbers: Numbers) -> int:
        opened = len(elements)
        if not _are_flat(elements, size):
            # As in `_are_flat`, a nested row may be as long as a flat one.
            opened = sum(1 if len(e) == size else _brackets(e, entry) for e in elements)
        if len(elements) > few:
            numbers.arrays[name] = array_of(tensor, elements, size, block)
        else:
            numbers.numbers[name] = _buffers(elements, kind)
        return opened

    return read


def _brackets(element: Any, entry: Input) -> int:
    """Return the number of opening brackets of a row, nested in one of its allowed shapes."""
    for shape in (entry.size, entry.tensors[0].fixed):
        if shape is not None and len(shape) > 1 and is_nested(element, shape):
            return brackets(shape)
    raise UnsureError
