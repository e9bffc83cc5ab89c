"""The processes of a service: one that accepts, and those that answer.

    clients ─▶ accept ─ the worker with the fewest open connections ─▶ its socket pair ─▶ Front

One listener, so that a port that is taken is an error and not a silent share of it; connections
handed out by count, so that the few that keep-alive clients open do not crowd into one worker;
and a worker that dies takes only its own with it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service import worker as workers
from service.board import Board
from service.errors import TricepsError
from service.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings

log = logging.getLogger(__name__)

BACKLOG = 2048
_STOPPING = (signal.SIGTERM, signal.SIGINT)
# A worker that dies this soon after its start has something wrong that another try will not mend.
SOON_SECONDS = 2
# Workers are killed now and then, by whoever is short of memory; not so many in so short a time.
MAX_DEATHS = 10
RECENT_SECONDS = 10


class CannotListenError(TricepsError):
    """The address is taken, or not ours to listen on."""


@dataclass
class _Worker:
    """A worker process, as the one that accepts sees it."""

    pid: int
    pair: socket.socket
    slot: int
    started: float
    given: int = 0


def listen(settings: Settings) -> socket.socket:
    """The listening socket.

    Raises:
        CannotListenError: the port is taken, or the address is none of this machine's.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise CannotListenError(
            f"cannot listen on {where}: {error.strerror}; choose another with --port or --host"
        ) from error
    listener.setblocking(False)
    return listener


class Workers:
    """All processes of one service; `run` returns when it is told to stop."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        """Answer what comes to `listener`."""
        self._settings = settings
        self._listener = listener
        self._workers: dict[int, _Worker] = {}
        # How many connections each worker has closed, written by it and read here: what it was
        # given less that is what it has open.
        self._closed = memoryview(mmap.mmap(-1, 8 * settings.workers)).cast("q")
        self._board = Board(settings.workers)
        self._selector = selectors.DefaultSelector()
        self._stopping = 0
        self._deaths: list[float] = []

    def run(self) -> int:
        """Accept until SIGTERM or SIGINT; the exit code."""
        wake, woken = socket.socketpair()
        with self._selector, wake, woken:
            for end in (wake, woken):
                end.setblocking(False)
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            for number in _STOPPING:
                signal.signal(number, self._stop)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            self._selector.register(wake, selectors.EVENT_READ)
            self._selector.register(self._listener, selectors.EVENT_READ)
            for slot in range(self._settings.workers):
                self._spawn(slot)
            healthy = True
            while healthy and not self._stopping:
                self._listen(wake, None)
                healthy = self._bury()
            if healthy and self._stopping == signal.SIGTERM:
                self._drain(wake)
            self._stopping = self._stopping or signal.SIGTERM
            self._listener.close()
            self._end()
            signal.set_wakeup_fd(-1)
        return 0 if healthy else 1

    def _stop(self, number: int, _: object) -> None:
        # A second one means what Ctrl-C does: now.
        self._stopping = signal.SIGINT if self._stopping else number

    def _listen(self, wake: socket.socket, seconds: float | None) -> None:
        """Hand out the connections that come within so many seconds, until a signal does."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is wake:
                wake.recv(4096)
            else:
                self._accept()

    def _drain(self, wake: socket.socket) -> None:
        """Be ready no more, and listen on for those who have not heard of it yet."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + self._settings.grace
        while self._stopping == signal.SIGTERM and self._workers:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._listen(wake, left)
            self._bury()
        self._accept()

    def _spawn(self, slot: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._closed[slot] = 0
        sys.stdout.flush()
        # A signal between the fork and the child's own handlers would go to its parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        pid = os.fork()
        if pid == 0:
            # Its own end too: a worker that holds that open never sees it close.
            ours.close()
            self._become_worker(theirs, slot)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        theirs.close()
        ours.setblocking(False)
        self._workers[pid] = _Worker(pid, ours, slot, time.monotonic())

    def _become_worker(self, pair: socket.socket, slot: int) -> None:
        """In the child: answer until told to stop, and never return."""
        code = 1
        try:
            self._forget()
            metrics = Metrics(self._board, slot)
            code = workers.work(self._settings, pair, partial(self._count_closed, slot), metrics)
        except TricepsError as error:
            log.critical("%s", error)
        except BaseException:
            log.critical("a worker cannot go on", exc_info=True)
        finally:
            logging.shutdown()
            # Not sys.exit: the parent's clean-up is the parent's.
            os._exit(code)

    def _forget(self) -> None:
        """In the child: let go of what is the parent's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # A terminal sends Ctrl-C to all of its processes; the parent passes on what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        self._listener.close()
        self._selector.close()
        for other in self._workers.values():
            other.pair.close()

    def _count_closed(self, slot: int) -> None:
        self._closed[slot] += 1

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # Nothing can be accepted until something is closed; do not spin meanwhile.
                    time.sleep(0.01)
                    return
                continue
            with connection:
                self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        by_load = sorted(self._workers.values(), key=lambda w: w.given - self._closed[w.slot])
        for worker in by_load:
            try:
                socket.send_fds(worker.pair, [b"c"], [connection.fileno()])
            except OSError:  # its queue is full, or it has just died
                continue
            worker.given += 1
            return
        log.error("no worker takes a connection; it is closed")

    def _bury(self) -> bool:
        """Replace workers that have died; `False` if that has no end."""
        for pid, code in _ended():
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            worker.pair.close()
            if self._stopping:
                continue
            now = time.monotonic()
            # An error of its own, so early, is one that every successor would have too.
            if code > 0 and now - worker.started < SOON_SECONDS:
                log.critical("worker %d ended as soon as it had started", pid)
                return False
            self._deaths = [then for then in self._deaths if now - then < RECENT_SECONDS] + [now]
            if len(self._deaths) > MAX_DEATHS:
                log.critical("%d workers ended within %d s", len(self._deaths), RECENT_SECONDS)
                return False
            log.error("worker %d ended, and is replaced", pid)
            self._spawn(worker.slot)
        return True

    def _end(self) -> None:
        """Tell all workers to stop, and see that they do."""
        deadline = time.monotonic() + workers.STOP_SECONDS + 1
        for worker in self._workers.values():
            worker.pair.close()
        while self._workers and time.monotonic() < deadline:
            self._bury()
            time.sleep(0.01)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _ended() -> Iterator[tuple[int, int]]:
    """Children that have ended since the last look, and how: an exit code, or minus a signal."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)
