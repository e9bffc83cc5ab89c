"""A repository of a thousand models: the time to be ready, the memory, and the cost of a cold one.

    python -m benchmarks.many_models [--models N] [--requests N] [--write]

Every model is the shipped model under another name.  One service has memory for all of them, and is
measured when it is ready and when it has loaded them in the background; another has a budget that
holds some, and answers requests to models at random, so that most have to be loaded first.  The
program prints each figure beside its goal.
"""

from __future__ import annotations

import http.client
import json
import random
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from benchmarks import models, processes, report, servers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import Running

MODELS = 1000
REQUESTS = 10_000
CALLERS = 4
BUDGET = 400 * 10**6
WATCHED_SECONDS = 10
LOADED_SECONDS = 600
# So many answers in a row come from both workers.
SURE = 10
SHIPPED = servers.ROOT / "models" / "triceps" / "1" / models.FILE
PAGE = Path(__file__).parent / "MANY_MODELS.md"


@dataclass
class Asked:
    """The answers of a caller: milliseconds by request, and those that were not 200."""

    times: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def repository(folder: Path, number: int) -> None:
    """Fill a folder with `number` models, each a copy of the shipped model."""
    content = SHIPPED.read_bytes()
    for i in range(number):
        place = folder / f"m{i:04d}" / "1"
        place.mkdir(parents=True)
        (place / models.FILE).write_bytes(content)


def check(running: Running) -> None:
    """Check that the service is ready."""
    servers.ask(running.url("/readyz"), timeout=60)


def call(running: Running, names: Sequence[str], body: bytes, asked: Asked) -> None:
    """Request one answer of each of some models, one after another."""
    connection = http.client.HTTPConnection(servers.HOST, running.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    for name in names:
        began = time.perf_counter()
        connection.request("POST", f"/models/{name}/predict", body, headers)
        response = connection.getresponse()
        content = response.read()
        asked.times.append(1e3 * (time.perf_counter() - began))
        if response.status != 200:  # noqa: PLR2004  OK
            asked.failed.append(f"{name}: {response.status} {content[:200].decode()}")


def states(running: Running) -> list[str]:
    """Return the state of each model: loaded, or on demand."""
    listed = json.loads(servers.ask(running.url("/models")))
    return [state for entry in listed["models"] for state in entry["versions"].values()]


def wait_until_known(running: Running) -> float:
    """Wait until all workers have loaded or tried every model; return the seconds."""
    began = time.perf_counter()
    in_a_row = 0
    while in_a_row < SURE:
        time.sleep(0.2)
        if time.perf_counter() - began > LOADED_SECONDS:
            raise servers.NotReadyError(f"the models are not known within {LOADED_SECONDS} s")
        try:
            servers.ask(running.url("/models/none"))
        except servers.NotReadyError as error:
            # Before, it could be the name of a view, and the answer is 503.
            in_a_row = in_a_row + 1 if "received 404" in str(error) else 0
    return time.perf_counter() - began


def measure_start(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """Measure a service that has memory for all models."""
    with servers.run(servers.TRICEPS, "", folder, check) as running:
        rows.append(("ready", f"{running.ready_seconds:.2f} s", "3 s"))
        rows.append(("memory when ready", f"{processes.own_memory(running.pid):,.0f} MB", "250 MB"))
        page = servers.ask(running.url("/metrics"))
        rows.append(("/metrics when ready", f"{len(page) / 1e3:,.0f} kB", "200 kB"))
        seconds = wait_until_known(running)
        loaded = states(running).count("loaded")
        rows.append((f"{loaded} models loaded in the background", f"{seconds:,.0f} s", ""))
        rows.append(
            ("memory when all are loaded", f"{processes.own_memory(running.pid):,.0f} MB", "")
        )
        page = servers.ask(running.url("/metrics"))
        rows.append(("/metrics when all are loaded", f"{len(page) / 1e3:,.0f} kB", ""))
        before = processes.cpu_seconds(running.pid)
        time.sleep(WATCHED_SECONDS)
        busy = 1e3 * (processes.cpu_seconds(running.pid) - before) / WATCHED_SECONDS
        rows.append(
            ("all processes while idle, with looks for changes", f"{busy:.0f} ms a second", "20 ms")
        )


def measure_budget(
    folder: Path, requests: int, budget: int, rows: list[tuple[str, str, str]]
) -> None:
    """Measure a service whose budget holds some of the models."""
    names = sorted(entry.name for entry in folder.iterdir())
    # What the service takes without models is no part of `TRICEPS_MEMORY`.
    server = replace(servers.TRICEPS, environment={"TRICEPS_MEMORY": str(budget)})
    with servers.run(server, "", folder, check) as running:
        body = servers.ask(running.url(f"/models/{names[0]}/example"))
        bare = processes.own_memory(running.pid)
        wait_until_known(running)
        chance = random.Random(7)
        cold = [name for name in names if chance.random() < 0.1]  # noqa: PLR2004  some
        one = Asked()
        call(running, cold, body, one)
        some = [Asked() for _ in range(CALLERS)]
        threads = [
            threading.Thread(
                target=call,
                args=(running, chance.choices(names, k=requests // CALLERS), body, asked),
            )
            for asked in some
        ]
        began = time.perf_counter()
        most = 0.0
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most = max(most, processes.own_memory(running.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - began
        times = [each for asked in some for each in asked.times]
        failed = [each for asked in some for each in asked.failed]
        p50, p99 = np.percentile(one.times, [50, 99])
        rows.append((f"a cold model, one caller, p50 of {len(one.times)}", f"{p50:.0f} ms", ""))
        rows.append(
            (f"a cold model, one caller, p99 of {len(one.times)}", f"{p99:.0f} ms", "60 ms")
        )
        p50, p99 = np.percentile(times, [50, 99])
        each = f"{CALLERS} callers, p50 / p99"
        rows.append((f"{len(times)} requests at random, {each}", f"{p50:.0f} / {p99:.0f} ms", ""))
        rows.append(("… in", f"{seconds:.0f} s", ""))
        rows.append(("… failed", f"{len(failed)}", "0"))
        rows.append(
            (
                "… most memory",
                f"{most:,.0f} MB (bare {bare:,.0f})",
                f"{budget / 1e6:.0f} MB and what the service takes without models",
            )
        )
        for line in failed[:5]:
            click.echo(line)


@click.command()
@click.option("--models", "number", type=click.IntRange(2), default=MODELS, show_default=True)
@click.option("--requests", type=click.IntRange(4), default=REQUESTS, show_default=True)
@click.option("--budget", type=click.IntRange(0), default=BUDGET, show_default=True)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(number: int, requests: int, budget: int, *, writes: bool) -> None:
    """Measure, print the table, and write it if asked to."""
    servers.stop_when_told()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "models"
        repository(folder, number)
        measure_start(folder, rows)
        measure_budget(folder, requests, budget, rows)
    size = SHIPPED.stat().st_size
    table = report.Table(
        f"{number} models of {size / 1e6:.2f} MB, {servers.WORKERS} workers",
        ("what", "figure", "goal"),
        rows,
    )
    report.show(table, report.console())
    if writes:
        report.write_page(PAGE, "A thousand models", [table])


if __name__ == "__main__":
    main()
