"""Alignment of the rows of several files: by position, by key, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from training.cells import is_missing, show
from training.errors import DataError

if TYPE_CHECKING:
    from training.spec import Spec
    from training.table import Column, Table


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
    """Keep the rows whose key is in every table, in the order of the first, and note the others."""
    keys = {}
    for entry in spec.inputs.values():
        table = tables[entry.csv]
        if entry.csv not in keys:
            name = table.require(entry.key or "", f"{spec.path}: inputs.{entry.name}.key")
            keys[entry.csv] = _keys(table.column(name))
    shared = set.intersection(*map(set, keys.values()))
    if not shared:
        firsts = ", ".join(
            f"{tables[name].path.name} has {show(theirs[0])}, …" for name, theirs in keys.items()
        )
        raise DataError(f"{spec.path}: no key is in every file ({firsts})")
    order = [key for key in next(iter(keys.values())) if key in shared]
    joined, notes = {}, []
    for name, table in tables.items():
        place = {key: row for row, key in enumerate(keys[name])}
        joined[name] = replace(table, frame=table.frame.iloc[[place[key] for key in order]])
        lost = len(table.frame) - len(order)
        if lost:
            total = len(table.frame)
            notes.append(f"{table.path.name}: {lost} of {total} rows have no partner by key")
    return joined, notes


def _keys(column: Column) -> list[str]:
    column.refuse(column.mark(is_missing), "have no key")
    counts = np.bincount(column.codes)
    column.refuse(counts[column.codes] > 1, "share their key with another")
    return [column.texts[code] for code in column.codes]
