"""The time of each part of a request, in microseconds.

decode, run and encode are functions of the service, called in this process; their times are the
fastest of many calls.  queue is the time that the batcher adds to a run: on an event loop, from the
submission of a request to its answer, minus the run.  rest is everything else: the processor time
of a request over one connection to a server with one worker, minus the other four, which leaves
sockets, HTTP, the event loop and waking up.  That column needs wrk, and is empty without it.

`python -m benchmarks.profile` prints the times, `python -m benchmarks.profile heavy` those of that
model.
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks import load, models, processes, report, servers
from benchmarks.floor import best
from service.inference.batcher import Batcher
from service.inference.lane import Lane
from service.inference.model import Model
from service.run import Part, Run
from service.wire import native
from service.wire.native import fast
from service.wire.native.answers import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.wire.dialect import Asked

SECONDS = 0.5
LOAD_SECONDS = 2
COLUMNS = ("decode", "queue", "run", "encode", "sum", "rest", "served")


def parts(model: Model, body: bytes) -> dict[str, float]:
    """Return the microseconds of each part of a request that runs in this process."""
    signature = model.signature
    asked = native.decode(body, signature)
    outputs = model.predict(asked.arrays, asked.heads)
    decode, write = fast.Decoder(signature).decode, Writer("seed", "1", signature).write
    rows = len(next(iter(outputs.values())))
    run = best(lambda: model.predict(asked.arrays, asked.heads), SECONDS)
    return {
        "decode": best(lambda: decode(body), SECONDS),
        "queue": max(0.0, _queued(model, asked) - run),
        "run": run,
        "encode": best(lambda: write(asked, Part(Run(rows, 0, 0, outputs), 0, rows)), SECONDS),
    }


@dataclass(frozen=True)
class Asker:
    """A request that waits for a run, and its start time."""

    tell: Callable[[float], None]
    since: float

    def wanted(self) -> bool:
        """Return true: the request never expires."""
        return True

    def may_return(self) -> bool:
        """Return false: no other request follows."""
        return False

    def done(self, *_: Any) -> None:
        """Accept the outputs."""
        self.tell(self.since)


def _queued(model: Model, asked: Asked) -> float:
    """Return the microseconds from the submission of a request to the batcher to its answer."""

    async def ask_on() -> float:
        loop = asyncio.get_running_loop()
        batcher = Batcher(loop)
        lane = Lane(model)
        least = float("inf")
        until = time.perf_counter() + SECONDS
        answered: asyncio.Future[float] = loop.create_future()

        def ask() -> None:
            started = time.perf_counter()

            batcher.submit(lane, "seed", asked.heads, asked.arrays, Asker(done, started))

        def done(started: float) -> None:
            nonlocal least
            now = time.perf_counter()
            least = min(least, now - started)
            if now < until:
                loop.call_soon(ask)
            else:
                answered.set_result(least)

        ask()
        return await answered

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(ask_on()) * 1e6


def served(model: Path, name: str) -> float:
    """Return the processor time, in microseconds, of a request to a server with one worker."""
    body = models.FOLDER / f"{name}.json"

    def check(running: servers.Running) -> None:
        servers.ask(running.url("/predict"), body.read_bytes())

    def command(python: str, model: str, port: str) -> list[str]:
        return [*servers.TRICEPS.command(python, model, port), "--workers", "1"]

    server = replace(servers.TRICEPS, command=command)
    with servers.run(server, sys.executable, model, check) as running:
        load.run(running.url("/predict"), body, 1, 1)
        before = processes.cpu_seconds(running.pid)
        measured = load.run(running.url("/predict"), body, 1, LOAD_SECONDS)
        used = processes.cpu_seconds(running.pid) - before
    return 1e6 * used / max(1, measured.requests)


def main() -> None:
    """Profile a request of each body."""
    servers.stop_when_told()
    name = sys.argv[1] if len(sys.argv) > 1 else "seed"
    models.write(models.FOLDER, name)
    path = models.FOLDER / name / models.FILE
    model = Model.load(path)
    console = report.console()
    rows = []
    for body, height in models.BODIES.items():
        found = parts(model, models.body(height))
        found["sum"] = sum(found.values())
        try:
            found["served"] = served(path, body)
            found["rest"] = found["served"] - found["sum"]
        except (load.NoLoadError, servers.NotReadyError) as error:
            console.print(f"{body}: not served: {error}")
        shown = [f"{found[name]:,.1f}" if name in found else report.NONE for name in COLUMNS]
        rows.append([f"{body}: {height} rows", *shown])
    title = f"Microseconds a request of the model {name!r}"
    report.show(report.Table(title, ("body", *COLUMNS), rows), console)


if __name__ == "__main__":
    main()
