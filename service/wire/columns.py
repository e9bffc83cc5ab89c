"""The two forms of rows in most protocols: `instances` by row, and `inputs` by column.

    {"instances": [{"x": 1, "y": 2}, …]}  ─▶  {"x": Rows([1, …]), "y": Rows([2, …])}
    {"inputs": {"x": [1, …], "y": [2, …]}}  ─▶  the same

A name is that of an input or of a tensor, depending on the dialect.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from service.wire.body import Notes, count, key, listing, refuse_unknown, show, too_many
from service.wire.rows import MISSING, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

T = TypeVar("T")

EITHER = 'either "instances" (by row) or "inputs" (by column)'
A_ROW = "a list of at least one row"


def _no_hint(_: str) -> str:
    return ""


class Names(NamedTuple):
    """The names that rows and columns may have, and those that they must have.

    `hint` takes an unknown name, and returns what a message says about it; empty for nothing.
    """

    known: Sequence[str]
    needed: Collection[str]
    hint: Callable[[str], str] = _no_hint


def instances(
    listed: Any, names: Names, is_bare: Callable[[Any], bool], notes: Notes
) -> dict[str, Rows]:
    """Return the rows of each name: all rows of a needed name, otherwise only those that have it.

    Args:
        listed: the value of `instances`.
        names: the names of values; a row without a needed one gets `MISSING`.
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
            rows.append((i, {names.known[0]: instance}))
        elif isinstance(instance, dict):
            refuse_others(instance, names, f"instances[{i}]", notes)
            rows.append((i, instance))
        else:
            # This is not a row, so none of its values can be missing.
            expected = f"an object of inputs: {listing(names.known)}"
            notes.add(f"instances[{i}]", expected, show(instance))
    rows_by_name = {}
    for name in names.known:
        chosen = rows if name in names.needed else [(i, row) for i, row in rows if name in row]
        if chosen:
            values = [row.get(name, MISSING) for _, row in chosen]
            # A hundred names in a hundred thousand rows are counted before they are all listed.
            if absent := values.count(MISSING):
                notes.miss(_path(name, chosen, bare, values.index(MISSING)), absent)
            rows_by_name[name] = Rows(values, partial(_path, name, chosen, bare))
    return rows_by_name


def _path(
    name: str, chosen: Sequence[tuple[int, dict[str, Any]]], bare: Container[int], n: int
) -> str:
    """Return the path of the n-th of the chosen rows, or of its value for a name."""
    i, _ = chosen[n]
    return f"instances[{i}]" + ("" if i in bare else key(name))


def refuse_others(keys: Iterable[str], names: Names, at: str, notes: Notes) -> None:
    """Note each of `keys` that is not a known name, as `refuse_unknown` does."""
    for name in keys:
        if name in names.known:
            continue
        hint = "" if notes.full else names.hint(name)
        if hint:
            expected = f"one of {listing(names.known)} ({hint})"
            notes.add(f"{at}{key(name)}", expected, f"the unknown input {show(name)}")
        else:
            refuse_unknown((name,), "input", names.known, at, notes)


def columns(value: Any, names: Names, notes: Notes) -> dict[str, Rows]:
    """Return the rows of each name; every name has the same number of rows.

    Args:
        value: the value of `inputs`: an object, or only the list if there is one name.
        names: the names of the columns.
        notes: takes the mistakes.
    """
    bare = len(names.known) == 1 and isinstance(value, list)
    if bare:
        value = {names.known[0]: value}
    if not isinstance(value, dict) or not value:
        notes.add("inputs", f"an object of inputs: {listing(names.known)}", show(value))
        return {}
    refuse_others(value, names, "inputs", notes)
    paths = {name: "inputs" + ("" if bare else key(name)) for name in names.known}
    given = {name: value[name] for name in names.known if name in value}
    by_name = lists(given, paths.__getitem__, notes)
    for name in names.needed:
        if name not in value:
            notes.add(paths[name], A_ROW, "nothing")
    return {name: Rows(by_name[name], indexed(paths[name])) for name in by_name}


def indexed(path: str) -> Callable[[int], str]:
    """Return a function that returns the path of row i of a list."""
    return lambda i: f"{path}[{i}]"


def _a_row(_: Any) -> str:
    return A_ROW


def lists(
    columns: Mapping[T, Any],
    path: Callable[[T], str],
    notes: Notes,
    expected: Callable[[T], str] = _a_row,
) -> dict[T, list[Any]]:
    """Return the columns that are lists of rows; note the others, and those of another length.

    Args:
        columns: the columns of a body, by anything that tells them apart.
        path: returns the path of a column.
        notes: takes the mistakes.
        expected: returns the expectation for a column that is no list, or an empty one.
    """
    valid: dict[T, list[Any]] = {}
    for name, column in columns.items():
        if not isinstance(column, list) or not column:
            notes.add(path(name), expected(name), show(column))
        elif not too_many(len(column), path(name), notes):
            valid[name] = column
    first = next(iter(valid), None)
    for name, column in valid.items():
        if first is not None and len(column) != len(valid[first]):
            rows = as_many(len(valid[first]), path(first))
            notes.add(path(name), rows, count(len(column), "row"))
    return valid


def as_many(rows: int, path: str) -> str:
    """Return the expectation for a column that has another number of rows than the first."""
    return f"{count(rows, 'row')}, as {path} has"
