"""The tables of a result: for the terminal with rich, and for the documentation as Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks import plot, results
from benchmarks.models import BODIES
from benchmarks.results import CELLS, GRPC
from benchmarks.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from benchmarks.results import Cell, Figures, Result

NONE = "-"
PEERS_OF_CALLS = {server.group for server in SERVERS.values() if server.calls}

# The goals of the project, besides those for requests/s in each cell.
P99_CONNECTIONS = 16
CPU_GOAL = 50
MEMORY_GOAL = 180
READY_GOAL = 1.5


@dataclass(frozen=True)
class Table:
    """A table of strings."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(result: Result) -> list[Table]:
    """Return all tables of a result."""
    # A peer that only answers calls has a table with Triceps.
    groups = [group for group in result.groups if group not in PEERS_OF_CALLS]

    def by_cell(title: str, show: Callable[[Figures], str], *, ratios: bool = False) -> Table:
        rows = []
        for cell in result.cells:
            if cell.beside:
                continue
            row = [cell.name]
            row += [_show(result.figures(group, cell), show) for group in groups]
            rows.append([*row, *_ratios(result, cell)] if ratios else row)
        more = ("x best other", "x naive", "x limit") if ratios else ()
        return Table(title, ("cell", *groups, *more), rows)

    all_tables = [
        by_cell("Requests a second (median, and spread over the rounds)", _rate, ratios=True),
        by_cell("Latency, p50 / p99, ms", lambda it: f"{it.p50:,.2f} / {it.p99:,.2f}"),
        by_cell("Processor time of the server a request, µs", lambda it: f"{it.cpu:,.0f}"),
        _otherwise(result),
        _calls(result),
        _starts(result),
    ]
    if "mosec" in groups:
        all_tables.append(_settings(result))
    if result.floor:
        rows = [
            (f"{name}: {BODIES[name]} rows", f"{microseconds:,.1f}")
            for name, microseconds in result.floor.items()
        ]
        all_tables.append(
            Table("The floor: parse, run and dump in one process", ("body", "µs a request"), rows)
        )
    return [table for table in all_tables if table.rows]


def console() -> Console:
    """Return a console that is as wide as the tables, even without a terminal."""
    made = Console(soft_wrap=True)
    return Console(width=max(made.width, 120), soft_wrap=True)


def show(table: Table, on: Console) -> None:
    """Print a table."""
    rich = RichTable(title=table.title, title_justify="left")
    for i, name in enumerate(table.header):
        rich.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*row)
    on.print(rich)


def shortfalls(result: Result) -> Iterable[str]:
    """Yield a line for each goal that the result misses, and for the errors."""
    for cell in result.cells:
        figures = {group: result.figures(group, cell) for group in result.groups}
        ours, limit = figures.pop("triceps", None), figures.pop("limit", None)
        others = [other for other in figures.values() if other is not None]
        if ours is not None and not cell.beside:
            yield from _shortfalls(cell, ours, others)
        best = max((other.rate for other in others), default=0.0)
        if ours is not None and cell.beside and ours.rate < cell.ahead * best:
            yield f"{cell.name}: {ours.rate / best:.2f} x the peer, wanted {cell.ahead:g}"
        if ours is not None and limit is not None and ours.rate < cell.share * limit.rate:
            share = ours.rate / limit.rate
            yield f"{cell.name}: {share:.2f} of the limit, wanted {cell.share:g}"
        for it in filter(None, [ours, limit, *others]):
            if it.errors:
                yield f"{cell.name}: {it.server}: {it.errors} requests without an answer"
    for cell, its, json in _beside(result):
        if its.rate < cell.goal * json.rate:
            times = its.rate / json.rate
            yield f"{cell.name}: {times:.2f} x {cell.beside}, wanted {cell.goal:g}"
        if cell.cost and its.cpu > cell.cost * json.cpu:
            times = f"{its.cpu / json.cpu:.2f} x the processor time of {cell.beside}"
            yield f"{cell.name}: {times}, wanted {cell.cost:g}"
    for start in result.starts:
        if start.model == "shipped" and (start.memory > MEMORY_GOAL or start.ready > READY_GOAL):
            yield (
                f"shipped model: {start.memory:,.0f} MB, ready after {start.ready:.2f} s; "
                f"wanted {MEMORY_GOAL} and {READY_GOAL}"
            )


