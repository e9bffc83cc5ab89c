"""The limits of large bodies and answers, and the places where they are read and written.

    up to AT_ONCE             in the event loop, which costs less than a thread
    up to QUICK, regular      in the event loop too, by a reader that takes a millisecond or two
    everything else           in a thread, one at a time, in short calls between which others run

A body is regular if a fast reader takes it (`wire.quick`).

A thread does not make a long call short: no other thread runs while a library holds the
interpreter's lock.  So large data is also counted before it is built: brackets before they become
lists (`wire.body`), rows before they run, and numbers before they become text.
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
    from service.wire.dialect import Header, Query, Reader

# Bytes of a body that the event loop reads, whatever they contain: some milliseconds at worst.
AT_ONCE = 2**16
# Compressed bytes that the event loop inflates, a thousandfold at worst.
ZIPPED_AT_ONCE = 2**12
# Bytes of a regular body that the event loop reads.
QUICK = 2**21
# Numbers and rows of an answer that the event loop writes.
NUMBERS_AT_ONCE = 2**16
ROWS_AT_ONCE = 2**12
# Numbers in one answer: as JSON, with all intermediate values, they take some 50 to 100 MB.
MOST_NUMBERS = 2**22

# Bytes of a missing or an unseen value that an answer lists: its note, and what is written of it.
NOTE_BYTES = 400

# One lock for large bodies and answers and one for huge ones, so that large ones do not wait for
# huge ones.  At any time, decoding and encoding take memory for one of each.
_turns = (Lock(), Lock())


def is_huge(size: int) -> bool:
    """Return whether a body of `size` bytes, or an answer of `size` values, is huge.

    To decode or encode it takes tenths of seconds.
    """
    return size > QUICK


def read(reader: Reader, body: bytes, header: Header) -> Query:
    """Decode a body with `reader`; a large body waits for its turn.

    Raises:
        RequestError: from `reader`.
    """
    if len(body) <= AT_ONCE:
        return reader(body, header)
    with _turns[is_huge(len(body))]:
        return reader(body, header)


def turn(size: int) -> Lock:
    """Return the lock to hold while an answer of `size` numbers is written."""
    return _turns[is_huge(size)]


def numbers_a_row(signature: Signature, heads: Iterable[str]) -> int:
    """Return the number of values in the answer to one row; an axis of any length counts as 1."""
    return sum(
        math.prod(axis or 1 for axis in signature.heads[name].tensor.shape) for name in heads
    )


def rows_of(arrays: Mapping[str, NDArray[Any]] | Numbers) -> int:
    """Return the number of rows of a decoded body; for whole tensors, the length of axis 0."""
    if isinstance(arrays, Numbers):
        return arrays.rows
    first = next(iter(arrays.values()))
    return len(first) if first.ndim else 1


def check_rows(
    arrays: Mapping[str, NDArray[Any]] | Numbers, heads: Iterable[str], signature: Signature
) -> None:
    """Refuse rows whose answer would be too large, before they run.

    The size of an answer to whole tensors is known only after the run (see `check_answer`).

    Raises:
        BadRequest: the answer would have more than `MOST_NUMBERS` values.
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
    """Return the number of values of an answer.

    Raises:
        BadRequest: the answer has more than `MOST_NUMBERS` values.
    """
    size = sum(output.size for output in outputs.values())
    if size > MOST_NUMBERS:
        expected = f"rows whose answer has at most {MOST_NUMBERS} values: ask in several requests"
        raise wrong("body", expected, f"some that are answered with {size}")
    return size


def held(arrays: Mapping[str, NDArray[Any]] | Numbers) -> int:
    """Return the size of a decoded body in bytes."""
    by_tensor = arrays.arrays if isinstance(arrays, Numbers) else arrays
    return sum(array.nbytes for array in by_tensor.values())


def held_by_notes(query: Query) -> int:
    """Return about the bytes that the notes of a body take, until the answer has listed them."""
    return NOTE_BYTES * (len(query.imputed) + len(query.unseen))


def rows_at_once(signature: Signature) -> int:
    """Return the number of rows whose answer the event loop writes; 0 if their size is unknown."""
    if any(None in head.tensor.shape for head in signature.heads.values()):
        return 0
    each = max(1, numbers_a_row(signature, signature.heads))
    return min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // each)
