"""A soak test: after ten minutes of mixed load, the service must be as it was after one.

    python -m benchmarks.soak [SECONDS] [--write]

The test starts a service with tokens and two workers.  Clients send right and wrong requests in
every dialect and form, some slowly; some disconnect early, and some attack a little.  Meanwhile
versions are published and removed, aliases move, a model is unloaded and loaded, and one worker is
killed.  Every answer is compared with ONNX Runtime's own.  The program prints tables, and exits
with 1 if a promise is broken.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks import hostile, processes, report, results, servers, shelf
from benchmarks.ledger import Gate, Ledger, Target
from benchmarks.traffic import MOST_TOLD, OTHER, Caller, SlowCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = 600.0
# After this time all caches are full: loaded versions, buffers, heaps.
WARM_SECONDS = 60.0
# For each slow client, whether it sends its whole request in the end.
SLOW_CALLERS = (True, True, False)
CALLERS = 6
HOSTILE_CALLERS = 2
RATE = 200.0
CHANGE_SECONDS = 1.0
MEMORY_GOAL = 1.05
# How long the service may take to notice that all clients have disconnected, and to count.
REST_SECONDS = 3.0
REPLACE_SECONDS = 30.0
# The process that tries models closes the files of one trial when the next trial begins.
KEEPER = "keeper"
SLACK = 2 * int(servers.WORKERS)
# The times that open files are counted in a process, and the seconds between them.
FILE_LOOKS = 5
FILE_LOOK_SECONDS = 0.05
PAGE = Path("docs/soak.md")
NAME = "soak"
KILLED = re.compile(r"worker \d+ ended, and is replaced")
COUNTED = re.compile(r"^triceps_(requests|rows)_total\{(.*)\} (.+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="(.*?)"')


@dataclass(frozen=True)
class Process:
    """A process of the service, measured without load."""

    role: str
    memory: float
    """Resident memory in megabytes (10^6 bytes), including shared memory."""
    files: int


@dataclass(frozen=True)
class Look:
    """The state of the service, measured without load."""

    seconds: float
    own: float
    """Megabytes that all processes have written; shared memory counts once."""
    processes: dict[int, Process]
    answered: Counter[tuple[str, str]]
    rows: float

    @property
    def memory(self) -> float:
        """The resident memory of all processes, in megabytes."""
        return sum(process.memory for process in self.processes.values())


@dataclass
class Soaked:
    """The result of a soak test."""

    seconds: float
    first: Look
    last: Look
    ledger: Ledger
    changes: Counter[str]
    minutes: list[float]
    """Written memory in megabytes, once a minute under load."""
    log: list[str]
    miscounted: list[str]
    replaced: float = field(default=0.0)
    """Seconds from the kill of a worker until there are two again."""

    @property
    def growth(self) -> float:
        """The resident memory at the end, divided by that after the first minute."""
        return self.last.memory / self.first.memory

    def broken(self, memory_goal: float = MEMORY_GOAL) -> list[str]:
        """Return a line for each promise that is broken."""
        lines = [f"wrong: {line}" for line in self.ledger.wrong[:MOST_TOLD]]
        lines += [f"failed: {line}" for line in self.ledger.failed[:MOST_TOLD]]
        lines += [f"logged: {line}" for line in self.log[:MOST_TOLD]]
        lines += self.miscounted
        if self.growth > memory_goal:
            lines.append(f"memory: {self.growth:.3f} x, expected at most {memory_goal:g} x")
        for pid, now in self.last.processes.items():
            then = self.first.processes.get(pid)
            if then is not None and now.memory > memory_goal * then.memory:
                times = now.memory / then.memory
                lines.append(f"memory of {now.role} {pid}: {times:.3f} x")
        for role, most in _most_files(self.last).items():
            before = _most_files(self.first)[role]
            if most > before + (SLACK if role == KEEPER else 0):
                lines.append(f"open files of {role}: {before} after the first minute, then {most}")
        return lines


def soak(seconds: float, folder: Path, seed: int = 0) -> Soaked:
    """Start a service, put it under mixed load, and return the result.

    Args:
        seconds: the approximate duration of the load.
        folder: an empty folder for the models and the tokens file.
        seed: the seed of all random choices.
    """
    models, tokens_file = folder / "models", folder / "tokens.toml"
    tokens = {
        name: _token(name, scope, tokens_file)
        for name, scope in (("asks", "predict"), ("reads", "metrics"), ("rules", "admin"))
    }
    there = shelf.Shelf(models)
    server = servers.Server(
        NAME,
        NAME,
        "triceps serve",
        servers.TRICEPS.command,
        environment={
            "TRICEPS_TOKENS_FILE": str(tokens_file),
            "TRICEPS_DEFAULT_MODEL": "three",
            "TRICEPS_WATCH": shelf.WATCH,
        },
    )
    life = seconds + 5 * servers.READY_SECONDS
    with servers.run(server, sys.executable, models, _check, life=life) as running:
        target = Target(running.port, tokens, there, Ledger(), Gate())
        return _soak(seconds, running, target, seed)


def _soak(seconds: float, running: servers.Running, target: Target, seed: int) -> Soaked:
    callers: list[Caller] = [Caller(target, seed * 100 + i, RATE / CALLERS) for i in range(CALLERS)]
    callers += [
        SlowCaller(target, seed * 100 + 50 + i, ends=ends) for i, ends in enumerate(SLOW_CALLERS)
    ]
    callers += [hostile.HostileCaller(target, seed * 100 + 80 + i) for i in range(HOSTILE_CALLERS)]
    changes: Counter[str] = Counter()
    changer = threading.Thread(target=_change, args=(target, changes), daemon=True)
    target.gate.join()
    # The request for /readyz is counted too.
    target.ledger.note(OTHER, 200)
    begun = time.monotonic()
    minutes: list[float] = []
    for thread in (*callers, changer):
        thread.start()

    def go_on(until: float) -> None:
        while (left := begun + until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if time.monotonic() - begun >= 60 * (len(minutes) + 1):
                minutes.append(processes.own_memory(running.pid))

    try:
        warm = min(WARM_SECONDS, seconds / 4)
        go_on(warm)
        with target.gate.closed():
            first = _look(running, target, begun)
            miscounted = _compare_counts(first, target.ledger)
            # The request for /metrics is counted too.
            target.ledger.note(OTHER, 200)
        go_on(seconds / 2)
        replaced = _kill(running.pid, target.ledger, random.Random(seed))
        go_on(seconds)
        with target.gate.closed():
            last = _look(running, target, begun)
        miscounted += _compare_counts(last, target.ledger)
    finally:
        target.gate.end()
        for thread in (*callers, changer):
            thread.join(30)
    log = _logged((servers.LOGS / f"{NAME}.log").read_text())
    return Soaked(
        *(last.seconds, first, last, target.ledger, changes, minutes, log, miscounted),
        replaced=replaced,
    )


def _change(target: Target, changes: Counter[str]) -> None:
    """Change the repository repeatedly until the end."""
    there, gate = target.shelf, target.gate
    lend = partial(there.lend, target.port, target.tokens["rules"])
    turns: Sequence[tuple[str, Callable[[], None]]] = (
        ("versions published", partial(there.swap, "three")),
        ("aliases moved", partial(there.point, "other", "stable")),
        ("versions published", partial(there.swap, "other")),
        ("models unloaded", partial(lend, back=False)),
        ("broken versions published", partial(there.spoil, "three")),
        ("aliases moved", partial(there.point, "other", "canary")),
        ("times pruned", partial(_prune, target, "three")),
        ("models loaded", partial(lend, back=True)),
        ("versions published", partial(there.swap, "lent")),
        ("times pruned", partial(_prune, target, "other")),
        ("times pruned", partial(_prune, target, "lent")),
    )
    for what, turn in itertools.cycle(turns):
        if not gate.is_open and not gate.ended:
            gate.rest()
        if gate.ended:
            break
        start = time.monotonic()
        try:
            turn()
            changes[what] += 1
        except Exception as error:  # noqa: BLE001  reported at the end
            target.ledger.fail(what, error, start, OTHER, 0)
        if what.startswith("models"):
            target.ledger.note(OTHER, 200)
        time.sleep(CHANGE_SECONDS)
    gate.leave()


def _token(name: str, scope: str, file: Path) -> str:
    return shelf.triceps("token", name, "--scope", scope, "--file", str(file)).strip()


def _check(running: servers.Running) -> None:
    # One request that waits: one that is abandoned would be answered too, and counted.
    servers.ask(running.url("/readyz"), timeout=servers.READY_SECONDS)


def _kill(root: int, ledger: Ledger, chance: random.Random) -> float:
    """Kill a worker, and return the seconds until another has started."""
    workers = [pid for pid, role in _roles(root).items() if role == "worker"]
    ledger.kill()
    started = time.monotonic()
    os.kill(chance.choice(workers), signal.SIGKILL)
    while time.monotonic() - started < REPLACE_SECONDS:
        time.sleep(0.02)
        now = [pid for pid, role in _roles(root).items() if role == "worker"]
        if len(now) == len(workers) and now != workers:
            return time.monotonic() - started
    ledger.failed.append(f"a worker that was killed is not replaced within {REPLACE_SECONDS:g} s")
    return REPLACE_SECONDS


def _roles(root: int) -> dict[int, str]:
    """Return the role of each process; `root` is the service, or the process that started it."""
    parents = {}
    for pid in processes.tree(root):
        try:
            parents[pid] = processes.parent(pid)
        except OSError:
            continue
    own = next((pid for pid, parent in parents.items() if parent == root), root)
    starts_it = "timeout" in Path(f"/proc/{root}/comm").read_text()
    main = own if starts_it else root
    return {
        pid: "main" if pid == main else "worker" if parent == main else KEEPER
        for pid, parent in sorted(parents.items())
    }


def _open_files(pid: int) -> int:
    """Return the fewest open files of some looks: one is open while a process reads it."""
    counts = []
    for _ in range(FILE_LOOKS):
        counts.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(FILE_LOOK_SECONDS)
    return min(counts)


def _look(running: servers.Running, target: Target, begun: float) -> Look:
    """Measure a service without load."""
    time.sleep(REST_SECONDS)
    running_processes = {}
    for pid, role in _roles(running.pid).items():
        status = Path(f"/proc/{pid}/status").read_text()
        rss = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        memory = int(rss[1]) * 1024 / 1e6 if rss else 0.0
        running_processes[pid] = Process(role, memory, _open_files(pid))
    own = processes.own_memory(running.pid)
    _read_metrics(target)
    counted: Counter[tuple[str, str]] = Counter()
    rows = 0.0
    for name, number in target.ledger.told.items():
        if name[0] == "rows":
            rows += number
        else:
            labels = dict(name[1:])
            status = labels["status"]
            counted[labels["dialect"] if status == "200" else "", status] += int(number)
    return Look(time.monotonic() - begun, own, running_processes, counted, rows)


def _read_metrics(target: Target) -> None:
    """Read the metrics into the ledger, which keeps the counts of removed versions."""
    request = urllib.request.Request(
        f"http://{servers.HOST}:{target.port}/metrics",
        headers={"Authorization": f"Bearer {target.tokens['reads']}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    for family, labels, number in COUNTED.findall(text):
        target.ledger.told[family, *LABEL.findall(labels)] = float(number)


def _prune(target: Target, name: str) -> None:
    """Prune old versions, and keep their counts in the ledger."""
    _read_metrics(target)
    target.ledger.note(OTHER, 200)
    target.shelf.prune(name)


def _compare_counts(look: Look, ledger: Ledger) -> list[str]:
    """Return the counts of the service that differ from the clients' by more than is unsure."""
    differences = []
    unsure = sum(ledger.unsure.values())
    for key in sorted(look.answered.keys() | ledger.answered.keys()):
        dialect, status = key
        if status == "499":
            continue
        most = ledger.answered[key] + (unsure if not dialect else ledger.unsure[dialect])
        least = ledger.answered[key] - ledger.untold[key]
        if not least <= look.answered[key] <= most:
            about = f"{dialect} {status}".strip()
            differences.append(
                f"requests counted, {about}: expected {least} to {most}, "
                f"received {look.answered[key]:.0f}"
            )
    least, most = ledger.rows - ledger.untold_rows, ledger.rows + ledger.unsure_rows
    if not least <= look.rows <= most:
        differences.append(f"rows counted: expected {least} to {most}, received {look.rows:.0f}")
    return differences


