"""Latency when requests come at times of their own: 30, 60 and 85 % of what a server can do.

    python -m benchmarks.open_loop [--servers triceps,mosec,robyn] [--models seed,heavy] [--write]

Users send requests whether or not the last one was answered.  So many connections each wait at
random before their next request, hardly depending on the server, as Poisson arrivals do.  The rates
are shares of each server's own peak, which 64 connections find that send at once: a faster server
gets more requests.  The last column has the milliseconds at the rate that is 60 % of the slowest
server's peak, the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from benchmarks import bench, checks, load, models, report, servers
from benchmarks.bench import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Load
    from benchmarks.servers import Running, Server

PEAK_CONNECTIONS = 64
PEAK_SECONDS = 3
SECONDS = 10
ROUNDS = 3
SHARES = (0.3, 0.6, 0.85)
SAME = 0.6
# The mean pause of a connection, from which the number of connections for a rate follows.
PAUSE_SECONDS = 0.1
MOST_CONNECTIONS = 2000
SERVERS = ("triceps", "mosec-1", "mosec-16", "robyn", "limit")
MODELS = ("seed", "heavy")
PAGE = Path(__file__).parent / "OPEN_LOOP.md"


@dataclass(frozen=True)
class Sample:
    """A measurement at a rate; `share` is that of the server's peak, 0 for the same rate."""

    server: str
    model: str
    share: float
    rate: float
    load: Load


def at_rate(running: Running, body: Path, rate: float, seconds: float) -> Load:
    """Send about `rate` requests a second, and return the latencies."""
    connections = min(MOST_CONNECTIONS, max(1, round(rate * PAUSE_SECONDS)))
    return load.run(running.url("/predict"), body, connections, seconds, delay=connections / rate)


def peak(running: Running, body: Path) -> float:
    """Return the requests a second of connections that each wait only for their answer."""
    done = load.run(running.url("/predict"), body, PEAK_CONNECTIONS, PEAK_SECONDS)
    return done.requests / done.seconds


def measure(chosen: Sequence[Server], python: str, model: str, seconds: float) -> list[Sample]:
    """Measure one round of all servers with a model."""
    path = models.FOLDER / model / models.FILE
    body = models.FOLDER / "W1.json"
    expected = servers.reference(path, models.BODIES["W1"])
    check = partial(checks.check_answer, body="W1", expected=expected)
    samples, peaks = [], {}
    for server in chosen:
        with servers.run(server, python, path, check) as running:
            peaks[server.name] = most = peak(running, body)
            for share in SHARES:
                sample = at_rate(running, body, share * most, seconds)
                samples.append(Sample(server.name, model, share, share * most, sample))
    same = SAME * min(peaks.values())
    for server in chosen:
        with servers.run(server, python, path, check) as running:
            peak(running, body)
            sample = at_rate(running, body, same, seconds)
            samples.append(Sample(server.name, model, 0.0, same, sample))
    return samples


def table(samples: Sequence[Sample], model: str) -> report.Table:
    """Return the medians over the rounds, in milliseconds: p50, p99 and p99.9."""
    rows = []
    for name in dict.fromkeys(sample.server for sample in samples):
        own = [s for s in samples if (s.server, s.model) == (name, model)]
        most = median(s.rate for s in own if s.share == SHARES[-1]) / SHARES[-1]
        cells = [_cell([s for s in own if s.share == share]) for share in (*SHARES, 0.0)]
        rows.append([name, f"{most:,.0f}", *cells])
    same = next(s.rate for s in samples if s.model == model and not s.share)
    shares = (f"{share:.0%}" for share in SHARES)
    return report.Table(
        f"{model}: p50 / p99 / p99.9, ms, by the share of a server's peak",
        ("server", "peak/s", *shares, f"{same:,.0f}/s"),
        rows,
    )


def _cell(samples: Sequence[Sample]) -> str:
    times = [median(getattr(s.load, p) for s in samples) for p in ("p50", "p99", "p999")]
    failed = sum(s.load.refused + s.load.late + s.load.broken for s in samples)
    reached = median(s.load.requests / s.load.seconds / s.rate for s in samples)
    short = f", {reached:.0%} sent" if reached < 0.95 else ""  # noqa: PLR2004  nearly all
    return " / ".join(f"{t:,.2f}" for t in times) + short + (f", {failed} failed" if failed else "")


@click.command()
@click.option("--servers", "names", type=Names(SERVERS), default=list(SERVERS))
@click.option("--models", "chosen", type=Names(MODELS), default=list(MODELS))
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=SECONDS, show_default=True)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(names: list[str], chosen: list[str], rounds: int, seconds: int, *, writes: bool) -> None:
    """Measure, print a table for each model, and write them if asked to."""
    servers.stop_when_told()
    python = bench.peers_python()
    there = bench.available([servers.SERVERS[name] for name in names], python)
    models.write(models.FOLDER, *chosen)
    samples: list[Sample] = []
    for number in range(rounds):
        turned = there[number % len(there) :] + there[: number % len(there)]
        for model in chosen:
            samples += measure(turned, python, model, seconds)
    tables = [table(samples, model) for model in chosen]
    console = report.console()
    for one in tables:
        report.show(one, console)
    if writes:
        about = (
            "Requests with one row come at random from many connections, whether or not others "
            "have been answered. The rates are shares of each server's own peak; the last column "
            f"has the same rate for all, {SAME:.0%} of the slowest one's peak."
        )
        how = f"the medians of {rounds} rounds of {seconds:g} s"
        report.write_page(PAGE, "Latency at a given rate", tables, how=how, about=about)


if __name__ == "__main__":
    main()
