"""The fast reader of arrays: regular values by column, without a Python object for each number.

    {"digit": an array [rows, 28, 28], "insurance": {"age": [47, …], …}} ─▶ Query, or None

It decides nothing.  Whatever is not regular is left to `native.interpret`, which knows every rule
and every message; tests compare the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.loaded.json_values import plain
from service.wire import native, tensors
from service.wire.body import MOST_IMPUTED, Notes, key
from service.wire.rows import Table
from service.wire.scalars import RANGES, ROUNDED
from service.wire.values import read_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Input, Signature, Tensor
    from service.wire.numbers import Arrays

# Integers of at most so many bytes are exact in float32 and float64.
_EXACT = 2
# The bytes of JSON's numbers, which are float64.
_WIDE = 8


class IrregularError(Exception):
    """Values that `native.interpret` has to read."""


def read(
    columns: Mapping[str, Any], signature: Signature, heads: tuple[str, ...]
) -> native.Query[Arrays] | None:
    """Return what `native.interpret` reads from `inputs`; `None` if that has to read it.

    Args:
        columns: for each input the array of its rows, or for a table its columns by feature; for a
            model of whole tensors, each tensor.
        signature: the signature of the model.
        heads: the requested heads, each of which exists, once.
    """
    try:
        return (_whole if signature.tensor else _rows)(columns, signature, heads)
    except IrregularError:
        return None


def _rows(
    columns: Mapping[str, Any], signature: Signature, heads: tuple[str, ...]
) -> native.Query[Arrays]:
    entries, needed = signature.inputs, signature.needed(heads)
    if not set(needed) <= columns.keys() <= entries.keys():
        raise IrregularError
    # The arrays first, since a table takes longer.
    arrays = {n: _array(rows, entries[n]) for n, rows in columns.items() if not entries[n].features}
    tables = {n: _table(rows, entries[n]) for n, rows in columns.items() if entries[n].features}
    heights = {*map(len, arrays.values()), *(len(c) for t in tables.values() for c in t.values())}
    if len(heights) != 1 or not (rows := heights.pop()):
        raise IrregularError
    by_tensor = {entries[n].tensors[0].name: array for n, array in arrays.items() if n in needed}
    notes = Notes(MOST_IMPUTED)
    read = {name: Table(table, rows, "inputs" + key(name)) for name, table in tables.items()}
    by_tensor |= read_inputs(entries, read, needed, notes)
    if notes.count:
        raise IrregularError
    return native.Query(by_tensor, heads, by_row=False, imputed=notes.imputed, unseen=notes.unseen)


def _whole(
    columns: Mapping[str, Any], signature: Signature, heads: tuple[str, ...]
) -> native.Query[Arrays]:
    known, needed = tensors.by_name(signature), tensors.needed(signature, heads)
    if not set(needed) <= columns.keys() <= known.keys():
        raise IrregularError
    arrays = {}
    for name, tensor in known.items():
        if name in columns:
            values = columns[name]
            if not _is_array(values) or not _has_shape(values.shape, tensor):
                raise IrregularError
            arrays[name] = converted(values, tensor.dtype)
    chosen = {name: arrays[name] for name in needed}
    return native.Query(chosen, heads, by_row=False, imputed=[])


def _is_array(values: Any) -> bool:
    """Return whether values are an array with numbers in it; in a masked one, some are missing."""
    return type(values) is np.ndarray and values.size > 0


def _has_shape(shape: tuple[int, ...], tensor: Tensor) -> bool:
    return len(shape) == len(tensor.shape) and all(
        axis in (None, length) for axis, length in zip(tensor.shape, shape, strict=True)
    )


def _array(rows: Any, entry: Input) -> NDArray[Any]:
    """Return the array of an input's tensor, [rows, …]."""
    tensor = entry.tensors[0]
    if not _is_array(rows) or not rows.ndim:
        raise IrregularError
    shape = rows.shape[1:]
    if not _has_shape(shape, tensor):
        # A row may also be flat, have the size of an image, or be one value.
        allowed = {(tensor.size,), entry.size, () if tensor.size == 1 else None}
        if tensor.size is None or not tensor.shape or shape not in allowed:
            raise IrregularError
        rows = rows.reshape(len(rows), *tensor.fixed)
    return converted(rows, tensor.dtype)


def _table(table: Any, entry: Input) -> dict[str, list[Any]]:
    """Return the columns of a table as lists."""
    if not isinstance(table, dict) or not table.keys() <= set(entry.feature_names):
        raise IrregularError
    listed = {feature: plain(column, table=True) for feature, column in table.items()}
    if not listed or not all(isinstance(column, list) for column in listed.values()):
        raise IrregularError
    return listed


def converted(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return an array in a dtype, with the values that the readers of JSON make of its numbers.

    Raises:
        IrregularError: a value does not fit, or may not.
    """
    kind = array.dtype.kind
    if dtype == "bool" and kind == "b":
        return array
    if dtype in RANGES and kind in "iu":
        lowest, highest = RANGES[dtype]
        if lowest <= array.min() and array.max() <= highest:
            return array.astype(dtype, copy=False)
    elif dtype in ROUNDED and kind in "iuf" and array.dtype.itemsize <= _WIDE:
        if array.dtype == dtype:
            fits = np.isfinite(array).all()
        elif kind != "f" and array.dtype.itemsize <= _EXACT and dtype != "float16":
            fits = np.True_
        else:
            array = array.astype(np.float64, copy=False)
            fits = (np.abs(array) <= ROUNDED[dtype]).all()
        if fits:
            return array.astype(dtype, copy=False)
    raise IrregularError
