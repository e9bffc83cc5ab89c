"""One JSON value of a dtype: whether it is one as it stands, and what a message expects instead."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from service.signature import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A lone surrogate is text to Python and to JSON, and has no UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")

# Looked up once, since asking numpy takes longer than the comparison that follows.
LARGEST = {d: float(np.finfo(d).max) for d in DTYPES if d.startswith("float")}
# The last number that is rounded to a dtype's largest value, and not to infinity: less than half a
# step past it.  Answers print float32's as 3.4028235e+38, which is past it, too.
ROUNDED = {
    d: math.nextafter(most + (most - float(np.nextafter(np.finfo(d).max, 0, dtype=d))) / 2, 0)
    for d, most in LARGEST.items()
}
# From here on, a float may stand for several whole numbers: 9007199254740993.0 is read as …992.
FIRST_INEXACT = 2.0**53
RANGES = {d: (int(np.iinfo(d).min), int(np.iinfo(d).max)) for d in DTYPES if "int" in d}
# Values that are made an array in one go.
_AT_ONCE = 2**17


def convert(flat: list[Any], dtype: str) -> NDArray[Any] | None:
    """Return all values as a flat array; `None` where one of them does not fit."""
    if len(flat) <= _AT_ONCE:
        return _convert_some(flat, dtype)
    # Some at a time, since no other thread runs while a list is made an array.
    parts = []
    for start in range(0, len(flat), _AT_ONCE):
        part = _convert_some(flat[start : start + _AT_ONCE], dtype)
        if part is None:
            return None
        parts.append(part)
    return np.concatenate(parts)


def _convert_some(flat: list[Any], dtype: str) -> NDArray[Any] | None:
    if dtype.startswith("float") and set(map(type, flat)) <= {int, float}:
        try:
            array = np.array(flat, dtype=np.float64)
        except OverflowError:
            return None
        # A NaN compares false, so it fails here too.
        fitting = bool((np.abs(array) <= ROUNDED[dtype]).all())
        return array.astype(dtype) if fitting else None
    if not all(fits(value, dtype) for value in flat):
        return None
    if dtype == "string":
        return np.array(flat, dtype=object)
    # int() because a whole 2.0 is welcome, and would make floats of its neighbours.
    return np.array([int(value) for value in flat], dtype=dtype)


def fits(value: Any, dtype: str) -> bool:
    """Whether a JSON value is one of the dtype's, as it stands."""
    kind = type(value)
    if dtype == "bool":
        return kind is bool
    if dtype == "string":
        return kind is str and (value.isascii() or not _SURROGATE.search(value))
    if kind is not int and kind is not float:
        return False
    if dtype.startswith("float"):
        # A whole number above float64's range compares as it is; a NaN compares false.
        return bool(abs(value) <= ROUNDED[dtype])
    lowest, highest = RANGES[dtype]
    if kind is int:
        return bool(lowest <= value <= highest)
    # JSON does not tell 2.0 from 2, and some writers always write the first.
    exact = abs(value) < FIRST_INEXACT and value.is_integer()
    return bool(exact and lowest <= value <= highest)


def expected_value(dtype: str, received: Any = None) -> str:
    """What a value of the dtype is, in a message; with its limits, for a number past them."""
    if dtype == "bool":
        return "true or false"
    if dtype == "string":
        return "text"
    if dtype.startswith("float"):
        past = isinstance(received, (int, float)) and not isinstance(received, bool)
        return f"a number within ±{LARGEST[dtype]:.6g}" if past else "a number"
    lowest, highest = RANGES[dtype]
    inexact = (
        isinstance(received, float)
        and abs(received) >= FIRST_INEXACT
        and lowest <= received <= highest
    )
    how = ", without a fraction or an exponent where it is past 2^53" if inexact else ""
    return f"a whole number from {lowest} to {highest}{how}"
