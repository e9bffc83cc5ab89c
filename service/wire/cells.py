"""What a CSV's cells are: the same to those who score a file, and to whoever sends one.

A CSV says of no cell whether it is a number, a boolean or a text, so the graph does.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from service.errors import BadRequest
from service.signature import MISSING_CELLS, TRUE_FALSE
from service.wire.body import DECODER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.signature import Input

# An image whole in one cell is long; a quotation mark that is never closed is longer.
LONGEST = 1 << 24


def reader(lines: Iterable[str]) -> Any:
    """Python's reader of CSV, as strict as it can be; a blank after a comma is no part of a cell.

    Raises:
        csv.Error: as it goes: it is no CSV, or a cell is longer than `LONGEST`.
    """
    csv.field_size_limit(LONGEST)
    return csv.reader(lines, strict=True, skipinitialspace=True)


def said(record: list[str]) -> str:
    """What a record of a wrong length has, for a message."""
    return str(len(record)) if any(record) or len(record) > 1 else "a blank line"


def value(cell: str, dtype: str) -> Any:
    """A cell as JSON would have it; what is no number stays text, to be refused by its place."""
    if cell in MISSING_CELLS:
        return None
    if dtype == "string":
        return cell
    truth = TRUE_FALSE.get(cell.lower())
    if dtype == "bool":
        # A CSV has no booleans of its own, and half of the world writes them as numbers.
        return {"1": True, "0": False}.get(cell, cell) if truth is None else bool(truth)
    if truth is not None:
        return int(truth)
    # Python takes 1_000 for a number, and digits of any script; nobody else does.
    for kind in (int, float) if "_" not in cell and cell.isascii() else ():
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def row(cell: str, entry: Input) -> Any:
    """An input's row that is whole in one cell: as JSON, or as it is where it is one value."""
    tensor = entry.tensors[0]
    one = not entry.features and tensor.size == 1
    if one and not (tensor.shape and cell.startswith("[")):
        return boxed(value(cell, tensor.dtype), entry)
    try:
        return DECODER.decode(cell)
    except (ValueError, RecursionError, BadRequest):
        # What is no JSON stays text, for the wire to refuse by its place.
        return cell or None


def boxed(given: Any, entry: Input) -> Any:
    """A row of just one value as the graph has it, where it came without its brackets."""
    tensor = entry.tensors[0]
    if not entry.features and tensor.size == 1 and isinstance(given, (bool, int, float, str)):
        for _ in tensor.shape:
            given = [given]
    return given
