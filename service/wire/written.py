"""Conversion of arrays to JSON, in the forms that the dialects need.

JSON has no NaN and no infinities.  The native format writes `null` for them.  The dialects of other
servers write NaN, Infinity and -Infinity, as those servers do: Python's reader and the clients of
those servers accept that, while a strict parser refuses it.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from service.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError

# Values of an array that are written in one call, which takes some milliseconds.
VALUES_AT_ONCE = 2**16
# Items of a list that are written in one call.  A longer list is written in _PIECES calls or more,
# each for _MOST_ITEMS items at most.
_FEW_ITEMS = 2**8
_PIECES = 2**6
_MOST_ITEMS = 2**11


def write(value: Any) -> bytes:
    """Return a value, which may contain arrays, as JSON; NaN and infinities become `null`."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def plain(output: NDArray[Any]) -> Any:
    """Return an output, [rows, …], in the form that `write` takes: lists of strings or an array."""
    if output.dtype == object:
        return output.tolist()
    # orjson takes only contiguous arrays; slices of a Fortran-ordered or strided output are none.
    return np.ascontiguousarray(output)


def rows(output: NDArray[Any]) -> Sequence[Any]:
    """Return the rows of an output for `write`, with NaN and infinities spelled out."""
    values: Sequence[Any] = plain(output)
    if output.dtype.kind != "f" or np.isfinite(output).all():
        return values
    finite = np.isfinite(output).reshape(len(output), -1).all(axis=1).tolist()
    return [row if ok else spelled(row) for row, ok in zip(values, finite, strict=True)]


def whole(output: NDArray[Any]) -> Any:
    """Return all rows as one value for `write`; for many rows, this is faster than `rows`."""
    values = plain(output)
    if output.dtype.kind != "f" or np.isfinite(output).all():
        return in_pieces(values)
    return spelled(values)


def in_pieces(values: Any) -> Any:
    """Return a small value unchanged, and a large array or list as JSON that is already written.

    The large ones are written in short calls, since no other thread runs while orjson writes.
    """
    if isinstance(values, np.ndarray):
        return values if values.size <= VALUES_AT_ONCE else orjson.Fragment(_joined(values, write))
    if not isinstance(values, list) or len(values) <= _FEW_ITEMS:
        return values
    step = min(len(values) // _PIECES, _MOST_ITEMS)
    parts = (write(values[i : i + step])[1:-1] for i in range(0, len(values), step))
    return orjson.Fragment(b"[%b]" % b",".join(parts))


def as_text(values: list[Any]) -> Any:
    """Return the JSON of a list as a string for `write`; a large one is written in short calls."""
    if len(values) <= _FEW_ITEMS:
        return write(values).decode()
    parts = (write(values[i : i + _FEW_ITEMS])[1:-1] for i in range(0, len(values), _FEW_ITEMS))
    quoted = (write(part.decode())[1:-1] for part in parts)
    return orjson.Fragment(b'"[%b]"' % b",".join(quoted))


def spelled(numbers: Any) -> orjson.Fragment:
    """Return a contiguous array, or one number, as JSON with NaN and infinities spelled out."""
    if not np.ndim(numbers):
        return orjson.Fragment(write(numbers) if np.isfinite(numbers) else _word(numbers))
    return orjson.Fragment(_joined(numbers, _spelled_text))


def _joined(array: NDArray[Any], text_of: Callable[[NDArray[Any]], bytes]) -> bytes:
    """Return the JSON of an array, written in parts."""
    if array.size <= VALUES_AT_ONCE:
        return text_of(array)
    step = VALUES_AT_ONCE * len(array) // array.size
    if step:
        parts = [text_of(array[i : i + step])[1:-1] for i in range(0, len(array), step)]
    else:
        parts = [_joined(part, text_of) for part in array]
    return b"[%b]" % b",".join(parts)


def _spelled_text(array: NDArray[Any]) -> bytes:
    texts = write(array).split(b"null")
    if len(texts) == 1:
        return texts[0]
    words = [_word(number) for number in array[~np.isfinite(array)].tolist()]
    return b"".join(itertools.chain.from_iterable(zip(texts, [*words, b""], strict=True)))


def _word(number: float) -> bytes:
    if math.isnan(number):
        return b"NaN"
    return b"Infinity" if number > 0 else b"-Infinity"


def problems(error: RequestError) -> dict[str, Any]:
    """Return the entries of an answer that list all problems of a body; none for other errors."""
    if not isinstance(error, BadRequest):
        return {}
    return {"problems": [vars(problem) for problem in error.problems], "count": error.count}
