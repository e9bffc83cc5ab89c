"""The page /metrics: the numbers of all workers and models, in Prometheus' words."""

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
from service.observability.shared_memory import CONNECTIONS, FAMILIES, PID, STARTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from prometheus_client import Metric

    from service.observability.metrics import Metrics
    from service.repository.repository import Repository


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
    # To be imported only after `service.inference` has told it to send nothing anywhere.
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
