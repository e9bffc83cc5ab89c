"""Conversion of JSON directly to arrays, for regular bodies: those without anything unusual.

    bytes ── simdjson ──▶ buffers of float64 or int64 ──▶ arrays

This is several times as fast as a conversion by way of Python values, but it decides nothing.  Each
fast reader has a reference reader beside it, which knows every rule and every message, and which
reads all bodies that raise one of `UNSURE` here.

simdjson flattens nested lists of numbers, so [[1, 2], []] is two numbers in a list of two, and it
finds only the first of two equal keys.  So a reader counts the brackets, or colons, that it
expects; if the body has no more of them, it has no such lists or keys.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import simdjson

from service.wire.body import MOST_OPENED
from service.wire.scalars import LARGEST, RANGES, ROUNDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_local = threading.local()
FEW = 4096
"""The number of numbers that cost about as much as a call of numpy."""
# Bytes.
LARGE = 4 * 2**20
_SHORT = 2**16
# Values of a large body.  To parse a million takes some 25 to 40 ms, in one call during which no
# other thread runs.  The reference reader is slower, but reads piece by piece.
MOST_VALUES = 2**21
# Looked up once: to find a dtype by name takes numpy longer than to convert a few numbers.
_DTYPES = {name: np.dtype(name) for name in (*LARGEST, *RANGES)}


class UnsureError(Exception):
    """A body that the reference reader has to read."""


UNSURE = (
    *(UnsureError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    # simdjson reads a number up to 2^64, which numpy refuses as an int64.
    OverflowError,
    # A sum of squares may overflow, and is then rightly above every limit.  Where numpy warns of
    # that, the process may turn warnings into errors.
    RuntimeWarning,
)
"""The errors that simdjson raises, and those that an element of an unexpected type causes."""


def parse(body: bytes) -> Any:
    """Parse a body that is a JSON object.

    Each thread has its own parser, which holds one document at a time.

    Raises:
        UnsureError: the body does not begin with an object, or is large and has too many values.
        ValueError, RuntimeError: simdjson refuses the body.
    """
    # simdjson skips a byte order mark as white space; all other readers refuse it.
    if body[:1] != b"{":
        raise UnsureError
    if len(body) > LARGE:
        # The reference reader refuses this body, so it is not built first.
        if count(body, b"[") + count(body, b"{") > MOST_OPENED:
            raise UnsureError
        if count(body, b",") >= MOST_VALUES:
            raise UnsureError
        # A parser keeps memory for ten times its largest body.  A parser of its own frees that
        # memory with the document.
        return simdjson.Parser().parse(body)
    try:
        return _local.parser.parse(body)
    except (AttributeError, RuntimeError):
        # This is the thread's first body, or its last document is still referenced (by a traceback,
        # for example) and keeps its parser.
        parser = _local.parser = simdjson.Parser()
        return parser.parse(body)


def kind_of(dtype: str) -> Any:
    """Return simdjson's name for the type in which it reads a dtype's numbers, or `None`."""
    # simdjson's integers are signed and have 64 bits.
    if dtype in ("bool", "string", "uint64"):
        return None
    return "d" if dtype in LARGEST else "i"


def is_nested(element: Any, shape: Sequence[int]) -> bool:
    """Return whether a list is nested in exactly that shape."""
    if len(element) != shape[0]:
        return False
    return len(shape) == 1 or all(
        type(part) is simdjson.Array and is_nested(part, shape[1:]) for part in element
    )


def count(body: bytes, character: bytes) -> int:
    """Count an ASCII character in a body."""
    if len(body) < _SHORT:
        # bytes.count compares one byte at a time; this jumps from one occurrence to the next, which
        # is faster unless there are very many.
        return len(body) - len(body.replace(character, b""))
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


def brackets(shape: Sequence[int]) -> int:
    """Return the number of opening brackets of a list with that shape."""
    opened = 1
    for axis in reversed(shape[:-1]):
        opened = opened * axis + 1
    return opened


def check(dtype: str, numbers: Any) -> NDArray[Any]:
    """Check that all numbers in a buffer of the type that `kind_of` names fit a dtype.

    Returns:
        The numbers as float64 or int64.

    Raises:
        UnsureError: one of them does not fit.
    """
    largest = ROUNDED.get(dtype)
    least: float
    most: float
    if largest is None:
        wide: NDArray[Any] = np.frombuffer(numbers, np.int64)
        least, most = RANGES[dtype]
    else:
        wide = np.frombuffer(numbers, np.float64)
        # No value is larger than the root of the sum of all squares, which is the cheapest check.
        if _squares(wide) <= largest * largest:
            return wide
        least, most = -largest, largest
    if not (least <= wide.min() and wide.max() <= most):
        raise UnsureError
    return wide


def _squares(wide: NDArray[Any]) -> float:
    """Return the sum of the squares, in parts: for a large array, BLAS would start its threads."""
    if len(wide) <= FEW:
        return float(wide.dot(wide))
    parts = [wide[i : i + FEW] for i in range(0, len(wide), FEW)]
    return float(sum([part.dot(part) for part in parts]))


def narrow(dtype: str, numbers: Any) -> NDArray[Any]:
    """Convert a buffer of the type that `kind_of` names to a flat array of a dtype.

    Raises:
        UnsureError: a number does not fit the dtype.
    """
    check(dtype, numbers)
    return convert(dtype, numbers)


def convert(dtype: str, numbers: Any) -> NDArray[Any]:
    """Convert a buffer as `narrow` does, but without the check."""
    wide = np.frombuffer(numbers, np.float64 if dtype in LARGEST else np.int64)
    # Every number that simdjson reads as a float64 fits float64.
    return wide if dtype == "float64" else wide.astype(_DTYPES[dtype])