def _shortfalls(cell: Cell, ours: Figures, others: Sequence[Figures]) -> Iterable[str]:
    best = max(others, key=lambda other: other.rate, default=None)
    naive = next((other for other in others if other.server == "naive"), None)
    for other, goal in ((best, cell.goal), (naive, cell.naive)):
        if other is not None and ours.rate < goal * other.rate:
            yield f"{cell.name}: {ours.rate / other.rate:.2f} x {other.server}, wanted {goal:g}"
    soonest = min(others, key=lambda other: other.p99, default=None)
    if cell.connections == P99_CONNECTIONS and soonest is not None and ours.p99 > soonest.p99:
        least = f"{soonest.p99:.2f} as {soonest.server}"
        yield f"{cell.name}: p99 {ours.p99:.2f} ms, wanted {least}"
    if (cell.model, cell.body) == ("seed", "W1") and ours.cpu > CPU_GOAL:
        yield f"{cell.name}: {ours.cpu:.0f} µs of processor a request, wanted {CPU_GOAL}"


def write(result: Result, folder: Path) -> None:
    """Write RESULTS.md and its plot, results.svg."""
    (folder / "results.svg").write_text(plot.draw(result))
    lines = [
        "# Results",
        "",
        f"Measured {result.date} UTC at commit {result.commit} "
        "by `python -m benchmarks.bench --write`, which writes "
        "this page. Each server has two workers, in turn on the machine that also makes the load "
        f"(wrk, and h2load for HTTP/2 and gRPC; {result.rounds} x {result.seconds:g} s a cell, "
        "the servers interleaved)"
        + (
            ", while a client that has sent half of a request holds a connection to it."
            if result.slow_sender
            else "."
        ),
        "",
        f"{result.machine['cores']} cores of {result.machine['cpu']}, {result.machine['memory']}, "
        f"{result.machine['system']}. "
        + ", ".join(f"{name} {version}" for name, version in result.versions.items())
        + ".",
        "",
        "A cell is a workload and the number of its connections: "
        + "; ".join(f"{name} {about}" for name, about in _workloads(result).items())
        + ".",
        "",
        "![Throughput, latency and cost](results.svg)",
    ]
    for table in tables(result):
        lines += ["", f"## {table.title}", "", markdown(table.header)]
        lines.append("|---|" + "---:|" * (len(table.header) - 1))
        lines += map(markdown, table.rows)
    (folder / "RESULTS.md").write_text("\n".join(lines) + "\n")


def _workloads(result: Result) -> dict[str, str]:
    return {cell.name.rpartition("-")[0]: cell.about for cell in result.cells}


def write_page(
    page: Path, title: str, tables: Sequence[Table], *, how: str = "", about: str = ""
) -> None:
    """Write the tables of a program of this folder as a page, with the date and the commit.

    Args:
        page: the file; the program has its name, in lower case.
        title: the title of the page.
        tables: the tables.
        how: what the figures are, after a colon in the sentence that says when they were measured.
        about: what is measured, as a paragraph.
    """
    machine = results.machine()
    measured = (
        f"Measured {results.today()} UTC at commit {results.commit()} by `python -m "
        f"benchmarks.{page.stem.lower()} --write`, which writes this page{how and f': {how}'}. "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory']}, {machine['system']}, "
        "which also make the load."
    )
    lines = [f"# {title}", "", measured, *(["", about] if about else [])]
    for one in tables:
        lines += ["", f"## {one.title}", "", markdown(one.header)]
        lines.append("|---|" + "---:|" * (len(one.header) - 1))
        lines += map(markdown, one.rows)
    page.write_text("\n".join(lines) + "\n")


