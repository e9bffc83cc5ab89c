"""Tables of pandas by input: their columns are named as in a CSV of `triceps predict`.

    a DataFrame ─▶ {"insurance": {"age": an array, …}, "digit": an array [rows, 784]}

pandas is not among the service's packages, and is not imported here: a caller who has a DataFrame
has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import BadRequest, Problem
from service.wire.body import listing
from service.wire.column_names import WHOLE, ColumnNames
from service.wire.table_columns import absent, assign

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from service.signature import Feature, Signature
    from service.wire.table_columns import Absent

# The texts of booleans, as in a CSV.
_TRUTH = {0: False, 1: True}
# Below this number, floats have all whole numbers; from it on, a float is none to the readers.
_LONGEST = 2**53


def is_frame(value: object) -> bool:
    """Return whether a value is a DataFrame."""
    return _is_a("DataFrame", value)


def is_series(value: object) -> bool:
    """Return whether a value is a Series, such as a row of a DataFrame."""
    return _is_a("Series", value)


def _is_a(name: str, value: object) -> bool:
    kind = getattr(sys.modules.get("pandas"), name, None)
    return kind is not None and isinstance(value, kind)


def by_input(frame: Any, signature: Signature, needed: Collection[str]) -> dict[str, Any]:
    """Return the columns of a DataFrame that are the model's, by input.

    Other columns are not looked at, so a table may hold identifiers and targets as well.

    Args:
        frame: the DataFrame.
        signature: the signature of the model, or of some of its inputs.
        needed: the inputs whose columns have to be there.

    Returns:
        For an input with features, its columns by feature; for another one, its rows.

    Raises:
        BadRequest: columns are missing, or there twice.
    """
    positions, header = _header(frame, ColumnNames.of(signature))
    columns = assign(header, signature)
    meanings = [(column.entry, column.step) for column in columns]
    wanted = {name: signature.inputs[name].features for name in needed}
    lacking = [*absent(header, meanings, signature, wanted, "the table")]
    if lacking:
        received = listing([repr(label) for label in frame.columns]) or "a table without columns"
        raise BadRequest([_problem(entry, received) for entry in lacking])
    rows: dict[str, Any] = {}
    values: dict[str, list[NDArray[Any]]] = {}
    for column in columns:
        array = _cells(frame.iloc[:, positions[column.position]], column.dtype)
        name = column.entry.name
        if isinstance(column.step, str):
            rows.setdefault(name, {})[column.step] = array
        elif column.step == WHOLE:
            rows[name] = array
        else:
            values.setdefault(name, []).append(array)
    return rows | {name: _side_by_side(arrays) for name, arrays in values.items()}


def whole(frame: Any, dtype: str) -> NDArray[Any]:
    """Return all columns of a DataFrame as one array, [rows, columns], for a tensor of a dtype."""
    columns = [_cells(frame.iloc[:, position], dtype) for position in range(frame.shape[1])]
    return _side_by_side(columns) if columns else np.asarray(frame)


def _side_by_side(columns: list[NDArray[Any]]) -> NDArray[Any]:
    """Return columns as one array; as objects, if one dtype for all of them changed a value."""
    try:
        is_exact = np.result_type(*columns).kind != "f" or not any(map(_is_long, columns))
    except TypeError:  # such as dates beside numbers
        is_exact = False
    return np.stack(columns if is_exact else [c.astype(object) for c in columns], axis=1)


def _is_long(column: NDArray[Any]) -> bool:
    """Return whether a column has whole numbers that no float stands for."""
    if column.dtype.kind not in "iu" or not column.size:
        return False
    return bool(column.max() >= _LONGEST or column.min() <= -_LONGEST)


def _as_array(series: Any) -> NDArray[Any]:
    """Return a column as an array; pandas would make floats of whole numbers if one is missing."""
    has_gaps = getattr(series.dtype, "kind", "") in ("i", "u") and series.hasnans
    return np.asarray(series, dtype=object if has_gaps else None)


def _header(frame: Any, known: ColumnNames) -> tuple[list[int], list[str]]:
    """Return the positions and the names of columns, those that are not the model's only once."""
    positions: list[int] = []
    header: list[str] = []
    others = set()
    for position, label in enumerate(frame.columns):
        name = _name(label)
        if name is None or name in others:
            continue
        if name not in known.inputs and not known.meanings(name):
            others.add(name)
        positions.append(position)
        header.append(name)
    return positions, header


def _name(label: Any) -> str | None:
    """Return a column's label as a name: a text, or the texts of several levels; else `None`."""
    parts: Sequence[Any] = label if isinstance(label, tuple) else (label,)
    return ".".join(parts) if all(isinstance(part, str) for part in parts) else None


def _problem(lacking: Absent, received: str) -> Problem:
    expected = lacking.expected + _way_out(lacking.name, lacking.features)
    return Problem("columns", expected, received)


def _way_out(name: str, features: Sequence[Feature]) -> str:
    if len(features) != 1 or features[0].default is None:
        return ""
    return f", or {name!r} as None for its default, {features[0].default!r}, in all rows"


def _cells(series: Any, dtype: str) -> NDArray[Any]:
    """Return a column as an array, with booleans as in a CSV: numbers and booleans for each other.

    Args:
        series: the column.
        dtype: the dtype of its tensor.
    """
    array = _as_array(series)
    kind = array.dtype.kind
    if dtype == "string":
        return array
    if dtype != "bool":
        if kind == "b":
            return array.astype(np.int8)
        return _each(array, _as_number) if kind == "O" else array
    return _each(array, _as_truth) if kind in "iufO" else array


def _each(array: NDArray[Any], change: Any) -> NDArray[Any]:
    return np.fromiter(map(change, array), dtype=object, count=len(array))


def _as_number(value: Any) -> Any:
    return int(value) if isinstance(value, bool | np.bool_) else value


def _as_truth(value: Any) -> Any:
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return _TRUTH.get(value, value) if is_number else value
