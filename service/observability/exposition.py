"""The page /metrics: the numbers of all workers and models, in the format of Prometheus."""

from __future__ import annotations

import mmap
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

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
from service.observability.families import FAMILIES
from service.observability.shared_memory import CONNECTIONS, PID, STARTS
from service.wire import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from prometheus_client import Metric

    from service.observability.metrics import Metrics
    from service.observability.tallies import Tallies
    from service.repository.loader import Servable
    from service.repository.repository import Repository


def expose(
    metrics: Metrics,
    repository: Repository,
    accept: str,
    more: Callable[[], Iterator[Metric]] | None = None,
) -> tuple[bytes, str]:
    """Return the text of /metrics and its content type.

    Args:
        metrics: the metrics of this process, which read those of all workers.
        repository: the repository that this process serves now.
        accept: the request's Accept header, which may ask for OpenMetrics.
        more: returns the metrics to add.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(metrics, repository, more))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    """A collector of prometheus_client that gives all metrics of the service."""

    def __init__(
        self,
        metrics: Metrics,
        repository: Repository,
        more: Callable[[], Iterator[Metric]] | None,
    ) -> None:
        self._more = more
        self._metrics = metrics
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its current value."""
        served = [entry for entries in self._repository.served.values() for entry in entries]
        for servable in served:
            # So that the series of a version exist, at zero, before its first request.
            self._metrics.meter(servable, native.DIALECT.name)
        self._metrics.flush()
        yield _build()
        loaded = [(entry.name, entry.version) for entry in served]
        yield _gauge("model_loaded", "Versions that answer.", ("model", "version"), loaded)
        modes = [(e.name, e.version, e.model.batching.mode) for e in served]
        about = "How requests share runs of a version; /models/<name> says why, under batching."
        yield _gauge("model_batching", about, ("model", "version", "mode"), modes)
        yield _differences(served)
        yield _retreats(self._metrics.tallies, self._repository)
        refused = [(entry.name, entry.version or "") for entry in self._repository.refused]
        about = "Versions that do not answer; /models says why."
        yield _gauge("model_refused", about, ("model", "version"), refused)
        # The series of removed versions are left out: they would only make the page longer.
        names = self._repository.names()
        there: set[tuple[str, ...]] = {(name,) for name in names}
        # Those of refused ones are not: another worker may still have the version loaded.
        there.update(found.key for found in self._repository.catalog.scan.versions)
        there.update((name, v) for name in names for v in self._repository.states(name))
        yield from _counted(self._metrics.totals(there))
        if self._more is not None:
            yield from self._more()
        yield from _processes(self._metrics.workers())


def _build() -> Metric:
    # Imported here, after `service.inference`, which turns its telemetry off.
    import onnxruntime

    build = InfoMetricFamily("triceps_build", "What is running.")
    versions = {"version": __version__, "onnxruntime": onnxruntime.__version__}
    build.add_metric((), {**versions, "python": platform.python_version()})
    return build


def _differences(served: Iterable[Servable]) -> Metric:
    gauge = GaugeMetricFamily(
        "triceps_provider_difference",
        "The largest difference between the answers of a version's execution provider and those of "
        "the CPU, absolute below 1 and relative above, for golden and random rows; only of "
        "providers other than the CPU's.",
        labels=("model", "version", "provider"),
    )
    for entry in served:
        execution = entry.model.execution
        if not execution.is_cpu:
            labels = (entry.name, entry.version, execution.provider)
            gauge.add_metric(labels, entry.model.difference)
    return gauge


def _retreats(tallies: Tallies, repository: Repository) -> Metric:
    about = (
        "1 for each canary that is asked no more, since it failed too often or took too long, and "
        "0 for each that is asked."
    )
    labels = ("model", "version")
    gauge = GaugeMetricFamily("triceps_canary_retreated", about, labels=labels)
    for name, servable in sorted(repository.candidates.canaries.items()):
        shares = repository.traffic(name)
        if shares is not None:
            owner, _ = repository.key(name, "")
            is_ended = tallies.ended(shares.identity(owner)) is not None
            gauge.add_metric((name, servable.version), float(is_ended))
    return gauge


def _gauge(
    name: str, about: str, labels: tuple[str, ...], series: Iterable[tuple[str, ...]]
) -> Metric:
    gauge = GaugeMetricFamily(f"triceps_{name}", about, labels=labels)
    for values in sorted(set(series)):
        gauge.add_metric(values, 1)
    return gauge


def _counted(totals: Mapping[tuple[str, ...], NDArray[np.float64]]) -> Iterator[Metric]:
    for family in FAMILIES.values():
        metric = family.made_by(f"triceps_{family.name}", family.about, labels=family.labels)
        for name in sorted(name for name in totals if name[0] == family.name):
            numbers = totals[name].tolist()
            if isinstance(metric, CounterMetricFamily | GaugeMetricFamily):
                metric.add_metric(name[1:], numbers[0])
            elif isinstance(metric, SummaryMetricFamily):
                metric.add_metric(name[1:], *numbers)
            else:
                bounds = [*map(repr, family.bounds), "+Inf"]
                below = np.cumsum(numbers[:-1]).tolist()
                metric.add_metric(name[1:], list(zip(bounds, below, strict=True)), numbers[-1])
        yield metric


def _processes(workers: Iterable[tuple[str, Sequence[int]]]) -> Iterator[Metric]:
    """Yield the metrics of the worker processes; those read from /proc exist on Linux only."""
    labels = ("worker",)
    starts = CounterMetricFamily("triceps_worker_starts", "Starts of a worker.", labels=labels)
    connections = GaugeMetricFamily("triceps_connections", "Connections open.", labels=labels)
    memory = GaugeMetricFamily(
        "triceps_worker_resident_memory_bytes",
        "Resident memory of a worker; memory that workers share is counted in each of them.",
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
            # Everything is read before anything is added: a worker that ends now is left out.
            count = len(os.listdir(process / "fd"))  # noqa: PTH208  only their number matters
            pages = int((process / "statm").read_text().split()[1])
            ticks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
            files.add_metric((worker,), count)
            memory.add_metric((worker,), pages * mmap.PAGESIZE)
            cpu.add_metric((worker,), sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
        if header[CONNECTIONS] >= 0:
            connections.add_metric((worker,), header[CONNECTIONS])
    yield from (starts, connections, memory, files, cpu)