def markdown(row: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(row)} |"


def _show(figures: Figures | None, show: Callable[[Figures], str]) -> str:
    return NONE if figures is None else show(figures)


def _rate(figures: Figures) -> str:
    # A single round has no spread.
    spread = (figures.high - figures.low) / 2 / max(1, figures.rate)
    apart = f" ±{spread:.0%}" if figures.high > figures.low else ""
    failed = f", {figures.errors} errors" if figures.errors else ""
    return f"{figures.rate:,.0f}{apart}{failed}"


def _ratios(result: Result, cell: Cell) -> tuple[str, str, str]:
    ours, best = result.figures("triceps", cell), result.best_other(cell)
    naive, limit = result.figures("naive", cell), result.figures("limit", cell)

    def ratio(other: Figures | None) -> str:
        return f"{ours.rate / other.rate:.2f}" if ours and other and other.rate else NONE

    return (f"{ratio(best)} ({best.server})" if best else NONE, ratio(naive), ratio(limit))


def _otherwise(result: Result) -> Table:
    """Return a table that compares the other ways to send rows with JSON over HTTP/1.1."""
    rows = []
    for cell, ours, json in _beside(result):
        times, cost = (
            f"{it / of:.2f}" for it, of in ((ours.rate, json.rate), (ours.cpu, json.cpu))
        )
        figures = (_rate(ours), f"{times} ({cell.beside})", f"{ours.p99:,.2f}")
        rows.append((cell.name, *figures, f"{ours.cpu:,.0f}", cost))
    header = ("cell", "requests/s", "x JSON", "p99, ms", "processor time, µs", "x JSON")
    return Table("Triceps asked in other ways: binary tensors, HTTP/2, gRPC", header, rows)


def _calls(result: Result) -> Table:
    """Return a table of the calls that Triceps and grpcio's own server answer."""
    rows = []
    for cell in result.cells:
        ours, other = result.figures("triceps", cell), result.best_other(cell)
        if cell.way == GRPC and ours is not None and other is not None:
            rows.append(
                (
                    *(cell.name, _rate(ours), _rate(other), f"{ours.rate / other.rate:.2f}"),
                    *(f"{it.p50:,.2f} / {it.p99:,.2f}" for it in (ours, other)),
                    *(f"{it.cpu:,.0f}" for it in (ours, other)),
                )
            )
    header = ("cell", "triceps, calls/s", "grpcio", "x grpcio", "p50 / p99, ms", "grpcio")
    title = "Calls by gRPC, beside a server of grpcio with asyncio"
    return Table(title, (*header, "processor time, µs", "grpcio"), rows)


def _beside(result: Result) -> Iterable[tuple[Cell, Figures, Figures]]:
    """Yield the cells that are compared with another cell of Triceps, and both figures."""
    for cell in result.cells:
        ours = result.figures("triceps", cell)
        other = result.figures("triceps", CELLS[cell.beside]) if cell.beside else None
        if ours is not None and other is not None:
            yield cell, ours, other


def _starts(result: Result) -> Table:
    rows = []
    for name, model in sorted({(start.server, start.model) for start in result.starts}):
        starts = [start for start in result.starts if (start.server, start.model) == (name, model)]
        ready, memory = (median(getattr(s, what) for s in starts) for what in ("ready", "memory"))
        rows.append((f"{SERVERS[name].about}; {model}", f"{ready:.2f}", f"{memory:,.0f}"))
    header = ("server; model", "ready after, s", "memory after the load (PSS), MB")
    return Table("Start and memory of all its processes", header, rows)


def _settings(result: Result) -> Table:
    """Return a table of the setting of mosec that counts in each cell."""
    rows = [
        (cell.name, SERVERS[figures.server].about)
        for cell in result.cells
        if (figures := result.figures("mosec", cell)) is not None
    ]
    return Table("The best setting of mosec, which is the one above", ("cell", "setting"), rows)
