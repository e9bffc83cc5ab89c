"""Many varints at once: arrays from their bytes, and back.

A varint is a number of 7 bits in each byte, lowest first; the last byte is below 128.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire.body import wrong
from service.wire.protobuf import GOES_ON

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from service.wire.raw import Buffer

    Numbers = NDArray[np.uint64]

# Bytes that are read, and numbers that are written, in one step.
_AT_ONCE = 2**18
_LONGEST = 10


def count_in(content: Buffer) -> int:
    """Return the number of varints in bytes."""
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) < GOES_ON))


def read(content: Buffer) -> Numbers:
    """Return the numbers, modulo 2^64.

    Raises:
        BadRequest: the last one has no end, or one has more than ten bytes.
    """
    octets = np.frombuffer(content, np.uint8)
    if octets.size and octets[-1] >= GOES_ON:
        raise wrong("body", "a protobuf message", "packed numbers, of which the last has no end")
    parts = [_read_some(part) for part in _parts(octets)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.uint64), *parts])


def _parts(octets: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield parts of the bytes that end where a number does."""
    start = 0
    while start < octets.size:
        stop = start + _AT_ONCE
        # The number that the part ends in has nine more bytes at most.
        tail = np.flatnonzero(octets[stop - 1 : stop - 1 + _LONGEST] < GOES_ON)
        stop = stop + int(tail[0]) if tail.size else stop
        yield octets[start:stop]
        start = stop


def _read_some(octets: NDArray[np.uint8]) -> Numbers:
    ends = np.flatnonzero(octets < GOES_ON)
    if ends.size == octets.size:
        return octets.astype(np.uint64)
    starts = np.empty_like(ends)
    starts[:1] = 0
    starts[1:] = ends[:-1] + 1
    more = ends - starts
    longest = int(more.max(initial=0))
    if longest >= _LONGEST or not ends.size:
        raise wrong("body", "a protobuf message", "packed numbers, one of more than ten bytes")
    values = (octets[starts] & 127).astype(np.uint64)
    for step in range(1, longest + 1):
        longer = np.flatnonzero(more >= step)
        bits = (octets[starts[longer] + step] & 127).astype(np.uint64)
        values[longer] |= bits << np.uint64(7 * step)
    return values


def write(values: NDArray[Any]) -> bytes:
    """Return whole numbers, or booleans, as varints; a negative one is that of 64 bits."""
    flat = values.reshape(-1)
    parts = range(0, flat.size, _AT_ONCE)
    return b"".join(_write_some(flat[start : start + _AT_ONCE]) for start in parts)


def _write_some(values: NDArray[Any]) -> bytes:
    wide: Numbers = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64)
    wide = wide.view(np.uint64)
    most = int(wide.max())
    if most < GOES_ON:
        return wide.astype(np.uint8).tobytes()
    longest = -(-most.bit_length() // 7)
    sizes = np.ones(wide.shape, np.intp)
    for step in range(1, longest):
        sizes += wide >> np.uint64(7 * step) != 0
    starts = np.cumsum(sizes) - sizes
    octets = np.empty(int(sizes.sum()), np.uint8)
    for step in range(longest):
        longer = np.flatnonzero(sizes > step)
        bits = (wide[longer] >> np.uint64(7 * step)).astype(np.uint8) & 127
        octets[starts[longer] + step] = bits | (sizes[longer] > step + 1) * np.uint8(GOES_ON)
    return octets.tobytes()
