"""Large bodies and large answers: how large they may be, and where they are read and written.

    up to AT_ONCE             in the event loop, which costs less than to hand it on
    more, as it should be     likewise, up to QUICK, by a reader that takes a millisecond or two
    all else                  in a thread, one at a time, in calls that each let others run

A thread does not make a long call short: while a library holds the interpreter's lock nobody runs.
So what is large is also counted before it is built: brackets before they are lists (`wire.body`),
rows before they are run, and numbers before they are text.
"""

from __future__ import annotations

import math
from threading import Lock
from typing import TYPE_CHECKING, Any

from service.wire.body import count, wrong
from service.wire.numbers import Numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.dialect import Asked, Header, Reader

# Bytes of a body that the event loop reads whatever is in it: some milliseconds at worst.
AT_ONCE = 2**16
# Compressed bytes that it inflates, a thousandfold at worst.
ZIPPED_AT_ONCE = 2**12
# Bytes that it reads if they are as they should be.
QUICK = 2**21
# Numbers and rows of an answer that it writes.
NUMBERS_AT_ONCE = 2**16
ROWS_AT_ONCE = 2**12
# Numbers of one answer: as JSON some 50 to 100 MB with all that is made on the way.
MOST_NUMBERS = 2**22

# Whoever is larger waits for others like it, so that those of ordinary size do not wait for them.
# Memory for as many is all that decoding and encoding takes at once.
_turns = (Lock(), Lock())


def is_huge(size: int) -> bool:
    """Whether a body of so many bytes, or an answer of so many values, takes tenths of seconds."""
    return size > QUICK


def read(reader: Reader, body: bytes, header: Header) -> Asked:
    """What a reader makes of a body; of a large one, once it is its turn.

    Raises:
        RequestError: as `reader` does.
    """
    if len(body) <= AT_ONCE:
        return reader(body, header)
    with _turns[is_huge(len(body))]:
        return reader(body, header)


def turn(size: int) -> Lock:
    """The lock to hold while an answer of as many numbers is written."""
    return _turns[is_huge(size)]


def numbers_a_row(signature: Signature, heads: Iterable[str]) -> int:
    """How many values an answer has for each row; 1 for an axis that may have any length."""
    return sum(
        math.prod(axis or 1 for axis in signature.heads[name].tensor.shape) for name in heads
    )


def rows_of(arrays: Mapping[str, NDArray[Any]] | Numbers) -> int:
    """How many rows a decoded body has; of whole tensors, the length of the first axis."""
    if isinstance(arrays, Numbers):
        return arrays.rows
    first = next(iter(arrays.values()))
    return len(first) if first.ndim else 1


def check_rows(
    arrays: Mapping[str, NDArray[Any]] | Numbers, heads: Iterable[str], signature: Signature
) -> None:
    """Refuse rows whose answers are too large, before they are run.

    The answers of whole tensors are known only once they are there (see `check_answer`).

    Raises:
        BadRequest: they are.
    """
    if signature.tensor:
        return
    rows = rows_of(arrays)
    each = numbers_a_row(signature, heads)
    most = MOST_NUMBERS // max(1, each)
    if rows > most:
        expected = (
            f"at most {count(most, 'row')}, since each is answered with {count(each, 'value')} and "
            f"one answer has at most {MOST_NUMBERS}: ask in several requests, or for fewer heads"
        )
        raise wrong("body", expected, count(rows, "row"))


def check_answer(outputs: Mapping[str, NDArray[Any]]) -> int:
    """How many values an answer has.

    Raises:
        BadRequest: they are too many.
    """
    size = sum(output.size for output in outputs.values())
    if size > MOST_NUMBERS:
        expected = f"rows whose answer has at most {MOST_NUMBERS} values: ask in several requests"
        raise wrong("body", expected, f"some that are answered with {size}")
    return size


def held(arrays: Mapping[str, NDArray[Any]] | Numbers) -> int:
    """The bytes of a decoded body."""
    made = arrays.arrays if isinstance(arrays, Numbers) else arrays
    return sum(array.nbytes for array in made.values())


def rows_at_once(signature: Signature) -> int:
    """How many rows' answers the event loop writes; none where their size is not known."""
    if any(None in head.tensor.shape for head in signature.heads.values()):
        return 0
    each = max(1, numbers_a_row(signature, signature.heads))
    return min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // each)
