"""The cost of watching a model: drift, shadow, canary, samples and access log, beside none of them.

    python -m benchmarks.monitoring [--rounds N] [--seconds N] [--write]

One service for each way, all of the same model, are up at the same time and put under load in turns
of one second, so that changes on the machine affect all.  The load is W1 at 16 connections: the
smallest requests, of which each way takes the largest part.  A ratio is the median of those of all
rounds; its spread is the middle half of them.  A second service that watches nothing shows how much
of a ratio is chance.  Each service is asked what it has watched, so that no way is free because it
did nothing.

As services are idle between their turns, drift counts a larger share of the rows than under a
steady load, and costs somewhat more.  A shadow works on between its turns, at the lowest priority;
its processor time counts in its turns alone.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from benchmarks import commits, drift_memory, load, models, processes, report, servers
from benchmarks.checks import check_answer
from benchmarks.results import CELLS
from benchmarks.servers import NotReadyError, Running, Server
from service.inference.model import Model
from tests.harness import exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.commits import Ratio, Side
    from benchmarks.load import Load

PAGE = Path(__file__).parent / "MONITORING.md"
CELL = CELLS["W1-16"]
ROUNDS, SECONDS = 9, 4
SHADOW = {"shadow": {"version": "2", "share": 0.1}}
CANARY = {"canary": {"version": "2", "share": 0.05}}


@dataclass(frozen=True)
class Way:
    """A way to watch a model: what the service is told, and what it has watched in the end.

    `goal` is the least ratio of its requests/s to those of a service that watches nothing.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    traffic: Mapping[str, Any] = field(default_factory=dict)
    watched: Callable[[Running, Path], str] = lambda *_: ""
    goal: float | None = None


def _drift(running: Running, _: Path) -> str:
    page = _page(running, "drift?window=all")
    if not page["rows"]:
        raise NotReadyError("drift: expected counted rows, found none")
    return f"{page['share']:.0%} of the rows counted"


def _shadow(running: Running, _: Path) -> str:
    page = _page(running, "compare")
    if not page["rows"]:
        raise NotReadyError(f"shadow: expected compared rows, found none: {page}")
    return f"{page['rows']:,} rows compared, {page['dropped']:,} dropped"


def _canary(running: Running, _: Path) -> str:
    samples = exposition.samples(servers.ask(running.url("/metrics")).decode())
    found = {
        labels[-1]: number
        for (name, *labels), number in samples.items()
        if name == "triceps_rows_total"
    }
    if not found.get("2"):
        raise NotReadyError(f"canary: expected rows of version 2, found {found}")
    return f"{found['2'] / sum(found.values()):.1%} of the requests"


def _samples(_: Running, folder: Path) -> str:
    lines = sum(file.read_bytes().count(b"\n") for file in folder.glob("samples/*/*.jsonl"))
    if not lines:
        raise NotReadyError(f"{folder}: expected samples, found none")
    return f"{lines:,} rows written"


def _lines(_: Running, folder: Path) -> str:
    # Standard output goes where the log goes.
    log = servers.LOGS / f"{_server_name(folder.name)}.log"
    lines = log.read_bytes().count(b'"bytes_out"')
    if not lines:
        raise NotReadyError(f"{log}: expected lines of the access log, found none")
    return f"{lines:,} lines"


def _all(running: Running, folder: Path) -> str:
    for watched in (_drift, _shadow, _canary, _samples, _lines):
        watched(running, folder)
    return "all of it"


_SAMPLE = {"TRICEPS_SAMPLE": "0.01"}
_LOG = {"TRICEPS_ACCESS_LOG": "on"}
OFF = Way("off")
WAYS = (
    OFF,
    # What differs here is chance.
    Way("off-again"),
    Way("drift-heads", {"TRICEPS_DRIFT": "heads"}, watched=_drift, goal=0.97),
    Way("drift-features", {"TRICEPS_DRIFT": "features"}, watched=_drift, goal=0.95),
    Way("shadow", traffic=SHADOW, watched=_shadow),
    Way("canary", traffic=CANARY, watched=_canary),
    Way("sample", _SAMPLE, watched=_samples),
    Way("access-log", _LOG, watched=_lines),
    Way("all", {"TRICEPS_DRIFT": "features", **_SAMPLE, **_LOG}, SHADOW | CANARY, _all),
)
ABOUT = {
    "off": "nothing (`TRICEPS_DRIFT=off`)",
    "off-again": "nothing, in another service",
    "drift-heads": "drift of answers, the default",
    "drift-features": "drift of answers and features",
    "shadow": "shadow of 10 %",
    "canary": "canary of 5 %",
    "sample": "samples of 1 %",
    "access-log": "access log",
    "all": "all of these",
}


@dataclass(frozen=True)
class Turn:
    """The figures of a way in one round: speed and cost, megabytes, and what it has watched."""

    way: str
    round: int
    side: Side
    memory: float
    watched: str


def repository(folder: Path, model: bytes, traffic: Mapping[str, Any]) -> Path:
    """Write a model as the stable version, and its like as another one if that has a share."""
    place = folder / "models" / CELL.model
    for version in ("1", "2") if traffic else ("1",):
        (place / version).mkdir(parents=True)
        (place / version / models.FILE).write_bytes(model)
    (place / "aliases.json").write_text('{"stable": "1"}')
    (place / "traffic.json").write_text(json.dumps(traffic))
    return folder / "models"