def _logged(text: str) -> list[str]:
    """Return the errors that the service has logged, except for the killed worker."""
    errors = []
    for line in text.splitlines():
        entry: dict[str, Any] = {}
        if line.startswith("{"):
            entry = json.loads(line)
        elif "Traceback" in line:
            entry = {"level": "error", "message": line}
        if entry.get("level") in {"error", "critical"}:
            errors.append(f"{entry['message']} {entry.get('exception', '')}"[:2000])
    killed = [line for line in errors if KILLED.search(line)]
    return [line for line in errors if line not in killed[:1]]


# ── the report ───────────────────────────────────────────────────────────────────────────────────


def tables(done: Soaked) -> list[report.Table]:
    """Return all tables of the report."""
    ledger, first, last = done.ledger, done.first, done.last
    dialects = {
        "native": "Triceps' own",
        "oip": "Open Inference Protocol",
        "tfserving": "TensorFlow Serving",
        "mlflow": "MLflow",
        OTHER: "pages, metrics and administration",
    }
    by_dialect = [[name, f"{ledger.answered[key, '200']:,}"] for key, name in dialects.items()]
    refused = Counter(
        {status: n for (dialect, status), n in ledger.answered.items() if not dialect}
    )
    by_dialect += [[f"refused with {status}", f"{n:,}"] for status, n in sorted(refused.items())]
    by_dialect.append(
        ["disconnected before the answer", f"{sum(ledger.unsure.values()) - ledger.cut:,}"]
    )
    forms = [[what, f"{number:,}"] for what, number in sorted(ledger.asked.items())]
    happened = [[what, f"{number:,}"] for what, number in sorted(done.changes.items())]
    happened += [
        ["workers killed", f"{len(ledger.kills)}"],
        ["seconds until its replacement had started", f"{done.replaced:.2f}"],
        ["requests that failed with it", f"{ledger.cut}"],
        ["longest use of a superseded version, s", f"{ledger.late:.1f}"],
    ]
    kept = [
        ["wrong answers", "0", f"{len(ledger.wrong):,}"],
        ["requests that failed otherwise", "0", f"{len(ledger.failed):,}"],
        ["errors in the log", "0", f"{len(done.log):,}"],
        ["counts that differ from the requests sent", "0", f"{len(done.miscounted):,}"],
        [
            "resident memory at the end, of all processes",
            f"≤ {MEMORY_GOAL:g} x",
            f"{done.growth:.3f} x",
        ],
        ["open files", "as before", _files(done)],
    ]
    held = [
        [f"{now.role}{'' if pid in first.processes else ', the new one'}", *_two(pid, done)]
        for pid, now in last.processes.items()
    ]
    held.append(["all", f"{first.memory:,.1f}", f"{last.memory:,.1f}", "", ""])
    about = "written, with shared memory once"
    held.append([about, f"{first.own:,.1f}", f"{last.own:,.1f}", "", ""])
    all_tables = [
        report.Table("Promises", ("what", "promised", "found"), kept),
        report.Table(
            "Resident memory (MB) and open files, without load",
            ("process", f"MB after {first.seconds:.0f} s", "MB at the end", "files", "at the end"),
            held,
        ),
        report.Table("Answers", ("answered", "requests"), by_dialect),
        report.Table("Changes during the test", ("what", "times"), happened),
        report.Table("Actions of the clients", ("what", "times"), forms),
    ]
    if done.minutes:
        all_tables.insert(
            2,
            report.Table(
                "Written memory by minute, under load",
                ("", *(str(i + 1) for i in range(len(done.minutes)))),
                [["MB", *(f"{memory:,.0f}" for memory in done.minutes)]],
            ),
        )
    return all_tables


