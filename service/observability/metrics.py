"""Numbers about the service, counted by each worker and told by any of them.

    answered ─▶ a list of the worker ─ once a second ─▶ its region of shared memory ─┐
                                       the regions of the other workers ─────────────┴▶ /metrics

To note an answer is to append to a list; what it amounts to is worked out for hundreds of them at
once.  A worker that is asked counts to the moment, and the others' counts are a second old at
most.  The counts of one that died stay, but for its last second, and its successor adds to them.
"""

from __future__ import annotations

import mmap
import os
import platform
import threading
import weakref
from collections import Counter, deque
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service import __version__
from service.observability.shared_memory import (
    CONNECTIONS,
    FAMILIES,
    PID,
    ROWS,
    SECONDS,
    STARTS,
    SharedNumbers,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Sized

    from numpy.typing import NDArray
    from prometheus_client import Metric

    from service.observability.shared_memory import Region
    from service.repository.repository import Repository, Servable
    from service.run import Run
    from service.signature import Head
    from service.wire.body import Imputed

    # When a request was received, decoded, run (with whom), handed back and encoded.
    Times = tuple[float, float, Run, float, float]

log = getLogger(__name__)

# Who sends this header with the value 1 gets Server-Timing.  A header, and no query: the hot
# routes are found by the whole target, and the answer to one URL stays one answer.
ASK_TIMING = "X-Server-Timing"

STAGES = ("decode", "queue", "run", "encode")

# How many answers are noted before they are counted: counting costs much for one, and little more
# for hundreds.  What runs have answered is noted too, so there is a bound to those as well.
_ANSWERS = 512
_ROWS_AT_ONCE = 64
_VALUES = 2**14
# A head of more values a row is a picture, and no list of classes that anybody would chart.
MAX_VALUES = 1000
# The six moments of an answer; and of each stage, those that it ends and begins with.
_pack = Struct("6d").pack
_UNTIL, _SINCE = [1, 2, 3, 5], [0, 1, 2, 4]


_FORMER = 64


class Metrics:
    """What one process counts, and tells of all."""

    def __init__(self, board: SharedNumbers | None = None, slot: int = 0) -> None:
        """Count in one region of `shared_memory`; without one, for this process alone."""
        self._regions = (board or SharedNumbers()).regions
        self._region = self._regions[slot]
        self._region.join()
        self._meters: dict[tuple[str, str, str], Meter] = {}
        # Some that were replaced: requests on their way may still hold the last of them.
        self._former: deque[Meter] = deque(maxlen=_FORMER)
        self._lock = threading.Lock()
        self.connections: Sized | None = None

    def meter(self, servable: Servable, dialect: str = "native") -> Meter:
        """What counts the answers of a model's version in a dialect."""
        found = self._meters.get((servable.name, servable.version, dialect))
        if found is None or found.signature() is not servable.signature:
            return self._make(servable, dialect)
        return found

    def _make(self, servable: Servable, dialect: str) -> Meter:
        name = (servable.name, servable.version, dialect)
        with self._lock:
            found = self._meters.get(name)
            # Another thread may have been faster; a file may have changed and kept its version.
            if found is None or found.signature() is not servable.signature:
                if found is not None:
                    self._former.append(found)
                self._let_go()
                found = self._meters[name] = Meter(self._region, servable, dialect)
        return found

    def _let_go(self) -> None:
        """Forget what counts for versions that are unloaded, and that no request has any more."""
        for name, meter in list(self._meters.items()):
            if meter.signature() is None:
                meter.flush()
                del self._meters[name]

    def count(self, model: str, version: str, dialect: str, status: int) -> None:
        """Count a request that was not answered with 200, or was no prediction.

        Args:
            model: asked for, if there is one of that name; else empty.
            version: of it that was to answer; empty if none was.
            dialect: of a prediction; "other" for anything else.
            status: of the answer.
        """
        with self._region.writing() as numbers:
            numbers[self._region.place("requests", model, version, dialect, str(status))] += 1

    def note_waits(self, seconds: Mapping[str, float]) -> None:
        """Note how many seconds of work wait for each model, by its name."""
        with self._region.writing() as numbers:
            for model, wait in seconds.items():
                numbers[self._region.place("queue_seconds", model)] = wait

    def flush(self) -> None:
        """Bring this worker's region up to date."""
        if self.connections is not None:
            self._region.header[CONNECTIONS] = len(self.connections)
        for meter in (*self._meters.values(), *self._former):
            meter.flush()

    def totals(
        self, there: Container[tuple[str, ...]] | None = None
    ) -> dict[tuple[str, ...], NDArray[np.float64]]:
        """Series by name, summed over the workers; of a gauge, the largest.

        Args:
            there: models, and their versions, that are wanted, beside what is of no version; by
                default, all that were ever counted, which may be many more than there are.
        """
        found: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for region in self._regions:
            for name, numbers in region.read():
                if there is None or name[2:3] == ("",) or name[1:3] in there:
                    is_gauge = FAMILIES[name[0]].made_by is GaugeMetricFamily
                    join = np.maximum if is_gauge else np.add
                    found[name] = join(found[name], numbers) if name in found else numbers
        return found

    def workers(self) -> Iterator[tuple[str, Sequence[int]]]:
        """The number of each worker that was ever started, and the header of its region."""
        for slot, region in enumerate(self._regions):
            if region.header[STARTS]:
                yield str(slot), region.header.tolist()


class Meter:
    """Counts the answers of one version of a model in one dialect."""

    def __init__(self, region: Region, servable: Servable, dialect: str) -> None:
        """Use `Metrics.meter`."""
        # Weakly: whoever has a request to count has the version, too.
        self.signature = weakref.ref(servable.signature)
        self._region = region
        self._who = (servable.name, servable.version, dialect)
        # Noted, and not counted yet.
        self._moments: list[bytes] = []
        self._failures: list[int] = []
        self._runs: list[int] = []
        self._imputed: list[Imputed] = []
        self._has_failed = False
        signature = servable.signature
        row = sum(head.tensor.size or _VALUES for head in signature.heads.values())
        self._most_runs = max(1, min(_ANSWERS, _VALUES // row))
        who = self._who[:2]
        with region.writing():
            self._requests = region.place("requests", *self._who, "200")
            self._rows = region.place("rows", *who)
            self._batches = _Histograms(ROWS, [region.place("batch_rows", *who)])
            stages = [region.place("stage_seconds", *who, stage) for stage in STAGES]
            self._stages = _Histograms(SECONDS, stages)
            self._heads = [
                _HeadCounts(region, who, head)
                for head in signature.heads.values()
                if head.tensor.dtype != "string" and 0 < (head.tensor.size or 0) <= MAX_VALUES
            ]
            features = [
                f"{entry.name}.{feature.name}"
                for entry in signature.inputs.values()
                for feature in entry.features
                if feature.default is not None
            ]
            self._features = {name: region.place("imputed", *who, name) for name in features}

    def answered(self, times: Times, imputed: Sequence[Imputed]) -> None:
        """Note an answer with 200."""
        received, decoded, run, handed, encoded = times
        noted = self._moments
        noted.append(_pack(received, decoded, run.started, run.ended, handed, encoded))
        if imputed:
            self._imputed.extend(imputed)
        if not run.counted:
            run.counted = True
            self._runs.append(run.rows)
            for head in self._heads:
                head.note(run.outputs)
            if run.rows > _ROWS_AT_ONCE or len(self._runs) >= self._most_runs:
                self.flush()
        elif len(noted) >= _ANSWERS:
            self.flush()

    def failed(self, status: int) -> None:
        """Count a request that was answered otherwise, or not at all."""
        self._failures.append(status)
        if len(self._failures) >= _ANSWERS:
            self._count_failures()

    def flush(self) -> None:
        """Count what has been noted; what cannot be counted is dropped.

        Raises nothing: the numbers of one model are not to cost those of others, nor a request.
        """
        try:
            self._count()
        except Exception as error:  # noqa: BLE001  it is logged, once
            for noted in (self._moments, self._runs, self._imputed):
                noted.clear()
            self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        """Log why not all is counted, unless that was done before."""
        if not self._has_failed:
            self._has_failed = True
            what = "%s, version %s: not all answers are counted"
            log.error(what, *self._who[:2], exc_info=error)

    def _count(self) -> None:
        if self._failures:
            self._count_failures()
        if not self._moments:
            return
        # Scores may be anything, and what comes of an infinity is left out.
        with self._region.writing() as numbers, np.errstate(all="ignore"):
            moments = np.frombuffer(b"".join(_take(self._moments))).reshape(-1, 6).T
            rows = np.array(_take(self._runs), np.float64)
            numbers[self._requests] += moments.shape[1]
            numbers[self._rows] += rows.sum()
            self._stages.add(numbers, moments[_UNTIL] - moments[_SINCE])
            self._batches.add(numbers, rows[None])
            for entry in _take(self._imputed):
                numbers[self._features[entry.feature]] += 1
            for head in self._heads:
                try:
                    head.add(numbers)
                except Exception as error:  # noqa: BLE001  it is logged, once
                    # A graph may answer in another shape than it declares.
                    self._log_once(error)

    def _count_failures(self) -> None:
        # Any thread may be here.
        with self._region.writing() as numbers:
            for status, times in Counter(_take(self._failures)).items():
                numbers[self._region.place("requests", *self._who, str(status))] += times


def _take(noted: list[Any]) -> list[Any]:
    """Empty a list that other threads may append to meanwhile, and only this one takes from."""
    taken = noted[:]
    del noted[: len(taken)]
    return taken


class _HeadCounts:
    """Counts the labels and scores of one head."""

    def __init__(self, region: Region, who: tuple[str, str], head: Head) -> None:
        self._head = head
        self._score = region.place("head_score", *who, head.name)
        names = head.labels or ()
        places = [region.place("head_labels", *who, head.name, name) for name in names]
        self._labels = np.array(places, np.int64)
        self._name = head.name
        # What it has answered, and is not counted yet: as bytes, so that no array is kept for it,
        # whose memory the next run can use while it is in the cache.
        self._noted: list[bytes] = []

    def note(self, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Note what it answered in a run, if it had a part in that."""
        output = outputs.get(self._name)
        if output is not None:
            self._noted.append(output.tobytes())

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Count what has been noted."""
        if not self._noted:
            return
        tensor = self._head.tensor
        values = np.frombuffer(b"".join(_take(self._noted)), tensor.dtype)
        counts, scores = _judge(self._head, values.reshape(-1, tensor.size or 1))
        if len(self._labels):
            numbers[self._labels] += counts
        scores = scores[np.isfinite(scores)]
        numbers[self._score] += len(scores)
        numbers[self._score + 1] += scores.sum(dtype=np.float64)


def _judge(head: Head, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """How many rows have each label, as `labels_of` gives them; and each row's score."""
    threshold = 0.5 if head.threshold is None else head.threshold
    if head.kind == "binary":
        scores = rows[:, 0]
        above = np.count_nonzero(scores > threshold)
        return np.array([len(rows) - np.count_nonzero(np.isnan(scores)) - above, above]), scores
    if head.kind == "multiclass":
        best = rows.argmax(axis=1)
        # Where there is a NaN, that is the largest.
        scores = rows[np.arange(len(rows)), best]
        return np.bincount(best[~np.isnan(scores)], minlength=rows.shape[1]), scores
    scores = rows[:, 0] if rows.shape[1] == 1 else rows.mean(axis=1, dtype=np.float64)
    if head.kind == "multilabel":
        known = rows[~np.isnan(rows).any(axis=1)]
        return np.count_nonzero(known > threshold, axis=0), scores
    return np.zeros(0), scores


class _Histograms:
    """Histograms of the same bounds."""

    def __init__(self, bounds: tuple[float, ...], places: list[int]) -> None:
        self._bounds = np.array(bounds)
        self._width = len(bounds) + 2
        self._first = self._width * np.arange(len(places))[:, None]
        self._places = np.array(places)[:, None] + np.arange(self._width)

    def add(self, numbers: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add some values to each, a row of `values`."""
        # A value belongs to the first bound that is not below it.
        buckets = self._bounds.searchsorted(values) + self._first
        counts = np.bincount(buckets.ravel(), minlength=self._places.size)
        added = counts.reshape(-1, self._width).astype(np.float64)
        added[:, -1] = values.sum(axis=1)
        numbers[self._places] += added


def server_timing(times: Times) -> str:
    """The value of a Server-Timing header, in its milliseconds."""
    received, decoded, run, handed, encoded = times
    spent = (decoded - received, run.started - decoded, run.ended - run.started, encoded - handed)
    return ", ".join(
        f"{stage};dur={1000 * seconds:.3f}" for stage, seconds in zip(STAGES, spent, strict=True)
    )


def expose(metrics: Metrics, repository: Repository, accept: str) -> tuple[bytes, str]:
    """The text of /metrics and its content type.

    Args:
        metrics: of this process.
        repository: what it serves, now.
        accept: the request's Accept header, which may ask for OpenMetrics.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, repository))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    """All there is to tell, in prometheus_client's words."""

    def __init__(self, metrics: Metrics, repository: Repository) -> None:
        self._metrics = metrics
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """As of now."""
        served = [entry for entries in self._repository.served.values() for entry in entries]
        for servable in served:
            # So that its series are there, at zero, before its first request.
            self._metrics.meter(servable)
        self._metrics.flush()
        yield _build()
        loaded = [(entry.name, entry.version) for entry in served]
        yield _gauge("model_loaded", "Versions that answer.", ("model", "version"), loaded)
        modes = [(e.name, e.version, e.model.batching.mode) for e in served]
        about = "How requests share runs of a version; /models/<name> says why, under batching."
        yield _gauge("model_batching", about, ("model", "version", "mode"), modes)
        refused = [(entry.name, entry.version or "") for entry in self._repository.refused]
        about = "Versions that do not answer; /models says why."
        yield _gauge("model_refused", about, ("model", "version"), refused)
        # A version that was removed asks for no place in a page that others have to read.
        names = self._repository.names()
        there: set[tuple[str, ...]] = {(name,) for name in names}
        there.update((name, v) for name in names for v in self._repository.states(name))
        yield from _counted(self._metrics.totals(there))
        yield from _processes(self._metrics.workers())


def _build() -> Metric:
    # To be imported only after `service.inference.model` has told it to send nothing anywhere.
    import onnxruntime

    build = InfoMetricFamily("triceps_build", "What is running.")
    versions = {"version": __version__, "onnxruntime": onnxruntime.__version__}
    build.add_metric((), {**versions, "python": platform.python_version()})
    return build


def _gauge(
    name: str, about: str, labels: tuple[str, ...], ones: Iterable[tuple[str, ...]]
) -> Metric:
    gauge = GaugeMetricFamily(f"triceps_{name}", about, labels=labels)
    for one in sorted(set(ones)):
        gauge.add_metric(one, 1)
    return gauge


def _counted(totals: Mapping[tuple[str, ...], NDArray[np.float64]]) -> Iterator[Metric]:
    for family in FAMILIES.values():
        made = family.made_by(f"triceps_{family.name}", family.about, labels=family.labels)
        for name in sorted(name for name in totals if name[0] == family.name):
            numbers = totals[name].tolist()
            if isinstance(made, CounterMetricFamily | GaugeMetricFamily):
                made.add_metric(name[1:], numbers[0])
            elif isinstance(made, SummaryMetricFamily):
                made.add_metric(name[1:], *numbers)
            else:
                bounds = [*map(repr, family.bounds), "+Inf"]
                below = np.cumsum(numbers[:-1]).tolist()
                made.add_metric(name[1:], list(zip(bounds, below, strict=True)), numbers[-1])
        yield made


def _processes(workers: Iterable[tuple[str, Sequence[int]]]) -> Iterator[Metric]:
    """The worker processes; what only Linux knows is there on Linux alone."""
    labels = ("worker",)
    starts = CounterMetricFamily("triceps_worker_starts", "Starts of a worker.", labels=labels)
    connections = GaugeMetricFamily("triceps_connections", "Connections open.", labels=labels)
    memory = GaugeMetricFamily(
        "triceps_worker_resident_memory_bytes",
        "Resident memory of a worker; what workers share is in each of them.",
        labels=labels,
    )
    files = GaugeMetricFamily("triceps_worker_open_files", "Open descriptors.", labels=labels)
    cpu = CounterMetricFamily(
        "triceps_worker_cpu_seconds", "Processor time of a worker since its start.", labels=labels
    )
    for worker, header in workers:
        starts.add_metric((worker,), header[STARTS])
        process = Path(f"/proc/{header[PID]}")
        with suppress(OSError):
            # In this order, so that of one that ends meanwhile nothing is told.
            count = len(os.listdir(process / "fd"))  # noqa: PTH208  only their number matters
            pages = int((process / "statm").read_text().split()[1])
            ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
            files.add_metric((worker,), count)
            memory.add_metric((worker,), pages * mmap.PAGESIZE)
            cpu.add_metric((worker,), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
        if header[CONNECTIONS] >= 0:
            connections.add_metric((worker,), header[CONNECTIONS])
    yield from (starts, connections, memory, files, cpu)
