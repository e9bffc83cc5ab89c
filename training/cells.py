"""What a cell of a CSV file looks like: a number, a truth value, a date, or missing."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from service.signature import MISSING_CELLS, TRUE_FALSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a message shows of a list, and of one cell.
LISTED = 20
WIDEST = 60

# The numbers of a float32.
EXACT = 2**24  # up to here it has every whole number
LARGEST = math.nextafter(2.0**128 - 2.0**103, 0)  # more is rounded to an infinite one

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Python converts no more than 4,300 digits, and a float has no more than 309 before its point.
_WHOLE = re.compile(r"[+-]?\d{1,400}", re.ASCII)
# ASCII: a dotless i is the same letter to Unicode, and no number to Python.
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_TIME = r"([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?(Z| ?[+-]\d{2}:?\d{2})?)?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}[- ]{_MONTH},?[- ](\d{{4}}|\d{{2}})|{_MONTH} \d{{1,2}},? \d{{4}}){_TIME}",
    re.ASCII | re.IGNORECASE,
)


def number(text: str) -> float:
    """The cell as a number; not-a-number where it is none, or says that it is missing."""
    if NUMBER.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    return TRUE_FALSE.get(text.lower(), math.nan)


def is_number(text: str) -> bool:
    """Whether the cell is a number, a truth value or an infinity."""
    return not math.isnan(number(text))


def is_missing(text: str) -> bool:
    """Whether the cell is empty or spells that it is."""
    return text in MISSING_CELLS


def is_infinite(text: str) -> bool:
    """Whether the cell spells an infinity; 1e999 does not."""
    return _INFINITE.fullmatch(text) is not None


def is_date(text: str) -> bool:
    """Whether the cell looks like a date, with or without a time."""
    return _DATE.fullmatch(text) is not None


def is_whole(text: str) -> bool:
    """Whether the cell's value is a whole number: 3, and 3.0 too."""
    return NUMBER.fullmatch(text) is not None and float(text).is_integer()


def is_truth(texts: Iterable[str]) -> bool:
    """Whether all cells are true or false, in any case."""
    return all(text.lower() in TRUE_FALSE for text in texts)


def is_counted(text: str) -> bool:
    """Whether the text itself is that of a whole number or a truth value: 3, but not 3.0."""
    return _WHOLE.fullmatch(text) is not None or text.lower() in TRUE_FALSE


def whole(text: str) -> int:
    """The value of a cell that `is_whole`."""
    return int(text) if _WHOLE.fullmatch(text) else int(float(text))


def listed(texts: Sequence[str]) -> str:
    """Some texts for a message: the first of them."""
    return ", ".join(texts[:LISTED]) + (", …" if len(texts) > LISTED else "")


def show(text: str) -> str:
    """A cell for a message: quoted, and not endless."""
    return repr(text if len(text) <= WIDEST else f"{text[:WIDEST]}…")
