"""What all workers have counted of each version, beside its reference."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from service.insight.drift.findings import findings
from service.insight.serving import windows
from service.insight.serving.drift_meter import FEATURES, FRONT, HEADS, ROWS, DriftMeter
from service.insight.serving.sampling import Share
from service.observability.logs import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.insight.drift.counting import Layout
    from service.insight.serving.windows import Window
    from service.observability.metrics import Metrics
    from service.repository.loader import Servable
    from service.signature import Signature

    Vectors = Mapping[tuple[str, ...], list[NDArray[np.float64]]]

# The part of its processor time for which a worker counts answers, and features.
TIME = 0.01
# The number of replaced meters that are kept: requests in flight may still hold one of them.
_FORMER = 64


class Counted(NamedTuple):
    """What was counted of a version in a window: counts by cell, of `rows` that were answered.

    `since` is `None` before the first row.
    """

    layout: Layout
    has_features: bool
    since: float | None
    answered: int
    rows: int
    counts: NDArray[np.int64]

    @property
    def share(self) -> float:
        """The share of the answered rows that were counted."""
        # Another worker may have counted features a moment before the answers to them.
        return min(1.0, self.rows / self.answered) if self.answered else 1.0

    def findings(self) -> dict[str, Any]:
        """Return for JSON what is to be said about the heads, and the features if counted."""
        found = findings(self.layout, self.counts)
        return found if self.has_features else {**found, "features": []}


def is_counted(setting: str, signature: Signature) -> bool:
    """Return whether anything of a model is counted.

    Args:
        setting: TRICEPS_DRIFT: off, heads or features.
        signature: its signature.
    """
    return setting != "off" and signature.reference is not None and not signature.tensor


class Drift:
    """The meters of one process, and what all processes have counted."""

    def __init__(self, setting: str, metrics: Metrics) -> None:
        """Count answers, and features if they are wanted.

        Args:
            setting: TRICEPS_DRIFT: off, heads or features.
            metrics: has the vectors of all workers, and brings this worker's up to date.
        """
        self.setting = setting
        self._metrics = metrics
        self._heads = Share(TIME)
        self._features = Share(TIME) if setting == "features" else None
        self._meters: dict[tuple[str, str], DriftMeter] = {}
        self._former: deque[DriftMeter] = deque(maxlen=_FORMER)
        self._lock = threading.Lock()
        metrics.also_flush.append(self._flush)

    def meter(self, servable: Servable) -> DriftMeter | None:
        """Return the meter of a version or view; `None` if nothing of it is counted."""
        signature = servable.signature
        if not is_counted(self.setting, signature):
            return None
        name = servable.name, servable.version
        with self._lock:
            meter = self._meters.get(name)
            if meter is None or meter.signature() is not signature:
                # The file of the version may have changed; requests in flight hold the old one.
                if meter is not None:
                    self._former.append(meter)
                self._let_go()
                own = self._metrics.own_vectors
                meter = self._meters[name] = DriftMeter(own, servable, self._heads, self._features)
        return meter

    def counted(
        self, servable: Servable, window: Window, vectors: Vectors | None = None
    ) -> Counted | None:
        """Return what all workers have counted of a version in a window; `None` if nothing is.

        Args:
            servable: the version or view.
            window: the window.
            vectors: those of all workers by name, if they have been read already.
        """
        meter = self.meter(servable)
        cells = None if meter is None else meter.cells()
        if cells is None or not cells[0].places:
            return None
        layout, name = cells
        those = (self.vectors() if vectors is None else vectors).get(name, [])
        since, numbers = windows.read(those, window, time.time(), time.monotonic())
        counts = np.zeros(layout.size, np.int64)
        answered = rows = 0
        if since is not None:
            counts[: len(numbers) - FRONT] = np.maximum(numbers[FRONT:], 0)
            answered = int(numbers[ROWS])
            rows = int(numbers[HEADS if self._features is None else FEATURES])
        return Counted(layout, self._features is not None, since, answered, rows, counts)

    def vectors(self) -> Vectors:
        """Return the vectors of all workers by name, this worker's up to date."""
        self._metrics.flush()
        found: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
        for region in self._metrics.vectors:
            for name, numbers in region.read():
                found.setdefault(name[:-1], []).append(numbers)
        return found

    def _flush(self) -> None:
        for meter in (*self._meters.values(), *self._former):
            meter.flush()

    def _let_go(self) -> None:
        """Forget the meters of versions that are unloaded and that no request holds any more."""
        for name, meter in list(self._meters.items()):
            if meter.signature() is None:
                meter.flush()
                del self._meters[name]


def describe(counted: Counted, window: Window) -> dict[str, Any]:
    """Return for JSON what was counted in a window, the worst first."""
    return {
        "since": None if counted.since is None else moment(counted.since),
        "rows": counted.rows,
        "share": counted.share,
        "window": window.name,
        **counted.findings(),
    }
