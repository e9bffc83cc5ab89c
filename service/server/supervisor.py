"""The supervisor: the process that accepts connections, and looks after the workers that answer.

    clients ─▶ accept ─ the worker with the fewest open connections ─▶ its socket pair ─▶ Front

There is one listener, so that a port in use is an error, and is not shared silently.  Connections
go to the worker with the fewest, so that a few keep-alive connections do not all end up in one
worker.  A worker that dies takes only its own connections with it.  A connection is accepted only
once a worker has room for it; until then it waits in the kernel's backlog, and is not closed.

The file is one idea: a loop that hands out connections, and starts, checks and ends the workers.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from service.errors import TricepsError
from service.host.descriptors import SHORT
from service.http.access import Access
from service.insight.shadow.hand_over import HandOver
from service.observability.metrics import Metrics
from service.observability.shared_memory import SharedNumbers
from service.server import worker as workers
from service.server import worker_status as statuses
from service.server.generations import Generations, Member
from service.server.shadow_process import ShadowProcess
from service.server.worker_status import BEAT, CLOSED, ROOM, SHADOWS, TAKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.http.tls import Tls
    from service.repository.sandbox import Keeper
    from service.server.generations import Greet
    from service.server.worker_status import Status
    from service.settings import Settings

log = logging.getLogger(__name__)

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HANDLED = (*_STOPPING, signal.SIGHUP)
# The most connections that a worker has been given and has not taken yet: fewer than fit into its
# socket pair.
MAX_WAITING = 64
# The pause in accepting when no worker has room, and the interval at which workers are checked.
PAUSE_SECONDS = 0.01
TICK_SECONDS = 0.5
# After the first number of ticks without a beat, a worker gets connections only if no other worker
# has room; after the second, it is killed.  Ticks are counted, and no time is measured, since the
# whole machine may have been suspended.
SILENT_TICKS = 2
DEAD_TICKS = 60
# A worker that dies this soon after its start has a fault that a replacement would have too.
SOON_SECONDS = 2
# The kernel may kill a worker now and then for lack of memory, but not this many in this time.
MAX_DEATHS = 10
RECENT_SECONDS = 10
# The time that the first ready worker waits for the others; without it, the first worker would get
# all early connections, and keep those that are kept alive.
OPEN_SECONDS = 5
# The time after the grace in which connections in the backlog may still get room.
LAST_SECONDS = 1


@dataclass
class _Worker:
    """A worker process, as the supervisor sees it."""

    pid: int
    pair: socket.socket
    slot: int
    started: float
    status: Status
    given: int = 0
    is_gone: bool = False
    """True if the socket pair is closed: the worker has just died, or is about to end."""
    beat: int = 0
    silent: int = 0
    """The number of ticks since the last beat."""

    def has_room(self) -> bool:
        """Return whether the worker can be given one more connection."""
        waiting = self.given - self.status[TAKEN]
        return not self.is_gone and waiting < MAX_WAITING and self.open() < self.status[ROOM]

    def open(self) -> int:
        """Return the number of its connections, including those that it has not taken yet."""
        return self.given - self.status[CLOSED]

    def dismiss(self) -> None:
        """Have the worker answer the requests that it has, and end."""
        self.is_gone = True
        self.pair.close()
        if self.status[ROOM] == 0:
            # It is not waiting for connections yet, and would not notice; it has no requests.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


class Workers:
    """The workers of one service; `run` returns once the service is told to stop."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        keeper: Keeper | None = None,
        access: Access | None = None,
        encrypted: Tls | None = None,
    ) -> None:
        """Prepare to answer connections to `listener`, and to look after `keeper`.

        The supervisor follows changes of tokens and certificates, too: a worker that is replaced
        while their files are invalid starts with their last valid content, as the others use it.

        Args:
            settings: the settings of the service.
            listener: the listening socket.
            keeper: the process that tries models, if there is one.
            access: the tokens; by default they are read from the file of the settings.
            encrypted: the TLS context, if there is one.
        """
        self._settings = settings
        self._listener = listener
        self._keeper = keeper
        self._access = access or Access.open(settings.tokens_file)
        self._encrypted = encrypted
        self._workers: dict[int, _Worker] = {}
        self._statuses = statuses.share(settings.workers)
        self._generations = Generations(settings.workers)
        self._numbers = SharedNumbers(settings.workers)
        self._shadow = ShadowProcess(settings, self._numbers.shadow, keeper)
        self._selector = selectors.DefaultSelector()
        self._is_paused = False
        # Whether connections are being handed out yet, and the latest time at which that starts.
        self._is_open = False
        self._opens = math.inf
        # A connection that was accepted, and that the chosen worker could not take after all.
        self._held: socket.socket | None = None
        # Slots whose worker could not be started, with the time of the next try.
        self._vacant: dict[int, float] = {}
        self._ticked = time.monotonic()
        self._stopping = 0
        self._is_to_look = False
        self._deaths: list[float] = []

    def run(self, greet: Greet | None = None) -> int:
        """Accept connections until SIGTERM or SIGINT, and return the exit code.

        Args:
            greet: the function that tells the user what is served; a worker calls it once all
                workers serve, and again once something is served, if nothing was.
        """
        self._generations.greet = greet
        wake, woken = socket.socketpair()
        with self._selector, wake, woken:
            for end in (wake, woken):
                end.setblocking(False)
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            for number in _STOPPING:
                signal.signal(number, self._stop)
            signal.signal(signal.SIGHUP, self._look_again)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            self._selector.register(wake, selectors.EVENT_READ)
            self._selector.register(self._listener, selectors.EVENT_READ)
            for slot in range(self._settings.workers):
                self._spawn(slot)
            healthy = True
            while healthy and not self._stopping:
                self._listen(wake, TICK_SECONDS)
                healthy = self._bury()
                self._tick()
            if healthy and self._stopping == signal.SIGTERM:
                self._drain(wake)
            self._stopping = self._stopping or signal.SIGTERM
            self._listener.close()
            self._end()
            self._shadow.close()
            signal.set_wakeup_fd(-1)
        return 0 if healthy else 1

    def _stop(self, number: int, _: object) -> None:
        # A second signal means the same as Ctrl-C: stop now, without the grace.
        self._stopping = signal.SIGINT if self._stopping else number

    def _look_again(self, *_: object) -> None:
        self._is_to_look = True

    def _listen(self, wake: socket.socket, seconds: float) -> None:
        """Hand out the connections that come within `seconds`, or until a signal comes."""
        for key, _ in self._selector.select(PAUSE_SECONDS if self._is_paused else seconds):
            if key.fileobj is wake:
                wake.recv(4096)
            else:
                self._hand_out()
        if self._is_paused:
            self._hand_out()

    def _tick(self) -> None:
        """Follow a SIGHUP; and, every `TICK_SECONDS`, check the processes and replace them."""
        if self._is_to_look:
            self._is_to_look = False
            log.info("SIGHUP: certificates, tokens and models are looked at again")
            self._access.look_again()
            if self._encrypted is not None:
                self._encrypted.look_again()
            self._signal(signal.SIGHUP)
        now = time.monotonic()
        if now - self._ticked < TICK_SECONDS:
            return
        self._ticked = now
        self._access.keep_up()
        if self._encrypted is not None:
            self._encrypted.context()
        for worker in self._workers.values():
            self._look_after(worker)
            if self._generations.is_expelled(worker.slot) and not worker.is_gone:
                worker.dismiss()
        for slot, again in sorted(self._vacant.items()):
            if now >= again:
                self._spawn(slot)
        if self._keeper is not None:
            self._keeper.look_after()
        self._shadow.look_after(is_needed=any(status[SHADOWS] for status in self._statuses))

    def _look_after(self, worker: _Worker) -> None:
        """Count the ticks without a beat of a worker, and kill it after `DEAD_TICKS`."""
        beat = worker.status[BEAT]
        worker.silent = 0 if beat != worker.beat else worker.silent + 1
        worker.beat = beat
        if worker.silent == DEAD_TICKS:
            seconds = DEAD_TICKS * TICK_SECONDS
            log.error("worker %d has been stuck for %g s, and is killed", worker.pid, seconds)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _drain(self, wake: socket.socket) -> None:
        """Report that the service is not ready, and accept connections until the grace is over."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + self._settings.grace
        while self._stopping == signal.SIGTERM and self._workers:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._listen(wake, left)
            self._bury()
        # Clients in the backlog have connected already, and are answered if there is room.
        until = time.monotonic() + LAST_SECONDS
        while not self._hand_out() and self._workers and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)
            self._bury()

    def _spawn(self, slot: int) -> None:
        """Start the worker of a slot; if that fails for lack of resources, try again next tick."""
        sys.stdout.flush()
        # Blocked, since the child would handle a signal by the parent's handlers at first.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            statuses.clear(self._statuses[slot])
            self._generations.start(slot)
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                theirs.close()
                self._generations.end(slot)
                raise
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            if slot not in self._vacant:
                log.error("cannot start a worker for now: %s", error.strerror)  # noqa: TRY400
            self._vacant[slot] = 0.0
            return
        if pid == 0:
            # A worker that held the supervisor's end of its own pair would never see it close.
            ours.close()
            self._become_worker(theirs, slot)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        theirs.close()
        ours.setblocking(False)
        self._vacant.pop(slot, None)
        self._workers[pid] = _Worker(pid, ours, slot, time.monotonic(), self._statuses[slot])

    def _become_worker(self, pair: socket.socket, slot: int) -> None:
        """Work as a worker in the child process, and never return."""
        code = 1
        try:
            self._forget()
            metrics = Metrics(self._numbers, slot)
            member = Member(self._generations, slot)
            entrance = workers.Entrance(pair, self._access, self._encrypted)
            status = self._statuses[slot]
            note = partial(status.__setitem__, SHADOWS)
            hand_over = HandOver(partial(self._shadow.channel.send, slot), metrics, note)
            code = workers.work(self._settings, entrance, status, metrics, member, hand_over)
        except TricepsError as error:
            log.critical("%s", error)
        except BaseException:
            log.critical("a worker failed", exc_info=True)
        finally:
            logging.shutdown()
            # Not sys.exit, which would run the clean-up of the parent.
            os._exit(code)

    def _forget(self) -> None:
        """Release signals, sockets and the keeper of the parent in the child process."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # A terminal sends SIGINT to all its processes; the supervisor alone decides what to do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        self._listener.close()
        self._selector.close()
        if self._held is not None:
            self._held.close()
        if self._keeper is not None:
            self._keeper.forget()
        self._shadow.forget()
        for other in self._workers.values():
            other.pair.close()

    def _hand_out(self) -> bool:
        """Give connections to workers that have room.

        Returns:
            `True` if no connection is left in the backlog.
        """
        while (worker := self._choose()) is not None:
            try:
                connection = self._held or self._listener.accept()[0]
            except BlockingIOError:
                self._pause(on=False)
                return True
            except OSError as error:
                if error.errno in SHORT:
                    break
                continue  # the client has closed the connection meanwhile
            self._held = None
            try:
                socket.send_fds(worker.pair, [b"c"], [connection.fileno()])
            except OSError as error:
                self._held = connection
                if error.errno in SHORT:
                    break
                worker.is_gone = True
                continue
            worker.given += 1
            connection.close()
        self._pause(on=True)
        return False

    def _choose(self) -> _Worker | None:
        """Return the worker for the next connection, or `None` if no worker has room."""
        if not self._is_open:
            self._open()
        return min(
            (w for w in self._workers.values() if self._is_open and w.has_room()),
            key=lambda worker: (worker.silent >= SILENT_TICKS, worker.open()),
            default=None,
        )

    def _open(self) -> None:
        """Begin to hand out connections once all workers are ready, or `OPEN_SECONDS` are over."""
        ready = [worker.status[ROOM] > 0 for worker in self._workers.values()]
        now = time.monotonic()
        if any(ready):
            self._opens = min(self._opens, now + OPEN_SECONDS)
        self._is_open = all(ready) or now >= self._opens

    def _pause(self, *, on: bool) -> None:
        """Stop or resume watching the listener; meanwhile, the kernel keeps new connections."""
        if on == self._is_paused:
            return
        self._is_paused = on
        if on:
            self._selector.unregister(self._listener)
        else:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _bury(self) -> bool:
        """Replace workers that have died.

        Returns:
            `False` if replacements would only die again, so that the service has to stop.
        """
        for pid, code in _ended():
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            worker.pair.close()
            self._generations.end(worker.slot)
            if self._stopping:
                continue
            now = time.monotonic()
            if code > 0 and now - worker.started < SOON_SECONDS:
                # Every replacement would have such an early error too, and the service stops.  But
                # if other workers serve, the machine is at fault, perhaps short of threads, and a
                # replacement is tried later.
                if not any(other.status[ROOM] > 0 for other in self._workers.values()):
                    log.critical("worker %d ended just after its start", pid)
                    return False
                log.error("worker %d ended just after its start; a new one is tried later", pid)
                self._vacant[worker.slot] = now + SOON_SECONDS
                continue
            self._deaths = [then for then in self._deaths if now - then < RECENT_SECONDS] + [now]
            if len(self._deaths) > MAX_DEATHS:
                log.critical("%d workers ended within %d s", len(self._deaths), RECENT_SECONDS)
                return False
            log.error("worker %d ended, and is replaced", pid)
            self._spawn(worker.slot)
        return True

    def _end(self) -> None:
        """Tell all workers to stop, wait for them, and kill those that do not end in time."""
        deadline = time.monotonic() + workers.STOP_SECONDS + 1
        for worker in self._workers.values():
            worker.dismiss()
        while self._workers and time.monotonic() < deadline:
            self._bury()
            time.sleep(0.01)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _ended() -> Iterator[tuple[int, int]]:
    """Yield the children that have ended, each with its exit code or the negative signal number."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, os.waitstatus_to_exitcode(status)
