"""Arrays to JSON, in the few ways that the dialects have of it.

JSON has no NaN and no infinities.  The native form has `null` for them, and the protocols of other
servers spell them out, as those servers do: NaN, Infinity, -Infinity, which Python's reader and
theirs take, and a strict parser stops at.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from service.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.errors import RequestError


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


def spelled(numbers: Any) -> orjson.Fragment:
    """A contiguous array, or one number of one, with words for what is not finite."""
    array = np.asarray(numbers)
    words = iter([json.dumps(number).encode() for number in array[~np.isfinite(array)].tolist()])
    return orjson.Fragment(re.sub(b"null", lambda _: next(words), write(numbers)))


def problems(error: RequestError) -> dict[str, Any]:
    """All that is wrong with a body, for an answer that says so; nothing of other errors."""
    if not isinstance(error, BadRequest):
        return {}
    return {"problems": [vars(problem) for problem in error.problems], "count": error.count}
