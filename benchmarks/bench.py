"""The benchmark of Triceps and its peers: the same model, requests and machine, in turn.

    python -m benchmarks.bench --quick --servers triceps,naive --cells W1,heavy-16

Each round starts every server for each model, compares one answer with ONNX Runtime's own, puts the
server under load cell by cell, and stops it.  The rounds interleave the servers, so that changes on
the machine affect all of them.  The benchmark needs wrk, and the packages of
benchmarks/peers/requirements.txt for the peers, which may be in an environment of their own.  The
limit, a server in C++, is built where a compiler is.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks import checks, floor, limit, load, models, processes, report, results, servers, ways
from benchmarks.results import CELLS, GRPC, JSON, Cell, Result, Sample, Start
from benchmarks.servers import LIMIT, SERVERS, TRICEPS, NotReadyError, Running, Server
from service.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = Path("build/bench")
PEERS = FOLDER / "venv/bin/python"
SHIPPED = Path("models/triceps")

console = report.console()


class Names(click.ParamType[list[str]]):
    """A comma-separated list of names; a prefix stands for all names that begin with it."""

    name = "NAMES"

    def __init__(self, known: Sequence[str]) -> None:
        """Accept names of `known`."""
        self._known = known

    def convert(self, value: Any, *_: Any) -> list[str]:
        """Return the chosen names, in the order of `known`."""
        if isinstance(value, list):
            return value
        prefixes = [part.strip() for part in value.split(",")]
        for part in prefixes:
            if not any(_begins(name, part) for name in self._known):
                close = nearest(part, self._known)
                self.fail(f"expected some of {', '.join(self._known)}, received {part!r}{close}")
        return [name for name in self._known if any(_begins(name, part) for part in prefixes)]


def _begins(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}-")


@click.command()
@click.option("--quick", is_flag=True, help="Run one round of 2 s a cell, as a test.")
@click.option("--servers", "names", type=Names(list(SERVERS)), default=list(SERVERS))
@click.option("--cells", type=Names(list(CELLS)), default=list(CELLS))
@click.option("--rounds", type=click.IntRange(1), help="Rounds.  Default 5.")
@click.option(
    "--seconds", type=click.IntRange(1), help="Seconds for each cell and round.  Default 5."
)
@click.option(
    "--slow-sender", is_flag=True, help="Keep one half-sent request open during the load."
)
@click.option(
    "--python",
    type=click.Path(exists=True),
    help=f"A Python that has the packages of the peers.  Default {PEERS}, if it exists.",
)
@click.option("--write", is_flag=True, help="Write benchmarks/RESULTS.md and its plot.")
@click.option(
    "--result",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show an earlier result, or write it with --write; measure nothing.",
)
def main(result: Path | None, *, write: bool, **options: Any) -> None:
    """Measure, print the tables, and write the results under build/bench/."""
    if result is not None:
        measured = Result.read(result)
    else:
        try:
            measured = _measure(Plan(**options))
        except (limit.NotBuiltError, load.NoLoadError, NotReadyError) as error:
            raise click.ClickException(str(error)) from error
    for table in report.tables(measured):
        report.show(table, console)
    for line in report.shortfalls(measured):
        console.print(line, style="yellow")
    if write:
        report.write(measured, Path(__file__).parent)


@dataclass(frozen=True)
class Plan:
    """The options of a measurement."""

    quick: bool
    names: list[str]
    cells: list[str]
    rounds: int | None
    seconds: int | None
    slow_sender: bool
    python: str | None


def _measure(plan: Plan) -> Result:
    """Measure, and write the results after each round, so that an interruption loses little."""
    load.find()
    servers.stop_when_told()
    python = peers_python(plan.python)
    chosen = available([SERVERS[name] for name in plan.names], python)
    by_model: dict[str, list[Cell]] = {}
    for cell in measurable([CELLS[name] for name in plan.cells]):
        by_model.setdefault(cell.model, []).append(cell)
    models.write(models.FOLDER, *by_model)
    result = Result(
        date=results.today(),
        commit=results.commit(),
        machine=results.machine(),
        # If both environments have a package, Triceps ran with the version of this one.
        versions={
            **results.versions(python, results.PACKAGES),
            **results.versions(sys.executable, results.PACKAGES),
        },
        seconds=plan.seconds or (2 if plan.quick else 5),
        rounds=plan.rounds or (1 if plan.quick else 5),
        slow_sender=plan.slow_sender,
        floor=floor.measure(),
    )
    path = FOLDER / f"result-{result.date.replace(' ', '-').replace(':', '')}.json"
    for number in range(result.rounds):
        # Each round begins with another server, so that no server always follows the same one.
        first = number % max(1, len(chosen))
        for server in chosen[first:] + chosen[:first]:
            bench = Bench(result, server, python)
            for model, its in by_model.items():
                bench.measure(model, its, number)
            if server is TRICEPS and SHIPPED.is_dir():
                bench.measure_shipped()
        result.write(path)
    console.print(f"written: {path}")
    return result


def peers_python(python: str | None = None) -> str:
    """Return the Python that has the packages of the peers: this, or the usual one, or our own."""
    # Not resolved, since Python finds its virtual environment by the link.
    return str(Path(python or (PEERS if PEERS.exists() else sys.executable)).absolute())


def available(chosen: list[Server], python: str) -> list[Server]:
    """Return the servers that can run here; print the missing packages of the others.

    Raises:
        NotReadyError: no server can run.
    """
    needed = sorted({package for server in chosen for package in server.needs})
    installed = results.versions(python, needed)
    able = []
    for server in chosen:
        missing = [package for package in server.needs if package not in installed]
        if server is LIMIT and (missing := limit.missing()):
            console.print(f"limit is left out: found no {', '.join(missing)}; {limit.PACKAGES}")
        elif missing:
            console.print(
                f"{server.name} is left out: {python} has no {', '.join(missing)}; "
                "pip install -r benchmarks/peers/requirements.txt there, or choose it by --python"
            )
        else:
            able.append(server)
    if not able:
        raise NotReadyError("there is no server left to measure")
    return able


def measurable(cells: list[Cell]) -> list[Cell]:
    """Return the cells whose load can be made here; print what the others lack."""
    able = []
    for cell in cells:
        if missing := ways.missing(cell):
            console.print(f"{cell.name} is left out: found no {missing}")
        else:
            able.append(cell)
    return able


class Bench:
    """A server under measurement, and the result that its figures belong to."""

    def __init__(self, result: Result, server: Server, python: str) -> None:
        """Prepare to measure `server`, which `python` runs, into `result`."""
        self._result = result
        self._server = server
        self._python = python

    def measure(self, model: str, cells: list[Cell], number: int) -> None:
        """Start the server with a model, put it under load cell by cell, and stop it."""
        path = models.FOLDER / model / models.FILE
        cells = [cell for cell in cells if self._takes(cell)]
        if not cells:
            return
        tests = {}
        for cell in cells:
            expected = servers.reference(path, models.BODIES[cell.body])
            check = checks.check_call if cell.way == GRPC else checks.check_answer
            tests[cell.name] = partial(check, body=cell.body, expected=expected)
        with servers.run(self._server, self._python, path, tests[cells[0].name]) as running:
            for cell in cells:
                tests[cell.name](running)
                sample = self._load(cell, number, running)
                tests[cell.name](running)
                self._result.samples.append(sample)
                console.print(
                    f"round {number + 1}: {sample.server}, {sample.cell}: {sample.rate:,.0f}/s, "
                    f"p50 {sample.load.p50:,.2f} ms, p99 {sample.load.p99:,.2f} ms, "
                    f"{sample.cpu:,.0f} µs of processor a request"
                    + (f", {sample.errors} ERRORS" if sample.errors else "")
                )
            self._note_start(model, running)

    def _takes(self, cell: Cell) -> bool:
        """Return whether the server is measured in a cell."""
        return self._server is TRICEPS or cell.way == (GRPC if self._server.calls else JSON)

    def measure_shipped(self) -> None:
        """Measure start time and memory with the included model and its example."""
        address = f"/models/{SHIPPED.name}"
        body = FOLDER / "shipped.json"

        def check(running: Running) -> None:
            body.write_bytes(servers.ask(running.url(f"{address}/example")))
            servers.ask(running.url(f"{address}/predict"), body.read_bytes())

        with servers.run(self._server, self._python, SHIPPED.parent, check) as running:
            load.run(running.url(f"{address}/predict"), body, 16, 1)
            self._note_start("shipped", running)

    def _load(self, cell: Cell, number: int, running: Running) -> Sample:
        with ExitStack() as stack:
            if self._result.slow_sender and not self._server.calls:
                stack.enter_context(servers.slow_sender(running, ways.body(cell).read_bytes()))
            ask = ways.loader(cell, running)
            ask(1)
            before = processes.cpu_seconds(running.pid)
            measured = ask(self._result.seconds)
            used = processes.cpu_seconds(running.pid) - before
        cpu = 1e6 * used / max(1, measured.requests)
        return Sample(self._server.name, cell.name, number, measured, cpu)

    def _note_start(self, model: str, running: Running) -> None:
        memory = processes.memory(running.pid)
        start = Start(self._server.name, model, running.ready_seconds, memory)
        self._result.starts.append(start)


if __name__ == "__main__":
    main()
