"""The form `inputs`: for each input a list of its rows, or for a table an object of its columns.

    {"insurance": {"age": [47, 30], "bmi": [20, 31]}, "digit": [[…], […]]}
        ─▶  {"insurance": Table({"age": [47, 30], "bmi": [20, 31]}, 2), "digit": Rows([[…], […]])}

The columns of a table are what pandas' `to_dict("list")` returns.  All lists have the same length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, key, listing, refuse_unknown, show
from service.wire.columns import A_ROW, indexed, lists, refuse_others
from service.wire.rows import MISSING, Rows, Table
from service.wire.values import lacking

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Input, Signature
    from service.wire.columns import Names

    # The names of an input and of a feature, for a column; or of an input alone, for its rows.
    _Key = tuple[str, ...]

_A_TABLE = f"{A_ROW}, or an object with a list for each feature"
_A_COLUMN = "a list with one value for each row"


def read(value: Any, signature: Signature, names: Names, notes: Notes) -> dict[str, Rows | Table]:
    """Return the rows or the columns of each input; every input has the same number of rows.

    Args:
        value: the value of `inputs`; the name of a single input may be left out.
        signature: the signature of the model or view.
        names: the names of the inputs; a needed one may be absent if its features have defaults.
        notes: takes the mistakes.
    """
    entries = signature.inputs
    every = names.known
    bare = len(every) == 1 and _is_bare(value, entries[every[0]])
    if bare:
        value = {every[0]: value}
    if not isinstance(value, dict) or not value:
        notes.add("inputs", f"an object of inputs: {listing(every)}", show(value))
        return {}
    refuse_others(value, names, "inputs", notes)
    paths = {name: "inputs" + ("" if bare else key(name)) for name in every}
    by_key = _by_key(value, entries, paths, notes)

    def path(column: _Key) -> str:
        return paths[column[0]] + "".join(map(key, column[1:]))

    def expected(column: _Key) -> str:
        if len(column) > 1:
            return _A_COLUMN
        return _A_TABLE if entries[column[0]].features else A_ROW

    valid = lists(by_key, path, notes, expected)
    height = len(next(iter(valid.values()), ()))
    rows: dict[str, Rows | Table] = {}
    for name in every:
        if _is_table(value.get(name), entries[name]):
            if not height and not notes.count:
                notes.add(paths[name], _A_TABLE, show(value[name]))
            # A faulty column is there, and has no values to check.
            columns = {f: valid.get((name, f), ()) for f in value[name]}
            rows[name] = Table(columns, height, paths[name])
        elif (name,) in valid:
            rows[name] = Rows(valid[name,], indexed(paths[name]))
        elif name in names.needed and name not in value:
            defaults = [feature.default for feature in entries[name].features]
            if not defaults or None in defaults:
                notes.add(paths[name], lacking(height), "nothing")
            elif height:
                rows[name] = Rows([MISSING] * height, indexed(paths[name]))
    return rows


def _by_key(
    value: dict[str, Any], entries: Mapping[str, Input], paths: Mapping[str, str], notes: Notes
) -> dict[_Key, Any]:
    """Return the columns of tables and the rows of other inputs; `paths` has a path for each."""
    by_key: dict[_Key, Any] = {}
    for name, path in paths.items():
        if _is_table(value.get(name), entries[name]):
            features = entries[name].feature_names
            refuse_unknown(value[name], "feature", features, path, notes)
            by_key |= {(name, f): value[name][f] for f in features if f in value[name]}
        elif name in value:
            by_key[(name,)] = value[name]
    return by_key


def _is_table(value: Any, entry: Input) -> bool:
    return isinstance(value, dict) and bool(entry.features)


def _is_bare(value: Any, entry: Input) -> bool:
    """Return whether `inputs` holds the rows or columns of the only input, without its name."""
    if not isinstance(value, dict):
        return isinstance(value, list)
    if entry.name not in value:
        return not value.keys().isdisjoint(entry.feature_names)
    # A feature may have the name of its input.
    column = value[entry.name]
    nested = isinstance(column, list) and any(isinstance(row, (dict, list)) for row in column)
    return entry.name in entry.feature_names and not (nested or isinstance(column, dict))
