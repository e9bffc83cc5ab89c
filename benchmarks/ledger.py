"""What the callers of a soak share: whom they ask, what came of all they sent, and a gate."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.shelf import Shelf

# How long before a kill a worker has told what it has counted, at the latest.
UNTOLD_SECONDS = 3.0
# How soon after it nobody comes to the one that was killed any more.
KILLED_SECONDS = 0.5
TIMEOUT = 30.0


class WrongError(Exception):
    """An answer that is not what it should be."""


class Answer(NamedTuple):
    """What came back, and whence."""

    path: str
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Ledger:
    """What was sent and what came of it, by all callers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: Counter[str] = field(default_factory=Counter)
    """By what was done."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By dialect and status, as the service counts; other than 200, of all dialects together."""
    unsure: Counter[str] = field(default_factory=Counter)
    """By dialect, requests whose sender did not wait: answered or not, who knows."""
    rows: int = 0
    unsure_rows: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cut: int = 0
    """Requests that were at a worker as it was killed."""
    kills: list[float] = field(default_factory=list)
    late: float = 0.0
    recent: deque[tuple[float, tuple[str, str], int]] = field(default_factory=deque)
    untold: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By dialect and status, answers that a killed worker may not have counted yet."""
    untold_rows: int = 0
    told: dict[tuple[Any, ...], float] = field(default_factory=dict)
    """What the service has said that it has counted, by its labels."""

    def note(self, dialect: str, status: int, rows: int = 0) -> None:
        """Note an answer."""
        key = dialect if status == http.HTTPStatus.OK else "", str(status)
        now = time.monotonic()
        with self.lock:
            self.answered[key] += 1
            self.rows += rows
            self.recent.append((now, key, rows))
            while self.recent[0][0] < now - UNTOLD_SECONDS:
                self.recent.popleft()

    def doubt(self, dialect: str, rows: int, requests: int = 1) -> None:
        """Note requests that may or may not have been answered, and how many rows they had."""
        with self.lock:
            self.unsure[dialect] += requests
            self.unsure_rows += rows

    def kill(self) -> None:
        """Note that a worker is killed now."""
        with self.lock:
            self.kills.append(time.monotonic())
            self.untold.update(key for _, key, _ in self.recent)
            self.untold_rows += sum(rows for _, _, rows in self.recent)

    def fail(self, what: str, error: Exception, start: float, dialect: str, rows: int) -> None:
        """Note what went wrong; who was at a worker that was killed may fail."""
        end = time.monotonic()
        kind = self.wrong if isinstance(error, WrongError) else self.failed
        killed = any(start <= kill + KILLED_SECONDS and kill <= end for kill in self.kills)
        if kind is self.failed and killed:
            with self.lock:
                self.cut += 1
            self.doubt(dialect, rows)
            return
        with self.lock:
            kind.append(f"{what}: {type(error).__name__}: {error}"[:600])


class Gate:
    """Where all callers come to rest now and then, with no connection open."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._inside = 0
        self._callers = 0
        self.ended = False

    def join(self) -> None:
        """Be one of the callers."""
        with self._changed:
            self._callers += 1

    def leave(self) -> None:
        """Be none any more."""
        with self._changed:
            self._callers -= 1
            self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        """Whether callers go on."""
        return not self._closed and not self.ended

    def rest(self) -> None:
        """Wait until it is open again."""
        with self._changed:
            self._inside += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._closed or self.ended)
            self._inside -= 1

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Have all callers rest while the block runs."""
        with self._changed:
            self._closed = True
            if not self._changed.wait_for(lambda: self._inside >= self._callers, 2 * TIMEOUT):
                raise TimeoutError("callers do not come to rest")
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()

    def end(self) -> None:
        """Have all callers end."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Target:
    """What all callers share: whom they ask, as whom, and what they know."""

    port: int
    tokens: Mapping[str, str]
    shelf: Shelf
    ledger: Ledger
    gate: Gate
