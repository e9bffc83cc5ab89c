"""JSON straight to arrays, for bodies that are as they should be.

    bytes ── simdjson ──▶ buffers of float64 or int64 ──▶ arrays

It is several times as fast as Python values are, and decides nothing: whoever reads this way has a
plain way beside it, which knows every rule and every message, and leaves to it whatever raises one
of `UNSURE`.

simdjson flattens lists within lists of numbers, so [[1, 2], []] is two numbers in a list of two,
and finds the first of two keys.  So a reader counts the brackets, or colons, that it accounts for:
no more of them in the body mean that there is none of that.
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
"""So many numbers cost less than a call of numpy, about."""
LARGE = 4 * 2**20
# Values of a large body: to parse a million takes some 25 to 40 ms, in one call that lets nobody
# else run.  The plain way is slower, and goes piece by piece.
MOST_VALUES = 2**21
# Looked up once: to make one of its name takes numpy longer than to convert a few numbers.
_DTYPES = {name: np.dtype(name) for name in (*LARGEST, *RANGES)}


class UnsureError(Exception):
    """The plain way has to look at this body."""


UNSURE = (
    *(UnsureError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    # A sum of squares that overflows is past every limit, as it should be; a process that has not
    # told numpy so may have made its warnings errors.
    RuntimeWarning,
)
"""What simdjson refuses, and what an element of another kind than hoped raises."""


def parse(body: bytes) -> Any:
    """The parsed object; a parser serves one thread, and one document at a time."""
    # A byte order mark is white space to simdjson, and an error to everybody else.
    if body[:1] != b"{":
        raise UnsureError
    if len(body) > LARGE:
        # What the plain way refuses is not built first.
        if count(body, b"[") + count(body, b"{") > MOST_OPENED:
            raise UnsureError
        if count(body, b",") >= MOST_VALUES:
            raise UnsureError
        # A parser keeps ten times its largest body; one of its own takes that with it.
        return simdjson.Parser().parse(body)
    try:
        return _local.parser.parse(body)
    except (AttributeError, RuntimeError):
        # The thread's first, or the last document is still held somewhere (by a traceback, say):
        # leave it that parser.
        parser = _local.parser = simdjson.Parser()
        return parser.parse(body)


def kind_of(dtype: str) -> Any:
    """What simdjson is to have a dtype's numbers in, by its name for it; `None`: it has none."""
    # Its whole numbers have 64 bits with a sign.
    if dtype in ("bool", "string", "uint64"):
        return None
    return "d" if dtype in LARGEST else "i"


def is_nested(element: Any, shape: Sequence[int]) -> bool:
    """Whether a list is nested in just that shape."""
    if len(element) != shape[0]:
        return False
    return len(shape) == 1 or all(
        type(part) is simdjson.Array and is_nested(part, shape[1:]) for part in element
    )


def count(body: bytes, character: bytes) -> int:
    """How often one character of ASCII is in a body."""
    if len(body) < FEW:
        return body.count(character)
    # Which compares a byte at a time.
    return int(np.count_nonzero(np.frombuffer(body, np.uint8) == character[0]))


def brackets(shape: Sequence[int]) -> int:
    """How many opening brackets a list in that shape has."""
    found = 1
    for axis in reversed(shape[:-1]):
        found = found * axis + 1
    return found


def check(dtype: str, numbers: Any) -> int:
    """How many numbers there are in a buffer of what `kind_of` says, all of which fit a dtype.

    Raises:
        UnsureError: one does not.
    """
    largest = ROUNDED.get(dtype)
    least: float
    most: float
    if largest is None:
        wide: NDArray[Any] = np.frombuffer(numbers, np.int64)
        least, most = RANGES[dtype]
    else:
        wide = np.frombuffer(numbers, np.float64)
        # No value is larger than the root of the sum of their squares, which costs least.
        if _squares(wide) <= largest * largest:
            return len(wide)
        least, most = -largest, largest
    if not (least <= wide.min() and wide.max() <= most):
        raise UnsureError
    return len(wide)


def _squares(wide: NDArray[Any]) -> float:
    """The sum of their squares, of some at a time: over many, BLAS would call in its threads."""
    if len(wide) <= FEW:
        return float(wide.dot(wide))
    parts = [wide[i : i + FEW] for i in range(0, len(wide), FEW)]
    return float(sum([part.dot(part) for part in parts]))


def narrow(dtype: str, numbers: Any) -> NDArray[Any]:
    """A buffer of what `kind_of` says as a flat array in a dtype, if all of it fits.

    Raises:
        UnsureError: it does not.
    """
    check(dtype, numbers)
    return convert(dtype, numbers)


def convert(dtype: str, numbers: Any) -> NDArray[Any]:
    """As `narrow`, where it is known that all of it fits."""
    wide = np.frombuffer(numbers, np.float64 if dtype in LARGEST else np.int64)
    # Every number that simdjson reads as float64 is one.
    return wide if dtype == "float64" else wide.astype(_DTYPES[dtype])
