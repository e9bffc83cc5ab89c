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

from service.wire.values import LARGEST, RANGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_local = threading.local()
_FEW = 4096
LARGE = 4 * 2**20
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


def brackets(shape: Sequence[int]) -> int:
    """How many opening brackets a list in that shape has."""
    found = 1
    for axis in reversed(shape[:-1]):
        found = found * axis + 1
    return found


def narrow(dtype: str, numbers: Any) -> NDArray[Any]:
    """A buffer of what `kind_of` says as a flat array in a dtype, if all of it fits."""
    largest = LARGEST.get(dtype)
    if largest is None:
        return _narrow_whole(dtype, np.frombuffer(numbers, np.int64))
    wide = np.frombuffer(numbers, np.float64)
    if dtype == "float64":
        return wide  # every number that simdjson reads is one
    # No value is larger than the root of the sum of their squares, which for a few costs least;
    # over many, BLAS would call in its threads.
    if len(wide) <= _FEW:
        fitting = wide.dot(wide) <= largest * largest
    else:
        fitting = -largest <= wide.min() and wide.max() <= largest
    if not fitting:
        raise UnsureError
    return wide.astype(_DTYPES[dtype])


def _narrow_whole(dtype: str, wide: NDArray[Any]) -> NDArray[Any]:
    least, most = RANGES[dtype]
    if not (least <= wide.min() and wide.max() <= most):
        raise UnsureError
    return wide.astype(_DTYPES[dtype])
