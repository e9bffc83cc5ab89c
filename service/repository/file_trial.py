"""The trial of one file: a load in a child process with limits, and its verdict."""

from __future__ import annotations

import json
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from service.errors import ModelRefused
from service.host import child, memory, priority
from service.inference.execution import PLAIN, Execution
from service.inference.model import Model
from service.inference.prepared import WEIGHTS
from service.inference.runtime import NO_MEMORY
from service.repository.proof import prove
from service.repository.reasons import is_shortage, plain

if TYPE_CHECKING:
    import socket

    from service.repository.cache import Entry

    # The reason of a refusal, the peak and the kept memory in bytes, whether the machine is at
    # fault, and the names of the file's views.
    _Report = tuple[str | None, int, int, bool, tuple[str, ...]]

# The longest time for a file to load and answer its golden rows, and its processor time therein.
WALL_SECONDS = 60
BUSY_SECONDS = 30
# A trial that found too little memory is repeated once free memory has grown by this factor.
MORE = 1.05
MB = 2**20


class Way(NamedTuple):
    """The way in which a file is loaded."""

    execution: Execution = PLAIN
    prepared: str | None = None
    """The folder of its prepared model, if there is one."""


PLAINLY = Way()


@dataclass
class Verdict:
    """The verdict of a trial: why the file is refused, or what loading it takes and gives.

    `peak` is the memory in bytes during the load, and `kept` that of the loaded model.
    """

    stamp: str
    since: float
    reason: str | None = None
    peak: int = 0
    kept: int = 0
    views: tuple[str, ...] = ()
    granted: int = 0
    """The number of workers that have been told to load the file."""
    needs: int | None = None
    """The free memory in bytes that makes another trial worthwhile, if the machine is at fault."""
    entry: Entry | None = None
    """The prepared model that workers have to load, if there is one."""


def attempt(
    path: str,
    stamp: str,
    free: int | None,
    alive: socket.socket | None = None,
    way: Way = PLAINLY,
) -> Verdict:
    """Load a file in a child process, and return the verdict.

    Args:
        path: the path of the file.
        stamp: a text that changes when the file or the settings do.
        free: the memory in bytes that the child may take; `None` for no limit.
        alive: a socket that the child has to close.
        way: how the file is loaded.
    """
    verdict = Verdict(stamp, time.monotonic())
    ended = child.wait_for(lambda: _report(path, way, free), WALL_SECONDS, alive)
    if ended.is_late:
        verdict.reason = f"it was not loaded within {WALL_SECONDS} s"
    elif ended.said:
        verdict.reason, verdict.peak, verdict.kept, is_short, views = json.loads(ended.said)
        verdict.views = tuple(views)
        verdict.needs = 0 if is_short else None
    elif ended.code == -signal.SIGXCPU:
        verdict.reason = f"it was not loaded within {BUSY_SECONDS} s of work"
    elif ended.code == -signal.SIGKILL:
        # Only the kernel kills it, for lack of memory.
        verdict.reason, verdict.needs = NO_MEMORY, 0
    else:
        verdict.reason = f"it ends the process that loads it, by {ended.cause}"
    if verdict.reason == NO_MEMORY and free is not None:
        verdict.reason = (
            f"loading it takes more than the {free // MB} MB of memory that are free for it"
        )
        # A child that reports this has had all free memory, and needs more.  The kernel may have
        # killed a silent child because of other processes, so that any memory may do.
        verdict.needs = int(free * MORE) if ended.said else 0
    verdict.since = time.monotonic()
    return verdict


def _report(path: str, way: Way, free: int | None) -> str:
    """Load the file in the child process, and return the report as JSON."""
    report: _Report
    try:
        limit(free)
        report = _load(path, way)
    except MemoryError:
        report = (NO_MEMORY, 0, 0, True, ())
    except Exception as error:  # noqa: BLE001  every error is reported
        reason = plain(f"loading it failed: {type(error).__name__}: {error}")
        report = (reason, 0, 0, is_shortage(error), ())
    return json.dumps(report)


def _load(path: str, way: Way) -> _Report:
    """Load and prove a file."""
    prepared = None if way.prepared is None else Path(way.prepared)
    if prepared is not None:
        allow_mapping(prepared)
    before = memory.taken()
    try:
        model = Model.load(Path(path), way.execution, prepared)
        prove(model)
    except ModelRefused as error:
        return plain(str(error)), 0, 0, is_shortage(error), ()
    after = memory.taken()
    # The pages of libraries that the child is the first to touch are in `peak`, and do not count as
    # kept: all processes share them.
    peak, kept = max(0, after.most - before.now), max(0, after.own - before.own)
    return None, peak, kept, False, tuple(model.signature.models)


def limit(free: int | None) -> None:
    """Limit this process, so that the kernel ends it before a slow or large file does harm."""
    limits = {resource.RLIMIT_CPU: BUSY_SECONDS, resource.RLIMIT_CORE: 0}
    if free is not None:
        limits[resource.RLIMIT_DATA] = memory.taken().data + free
    for which, limit in limits.items():
        hard = resource.getrlimit(which)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(which, (most, hard))
    priority.end_first()


def allow_mapping(prepared: Path) -> None:
    """Raise the limit of memory by the size of weights that are mapped.

    The kernel counts them, since a process might write into its mapping, and so get a copy.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        more = soft + (prepared / WEIGHTS).stat().st_size
        most = more if hard == resource.RLIM_INFINITY else min(more, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
