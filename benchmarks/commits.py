"""A comparison of the speed of two checkouts of Triceps.

    python -m benchmarks.commits BEFORE AFTER [--rounds N] [--seconds N] [--cells W1,heavy-16]
    python -m benchmarks.commits . . --set TRICEPS_ACCESS_LOG=on --cells W1-16
    python -m benchmarks.commits . . --shadow 0.1 --cells W1-16

Each argument is the folder of a checkout, which is installed in its own `.venv`.  `--set` is an
environment variable of AFTER alone, so that a setting can be compared in one checkout.  `--shadow`
has AFTER serve the model with itself as its shadow, which gets that share of the requests.  Both
serve the same model at the same time, and are put under load in turns of one second, so that
changes on the machine affect both.  Answers are compared with ONNX Runtime's own before and after.
The ratio of a cell is the median of the ratios of all rounds; its spread is the middle half of
them.  The processor time of a request is compared in the same way: it is the better measure if
other work shares the machine.  That of the process of a shadow is part of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import geometric_mean, median, quantiles
from typing import TYPE_CHECKING

import click

from benchmarks import load, models, processes, report, results, servers
from benchmarks.bench import Names
from benchmarks.checks import check_answer
from benchmarks.results import CELLS, Cell
from benchmarks.servers import NotReadyError, Running, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.load import Load

MEASURED = ("W1-1", "W1-16", "W1-64", "W2-16", "W3-8", "heavy-16", "heavy-64")
ROUNDS = 7
SECONDS = 4
# The limits of a loss: for the geometric mean of all cells, and for any single cell.
MEAN_GOAL = 0.97
CELL_GOAL = 0.95
FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Side:
    """The figures of one checkout: requests/s, microseconds of processor for each, and errors."""

    rate: float
    cpu: float
    errors: int


@dataclass(frozen=True)
class Turn:
    """The figures of both checkouts in one cell of one round."""

    cell: str
    round: int
    before: Side
    after: Side

    @property
    def ratio(self) -> float:
        """The speed of the later checkout, divided by that of the earlier one."""
        return self.after.rate / self.before.rate

    @property
    def cost_ratio(self) -> float:
        """The processor time of a request before, divided by that after."""
        return self.before.cpu / self.after.cpu


@dataclass(frozen=True)
class Ratio:
    """The ratios of many rounds: the median, the middle half, and all of them."""

    middle: float
    low: float
    high: float
    least: float
    most: float


def ratio(ratios: Sequence[float]) -> Ratio:
    """Summarize the rounds of one cell."""
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
    return Ratio(median(ratios), low, high, min(ratios), max(ratios))


def checkout(folder: Path, name: str) -> Server:
    """Return the server of a checkout.

    Raises:
        NotReadyError: the folder has no `.venv`, or one that runs another checkout.
    """
    folder = folder.resolve()
    program, python = folder / ".venv/bin/triceps", folder / ".venv/bin/python"
    if not program.exists():
        message = (
            f"{folder}: expected a checkout that is installed into its own .venv, found no "
            f"{program}; there: make install-serve"
        )
        raise NotReadyError(message)
    found = subprocess.run(
        [str(python), "-c", "import service; print(service.__file__)"],
        cwd="/",
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not Path(found).resolve().is_relative_to(folder):
        raise NotReadyError(f"{program}: expected to run the service of {folder}, runs {found}")

    def command(peer: str, model: str, port: str) -> list[str]:
        _, *options = servers.TRICEPS.command(peer, model, port)
        return [str(program), *options]

    # This variable would make it run the service of this checkout.
    variables = {"PYTHONPATH": ""}
    return replace(
        servers.TRICEPS, name=name, about=str(folder), command=command, environment=variables
    )


def with_variables(server: Server, variables: Sequence[str]) -> Server:
    """Return a server with more environment variables, each as NAME=VALUE.

    Raises:
        NotReadyError: one has no sign.
    """
    more = {}
    for variable in variables:
        name, sign, value = variable.partition("=")
        if not sign:
            raise NotReadyError(f"--set: expected NAME=VALUE, received {variable!r}")
        more[name] = value
    return replace(server, environment={**server.environment, **more})


def with_shadow(server: Server, share: float) -> Server:
    """Return a server whose model has itself as its shadow."""

    def command(peer: str, model: str, port: str) -> list[str]:
        return server.command(peer, str(write_pair(Path(model), share).resolve()), port)

    return replace(server, command=command)


def write_pair(file: Path, share: float) -> Path:
    """Write a repository of a model and its shadow, which are the same file, and return it."""
    folder = FOLDER / "shadow" / file.parent.name
    model = folder / file.parent.name
    for version in ("1", "2"):
        (model / version).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, model / version / file.name)
    (model / "aliases.json").write_text('{"stable": "1"}')
    traffic = {"shadow": {"version": "2", "share": share}}
    (model / "traffic.json").write_text(json.dumps(traffic))
    return folder


def measure(
    pair: tuple[Server, Server], cells: Sequence[Cell], rounds: int, seconds: int
) -> list[Turn]:
    """Put both servers under load in turns, for `rounds` rounds of `seconds` seconds a cell."""
    turns = []
    for number in range(rounds):
        for model in dict.fromkeys(cell.model for cell in cells):
            its = [cell for cell in cells if cell.model == model]
            turns += _round(pair, model, its, number, seconds)
    return turns


def _round(
    pair: tuple[Server, Server], model: str, cells: Sequence[Cell], number: int, seconds: int
) -> list[Turn]:
    """Measure one round of the cells of a model, with newly started servers."""
    path = models.FOLDER / model / models.FILE
    checks: dict[str, Callable[[Running], None]] = {
        body: partial(
            check_answer, body=body, expected=servers.reference(path, models.BODIES[body])
        )
        for body in {cell.body for cell in cells}
    }
    turns = []
    with ExitStack() as stack:
        up = [
            stack.enter_context(servers.run(server, "", path, checks[cells[0].body]))
            for server in pair
        ]
        for cell in cells:
            asks = []
            for running in up:
                checks[cell.body](running)
                body = models.FOLDER / f"{cell.body}.json"
                asks.append(partial(load.run, running.url("/predict"), body, cell.connections, 1))
                asks[-1]()
            samples: tuple[list[Load], list[Load]] = [], []
            used = [0.0, 0.0]
            for slice_ in range(seconds):
                # a b b a, or b a a b: a steady change of the machine affects both equally.
                first = (number + slice_) % 2
                for side in (first, 1 - first):
                    began = processes.cpu_seconds(up[side].pid)
                    samples[side].append(asks[side]())
                    used[side] += processes.cpu_seconds(up[side].pid) - began
            for running in up:
                checks[cell.body](running)
            turn = Turn(cell.name, number, *map(sum_up, samples, used))
            turns.append(turn)
            console.print(
                f"round {number + 1}: {cell.name}: {turn.before.rate:,.0f}/s, "
                f"{turn.after.rate:,.0f}/s, {turn.ratio:.3f}; cost {turn.cost_ratio:.3f}"
            )
    return turns


def sum_up(samples: Sequence[Load], cpu: float) -> Side:
    """Return the figures of several turns, which took so many seconds of processor time."""
    requests = sum(sample.requests for sample in samples)
    errors = sum(sample.refused + sample.late + sample.broken for sample in samples)
    rate = requests / sum(sample.seconds for sample in samples)
    return Side(rate, 1e6 * cpu / max(1, requests), errors)


def table(turns: Sequence[Turn]) -> report.Table:
    """Return a table with a line for each cell, and one for all cells."""
    rows = []
    for cell, its in _by_cell(turns).items():
        speed = ratio([turn.ratio for turn in its])
        cost = ratio([turn.cost_ratio for turn in its])
        rows.append(
            [
                cell,
                *(f"{median(turn.before.rate for turn in its):,.0f}",),
                *(f"{median(turn.after.rate for turn in its):,.0f}",),
                *(f"{speed.middle:.3f}", f"{speed.low:.3f} to {speed.high:.3f}"),
                *(f"{speed.least:.3f} to {speed.most:.3f}",),
                *(f"{cost.middle:.3f}", f"{cost.low:.3f} to {cost.high:.3f}"),
                f"{sum(turn.before.errors + turn.after.errors for turn in its)}",
            ]
        )
    # The mean of each round is a measurement of its own, so the spread shows how sure it is.
    rounds = sorted({turn.round for turn in turns})
    means = [geometric_mean(t.ratio for t in turns if t.round == number) for number in rounds]
    speed, cost = geometric_means(turns)
    spread = f"{min(means):.3f} to {max(means):.3f}"
    rows.append(["geometric mean", "", "", f"{speed:.3f}", "", spread, f"{cost:.3f}", "", ""])
    header = (
        *("cell", "before/s", "after/s", "speed", "middle half", "all rounds"),
        *("cost", "middle half", "errors"),
    )
    return report.Table(f"After by before, {len(rounds)} rounds (over 1: better)", header, rows)


def geometric_means(turns: Sequence[Turn]) -> tuple[float, float]:
    """Return the geometric means of the cells' medians, of speed and of cost."""
    cells = _by_cell(turns).values()
    return (
        geometric_mean(median(turn.ratio for turn in its) for its in cells),
        geometric_mean(median(turn.cost_ratio for turn in its) for its in cells),
    )