def server(way: Way, folder: Path) -> Server:
    """Return the service of a way."""
    settings = {"TRICEPS_DRIFT": "off", "TRICEPS_POLICY": "pinned", **way.settings}
    if "TRICEPS_SAMPLE" in settings:
        settings["TRICEPS_SAMPLE_DIR"] = str(folder / "samples")
    return replace(servers.TRICEPS, name=_server_name(way.name), environment=settings)


def measure(folder: Path, number: int, seconds: int) -> list[Turn]:
    """Put newly started services of all ways under load in turns, for `seconds` seconds each."""
    file = models.FOLDER / CELL.model / models.FILE
    body = models.FOLDER / f"{CELL.body}.json"
    expected = servers.reference(file, models.BODIES[CELL.body])
    check = partial(check_answer, body=CELL.body, expected=expected)
    samples: dict[str, list[Load]] = {way.name: [] for way in WAYS}
    used = dict.fromkeys(samples, 0.0)
    with ExitStack() as stack:
        up = {}
        for way in WAYS:
            place = folder / way.name
            shutil.rmtree(place, ignore_errors=True)
            path = repository(place, file.read_bytes(), way.traffic)
            running = stack.enter_context(servers.run(server(way, place), "", path, check))
            load.run(running.url("/predict"), body, CELL.connections, 1)
            up[way.name] = running
        for slice_ in range(seconds):
            # Each begins at another way, and every other one goes backwards.
            first = (number * seconds + slice_) % len(WAYS)
            order = [*WAYS[first:], *WAYS[:first]][:: 1 if slice_ % 2 else -1]
            for way in order:
                running = up[way.name]
                began = processes.cpu_seconds(running.pid)
                asked = load.run(running.url("/predict"), body, CELL.connections, 1)
                used[way.name] += processes.cpu_seconds(running.pid) - began
                samples[way.name].append(asked)
        turns = []
        for way in WAYS:
            running = up[way.name]
            check(running)
            side = commits.sum_up(samples[way.name], used[way.name])
            watched = way.watched(running, folder / way.name)
            memory = processes.own_memory(running.pid)
            turns.append(Turn(way.name, number, side, memory, watched))
    return turns


def table(turns: Sequence[Turn]) -> report.Table:
    """Return a table with a line for each way, beside the one that watches nothing."""
    base = [turn for turn in turns if turn.way == OFF.name]
    rows = []
    for way in WAYS:
        its = [turn for turn in turns if turn.way == way.name]
        pairs = list(zip(its, base, strict=True))
        speed = commits.ratio([one.side.rate / off.side.rate for one, off in pairs])
        cost = commits.ratio([one.side.cpu / off.side.cpu for one, off in pairs])
        more = median(one.memory - off.memory for one, off in pairs)
        rows.append(
            [
                ABOUT[way.name],
                f"{median(turn.side.rate for turn in its):,.0f}",
                *(_spread(speed), "" if way.goal is None else f"≥ {way.goal:g}"),
                f"{median(turn.side.cpu for turn in its):.1f}",
                _spread(cost),
                *(f"{median(turn.memory for turn in its):,.0f}", f"{more:+.1f}"),
                *(f"{sum(turn.side.errors for turn in its)}", its[-1].watched),
            ]
        )
    header = (
        *("watched", "requests/s", "to off", "goal", "processor time of a request, µs", "to off"),
        *("memory, MB", "to off", "errors", "in the last round"),
    )
    return report.Table(f"One row, {CELL.connections} connections", header, rows)


def memory(model: Model) -> report.Table:
    """Return a table of the memory that drift takes in each worker for a model that was asked."""
    inputs = dict(models.arrays(1))
    outputs = model.predict(inputs, list(model.signature.heads))
    rows = []
    for setting in ("heads", "features"):
        sizes = drift_memory.measure(setting, model.signature, inputs, outputs)
        rows.append([setting, *(f"{size / 1000:,.0f} kB" for size in (*sizes, sum(sizes)))])
    header = ("TRICEPS_DRIFT", "own", "shared", "together")
    return report.Table("Memory of drift in each worker, for this model", header, rows)


def _server_name(way: str) -> str:
    return f"monitoring-{way}"


def _spread(one: Ratio) -> str:
    return f"{one.middle:.3f} ({one.low:.3f} to {one.high:.3f})"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=SECONDS, show_default=True)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(rounds: int, seconds: int, *, writes: bool) -> None:
    """Measure, print the tables, and write them if asked to."""
    servers.stop_when_told()
    console = report.console()
    turns: list[Turn] = []
    models.write(models.FOLDER, CELL.model)
    try:
        load.find()
        with TemporaryDirectory() as place:
            for number in range(rounds):
                turns += measure(Path(place), number, seconds)
                console.print(f"round {number + 1} of {rounds}")
    except (load.NoLoadError, NotReadyError) as error:
        raise click.ClickException(str(error)) from error
    made = [table(turns), memory(Model.load(models.FOLDER / CELL.model / models.FILE))]
    for one in made:
        report.show(one, console)
    if writes:
        how = (
            f"the medians of {rounds} rounds of {seconds} s, in turns of one second, with "
            f"{servers.WORKERS} workers; in brackets, the middle half of the rounds"
        )
        report.write_page(PAGE, "The cost of watching a model", made, how=how)


def _page(running: Running, name: str) -> Any:
    return json.loads(servers.ask(running.url(f"/models/{CELL.model}/{name}")))


if __name__ == "__main__":
    main()
