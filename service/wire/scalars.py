"""Single JSON values: the check that a value fits a dtype, and the expectation in messages."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from service.signature import DTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Python and JSON allow a lone surrogate in a string, but UTF-8 cannot encode it.
_SURROGATE = re.compile("[\ud800-\udfff]")

# The largest value of each dtype.  Looked up once, since numpy takes longer for that than the
# comparison does.
LARGEST = {d: float(np.finfo(d).max) for d in DTYPES if d.startswith("float")}
# The largest number that is rounded to a dtype's largest value, and not to infinity: it is less
# than half a step past that value.  Answers print float32's largest value as 3.4028235e+38, which
# is past it too.
ROUNDED = {
    d: math.nextafter(most + (most - float(np.nextafter(np.finfo(d).max, 0, dtype=d))) / 2, 0)
    for d, most in LARGEST.items()
}
# From here on, a float may mean several whole numbers: 9007199254740993.0 is read as …992.
FIRST_INEXACT = 2.0**53
RANGES = {d: (int(np.iinfo(d).min), int(np.iinfo(d).max)) for d in DTYPES if "int" in d}
# Values that become an array in one call.
_AT_ONCE = 2**17


def convert(flat: list[Any], dtype: str) -> NDArray[Any] | None:
    """Convert values to a flat array of a dtype; return `None` if one of them does not fit."""
    if len(flat) <= _AT_ONCE:
        return _convert_some(flat, dtype)
    # Convert some at a time, since no other thread runs while a list becomes an array.
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
    # int(), since 2.0 is allowed as a whole number, and would turn its neighbours into floats.
    return np.array([int(value) for value in flat], dtype=dtype)


def fits(value: Any, dtype: str) -> bool:
    """Return whether a JSON value fits a dtype without a conversion."""
    kind = type(value)
    if dtype == "bool":
        return kind is bool
    if dtype == "string":
        return kind is str and (value.isascii() or not _SURROGATE.search(value))
    if kind is not int and kind is not float:
        return False
    if dtype.startswith("float"):
        # Python compares whole numbers above float64's range exactly; a NaN compares false.
        return bool(abs(value) <= ROUNDED[dtype])
    lowest, highest = RANGES[dtype]
    if kind is int:
        return bool(lowest <= value <= highest)
    # JSON does not distinguish 2.0 from 2, and some programs always write 2.0.
    exact = abs(value) < FIRST_INEXACT and value.is_integer()
    return bool(exact and lowest <= value <= highest)


def expected_value(dtype: str, received: Any = None) -> str:
    """Return the expectation of a dtype for a message; for a number past its limits, with these."""
    if dtype == "bool":
        return "true or false"
    if dtype == "string":
        return "text"
    if dtype.startswith("float"):
        past = isinstance(received, (int, float)) and not isinstance(received, bool)
        past = past and received == received  # noqa: PLR0124  no limit makes room for a NaN
        return f"a number within ±{LARGEST[dtype]:.6g}" if past else "a number"
    lowest, highest = RANGES[dtype]
    inexact = (
        isinstance(received, float)
        and abs(received) >= FIRST_INEXACT
        and lowest <= received <= highest
    )
    how = ", without a fraction or an exponent where it is past 2^53" if inexact else ""
    return f"a whole number from {lowest} to {highest}{how}"
