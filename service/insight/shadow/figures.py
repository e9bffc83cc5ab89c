"""The figures of a pair of versions: comparisons as numbers in shared memory, and back.

Comparison, by head ── add ─▶ the region of the process that runs shadows ─┐
rows dropped ── count ─▶ the regions of the workers ───────────────────────┴─ read ─▶ Figures
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from service.insight.comparison import EDGES, Comparison
from service.observability.shared_memory import STOPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from service.observability.metrics import Metrics
    from service.observability.shared_memory import Region

COMPARED, FAILED, DROPPED = "compared", "failed", "dropped"
CANDIDATE, STABLE = "candidate", "stable"
_BINS = len(EDGES) + 1


class Pair(NamedTuple):
    """The names of a model, of the version that is tried, and of the one that answers."""

    model: str
    version: str
    stable: str


class Seconds(NamedTuple):
    """The processor time of some rows."""

    rows: int
    seconds: float


@dataclass
class Figures:
    """What is known of a pair."""

    since: float = 0.0
    """The time since when it is compared; 0 if it is not, or not yet."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """The rows that were chosen, by outcome."""
    heads: dict[str, Comparison] = field(default_factory=dict)
    seconds: dict[str, Seconds] = field(default_factory=dict)
    """The time of both versions for the same rows, in the same process."""
    stopped: str = ""
    """The reason why the candidate is not run any more; empty if it is."""


def is_of(pair: Pair, name: tuple[str, ...]) -> bool:
    """Return whether a series is one of a pair."""
    return name[0].startswith("shadow_") and name[1:4] == pair


def restart(region: Region, pair: Pair) -> None:
    """Set all figures of a pair in a region to zero."""
    region.clear(lambda name: is_of(pair, name))


def count(region: Region, pair: Pair, outcome: str, rows: int) -> None:
    """Add rows to those with an outcome."""
    with region.writing() as numbers:
        numbers[region.place("shadow_sampled_rows", *pair, outcome)] += rows


def add(region: Region, pair: Pair, rows: int, compared: Mapping[str, Comparison]) -> None:
    """Add the comparison of some rows, head by head."""
    with region.writing() as numbers:
        numbers[region.place("shadow_sampled_rows", *pair, COMPARED)] += rows
        for head, comparison in compared.items():
            _add_head(region, numbers, (*pair, head), comparison)


def add_seconds(region: Region, pair: Pair, rows: int, seconds: Mapping[str, float]) -> None:
    """Add the processor time that both versions took for the same rows."""
    with region.writing() as numbers:
        for version, taken in seconds.items():
            place = region.place("shadow_run_seconds", *pair, version)
            numbers[place] += rows
            numbers[place + 1] += taken


def _add_head(
    region: Region, numbers: NDArray[np.float64], name: tuple[str, ...], comparison: Comparison
) -> None:
    differ = comparison.labels_differ
    if differ is None:
        numbers[region.place("shadow_rows", *name, "none")] += comparison.rows
    else:
        numbers[region.place("shadow_rows", *name, "yes")] += differ
        numbers[region.place("shadow_rows", *name, "no")] += comparison.rows - differ
    if comparison.largest is None or comparison.total is None:
        return
    place = region.place("shadow_difference", *name)
    numbers[place : place + _BINS] += comparison.bins
    numbers[place + _BINS] += comparison.total
    place = region.place("shadow_largest_difference", *name)
    numbers[place] = max(numbers[place], comparison.largest)


def tell(region: Region) -> None:
    """Have workers look at what has stopped, after it has changed."""
    region.header[STOPS] += 1


def stopped(region: Region) -> dict[Pair, str]:
    """Return the pairs whose candidate is not run any more, each with the reason.

    Args:
        region: the region of the process that runs shadows.
    """
    return {
        Pair(*name[1:4]): name[4]
        for name, numbers in region.read()
        if name[0] == "shadow_stopped" and numbers[0]
    }


def read(metrics: Metrics, pair: Pair) -> Figures:
    """Return the figures of a pair, of all processes."""
    figures = Figures()
    totals = {
        name: numbers.tolist()
        for name, numbers in metrics.totals({pair[:2]}).items()
        if is_of(pair, name)
    }
    for (family, *labels), numbers in totals.items():
        rest = labels[len(pair) :]
        if family == "shadow_since_timestamp_seconds":
            figures.since = numbers[0]
        elif family == "shadow_sampled_rows":
            figures.outcomes[rest[0]] = int(numbers[0])
        elif family == "shadow_run_seconds":
            figures.seconds[rest[0]] = Seconds(int(numbers[0]), numbers[1])
        elif family == "shadow_stopped" and numbers[0]:
            figures.stopped = rest[0]
        elif family == "shadow_rows":
            figures.heads.setdefault(rest[0], _comparison(totals, pair, rest[0]))
    if not figures.since:
        # Of the last time; they are set to zero with the next rows.
        dropped = figures.outcomes.get(DROPPED, 0)
        return Figures(outcomes={DROPPED: dropped}, stopped=figures.stopped)
    return figures


def _comparison(totals: Mapping[tuple[str, ...], list[float]], pair: Pair, head: str) -> Comparison:
    yes, no, none = (
        totals.get(("shadow_rows", *pair, head, differs)) for differs in ("yes", "no", "none")
    )
    rows = int(sum(numbers[0] for numbers in (yes, no, none) if numbers is not None))
    differ = None if yes is None else int(yes[0])
    histogram = totals.get(("shadow_difference", *pair, head))
    if histogram is None:
        return Comparison(rows, differ, None, None)
    *bins, total = histogram
    [largest] = totals.get(("shadow_largest_difference", *pair, head), [0.0])
    return Comparison(
        rows, differ, largest, total, rows - int(sum(bins)), tuple(int(rows) for rows in bins)
    )