def _by_cell(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.cell, []).append(turn)
    return found


def shortfalls(turns: Sequence[Turn]) -> list[str]:
    """Return a line for each limit that the later checkout exceeds."""
    medians = {cell: median(t.ratio for t in its) for cell, its in _by_cell(turns).items()}
    lines = [
        f"{cell}: {middle:.3f}, expected at least {CELL_GOAL:g}"
        for cell, middle in medians.items()
        if middle < CELL_GOAL
    ]
    mean, _ = geometric_means(turns)
    if mean < MEAN_GOAL:
        lines.append(f"geometric mean: {mean:.3f}, expected at least {MEAN_GOAL:g}")
    return lines


console = report.console()


@click.command()
@click.argument("before", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("after", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=SECONDS, show_default=True)
@click.option("--cells", type=Names(MEASURED), default=list(MEASURED))
@click.option("--set", "variables", multiple=True, metavar="NAME=VALUE", help="Of AFTER alone.")
@click.option("--shadow", type=click.FloatRange(0, 1, min_open=True), help="Of AFTER alone.")
def main(  # noqa: PLR0913, PLR0917  (click passes each option by its name)
    before: Path,
    after: Path,
    rounds: int,
    seconds: int,
    cells: list[str],
    variables: tuple[str, ...],
    shadow: float | None,
) -> None:
    """Measure the checkouts BEFORE and AFTER, and exit with 1 if AFTER is too slow."""
    servers.stop_when_told()
    chosen = [CELLS[name] for name in cells]
    try:
        load.find()
        later = with_variables(checkout(after, "after"), variables)
        pair = checkout(before, "before"), with_shadow(later, shadow) if shadow else later
        models.write(models.FOLDER, *dict.fromkeys(cell.model for cell in chosen))
        turns = measure(pair, chosen, rounds, seconds)
    except (load.NoLoadError, NotReadyError) as error:
        raise click.ClickException(str(error)) from error
    name = f"commits-{results.today().replace(' ', '-').replace(':', '')}.json"
    path = FOLDER / name
    path.write_text(json.dumps([asdict(turn) for turn in turns], indent=1))
    report.show(table(turns), console)
    console.print(f"written: {path}")
    lines = shortfalls(turns)
    for line in lines:
        console.print(line, style="yellow")
    if lines:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
