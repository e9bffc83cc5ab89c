"""The result of a benchmark: cells, samples, the machine, and medians with their spread."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.load import Load
from benchmarks.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PACKAGES = (
    *("triceps", "flask", "gunicorn", "fastapi", "uvicorn", "robyn", "mosec", "grpcio"),
    *("uvloop", "httptools", "onnxruntime", "numpy", "orjson", "pysimdjson"),
)

# The ways to send rows, and what they add to the description of a cell; ways.py has the rest.
JSON, BINARY, HTTP1, HTTP2, GRPC = "json", "binary", "http1", "http2", "grpc"
_BINARY, _HTTP1 = "as binary tensors", "as JSON, by the load generator of HTTP/2"
_HTTP2, _GRPC = "as JSON over HTTP/2", "by gRPC"


@dataclass(frozen=True)
class Cell:
    """A workload: a body that a number of connections post to a server of a model.

    `goal` is the project's goal for the requests/s as a multiple of the best other server's, and
    `naive` as a multiple of the naive server's; `share` is it as a share of the limit's.

    A cell that names another one, `beside`, sends the same rows in another way, to Triceps and the
    peer of that way.  Its `goal` is a multiple of that cell's requests/s, `cost` is the most
    processor time of a request as a multiple of that cell's, and `ahead` is the goal as a multiple
    of the peer's requests/s.
    """

    name: str
    about: str
    model: str
    body: str
    connections: int
    goal: float = 1.0
    naive: float = 0.0
    beside: str = ""
    share: float = 0.0
    way: str = JSON
    cost: float = 0.0
    ahead: float = 0.0


def _beside(name: str, about: str, way: str, goal: float = 0, **goals: float) -> Cell:
    """Return a cell with the rows and connections of another one, whose name ends its own.

    HTTP/2 has another load generator, which takes more of the processors than wrk.  So its cells
    are beside those that it sends over HTTP/1.1.
    """
    beside = name.partition("-")[2]
    body, connections = beside.split("-")
    rest = ("seed", body, int(connections), goal)
    if way in (HTTP2, GRPC):
        beside = f"{HTTP1}-{beside}"
    return Cell(name, about, *rest, beside=beside, way=way, **goals)


_ONE, _SOME, _MANY = "posts one row", "32 rows", "512 rows"
_HEAVY = "one row to the heavy model"
_OPTIMIZED = "--enable-optimizations"
CELLS = {
    cell.name: cell
    for cell in (
        Cell("W1-1", _ONE, "seed", "W1", 1, 1.3, share=0.7),
        Cell("W1-16", _ONE, "seed", "W1", 16, 1.5, 6, share=0.38),
        Cell("W1-64", _ONE, "seed", "W1", 64, 1.5, 6, share=0.4),
        Cell("W2-16", _SOME, "seed", "W2", 16, 2, share=0.5),
        Cell("W3-8", _MANY, "seed", "W3", 8, 2, share=0.55),
        _beside("binary-W1-16", f"{_ONE}, {_BINARY}", BINARY, 0.9),
        _beside("binary-W3-8", f"{_MANY}, {_BINARY}", BINARY, 5),
        _beside("http1-W1-16", f"{_ONE}, {_HTTP1}", HTTP1),
        _beside("http1-W3-8", f"{_MANY}, {_HTTP1}", HTTP1),
        _beside("http2-W1-16", f"{_ONE}, {_HTTP2}", HTTP2),
        _beside("grpc-W1-16", f"{_ONE}, {_GRPC}", GRPC, 0.9, cost=1.2, ahead=3),
        _beside("grpc-W3-8", f"{_MANY}, {_GRPC}", GRPC, 5, ahead=3),
        Cell("heavy-1", _HEAVY, "heavy", "W1", 1),
        Cell("heavy-16", _HEAVY, "heavy", "W1", 16, share=0.9),
        Cell("heavy-64", _HEAVY, "heavy", "W1", 64, share=0.8),
    )
}


@dataclass(frozen=True)
class Sample:
    """A measurement of a cell; `cpu` is the processor time of a request, in microseconds."""

    server: str
    cell: str
    round: int
    load: Load
    cpu: float

    @property
    def rate(self) -> float:
        """The requests a second."""
        return self.load.requests / self.load.seconds

    @property
    def errors(self) -> int:
        """The number of requests without a right answer."""
        return self.load.refused + self.load.late + self.load.broken


@dataclass(frozen=True)
class Start:
    """A start of a server: seconds to the first right answer, megabytes after the load."""

    server: str
    model: str
    ready: float
    memory: float


@dataclass(frozen=True)
class Figures:
    """The figures of a server, in its best setting, in one cell."""

    server: str
    rate: float
    low: float
    high: float
    p50: float
    p99: float
    cpu: float
    errors: int


@dataclass
class Result:
    """The result of a run of the benchmark."""

    date: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    rounds: int
    slow_sender: bool
    floor: dict[str, float]
    samples: list[Sample] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the result as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read a file that `write` has written."""
        content: dict[str, Any] = json.loads(path.read_text())
        samples = [
            Sample(**{**sample, "load": Load(**sample["load"])}) for sample in content["samples"]
        ]
        starts = [Start(**start) for start in content["starts"]]
        return cls(**{**content, "samples": samples, "starts": starts})

    @property
    def groups(self) -> list[str]:
        """The measured programs, Triceps first."""
        measured = {sample.server for sample in self.samples}
        return list(dict.fromkeys(s.group for s in SERVERS.values() if s.name in measured))

    @property
    def cells(self) -> list[Cell]:
        """The measured cells."""
        measured = {sample.cell for sample in self.samples}
        return [cell for cell in CELLS.values() if cell.name in measured]

    def figures(self, group: str, cell: Cell) -> Figures | None:
        """Return the figures of a program in a cell, in its setting with most requests/s there."""
        found = [
            _figures(server.name, samples)
            for server in SERVERS.values()
            if server.group == group
            and (
                samples := [
                    s for s in self.samples if (s.server, s.cell) == (server.name, cell.name)
                ]
            )
        ]
        return max(found, key=lambda figures: figures.rate, default=None)

    def best_other(self, cell: Cell) -> Figures | None:
        """Return the figures of the fastest peer in a cell; the limit is none."""
        others = (self.figures(g, cell) for g in self.groups if g not in ("triceps", "limit"))
        return max(filter(None, others), key=lambda figures: figures.rate, default=None)


