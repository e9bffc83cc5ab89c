"""The numbers of all workers in memory that they share: whose they are, and what each is called.

a worker ─ writing ─▶ its region ─┐
the others' regions ─┴─ read ─▶ every series by name, as it was at one moment
"""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from logging import getLogger
from time import sleep
from typing import TYPE_CHECKING

import numpy as np
import orjson
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

log = getLogger(__name__)

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3),
    *(10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5),
)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


@dataclass(frozen=True)
class Family:
    """Series that differ in their labels' values alone."""

    name: str
    made_by: type[
        CounterMetricFamily | GaugeMetricFamily | SummaryMetricFamily | HistogramMetricFamily
    ]
    about: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers a series is: a histogram's runs by bucket, and their sum."""
        if self.made_by in {CounterMetricFamily, GaugeMetricFamily}:
            return 1
        return 2 if self.made_by is SummaryMetricFamily else len(self.bounds) + 2


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "requests",
            CounterMetricFamily,
            "Requests by what they were answered with; 499 is for those whose sender was gone "
            'before.  What is no prediction has the dialect "other" and no model.  Other workers '
            "than the one that is asked are seen as they were at most a second ago, here and in "
            "all that follows.  All workers of triceps serve are counted; under another WSGI "
            "server each process counts its own requests, and tells of those alone.",
            ("model", "version", "dialect", "status"),
        ),
        Family("rows", CounterMetricFamily, "Rows that were run.", ("model", "version")),
        Family(
            "batch_rows",
            HistogramMetricFamily,
            "Rows that ran together, of requests that were waiting together.",
            ("model", "version"),
            ROWS,
        ),
        Family(
            "stage_seconds",
            HistogramMetricFamily,
            "Time that requests answered with 200 spent in decode, queue, run (that of all rows "
            "that ran together) and encode.",
            ("model", "version", "stage"),
            SECONDS,
        ),
        Family(
            "head_labels",
            CounterMetricFamily,
            "Rows that a head gave a label; several labels to a row, for a multilabel head.",
            ("model", "version", "head", "label"),
        ),
        Family(
            "head_score",
            SummaryMetricFamily,
            "Scores of a head, one a row: that of the likeliest label for a multiclass head, the "
            "mean of a row's values where there are several.  No NaN, no infinity.",
            ("model", "version", "head"),
        ),
        Family(
            "imputed",
            CounterMetricFamily,
            "Missing values that the feature's default stood in for.",
            ("model", "version", "feature"),
        ),
        Family(
            "queue_seconds",
            GaugeMetricFamily,
            "Seconds of work that wait for a model, at its pace of late; or for how long requests "
            "have waited without any run, if that is longer.  Of the workers, the most.",
            ("model",),
        ),
    )
}

_HEADER = 64
_NAMES = 4 * 2**20
_NUMBERS = 4 * 2**20
_ATTEMPTS = 100
# What the words of a header are.
_SEQUENCE, _END, _USED, PID, STARTS, CONNECTIONS = range(6)


class SharedNumbers:
    """The shared memory of all workers, a region each; to be made before they are forked.

    What is never touched of it takes no memory.
    """

    def __init__(self, workers: int = 1) -> None:
        """Make room for as many `workers`."""
        size = _HEADER + _NAMES + _NUMBERS
        memory = memoryview(mmap.mmap(-1, workers * size))
        self.regions = [Region(memory[i * size : (i + 1) * size]) for i in range(workers)]


class Region:
    """One worker's numbers and their names: written by it alone, read by all.

    A name is a line of JSON, [family, value of a label, …]; the names' order is the numbers'.
    """

    def __init__(self, memory: memoryview) -> None:
        self.header = memory[:_HEADER].cast("q")
        self._names = memory[_HEADER : _HEADER + _NAMES]
        self._numbers: NDArray[np.float64] = np.frombuffer(memory[_HEADER + _NAMES :], np.float64)
        # Where what no longer fits is counted, and not told.
        self._spill = len(self._numbers) - max(family.width for family in FAMILIES.values())
        self._places: dict[tuple[str, ...], int] = {}
        self._full = False
        self._lock = threading.Lock()

    def join(self) -> None:
        """Become its writer, and go on from what the one before it has counted."""
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
        """The numbers, to add to; a reader sees all that is done to them here or nothing of it."""
        with self._lock:
            self.header[_SEQUENCE] += 1
            try:
                yield self._numbers
            finally:
                self.header[_SEQUENCE] += 1

    def place(self, *name: str) -> int:
        """Where the numbers of a series begin, which is made if need be; while `writing`."""
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = self._add(name)
        return place

    def _add(self, name: tuple[str, ...]) -> int:
        # A folder's name need not be Unicode; Prometheus' text has to be.
        line = orjson.dumps([part.encode(errors="replace").decode() for part in name]) + b"\n"
        end = self.header[_END]
        width = FAMILIES[name[0]].width
        if end + len(line) > _NAMES or self.header[_USED] + width > self._spill:
            if not self._full:
                log.warning(
                    "/metrics has no room for more series: %r and others are not told", name
                )
            self._full = True
            return self._spill
        place = self.header[_USED]
        self._names[end : end + len(line)] = line
        # In this order, since others read what is before these ends.
        self.header[_USED] = place + width
        self.header[_END] = end + len(line)
        return place

    def read(self) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
        """All series by name, as they were at one moment."""
        for _ in range(_ATTEMPTS):
            before, numbers, after = self._copy()
            if before == after and before % 2 == 0:
                break
            # Its writer is at it, for some dozens of microseconds; or was killed while it was.
            sleep(0.0002)
        else:
            _, numbers, _ = self._copy()
        for name, place, width in self._directory():
            if place + width <= len(numbers):
                yield name, numbers[place : place + width]

    def _copy(self) -> tuple[int, NDArray[np.float64], int]:
        """The numbers in use, and the sequence before and after they were copied."""
        # Threads of one process take turns: it might for ever be in the middle of a flush that
        # another gets to run.
        with self._lock:
            before = self.header[_SEQUENCE]
            return before, self._numbers[: self.header[_USED]].copy(), self.header[_SEQUENCE]

    def _directory(self) -> Iterator[tuple[tuple[str, ...], int, int]]:
        """Name, place and width of every series, in order."""
        place = 0
        # Line by line: those of versions that are gone outnumber the others, in time.
        for line in BytesIO(self._names[: self.header[_END]]):
            name = tuple(orjson.loads(line))
            width = FAMILIES[name[0]].width
            yield name, place, width
            place += width
