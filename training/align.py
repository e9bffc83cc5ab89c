"""Alignment of the rows of several files: by position, by key, or not at all."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from training.cells import is_missing, show
from training.errors import DataError
from training.targets import heads_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from training.spec import Spec
    from training.table import Column, Table

ABSENT = -1  # the place of a row in a table that does not have it


def align(spec: Spec, tables: dict[str, Table]) -> tuple[dict[str, Table], list[str]]:
    """Return the tables with row i of each belonging together if the spec says so, and notes."""
    if spec.align == "key":
        return _join(spec, tables)
    if spec.align == "sample":
        return tables, []
    rows = {name: len(table.frame) for name, table in tables.items()}
    shortest = min(rows, key=lambda name: rows[name])
    cut = [name for name in tables if rows[name] > rows[shortest]]
    if not cut:
        return tables, []
    longer = ", ".join(f"{tables[name].path.name} has {rows[name]}" for name in cut)
    note = f"cut to the {rows[shortest]} rows of {tables[shortest].path.name} ({longer})"
    tables = {
        name: replace(table, frame=table.frame.iloc[: rows[shortest]])
        for name, table in tables.items()
    }
    return tables, [note]


def _join(spec: Spec, tables: dict[str, Table]) -> tuple[dict[str, Table], list[str]]:
    """Join rows by key, in the order of the tables, and note what is left out and what is missing.

    A row must be in every table except those whose heads all allow that their targets are missing.
    Where it is not in one of these, all its cells are empty.
    """
    keys = {}
    for entry in spec.inputs.values():
        table = tables[entry.csv]
        if entry.csv not in keys:
            name = table.require(entry.key or "", f"{spec.path}: inputs.{entry.name}.key")
            keys[entry.csv] = _keys(table.column(name))
    shared = _shared(spec, tables, keys)
    order = [key for key in dict.fromkeys(chain.from_iterable(keys.values())) if key in shared]
    joined, notes = {}, []
    for name, table in tables.items():
        place = {key: row for row, key in enumerate(keys[name])}
        rows = np.array([place.get(key, ABSENT) for key in order], np.int64)
        total, absent = len(table.frame), int((rows == ABSENT).sum())
        lost = total - (len(order) - absent)
        if lost:
            notes.append(f"{table.path.name}: {lost} of {total} rows have no partner by key")
        if absent:
            _check_no_image(spec, name, table, order, rows)
            notes.append(
                f"{table.path.name}: no row for {absent} of {len(order)} keys; their features take"
                " the defaults"
            )
        joined[name] = replace(table, frame=_reordered(table.frame, rows))
    return joined, notes


def _shared(spec: Spec, tables: dict[str, Table], keys: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the keys of the rows to keep.

    Raises:
        DataError: there are none, or a file shares none with the others.
    """
    firsts = ", ".join(
        f"{tables[name].path.name} has {show(theirs[0])}, …" for name, theirs in keys.items()
    )
    optional = [
        name
        for name in keys
        if (heads := heads_of(spec, name)) and all(head.missing for head in heads)
    ]
    required = [set(theirs) for name, theirs in keys.items() if name not in optional]
    shared = set.intersection(*required) if required else set[str]().union(*keys.values())
    if not shared:
        raise DataError(f"{spec.path}: no key is in every file ({firsts})")
    for name in optional if len(keys) > 1 else ():
        others = set[str]().union(*(theirs for other, theirs in keys.items() if other != name))
        if not shared & others & set(keys[name]):
            file = tables[name].path.name
            raise DataError(f"{spec.path}: no key of {file} is in another file ({firsts})")
    return shared


def _reordered(frame: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return the rows of a frame by place; those that are `ABSENT` have empty cells and line 0."""
    if (rows != ABSENT).all():
        return frame.iloc[rows]
    lines = np.where(rows == ABSENT, 0, frame.index.to_numpy(np.int64)[rows])
    return frame.reset_index(drop=True).reindex(rows, fill_value="").set_axis(lines)


def _check_no_image(
    spec: Spec, csv: str, table: Table, order: Sequence[str], rows: NDArray[np.int64]
) -> None:
    """Refuse rows that are not in a file of images, whose pixels have no default."""
    if any(entry.image for entry in spec.inputs.values() if entry.csv == csv):
        absent = rows == ABSENT
        names = " and ".join(f"heads.{head.name}.missing" for head in heads_of(spec, csv))
        raise DataError(
            f"{table.path}: no row for {absent.sum()} of {len(rows)} keys, first"
            f" {show(order[int(absent.argmax())])}, and an image has no default; remove those rows"
            f" from the other files, or {names} from the spec to leave them out"
        )


def _keys(column: Column) -> list[str]:
    column.refuse(column.mark(is_missing), "have no key")
    counts = np.bincount(column.codes)
    column.refuse(counts[column.codes] > 1, "share their key with another")
    return [column.texts[code] for code in column.codes]
