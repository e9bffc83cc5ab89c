"""Drift by simulation: false alarms where nothing changes, and shifts that are found.

    python -m benchmarks.drift [--windows N] [--write]

Each window draws a reference and rows to compare with it, and goes through the code of `triceps
drift`.  10,000 windows take a quarter of an hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from benchmarks import report
from service.insight.drift import statistics
from service.insight.drift.counting import compared, counted
from service.insight.drift.findings import FALSE_ALARM
from service.insight.drift.record import numbers, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Values = NDArray[Any]
    Draw = Callable[[int], Values]

PAGE = Path(__file__).parent / "DRIFT.md"
RNG = np.random.default_rng(17)
# The rows of the reference and of the window.
SIZES = ((100, 100), (100, 10_000), (1000, 100), (1000, 1000), (1000, 10_000), (10_000, 1000))
RISKS = (0.01, 0.001)
# The quantities of the model whose windows are judged as a whole.
QUANTITIES = 20
REFERENCES = (500, 1000, 10_000)


def _texts(weights: Values) -> Draw:
    names = np.array([f"text {n}" for n in range(len(weights))], object)
    return lambda rows: names[RNG.choice(len(names), rows, p=weights / weights.sum())]


def _truth(share: float) -> Draw:
    return lambda rows: (RNG.random(rows) < share).astype(float)


def _missing(share: float) -> Draw:
    return lambda rows: np.where(RNG.random(rows) < share, np.nan, RNG.normal(size=rows))


def _normal(mean: float = 0.0, deviation: float = 1.0) -> Draw:
    return lambda rows: RNG.normal(mean, deviation, rows)


ZIPF = 1 / np.arange(1, 1001)
EQUAL: dict[str, Draw] = {
    "normal": _normal(),
    "log-normal": lambda rows: RNG.lognormal(size=rows),
    "Poisson, mean 2": lambda rows: RNG.poisson(2, rows).astype(float),
    "60 % zeros": lambda rows: np.maximum(RNG.exponential(size=rows) + math.log(0.4), 0),
    "true in 2 %": _truth(0.02),
    "true in half": _truth(0.5),
    "normal, 5 % missing": _missing(0.05),
    "3 texts": _texts(np.array([6.0, 3.0, 1.0])),
    "20 equal texts": _texts(np.ones(20)),
    "1,000 texts, Zipf": _texts(ZIPF),
}


@dataclass(frozen=True)
class Shift:
    """A change of known size: the draws before and after, and its PSI, if there is a formula."""

    name: str
    before: Draw
    after: Draw
    psi: float | None = None


def large() -> list[Shift]:
    """Return changes whose PSI in all rows is `statistics.LARGE`, and some that people know."""
    mean = _solve(lambda by: _psi(_tenths(), _tenths(by)))
    half = _solve(lambda by: _psi([0.5, 0.5], [0.5 + by / 2, 0.5 - by / 2]))
    tenth = _solve(lambda by: _psi([0.1, 0.9], [0.1 + 0.9 * by, 0.9 - 0.9 * by]))
    third = _solve(
        lambda by: _psi([0.6, 0.3, 0.1], [0.6 - 0.6 * by, 0.3 + 0.3 * by, 0.1 + 0.3 * by])
    )
    weights = np.array([0.6 - 0.6 * third, 0.3 + 0.3 * third, 0.1 + 0.3 * third])
    new = np.append(ZIPF, 0.2 * ZIPF.sum())
    size = statistics.LARGE
    return [
        Shift(f"normal, mean + {mean:.2f}", _normal(), _normal(mean), size),
        Shift(f"true: 50 % to {0.5 + half / 2:.0%}", _truth(0.5), _truth(0.5 + half / 2), size),
        Shift(
            f"true: 10 % to {0.1 + 0.9 * tenth:.0%}", _truth(0.1), _truth(0.1 + 0.9 * tenth), size
        ),
        Shift("3 texts", EQUAL["3 texts"], _texts(weights), size),
        Shift("normal, deviation x 2", _normal(), _normal(0, 2), _psi(_tenths(), _tenths(0, 2))),
        Shift("another unit, x 1,000", _normal(70, 12), _normal(70_000, 12_000)),
        Shift("missing: 0 % to 20 %", _normal(), _missing(0.2)),
        Shift("1,000 texts, 17 % new", _texts(ZIPF), _texts(new)),
    ]


def _tenths(mean: float = 0.0, deviation: float = 1.0) -> list[float]:
    """Return the shares of a normal distribution between the deciles of the standard one."""
    after = NormalDist(mean, deviation)
    below = [0.0, *(after.cdf(NormalDist().inv_cdf(n / 10)) for n in range(1, 10)), 1.0]
    return np.diff(below).tolist()


def _psi(p: Sequence[float], q: Sequence[float]) -> float:
    return sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))


def _solve(psi_of: Callable[[float], float]) -> float:
    """Return the size from 0 to 1 whose PSI is `statistics.LARGE`."""
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if psi_of(middle) < statistics.LARGE else (low, middle)
    return low


def sides(before: Values, after: Values) -> tuple[Values, Values]:
    """Return the rows of a reference and those of a window by the cells that are compared."""
    if before.dtype == object:
        one, known = texts(before, own=True), frozenset(before.tolist())
    else:
        one, known = numbers(before), None
    return compared(one, counted(one, after, known))


def false_alarms(windows: int) -> list[report.Table]:
    """Return the share of windows with an alarm among those without a change, by risk."""
    counts = {(name, size): np.zeros(len(RISKS)) for name in EQUAL for size in SIZES}
    for (name, (before, after)), alarms in counts.items():
        draw = EQUAL[name]
        for _ in range(windows):
            both = sides(draw(before), draw(after))
            alarms += [statistics.compare(*both, risk).exceeds_chance for risk in RISKS]
    header = ("rows", *(f"{before:,} + {after:,}" for before, after in SIZES))
    return [
        report.Table(
            f"Windows without a change that exceed chance, stated {risk:.1%} of them",
            header,
            [
                [name, *(f"{counts[name, size][place] / windows:.2%}" for size in SIZES)]
                for name in EQUAL
            ],
        )
        for place, risk in enumerate(RISKS)
    ]


def whole_models(windows: int) -> report.Table:
    """Return the share of windows in which any quantity of a model without a change drifts."""
    draws = [EQUAL[name] for name in EQUAL] * (QUANTITIES // len(EQUAL))
    rows = []
    for before, after in SIZES:
        alarms = small = 0
        for _ in range(windows // 4):
            each = [
                statistics.compare(*sides(draw(before), draw(after)), FALSE_ALARM / QUANTITIES)
                for draw in draws
            ]
            alarms += any(one.exceeds_chance for one in each)
            small += any(one.exceeds_chance and (one.psi or 0) > statistics.SMALL for one in each)
        by_verdict = [f"{number / (windows // 4):.2%}" for number in (alarms, small)]
        rows.append([f"{before:,} + {after:,}", *by_verdict])
    header = ("rows", "any beyond chance", 'any verdict "drift"')
    return report.Table(
        f"Models of {QUANTITIES} quantities, stated {FALSE_ALARM:.0%}", header, rows
    )


def usual_bounds(windows: int) -> report.Table:
    """Return the share of windows without a change that a fixed bound takes for drift."""
    rows = []
    for before, after in ((100, 25), *SIZES):
        alarms = np.zeros(3)
        for _ in range(windows):
            values = RNG.normal(size=before)
            cuts = np.quantile(values, np.arange(1, 10) / 10)
            shares = [
                np.maximum(np.bincount(np.searchsorted(cuts, side), minlength=10) / len(side), 1e-4)
                for side in (values, RNG.normal(size=after))
            ]
            psi = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
            alarms += psi > np.array([0.1, 0.2, 0.25])
        rows.append([f"{before:,} + {after:,}", *(f"{number / windows:.1%}" for number in alarms)])
    title = "For comparison: windows without a change above a fixed PSI, empty bins as 0.0001"
    return report.Table(title, ("normal rows", "0.1", "0.2", "0.25"), rows)


def found(windows: int) -> report.Table:
    """Return the share of windows with the verdict "drift" among those with a change."""
    risk = FALSE_ALARM / 10
    rows = []
    for shift in large():
        for size in REFERENCES:
            hits, needed = np.zeros(3), []
            for _ in range(windows // 10):
                values = shift.before(size)
                reference, _ = sides(values, values)
                enough = statistics.rows_needed(reference, risk)
                if enough is None:
                    continue
                needed.append(enough)
                for place, part in enumerate((0.5, 1, 2)):
                    after = shift.after(math.ceil(part * enough))
                    one = statistics.compare(*sides(values, after), risk)
                    hits[place] += one.exceeds_chance and (one.psi or 0) > statistics.SMALL
            middle = f"{np.median(needed):,.0f}"
            shares = [f"{number / len(needed):.1%}" for number in hits]
            psi = "" if shift.psi is None else f"{shift.psi:.2f}"
            rows.append([shift.name, psi, f"{size:,}", middle, *shares])
    header = (
        "change",
        "PSI",
        "reference",
        "rows needed",
        "half of them",
        "as many",
        "twice as many",
    )
    title = f'Windows with a change that have the verdict "drift", at a risk of {risk:.1%}'
    return report.Table(title, header, rows)


def enough(windows: int) -> report.Table:
    """Return by the rows that a cell expects how many alarms there are for one that is stated."""
    rows = []
    for each in (5, 10, 20, 40):
        for cells in (2, 5, 10):
            for times in (1, 100):
                share = np.full(cells, 1 / cells)
                after = each * cells
                p, q = (
                    (RNG.multinomial(size, share, windows * 100) + 0.5) / (size + cells / 2)
                    for size in (after * times, after)
                )
                psi = ((q - p) * np.log(q / p)).sum(axis=1)
                ratios = [
                    (psi > statistics.bound(after * times, after, cells, risk)).mean() / risk
                    for risk in (1e-2, 1e-3, 1e-4, 1e-5)
                ]
                which = [f"{each}", f"{cells}", f"{after * times:,} + {after:,}"]
                rows.append([*which, *(f"{ratio:.2f}" for ratio in ratios)])
    header = ("rows a cell", "cells", "rows", "1 %", "0.1 %", "0.01 %", "0.001 %")
    return report.Table("Alarms for one that is stated, by risk", header, rows)


@click.command()
@click.option("--windows", type=click.IntRange(10), default=10_000, show_default=True)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(windows: int, *, writes: bool) -> None:
    """Simulate, print the tables, and write them if asked to."""
    on = report.console()
    made = []
    for table in (
        *false_alarms(windows),
        whole_models(windows),
        found(windows),
        enough(windows),
        usual_bounds(windows),
    ):
        made.append(table)
        report.show(table, on)
    if writes:
        how = (
            f"shares of {windows:,} windows, each with a reference and rows of its own; of "
            f"{windows // 4:,} for whole models, of {windows // 10:,} for changes, and of "
            f"{windows * 100:,} for the table by rows a cell"
        )
        about = (
            "`100 + 25` is a reference of 100 rows and 25 rows that are compared with it. "
            "[Monitoring](../docs/monitoring.md) says what the numbers mean."
        )
        report.write_page(PAGE, "Drift by simulation", made, how=how, about=about)


if __name__ == "__main__":
    main()
