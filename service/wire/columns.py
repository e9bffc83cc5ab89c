"""The two forms that most protocols have of the same rows: `instances` by row, `inputs` by column.

    {"instances": [{"x": 1, "y": 2}, …]}  ─▶  {"x": Rows([1, …]), "y": Rows([2, …])}
    {"inputs": {"x": [1, …], "y": [2, …]}}  ─▶  the same

A name is that of an input, or of a tensor: whichever a dialect speaks of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire.body import Notes, count, key, listing, refuse_unknown, show, too_many
from service.wire.values import MISSING, Rows

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
    """By name, its rows: all of them where it is needed, else those that are there.

    Args:
        listed: what `instances` is.
        names: all there are.
        needed: those that each row has to have; what lacks is a row `MISSING`.
        is_bare: whether a row is the value of the only name there is, and does not say it.
        notes: takes what is wrong.
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
            # No row, so nothing of it can be missing either.
            notes.add(f"instances[{i}]", f"an object of inputs: {listing(names)}", show(instance))
    found = {}
    for name in names:
        chosen = [(i, row) for i, row in rows if name in needed or name in row]
        if chosen:
            values = [row.get(name, MISSING) for _, row in chosen]
            places = [f"instances[{i}]" + ("" if i in bare else key(name)) for i, _ in chosen]
            found[name] = Rows(values, places.__getitem__)
    return found


def columns(
    given: Any,
    names: Sequence[str],
    needed: Collection[str],
    wanted: Callable[[str, int], str],
    notes: Notes,
) -> dict[str, Rows]:
    """By name, its rows, as many for each.

    Args:
        given: what `inputs` is: an object, or the list alone where there is one name.
        names: all there are.
        needed: those that have to be there.
        wanted: what a message expects of one that is not, if the others have so many rows (0: there
            are none); nothing where it may be absent, and each of its rows is then `MISSING`.
        notes: takes what is wrong.
    """
    bare = len(names) == 1 and isinstance(given, list)
    if bare:
        given = {names[0]: given}
    if not isinstance(given, dict) or not given:
        notes.add("inputs", f"an object of inputs: {listing(names)}", show(given))
        return {}
    refuse_unknown(given, "input", names, "inputs", notes)
    paths = {name: "inputs" + ("" if bare else key(name)) for name in names}
    found = lists({name: given[name] for name in names if name in given}, paths, notes)
    height = len(next(iter(found.values()), ()))
    for name in needed:
        if name not in given:
            expected = wanted(name, height)
            if expected:
                notes.add(paths[name], expected, "nothing")
            elif height:
                found[name] = [MISSING] * height
    return {name: Rows(found[name], _indexed(paths[name])) for name in names if name in found}


def _indexed(path: str) -> Callable[[int], str]:
    return lambda i: f"{path}[{i}]"


def lists(given: Mapping[str, Any], paths: Mapping[str, str], notes: Notes) -> dict[str, list[Any]]:
    """By name, those of some columns that are rows; notes where others are none, or not as many."""
    found: dict[str, list[Any]] = {}
    for name, column in given.items():
        if isinstance(column, list) and column:
            if not too_many(len(column), paths[name], notes):
                found[name] = column
        else:
            notes.add(paths[name], A_ROW, show(column))
    first = next(iter(found), "")
    for name, column in found.items():
        if len(column) != len(found[first]):
            expected = as_many(len(found[first]), paths[first])
            notes.add(paths[name], expected, count(len(column), "row"))
    return found


def as_many(rows: int, path: str) -> str:
    """What a message expects of another column."""
    return f"{count(rows, 'row')}, as {path} has"
