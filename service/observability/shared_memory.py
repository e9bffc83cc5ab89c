"""Shared memory for the metrics of all workers: one region per worker, with named series.

a worker ─ writing ─▶ its region ─┐
the others' regions ─┴─ read ─▶ every series by name, as it was at one moment

A series has as many numbers as its family, or is a vector, whose name ends with its length.
The process that runs shadows has a region, too.
"""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import contextmanager
from io import BytesIO
from logging import getLogger
from time import sleep
from typing import TYPE_CHECKING

import numpy as np
import orjson

from service.observability import tallies
from service.observability.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

log = getLogger(__name__)

_HEADER = 64
# The bytes of a region for the names of series, and for their numbers.
NAMES = 4 * 2**20
NUMBERS = 4 * 2**20
# Those for vectors, such as the counts of drift.
VECTOR_NAMES = 2**20
VECTOR_NUMBERS = 32 * 2**20
_ATTEMPTS = 100
# The indices of the numbers in a region's header.
_SEQUENCE, _END, _USED, PID, STARTS, CONNECTIONS, RUNNING, STOPS = range(8)


class SharedNumbers:
    """The shared memory of all workers, created before they are forked.

    Each worker has one region for series of a few numbers, and one for vectors.  Pages that are
    never written take no memory.
    """

    def __init__(
        self,
        workers: int = 1,
        names: int = NAMES,
        numbers: int = NUMBERS,
        vectors: int = VECTOR_NUMBERS,
    ) -> None:
        """Create the regions of `workers` workers, each with so many bytes."""
        *self.regions, self.shadow = _regions(workers + 1, names, numbers)
        self.vectors = _regions(workers, VECTOR_NAMES, vectors)
        shared = memoryview(mmap.mmap(-1, workers * tallies.SIZE))
        self.tallies = [shared[i * tallies.SIZE : (i + 1) * tallies.SIZE] for i in range(workers)]
        """For each worker, the memory of its `Tallies`."""


def _regions(workers: int, names: int, numbers: int) -> list[Region]:
    size = _HEADER + names + numbers
    memory = memoryview(mmap.mmap(-1, workers * size))
    return [Region(memory[i * size : (i + 1) * size], names) for i in range(workers)]


class Region:
    """The numbers of one worker and their names: only that worker writes, and all may read.

    A name is a line of JSON, [family, value of a label, …].  Names and numbers have the same order.
    """

    def __init__(self, memory: memoryview, names: int) -> None:
        self.header = memory[:_HEADER].cast("q")
        self._names = memory[_HEADER : _HEADER + names]
        self._numbers: NDArray[np.float64] = np.frombuffer(memory[_HEADER + names :], np.float64)
        # Series that do not fit any more are counted here, and never reported.
        self._spill = len(self._numbers) - max(family.width for family in FAMILIES.values())
        self._places: dict[tuple[str, ...], int] = {}
        self._full = False
        self._lock = threading.Lock()

    def join(self) -> None:
        """Become the writer of the region, and continue from the counts of the previous writer."""
        self.header[_SEQUENCE] += self.header[_SEQUENCE] % 2
        self.header[PID] = os.getpid()
        self.header[STARTS] += 1
        self.header[CONNECTIONS] = -1
        self.header[_USED] = 0
        for name, place, width in self._directory():
            self._places[name] = place
            self.header[_USED] = place + width

    @contextmanager
    def writing(self) -> Iterator[NDArray[np.float64]]:
        """Yield the numbers for writing; a reader sees all changes of the block, or none."""
        with self._lock:
            self.header[_SEQUENCE] += 1
            try:
                yield self._numbers
            finally:
                self.header[_SEQUENCE] += 1

    def place(self, *name: str) -> int:
        """Return the index of a series' first number, adding the series if need be.

        Call this inside a `writing` block.

        Args:
            name: the name of the family, and the values of its labels.
        """
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = self._add(name, FAMILIES[name[0]].width)
        return place

    def clear(self, is_chosen: Callable[[tuple[str, ...]], bool]) -> None:
        """Set the numbers of the series whose names `is_chosen` accepts to zero."""
        with self.writing() as numbers:
            for name, place, width in self._directory():
                if is_chosen(name):
                    numbers[place : place + width] = 0

    def vector(self, name: tuple[str, ...], length: int) -> NDArray[np.float64] | None:
        """Return the numbers of a vector, adding it if need be; `None` if there is no room.

        Call this, and change the numbers, inside a `writing` block.

        Args:
            name: the name of a kind that is no family, and more that tells vectors apart.
            length: its length.
        """
        name = (*name, str(length))
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = self._add(name, length)
        return None if place == self._spill else self._numbers[place : place + length]

    def _add(self, name: tuple[str, ...], width: int) -> int:
        # The name of a folder may not be valid Unicode, but the Prometheus format has to be.
        line = orjson.dumps([part.encode(errors="replace").decode() for part in name]) + b"\n"
        end = self.header[_END]
        if end + len(line) > len(self._names) or self.header[_USED] + width > self._spill:
            if not self._full:
                log.warning(
                    "/metrics has no room for more series: %r and others are left out", name
                )
            self._full = True
            return self._spill
        place = self.header[_USED]
        self._names[end : end + len(line)] = line
        # `_END` comes last: readers read the names before it, and the numbers of those names.
        self.header[_USED] = place + width
        self.header[_END] = end + len(line)
        return place

    def read(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
        """Yield all series with their names, as they were at one moment.

        Yields:
            Pairs of a name (family, value of a label, …) and its numbers, float64, [width].
        """
        for _ in range(_ATTEMPTS):
            before, numbers, after = self._copy()
            if before == after and before % 2 == 0:
                break
            # The writer is busy for some dozens of microseconds, or was killed while writing.
            sleep(0.0002)
        else:
            _, numbers, _ = self._copy()
        for name, place, width in self._directory():
            if place + width <= len(numbers):
                yield name, numbers[place : place + width]

    def _copy(self) -> tuple[int, NDArray[np.float64], int]:
        """Return a copy of the numbers in use, and the sequence number before and after the copy.

        The sequence number is odd while a writer is at work.
        """
        # Threads of this process take turns: otherwise every copy might be interrupted by another
        # thread's flush, forever.
        with self._lock:
            before = self.header[_SEQUENCE]
            return before, self._numbers[: self.header[_USED]].copy(), self.header[_SEQUENCE]

    def _directory(self) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """Yield the name, place and width of every series, in order."""
        place = 0
        # Line by line, since the series of versions that are gone outnumber the others in time.
        for line in BytesIO(self._names[: self.header[_END]]):
            name = tuple(orjson.loads(line))
            width = FAMILIES[name[0]].width if name[0] in FAMILIES else int(name[-1])
            yield name, place, width
            place += width
