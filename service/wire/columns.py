"""The two forms of rows in most protocols: `instances` by row, and `inputs` by column.

    {"instances": [{"x": 1, "y": 2}, …]}  ─▶  {"x": Rows([1, …]), "y": Rows([2, …])}
    {"inputs": {"x": [1, …], "y": [2, …]}}  ─▶  the same

A name is that of an input or of a tensor, depending on the dialect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, count, key, listing, refuse_unknown, show, too_many
from service.wire.rows import MISSING, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

EITHER = 'either "instances" (by row) or "inputs" (by column)'
A_ROW = "a list of at least one row"


def instances(
    listed: Any,
    names: Sequence[str],
    needed: Collection[str],
    is_bare: Callable[[Any], bool],
    notes: Notes,
) -> dict[str, Rows]:
    """Return the rows of each name: all rows of a needed name, otherwise only those that have it.

    Args:
        listed: the value of `instances`.
        names: all known names.
        needed: the names that each row must have; a row without one of them gets `MISSING`.
        is_bare: returns whether a row is the value of the only name, sent without that name.
        notes: takes the mistakes.
    """
    if not isinstance(listed, list) or not listed:
        notes.add("instances", A_ROW, show(listed))
        return {}
    if too_many(len(listed), "instances", notes):
        return {}
    rows: list[tuple[int, dict[str, Any]]] = []
    bare: set[int] = set()
    for i, instance in enumerate(listed):
        if is_bare(instance):
            bare.add(i)
            rows.append((i, {names[0]: instance}))
        elif isinstance(instance, dict):
            refuse_unknown(instance, "input", names, f"instances[{i}]", notes)
            rows.append((i, instance))
        else:
            # This is not a row, so none of its values can be missing.
            notes.add(f"instances[{i}]", f"an object of inputs: {listing(names)}", show(instance))
    rows_by_name = {}
    for name in names:
        chosen = [(i, row) for i, row in rows if name in needed or name in row]
        if chosen:
            values = [row.get(name, MISSING) for _, row in chosen]
            places = [f"instances[{i}]" + ("" if i in bare else key(name)) for i, _ in chosen]
            rows_by_name[name] = Rows(values, places.__getitem__)
    return rows_by_name


def columns(
    value: Any,
    names: Sequence[str],
    needed: Collection[str],
    wanted: Callable[[str, int], str],
    notes: Notes,
) -> dict[str, Rows]:
    """Return the rows of each name; every name has the same number of rows.

    Args:
        value: the value of `inputs`: an object, or only the list if there is one name.
        names: all known names.
        needed: the names that must be present.
        wanted: takes a needed name that is absent and the number of rows of the others (0 if there
            are none), and returns the expectation for a message.  If that is empty, the name may
            be absent, and each of its rows is `MISSING`.
        notes: takes the mistakes.
    """
    bare = len(names) == 1 and isinstance(value, list)
    if bare:
        value = {names[0]: value}
    if not isinstance(value, dict) or not value:
        notes.add("inputs", f"an object of inputs: {listing(names)}", show(value))
        return {}
    refuse_unknown(value, "input", names, "inputs", notes)
    paths = {name: "inputs" + ("" if bare else key(name)) for name in names}
    by_name = lists({name: value[name] for name in names if name in value}, paths, notes)
    height = len(next(iter(by_name.values()), ()))
    for name in needed:
        if name not in value:
            expected = wanted(name, height)
            if expected:
                notes.add(paths[name], expected, "nothing")
            elif height:
                by_name[name] = [MISSING] * height
    return {name: Rows(by_name[name], _indexed(paths[name])) for name in names if name in by_name}


def _indexed(path: str) -> Callable[[int], str]:
    return lambda i: f"{path}[{i}]"


def lists(
    by_name: Mapping[str, Any], paths: Mapping[str, str], notes: Notes
) -> dict[str, list[Any]]:
    """Return the columns that are lists of rows; note the others, and those of another length."""
    valid: dict[str, list[Any]] = {}
    for name, column in by_name.items():
        if isinstance(column, list) and column:
            if not too_many(len(column), paths[name], notes):
                valid[name] = column
        else:
            notes.add(paths[name], A_ROW, show(column))
    first = next(iter(valid), "")
    for name, column in valid.items():
        if len(column) != len(valid[first]):
            expected = as_many(len(valid[first]), paths[first])
            notes.add(paths[name], expected, count(len(column), "row"))
    return valid


def as_many(rows: int, path: str) -> str:
    """Return the expectation for a column that has another number of rows than the first."""
    return f"{count(rows, 'row')}, as {path} has"
