"""The text of a CSV cell: a number, a truth value, a date, or a missing value."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from service.signature import MISSING_CELLS, TRUE_FALSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The items of a list, and the characters of a cell, that a message shows.
LISTED = 20
WIDEST = 60

# The limits of float32.
EXACT = 2**24  # it represents every whole number up to here
LARGEST = math.nextafter(2.0**128 - 2.0**103, 0)  # it rounds more to infinity

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Python converts at most 4,300 digits, and a float has at most 309 before the decimal point.
_WHOLE = re.compile(r"[+-]?\d{1,400}", re.ASCII)
# ASCII only: to Unicode a dotless i matches i, but Python does not take it for a number.
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_TIME = r"([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?(Z| ?[+-]\d{2}:?\d{2})?)?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATE = re.compile(
    rf"(\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](\d{{4}}|\d{{2}})"
    rf"|\d{{1,2}}[- ]{_MONTH},?[- ](\d{{4}}|\d{{2}})|{_MONTH} \d{{1,2}},? \d{{4}}){_TIME}",
    re.ASCII | re.IGNORECASE,
)


def number(text: str) -> float:
    """Return the cell as a number, or not-a-number if it is none or marks a missing value."""
    if NUMBER.fullmatch(text) or _INFINITE.fullmatch(text):
        return float(text)
    return TRUE_FALSE.get(text.lower(), math.nan)


def is_number(text: str) -> bool:
    """Return whether the cell is a number, a truth value or an infinity."""
    return not math.isnan(number(text))


def is_missing(text: str) -> bool:
    """Return whether the cell is empty or a mark for a missing value."""
    return text in MISSING_CELLS


def is_infinite(text: str) -> bool:
    """Return whether the cell spells an infinity; 1e999 does not."""
    return _INFINITE.fullmatch(text) is not None


def is_date(text: str) -> bool:
    """Return whether the cell looks like a date, with or without a time."""
    return _DATE.fullmatch(text) is not None


INSTEAD_OF_DATES = (
    "add columns of numbers with what matters about them, such as year, month, weekday (0 to 6) or"
    " days since another date"
)
"""The way out of a column of dates, for a message."""


def is_whole(text: str) -> bool:
    """Return whether the cell's value is a whole number: 3 and 3.0 are."""
    return NUMBER.fullmatch(text) is not None and float(text).is_integer()


def is_truth(texts: Iterable[str]) -> bool:
    """Return whether all cells are true or false, in upper or lower case."""
    return all(text.lower() in TRUE_FALSE for text in texts)


def is_counted(text: str) -> bool:
    """Return whether the text is a truth value or a number without a decimal point: 3, not 3.0."""
    return _WHOLE.fullmatch(text) is not None or text.lower() in TRUE_FALSE


def whole(text: str) -> int:
    """Return the value of a cell for which `is_whole` is true."""
    return int(text) if _WHOLE.fullmatch(text) else int(float(text))


def listed(texts: Sequence[str]) -> str:
    """Return the first of some strings for a message."""
    return ", ".join(texts[:LISTED]) + (", …" if len(texts) > LISTED else "")


def show(text: str) -> str:
    """Return a cell for a message, quoted and cut to a fixed length."""
    return repr(text if len(text) <= WIDEST else f"{text[:WIDEST]}…")
