"""The metrics of the service: each worker counts its own, and any worker reports all of them.

    answered ─▶ a meter of the worker ─ once a second ─▶ its region of shared memory ─┐
                                        the regions of the other workers ─────────────┴▶ /metrics

The worker that answers /metrics brings its own counts up to date first; those of other workers are
at most a second old.  The counts of a worker that died stay, except for its last second, and its
successor adds to them.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from prometheus_client.core import GaugeMetricFamily

from service.observability.families import FAMILIES
from service.observability.meter import Meter
from service.observability.shared_memory import CONNECTIONS, STARTS, SharedNumbers
from service.observability.tallies import Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Sized

    from numpy.typing import NDArray

    from service.repository.loader import Servable

# The number of replaced meters that are kept: requests in flight may still hold one of them.
_FORMER = 64


class Metrics:
    """The meters of one process, and the numbers of all processes."""

    def __init__(self, numbers: SharedNumbers | None = None, slot: int = 0) -> None:
        """Count in region `slot` of `numbers`; without `numbers`, in memory of this process."""
        numbers = numbers or SharedNumbers()
        self._workers = numbers.regions
        self.tallies = Tallies(numbers.tallies, slot)
        """The counts of requests that versions of a model share."""
        # The region of the process that runs shadows, and that of this process.
        self.shadow = numbers.shadow
        self.region = self._workers[slot]
        self.region.join()
        self.vectors = numbers.vectors
        """The vectors of all workers."""
        self.own_vectors = self.vectors[slot]
        """The vectors of this worker."""
        self.own_vectors.join()
        self.also_flush: list[Callable[[], None]] = []
        """What else is to be brought up to date whenever the metrics are; it raises nothing."""
        self._meters: dict[tuple[str, str, str], Meter] = {}
        self._former: deque[Meter] = deque(maxlen=_FORMER)
        self._lock = threading.Lock()
        self.connections: Sized | None = None

    def meter(self, servable: Servable, dialect: str) -> Meter:
        """Return the meter of a model's version in a dialect."""
        meter = self._meters.get((servable.name, servable.version, dialect))
        if meter is None or meter.signature() is not servable.signature:
            return self._make(servable, dialect)
        return meter

    def _make(self, servable: Servable, dialect: str) -> Meter:
        name = (servable.name, servable.version, dialect)
        with self._lock:
            meter = self._meters.get(name)
            # Another thread may have made it meanwhile; or the file of the version has changed.
            if meter is None or meter.signature() is not servable.signature:
                if meter is not None:
                    self._former.append(meter)
                self._let_go()
                meter = self._meters[name] = Meter(self.region, servable, dialect)
        return meter

    def _let_go(self) -> None:
        """Forget the meters of versions that are unloaded and that no request holds any more."""
        for name, meter in list(self._meters.items()):
            if meter.signature() is None:
                meter.flush()
                del self._meters[name]

    def count(self, model: str, version: str, dialect: str, status: int) -> None:
        """Count a request that was not answered with 200, or was not a prediction.

        Args:
            model: the name of the requested model; empty if there is no such model.
            version: the version that was to answer; empty if there was none.
            dialect: the dialect of a prediction; "other" for all other requests.
            status: the HTTP status of the answer.
        """
        with self.region.writing() as numbers:
            numbers[self.region.place("requests", model, version, dialect, str(status))] += 1

    def count_dropped(self, family: str, number: int) -> None:
        """Count lines that were dropped; 0 shows that they would be counted.

        Args:
            family: the name of the metric.
            number: the number of lines.
        """
        with self.region.writing() as numbers:
            numbers[self.region.place(family)] += number

    def note_waits(self, seconds: Mapping[str, float]) -> None:
        """Note the seconds of work that wait for each model, by the model's name."""
        with self.region.writing() as numbers:
            for model, wait in seconds.items():
                numbers[self.region.place("queue_seconds", model)] = wait

    def flush(self) -> None:
        """Bring this worker's region up to date."""
        if self.connections is not None:
            self.region.header[CONNECTIONS] = len(self.connections)
        for meter in (*self._meters.values(), *self._former):
            meter.flush()
        for flush in self.also_flush:
            flush()

    def totals(
        self, there: Container[tuple[str, ...]] | None = None
    ) -> dict[tuple[str, ...], NDArray[np.float64]]:
        """Return all series by name: sums over the workers, or the maximum for a gauge.

        Args:
            there: the models, (name,), and versions, (name, version), whose series are wanted;
                series of no model are always returned.  By default, the series of all versions
                that were ever counted, of which many may not exist any more.
        """
        sums: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for region in (*self._workers, self.shadow):
            for name, numbers in region.read():
                is_of_no_model = len(name) == 1 or name[2:3] == ("",)
                if there is None or is_of_no_model or name[1:3] in there:
                    is_gauge = FAMILIES[name[0]].made_by is GaugeMetricFamily
                    join = np.maximum if is_gauge else np.add
                    sums[name] = join(sums[name], numbers) if name in sums else numbers
        return sums

    def workers(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Yield the number of each worker that was ever started, and the header of its region.

        The process that runs shadows has a name in place of a number.
        """
        for slot, region in enumerate(self._workers):
            if region.header[STARTS]:
                yield str(slot), region.header.tolist()
        if self.shadow.header[STARTS]:
            yield "shadow", self.shadow.header.tolist()