def _figures(server: str, samples: list[Sample]) -> Figures:
    def middle(of: Callable[[Sample], float]) -> float:
        return median(map(of, samples))

    return Figures(
        server,
        rate=middle(lambda sample: sample.rate),
        low=min(sample.rate for sample in samples),
        high=max(sample.rate for sample in samples),
        p50=middle(lambda sample: sample.load.p50),
        p99=middle(lambda sample: sample.load.p99),
        cpu=middle(lambda sample: sample.cpu),
        errors=sum(sample.errors for sample in samples),
    )


def today() -> str:
    """Return the date and the time in minutes, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M")


def machine() -> dict[str, str]:
    """Return the processor and the system, without anything that identifies the owner."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
    }


def commit() -> str:
    """Return the measured commit, and whether the files differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}{' and changes' if _git('status', '--porcelain') else ''}" if head else "none"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607  the git on the developer's PATH
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def versions(python: str, packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that a Python has, and as `python` its own and its build.

    A Python that is optimized by profiles takes a tenth less time for small requests.
    """
    program = (
        "import importlib.metadata as m, json, platform, sys, sysconfig as s\n"
        f"optimized = {_OPTIMIZED!r} in (s.get_config_var('CONFIG_ARGS') or '')\n"
        "build = 'with' if optimized else 'without'\n"
        f"found = {{'python': f'{{platform.python_version()}} ({{build}} {_OPTIMIZED})'}}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [python, "-c", program, *packages], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found
