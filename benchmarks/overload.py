"""The answers of a service that gets five times as many requests as it can answer.

    python -m benchmarks.overload [steady|seed] [SECONDS]

Many connections send requests at a fixed rate, whether or not the service keeps up.  Beside them, a
few probes send predictions now and then and measure the time; two more request the health pages.
The program prints a table: at half of the peak rate, at five times the peak, and right after.

The service has one processor for itself, and all clients share the others, so that sending requests
takes no time from the answers.  The program needs taskset, and two processors.
"""

from __future__ import annotations

import http.client
import os
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import load, models, processes, report, servers

if TYPE_CHECKING:
    from pathlib import Path

PEAK_CONNECTIONS = 64
PEAK_SECONDS = 4
# The mean pause of a connection, which determines the number of connections that a rate needs.  If
# the number would be above the limit, the pauses are shorter.
PACE_SECONDS = 0.2
MOST_CALLERS = 1000
PROBES = 4
PROBE_SECONDS = 0.02
# The pause between two requests for a health page, shorter than a platform's.
HEALTH_SECONDS = 0.1
TIMES = 5.0
ALL_THERE_SECONDS = 2.0


@dataclass
class Probe:
    """A client that sends a request now and then; milliseconds of the answers with 200."""

    method: str
    path: str
    body: bytes = b""
    accepted: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def ask(self, port: int, ended: threading.Event) -> None:
        """Send requests until `ended` is set."""
        connection = http.client.HTTPConnection(servers.HOST, port, timeout=10)
        while not ended.wait(PROBE_SECONDS if self.body else HEALTH_SECONDS):
            started = time.perf_counter()
            try:
                headers = {"Content-Type": "application/json"}
                connection.request(self.method, self.path, self.body, headers)
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            took = 1e3 * (time.perf_counter() - started)
            (self.accepted if status == http.HTTPStatus.OK else self.others).append(took)
        connection.close()


@dataclass(frozen=True)
class Stage:
    """The result of one load: answers a second, and times in milliseconds."""

    name: str
    offered: float
    answered: float
    refused: float
    probes: list[Probe]
    before: float
    memory: float
    """Megabytes at the end, and `before`, when all clients have connected."""

    def p99(self, path: str) -> float:
        """Return the 99th percentile of answers at a path; of predictions, the accepted ones."""
        times = [t for probe in self.probes if probe.path == path for t in probe.accepted]
        return float(np.percentile(times, 99)) if times else float("nan")

    def worst(self, path: str) -> float:
        """Return the longest time of all answers at a path, of any status."""
        times = [
            t for probe in self.probes if probe.path == path for t in probe.accepted + probe.others
        ]
        return max(times, default=float("nan"))

    def row(self) -> list[str]:
        """Return the row of the table."""
        memory = f"{self.memory:,.0f}"
        rates = [f"{rate:,.0f}" for rate in (self.offered, self.answered, self.refused)]
        times = [self.p99("/predict"), self.worst("/livez"), self.worst("/readyz")]
        return [self.name, *rates, *(f"{t:.1f}" for t in times), memory]


def stage(running: servers.Running, name: str, body: Path, rate: float, seconds: float) -> Stage:
    """Send `rate` requests a second for `seconds` seconds, and measure the time of some."""
    ended = threading.Event()
    content = body.read_bytes()
    probes = [Probe("POST", "/predict", content) for _ in range(PROBES)]
    probes += [Probe("GET", "/livez"), Probe("GET", "/readyz")]
    threads = [threading.Thread(target=probe.ask, args=(running.port, ended)) for probe in probes]
    before: list[float] = []
    threads.append(
        threading.Timer(ALL_THERE_SECONDS, lambda: before.append(processes.memory(running.pid)))
    )
    for thread in threads:
        thread.start()
    callers = min(MOST_CALLERS, max(1, round(rate * PACE_SECONDS)))
    done = load.run(running.url("/predict"), body, callers, seconds, delay=callers / rate)
    ended.set()
    for thread in threads:
        thread.join()
    offered, refused = done.requests / done.seconds, done.refused / done.seconds
    memory = processes.memory(running.pid)
    return Stage(name, offered, offered - refused, refused, probes, before[0], memory)


def main() -> None:
    """Measure, and print the table and the ratios that have goals."""
    servers.stop_when_told()
    name = sys.argv[1] if len(sys.argv) > 1 else "steady"
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0  # noqa: PLR2004  the second argument
    models.write(models.FOLDER, name)
    body = models.FOLDER / "W1.json"
    check = partial(_check, body)
    own, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others)
    server = replace(servers.TRICEPS, command=partial(_pinned, own))
    with servers.run(server, sys.executable, models.FOLDER / name, check) as running:
        peak = _peak(running, body, PEAK_SECONDS)
        half = stage(running, "half of the peak", body, peak / 2, max(5.0, seconds / 3))
        over = stage(running, f"{TIMES:g} x the peak", body, peak * TIMES, seconds)
        after = _peak(running, body, 1)
        again = _peak(running, body, PEAK_SECONDS)
    header = ("load", "offered/s", "answered/s", "refused/s", "p99 ms", "/livez", "/readyz", "MB")
    console = report.console()
    title = f"{name}: peak {peak:,.0f}/s before, {again:,.0f}/s after"
    report.show(report.Table(title, header, [half.row(), over.row()]), console)
    peak = max(peak, again)
    console.print(f"answered under load: {over.answered / peak:.2f} of the peak")
    ratio = over.p99("/predict") / half.p99("/predict")
    console.print(f"p99 of what is accepted: {ratio:.1f} x its value at half load")
    console.print(f"memory: {over.memory / over.before:.2f} x; second after: {after / peak:.2f}")


def _peak(running: servers.Running, body: Path, seconds: float) -> float:
    done = load.run(running.url("/predict"), body, PEAK_CONNECTIONS, seconds)
    return (done.requests - done.refused) / done.seconds


def _pinned(processor: int, python: str, model: str, port: str) -> list[str]:
    command = servers.TRICEPS.command(python, model, port)
    return ["taskset", "--cpu-list", str(processor), *command, "--workers", "1"]


def _check(body: Path, running: servers.Running) -> None:
    servers.ask(running.url("/predict"), body.read_bytes())


if __name__ == "__main__":
    main()
