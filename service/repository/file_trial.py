"""The trial of one file: loaded in a child with limits, and what came of that."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ModelRefused
from service.host import memory
from service.inference.model import Model
from service.inference.runtime import NO_MEMORY
from service.repository.proof import prove
from service.repository.reasons import is_shortage, plain

if TYPE_CHECKING:
    import socket

# How long a file may take to load and to answer its golden rows; and of that, busy.
WALL_SECONDS = 60
BUSY_SECONDS = 30
# A trial that found too little memory is worth another once there is so much more.
MORE = 1.05
MB = 2**20


@dataclass
class Verdict:
    """What came of a trial: why the file is refused, or the bytes that loading it takes."""

    stamp: str
    since: float
    reason: str | None = None
    peak: int = 0
    kept: int = 0
    granted: int = 0
    """How many workers have been told to load it."""
    needs: int | None = None
    """Where the machine is to blame: the free bytes from which on it is worth another trial."""


def attempt(path: str, stamp: str, free: int | None, alive: socket.socket | None = None) -> Verdict:
    """Load a file in a child that may take `free` bytes, and say what came of it."""
    verdict = Verdict(stamp, time.monotonic())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if alive is not None:
            alive.close()
        _be_tried(path, writer, free)
    os.close(writer)
    said = bytearray()
    end = verdict.since + WALL_SECONDS
    with open(reader, "rb", buffering=0) as pipe:  # noqa: PTH123  it is open already
        while select.select([pipe], [], [], max(0, end - time.monotonic()))[0]:
            part = pipe.read(65536)
            if not part:
                break
            said += part
        else:
            os.kill(pid, signal.SIGKILL)
            verdict.reason = f"it was not loaded within {WALL_SECONDS} s"
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if said:
        verdict.reason, verdict.peak, verdict.kept, is_short = json.loads(said)
        verdict.needs = 0 if is_short else None
    elif code == -signal.SIGXCPU:
        verdict.reason = f"it was not loaded within {BUSY_SECONDS} s of work"
    elif code == -signal.SIGKILL and verdict.reason is None:
        # By nobody but the kernel, which is short of memory.
        verdict.reason, verdict.needs = NO_MEMORY, 0
    elif verdict.reason is None:
        verdict.reason = f"whoever loads it is ended, by {_ended_by(code)}"
    if verdict.reason == NO_MEMORY and free is not None:
        verdict.reason = (
            f"loading it takes more than the {free // MB} MB of memory that are free for it"
        )
        # Unless the kernel has ended it, who knows for whom, it had all of that.
        verdict.needs = int(free * MORE) if said else 0
    verdict.since = time.monotonic()
    return verdict


def _ended_by(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"its exit code {code}"


def _be_tried(path: str, writer: int, free: int | None) -> None:
    """In the child: load the file, say what that took, and never return."""
    said: tuple[str | None, int, int, bool] = ("loading it failed", 0, 0, False)
    # Should its keeper be killed, nobody else ends it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS + 1)
    try:
        _limit(free)
        said = _load(path)
    except MemoryError:
        said = (NO_MEMORY, 0, 0, True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is told
        reason = plain(f"loading it failed: {type(error).__name__}: {error}")
        said = (reason, 0, 0, is_shortage(error))
    finally:
        os.write(writer, json.dumps(said).encode())
        os._exit(0)


def _load(path: str) -> tuple[str | None, int, int, bool]:
    before = memory.taken()
    try:
        model = Model.load(Path(path))
        prove(model)
    except ModelRefused as error:
        return plain(str(error)), 0, 0, is_shortage(error)
    after = memory.taken()
    del model
    return None, max(0, after.most - before.now), max(0, after.now - before.now), False


def _limit(free: int | None) -> None:
    """Let this process end before it does harm: it may be slow, large or wrong."""
    limits = {resource.RLIMIT_CPU: BUSY_SECONDS, resource.RLIMIT_CORE: 0}
    if free is not None:
        limits[resource.RLIMIT_DATA] = memory.taken().data + free
    for which, limit in limits.items():
        hard = resource.getrlimit(which)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(which, (most, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