def _two(pid: int, done: Soaked) -> list[str]:
    before, now = done.first.processes.get(pid), done.last.processes[pid]
    memory = "" if before is None else f"{before.memory:,.1f}"
    files = "" if before is None else str(before.files)
    return [memory, f"{now.memory:,.1f}", files, str(now.files)]


def _most_files(look: Look) -> dict[str, int]:
    """Return for each role the largest number of open files of a process."""
    most: dict[str, int] = {}
    for process in look.processes.values():
        most[process.role] = max(process.files, most.get(process.role, 0))
    return most


def _files(done: Soaked) -> str:
    sums = [sum(p.files for p in it.processes.values()) for it in (done.first, done.last)]
    return f"{sums[0]}, then {sums[1]}"


def write(done: Soaked, path: Path) -> None:
    """Write the page of the documentation."""
    machine = results.machine()
    total = sum(done.ledger.answered.values())
    measured = (
        f"Measured {results.today()} UTC at commit {results.commit()} by "
        "`python -m benchmarks.soak --write` (`make soak`), which writes this page: "
        f"{done.seconds:,.0f} s, {total:,} answers, {total / done.seconds:,.0f} a second. "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory']}, "
        f"{machine['system']}, which other work shared."
    )
    about = (
        "A service with tokens and two workers gets requests in every dialect and form from "
        f"{CALLERS} clients, who also send wrong requests and disconnect early, from three slow "
        f"senders, and from {HOSTILE_CALLERS} clients who attack it a little and send extreme rows "
        "to models that mix rows. Meanwhile versions are published and removed, aliases move, a "
        "model is unloaded and loaded, and halfway one worker is killed. Every answer is compared "
        "with ONNX Runtime's own: to the last bit if the result of a kernel does not depend on the "
        "place of a row in a batch, else within 1e-6. An answer that names a version must come "
        "wholly from that version, which must have been serving at the time; any other answer must "
        "come wholly from one version that was serving."
    )
    lines = ["# Soak", "", measured, "", about]
    for table in tables(done):
        lines += ["", f"## {table.title}", "", report.markdown(table.header)]
        lines.append("|---|" + "---:|" * (len(table.header) - 1))
        lines += map(report.markdown, table.rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@click.command()
@click.argument("seconds", type=click.FloatRange(10), default=SECONDS)
@click.option("--seed", default=0, show_default=True, help="The seed of all random choices.")
@click.option("--write", "writes", is_flag=True, help=f"Write {PAGE}.")
def main(seconds: float, seed: int, *, writes: bool) -> None:
    """Soak a service for SECONDS seconds."""
    servers.stop_when_told()
    with tempfile.TemporaryDirectory() as folder:
        done = soak(seconds, Path(folder), seed)
    console = report.console()
    for table in tables(done):
        report.show(table, console)
    if writes:
        write(done, PAGE)
    broken = done.broken()
    for line in broken:
        click.echo(line, err=True)
    if broken:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
