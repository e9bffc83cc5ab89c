"""Arrays to JSON, in the few ways that the dialects have of it.

JSON has no NaN and no infinities.  The native form has `null` for them, and the protocols of other
servers spell them out, as those servers do: NaN, Infinity, -Infinity, which Python's reader and
theirs take, and a strict parser stops at.
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
AT_ONCE = 2**16
# A list of no more is; a longer one in so many calls at least, each for so many items at most.
_FEW_ITEMS = 2**8
_PIECES = 2**6
_MOST_ITEMS = 2**11


def write(said: Any) -> bytes:
    """JSON of what may hold arrays; what is neither finite nor in words is `null`."""
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)


def plain(output: NDArray[Any]) -> Any:
    """An output, [rows, …], as `write` takes it: texts as lists, numbers row by row."""
    if output.dtype == object:
        return output.tolist()
    # Slices of a Fortran-ordered or strided output are not contiguous, and orjson takes no other.
    return np.ascontiguousarray(output)


def rows(output: NDArray[Any]) -> Sequence[Any]:
    """An output's rows, each as `write` takes it, with words for what is not finite."""
    made: Sequence[Any] = plain(output)
    if output.dtype.kind != "f" or np.isfinite(output).all():
        return made
    finite = np.isfinite(output).reshape(len(output), -1).all(axis=1).tolist()
    return [row if ok else spelled(row) for row, ok in zip(made, finite, strict=True)]


def whole(output: NDArray[Any]) -> Any:
    """All of `rows` at once, which of many is sooner written."""
    made = plain(output)
    if output.dtype.kind != "f" or np.isfinite(output).all():
        return in_pieces(made)
    return spelled(made)


def in_pieces(values: Any) -> Any:
    """A value as it is; of a large array or list its text, written in calls that are short.

    While orjson writes, nobody else runs.
    """
    if isinstance(values, np.ndarray):
        return values if values.size <= AT_ONCE else orjson.Fragment(_joined(values, write))
    if not isinstance(values, list) or len(values) <= _FEW_ITEMS:
        return values
    step = min(len(values) // _PIECES, _MOST_ITEMS)
    parts = (write(values[i : i + step])[1:-1] for i in range(0, len(values), step))
    return orjson.Fragment(b"[%b]" % b",".join(parts))


def spelled(numbers: Any) -> orjson.Fragment:
    """A contiguous array, or one number of one, with words for what is not finite."""
    if not np.ndim(numbers):
        return orjson.Fragment(write(numbers) if np.isfinite(numbers) else _word(numbers))
    return orjson.Fragment(_joined(numbers, _in_words))


def _joined(array: NDArray[Any], text_of: Callable[[NDArray[Any]], bytes]) -> bytes:
    """The text of an array, a part after another."""
    if array.size <= AT_ONCE:
        return text_of(array)
    step = AT_ONCE * len(array) // array.size
    if step:
        parts = [text_of(array[i : i + step])[1:-1] for i in range(0, len(array), step)]
    else:
        parts = [_joined(part, text_of) for part in array]
    return b"[%b]" % b",".join(parts)


def _in_words(array: NDArray[Any]) -> bytes:
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
    """All that is wrong with a body, for an answer that says so; nothing of other errors."""
    if not isinstance(error, BadRequest):
        return {}
    return {"problems": [vars(problem) for problem in error.problems], "count": error.count}
