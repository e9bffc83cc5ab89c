"""The state that the clients of a soak test share: the target, the ledger and the gate."""

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

# A worker publishes its counts at least this often, so that a kill loses at most these seconds.
UNTOLD_SECONDS = 3.0
# After this time no request reaches the killed worker any more.
KILLED_SECONDS = 0.5
TIMEOUT = 30.0


class WrongError(Exception):
    """An answer is wrong."""


class Answer(NamedTuple):
    """An answer, and the path of its request."""

    path: str
    headers: Mapping[str, str]
    content: bytes


@dataclass
class Ledger:
    """The requests of all clients, and their answers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests, by what the client did."""
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Answers by dialect and status, as the service counts; errors have no dialect."""
    unsure: Counter[str] = field(default_factory=Counter)
    """By dialect, requests whose client did not wait, so that an answer is uncertain."""
    rows: int = 0
    unsure_rows: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    cut: int = 0
    """The number of requests that a killed worker lost."""
    kills: list[float] = field(default_factory=list)
    late: float = 0.0
    recent: deque[tuple[float, tuple[str, str], int]] = field(default_factory=deque)
    untold: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By dialect and status, answers that a killed worker may not have published."""
    untold_rows: int = 0
    told: dict[tuple[Any, ...], float] = field(default_factory=dict)
    """The counts that the service has reported, by labels."""

    def note(self, dialect: str, status: int, rows: int = 0) -> None:
        """Count an answer, which has been received at most `UNTOLD_SECONDS` ago."""
        key = dialect if status == http.HTTPStatus.OK else "", str(status)
        now = time.monotonic()
        with self.lock:
            self.answered[key] += 1
            self.rows += rows
            if self.kills and now < self.kills[-1] + UNTOLD_SECONDS:
                # The client checks an answer before it notes it, so the killed worker may have
                # sent this one.
                self.untold[key] += 1
                self.untold_rows += rows
            self.recent.append((now, key, rows))
            while self.recent[0][0] < now - UNTOLD_SECONDS:
                self.recent.popleft()

    def doubt(self, dialect: str, rows: int, requests: int = 1) -> None:
        """Count requests that may or may not have been answered, and their rows."""
        with self.lock:
            self.unsure[dialect] += requests
            self.unsure_rows += rows

    def kill(self) -> None:
        """Note the time at which a worker is killed."""
        with self.lock:
            self.kills.append(time.monotonic())
            self.untold.update(key for _, key, _ in self.recent)
            self.untold_rows += sum(rows for _, _, rows in self.recent)

    def fail(self, what: str, error: Exception, start: float, dialect: str, rows: int) -> None:
        """Note an error; requests that a killed worker had open may fail."""
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
    """A gate at which all clients pause, without open connections, during a measurement."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._inside = 0
        self._callers = 0
        self.ended = False

    def join(self) -> None:
        """Register a client."""
        with self._changed:
            self._callers += 1

    def leave(self) -> None:
        """Unregister a client."""
        with self._changed:
            self._callers -= 1
            self._changed.notify_all()

    @property
    def is_open(self) -> bool:
        """Whether clients may continue."""
        return not self._closed and not self.ended

    def rest(self) -> None:
        """Pause until the gate is open again."""
        with self._changed:
            self._inside += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._closed or self.ended)
            self._inside -= 1

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """Let all clients pause while the block runs."""
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
        """Let all clients end."""
        with self._changed:
            self.ended = True
            self._changed.notify_all()


@dataclass(frozen=True)
class Target:
    """The data that all clients share: port, tokens, models, ledger and gate."""

    port: int
    tokens: Mapping[str, str]
    shelf: Shelf
    ledger: Ledger
    gate: Gate
