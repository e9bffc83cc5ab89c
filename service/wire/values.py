"""Conversion of the rows of inputs to arrays, with checks that find every mistake.

    rows of an input ─▶ lists of the right length ─▶ values of the right type ─▶ arrays by tensor

No value is converted to another one: no text to a number, no true to 1, no 1.7 to 1.
"""

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import unseen
from service.wire.body import Notes, count, key, listing, refuse_unknown, show
from service.wire.columns import indexed
from service.wire.rows import MISSING, Rows, Table, shown
from service.wire.scalars import expected_value, fits
from service.wire.tensor_rows import read_tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from service.signature import Feature, Input


def read_inputs(
    inputs: Mapping[str, Input],
    rows_by_input: Mapping[str, Rows | Table],
    needed: Collection[str],
    notes: Notes,
) -> dict[str, NDArray[Any]]:
    """Convert the rows of several inputs to arrays by tensor, [rows, …] in the graph's dtypes.

    Args:
        inputs: the inputs of the model, by name.
        rows_by_input: the rows of each input in the request, as for `read`.
        needed: the inputs that a requested head depends on; others are only checked.
        notes: as for `read`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, rows in rows_by_input.items():
        imputed, unseen_before = len(notes.imputed), len(notes.unseen)
        input_arrays = read(inputs[name], rows, notes)
        if name in needed:
            arrays |= input_arrays
        else:
            del notes.imputed[imputed:], notes.unseen[unseen_before:]
    return arrays


def read(entry: Input, rows: Rows | Table, notes: Notes) -> dict[str, NDArray[Any]]:
    """Convert the rows of an input to arrays by tensor, [rows, …] in the graph's dtypes.

    Args:
        entry: the input.
        rows: at least one row; columns only of a tabular input.
        notes: takes mistakes, imputed and unseen values; a result with mistakes is meaningless.
    """
    if isinstance(rows, Table):
        return _read_columns(entry, rows, notes)
    if entry.features:
        return _read_table(entry, rows, notes)
    return read_tensor(entry.tensors[0], rows, notes, entry.size, bare=True)


def _read_table(entry: Input, rows: Rows, notes: Notes) -> dict[str, NDArray[Any]]:
    names = {feature.name: feature for feature in entry.features}
    categorical = [(j, f) for j, f in enumerate(entry.features) if f.vocabulary is not None]
    columns: list[list[Any]] = [[] for _ in names]
    for i, row in enumerate(rows.values):
        values = _features_of(row, names, rows.at(i), notes)
        for j, value in enumerate(values):
            feature = entry.features[j]
            dtype = entry.dtypes[feature.tensor]
            if fits(value, dtype):
                columns[j].append(value)
                continue
            at = _place(rows, i, j, feature)
            columns[j].append(_stand_in(entry, feature, value, at, notes))
        for j, feature in categorical if values else ():
            if unseen.is_unseen(feature, values[j]):
                unseen.note(feature, values[j], _place(rows, i, j, feature), notes)
    return {} if notes.count else _arrays(entry, columns)


def _read_columns(entry: Input, table: Table, notes: Notes) -> dict[str, NDArray[Any]]:
    columns: list[list[Any]] = []
    for feature in entry.features:
        dtype = entry.dtypes[feature.tensor]
        path = table.path + key(feature.name)
        column = table.columns.get(feature.name)
        if column is None and feature.default is None:
            notes.add(path, lacking(table.rows), "nothing")
            continue
        values = repeat(MISSING, table.rows) if column is None else column
        if column is not None and feature.vocabulary is not None:
            unseen.note_all(feature, column, indexed(path), notes)
        columns.append(
            [
                value
                if fits(value, dtype)
                else _stand_in(entry, feature, value, f"{path}[{i}]", notes)
                for i, value in enumerate(values)
            ]
        )
    return {} if notes.count else _arrays(entry, columns)


def _stand_in(
    entry: Input, feature: Feature, value: Any, at: str, notes: Notes
) -> float | str | None:
    """Return the default of a missing value; note any other value that does not fit."""
    if feature.default is not None and (value is MISSING or value is None):
        notes.impute(at, feature.default, f"{entry.name}.{feature.name}")
        return feature.default
    _refuse(feature, entry.dtypes[feature.tensor], value, at, notes)
    return None


def lacking(rows: int) -> str:
    """Return the expectation for an input or a column that is absent and has no default."""
    return f"{count(rows, 'row') if rows else 'a list of rows'}, since it has no default"


def _arrays(entry: Input, columns: list[list[Any]]) -> dict[str, NDArray[Any]]:
    """Return the array of each tensor of a table; `columns` are those of all its features."""
    return {
        tensor.name: np.array(
            [columns[i] for i in entry.places[tensor.name]],
            dtype=object if tensor.dtype == "string" else tensor.dtype,
        ).T.copy()
        for tensor in entry.tensors
    }


def _place(rows: Rows, i: int, j: int, feature: Feature) -> str:
    """Return the path of the j-th feature in row i."""
    return rows.at(i) + (f"[{j}]" if isinstance(rows.values[i], list) else key(feature.name))


def _features_of(row: Any, names: dict[str, Feature], at: str, notes: Notes) -> list[Any]:
    """Return a row's values in column order, from a list or an object; empty if it is not a row."""
    if row is MISSING:
        return [MISSING] * len(names)
    if isinstance(row, dict):
        refuse_unknown(row, "feature", names, at, notes)
        return [row.get(name, MISSING) for name in names]
    if isinstance(row, list) and len(row) == len(names):
        return row
    if notes.full:
        notes.count += 1
        return []
    received = count(len(row), "value") if isinstance(row, list) else show(row)
    expected = f"{count(len(names), 'value')} ({listing(names)}), as a list or an object"
    notes.add(at, expected, received)
    return []


def _refuse(feature: Feature, dtype: str, value: Any, at: str, notes: Notes) -> None:
    """Note that a feature's value does not fit, or is missing."""
    missing = value is MISSING or value is None
    if missing:
        notes.miss(at)
    if notes.full:
        notes.count += 1
        return
    expected = f"{expected_value(dtype, value)} for {feature.name}"
    # Python writes NaN for the missing values of pandas.
    is_nan = isinstance(value, float) and math.isnan(value)
    if is_nan and feature.default is not None:
        expected += ", or null where it is missing"
    if isinstance(value, bool) and dtype != "string":
        expected += " (1 for true, 0 for false)"
    if missing or (is_nan and feature.default is None):
        expected += ", which has no default"
    notes.add(at, expected, shown(value))
