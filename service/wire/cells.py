"""The meaning of CSV cells, the same for a file on the command line and for one in a request.

A CSV does not say whether a cell is a number, a boolean or a text, so the graph decides.
"""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Any

from service.errors import BadRequest
from service.signature import MISSING_CELLS, TRUE_FALSE
from service.wire.body import DECODER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.signature import Input

# Characters of a cell.  A whole image in one cell is long; an unclosed quotation mark makes a cell
# that is longer still.
LONGEST = 1 << 24
_END = "\r\n"


def reader(lines: Iterable[str]) -> Any:
    """Return Python's CSV reader in its strictest form; it skips blanks after a comma.

    Raises:
        csv.Error: while records are read: the lines are not CSV, or a cell is longer than
            `LONGEST`.
    """
    csv.field_size_limit(LONGEST)
    return csv.reader(lines, strict=True, skipinitialspace=True)


def writer(text: IO[str]) -> Any:
    """Return Python's CSV writer, whose lines end in a line feed.

    It quotes carriage returns too, which Python before 3.13 does only if they end lines.
    """
    return csv.writer(_Lines(text), lineterminator=_END)


class _Lines:
    """A text file that csv.writer writes its records to, each by one call."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text

    def write(self, record: str) -> None:
        self._text.write(record.removesuffix(_END) + "\n")


def said(record: list[str]) -> str:
    """Return the text that a message shows for a record of the wrong length."""
    return str(len(record)) if any(record) or len(record) > 1 else "a blank line"


def value(cell: str, dtype: str) -> Any:
    """Return a cell as a JSON value; text that is not a number stays text, to be refused later.

    The reader of the values refuses it, and knows its place.
    """
    if cell in MISSING_CELLS:
        return None
    if dtype == "string":
        return cell
    truth = TRUE_FALSE.get(cell.lower())
    if dtype == "bool":
        # CSV has no booleans, and many programs write them as numbers.
        return {"1": True, "0": False}.get(cell, cell) if truth is None else bool(truth)
    if truth is not None:
        return int(truth)
    # Python accepts 1_000 as a number, and digits of any script; other programs do not.
    for kind in (int, float) if "_" not in cell and cell.isascii() else ():
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def row(cell: str, entry: Input) -> Any:
    """Return a row that is whole in one cell: decoded from JSON, or the value of a single cell."""
    tensor = entry.tensors[0]
    one = not entry.features and tensor.size == 1
    if one and not (tensor.shape and cell.startswith("[")):
        return value(cell, tensor.dtype)
    try:
        return DECODER.decode(cell)
    except (ValueError, RecursionError, BadRequest):
        # A cell that is not JSON stays text; the reader of the values refuses it at its place.
        return cell or None
