"""The cost of metrics: requests a second with counting for /metrics and without.

    python -m benchmarks.counting [ROUNDS]

The service is started in turns with its counting and with a meter that does nothing.  The requests
have one row for the smallest model, for which counting is the largest part of the work.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import load, models, report, servers

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS = (1, 16, 64)
ROUNDS = 5
SECONDS = 2

# The program of `triceps serve`, with one more line.
_SERVE = """
import sys
from service.commands.main import main
from service.observability.meter import Meter
{line}
sys.argv[0] = "triceps"
main()
"""
_SILENT = "Meter.answered = Meter.failed = lambda *_: None"


def _with(line: str) -> servers.Server:
    def command(python: str, model: str, port: str) -> list[str]:
        _, *options = servers.TRICEPS.command(python, model, port)
        return [sys.executable, "-c", _SERVE.format(line=line), *options]

    return replace(servers.TRICEPS, command=command)


def rates(server: servers.Server, body: Path, model: Path) -> dict[int, float]:
    """Return requests a second by number of connections."""
    check = partial(_check, body)
    found = {}
    with servers.run(server, sys.executable, model, check) as running:
        for connections in CONNECTIONS:
            load.run(running.url("/predict"), body, connections, 1)
            done = load.run(running.url("/predict"), body, connections, SECONDS)
            found[connections] = done.requests / done.seconds
    return found


def _check(body: Path, running: servers.Running) -> None:
    servers.ask(running.url("/predict"), body.read_bytes())


def main() -> None:
    """Measure in turns, and print the medians and the median of the rounds' ratios."""
    servers.stop_when_told()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    models.write(models.FOLDER, "seed")
    body, model = models.FOLDER / "W1.json", models.FOLDER / "seed"
    counted: list[dict[int, float]] = []
    bare: list[dict[int, float]] = []
    for number in range(rounds):
        turns = [(counted, _with("")), (bare, _with(_SILENT))]
        for into, server in turns if number % 2 else reversed(turns):
            into.append(rates(server, body, model))
    table = []
    for connections in CONNECTIONS:
        costs = [1 - a[connections] / b[connections] for a, b in zip(counted, bare, strict=True)]
        medians = [
            statistics.median(each[connections] for each in many) for many in (counted, bare)
        ]
        cost, least, most = statistics.median(costs), min(costs), max(costs)
        spread = f"{cost:.1%} ({least:.1%} to {most:.1%})"
        table.append([str(connections), *(f"{rate:,.0f}" for rate in medians), spread])
    header = ("connections", "counted/s", "not counted/s", "counting costs")
    report.show(report.Table(f"One row, {rounds} rounds", header, table), report.console())


if __name__ == "__main__":
    main()
