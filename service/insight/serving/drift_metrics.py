"""The metrics of drift: counters by bin, those of the reference, and gauges of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from service.insight.drift.findings import DRIFT, NO_DRIFT
from service.insight.serving.bins import bins
from service.insight.serving.windows import ALL, DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from service.insight.serving.drift import Counted, Drift
    from service.repository.repository import Repository

_VERSION = ("model", "version")
_BINS = {
    "head": "Rows by the bin of the reference that the answer of a head is in.",
    "feature": "Rows by the bin of the reference that a feature is in, of the rows that are "
    "counted; only with TRICEPS_DRIFT=features.",
}


def families(drift: Drift, repository: Repository) -> Iterator[Metric]:
    """Yield the metrics of drift, if it is counted at all.

    Args:
        drift: what is counted.
        repository: the repository whose versions are shown, each from its first answer on.
    """
    if drift.setting == "off":
        return
    made = _Families()
    vectors = drift.vectors()
    # The cells of versions that nobody asks are never laid out.
    asked = {name[1:3] for name in vectors}
    for servable in (one for entries in repository.served.values() for one in entries):
        version = servable.name, servable.version
        whole = drift.counted(servable, ALL, vectors) if version in asked else None
        if whole is None or whole.since is None:
            continue
        made.add_bins(version, whole)
        for window in (HOUR, DAY):
            counted = drift.counted(servable, window, vectors)
            if counted is not None:
                made.add_window(version, window.name, counted)
    yield from made.metrics()


class _Families:
    """The metrics, and what is added to them for each version."""

    def __init__(self) -> None:
        sides = ("head", "feature")
        self._bins = {
            side: CounterMetricFamily(
                f"triceps_{side}_bin", _BINS[side], labels=(*_VERSION, side, "bin")
            )
            for side in sides
        }
        self._references = {
            side: GaugeMetricFamily(
                f"triceps_{side}_bin_reference",
                f"Rows of the reference by bin, of each {side} that is counted.",
                labels=(*_VERSION, side, "bin"),
            )
            for side in sides
        }
        about = (
            "The population stability index of {} against the reference over the last hour or day; "
            "only of those with enough rows for a verdict."
        )
        self._psi = {
            "head": GaugeMetricFamily(
                "triceps_head_drift_psi",
                about.format("the answers of a head"),
                labels=(*_VERSION, "head", "window"),
            ),
            "feature": GaugeMetricFamily(
                "triceps_drift_psi",
                about.format("a feature"),
                labels=(*_VERSION, "feature", "window"),
            ),
        }
        labels = (*_VERSION, "window")
        self._found = GaugeMetricFamily(
            "triceps_drift_found",
            "Features and heads whose verdict over the last hour or day is drift.",
            labels=labels,
        )
        self._share = GaugeMetricFamily(
            "triceps_drift_share",
            "The share of the rows answered in the last hour or day that were counted.",
            labels=labels,
        )

    def add_bins(self, version: tuple[str, str], counted: Counted) -> None:
        """Add the counts of a version since its first row."""
        for place in counted.layout.places:
            if not place.quantity.is_head and not counted.has_features:
                continue
            side = "head" if place.quantity.is_head else "feature"
            for name, cell in bins(place):
                labels = (*version, place.quantity.name, name)
                self._bins[side].add_metric(labels, int(counted.counts[cell]))
                self._references[side].add_metric(labels, int(place.expected[cell - place.start]))

    def add_window(self, version: tuple[str, str], window: str, counted: Counted) -> None:
        """Add the findings of a version in a window."""
        found = counted.findings()
        for side, listed in (("head", found["heads"]), ("feature", found["features"])):
            for one in listed:
                if one["psi"] is not None and one["verdict"] in {DRIFT, NO_DRIFT}:
                    self._psi[side].add_metric((*version, one[side], window), one["psi"])
        drifting = [one for side in found.values() for one in side if one["verdict"] == DRIFT]
        self._found.add_metric((*version, window), len(drifting))
        self._share.add_metric((*version, window), counted.share)

    def metrics(self) -> tuple[Metric, ...]:
        """Return all metrics."""
        return (
            *self._bins.values(),
            *self._references.values(),
            *self._psi.values(),
            self._found,
            self._share,
        )
