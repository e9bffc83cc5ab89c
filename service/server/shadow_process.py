"""The process of the shadow: it runs candidates for all workers, at the lowest priority.

    workers ─ rows that were answered ─▶ Channel ─▶ Runs ─▶ figures in shared memory

It is a process and no thread: at the lowest priority, a thread would hold the interpreter's lock
while it waits for a processor, and so delay those that answer.  A candidate that hangs, takes all
memory or crashes ends this process alone.  The supervisor starts it once some worker has a model
with a shadow, and ends it when none has one any more.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from service.host import memory, priority
from service.insight.shadow.handed import decode
from service.insight.shadow.runs import Runs
from service.repository.budget import Budget
from service.server.shadow_channel import Channel

if TYPE_CHECKING:
    from service.observability.shared_memory import Region
    from service.repository.sandbox import Keeper
    from service.settings import Settings

log = logging.getLogger(__name__)

# The interval at which a run that does not end, or the end of the supervisor, is looked for.
LOOK_SECONDS = 0.2
# The part of the memory that is free at its start which this process may take.
FREE = 0.9
# The pause after a run, as a multiple of its time.
PAUSE = 19


class ShadowProcess:
    """The process as its parent sees it, which starts, replaces and ends it."""

    def __init__(self, settings: Settings, region: Region, keeper: Keeper | None = None) -> None:
        """Prepare the channel; the process is started when it is needed.

        Args:
            settings: the settings of the service.
            region: the region for the figures.
            keeper: the process that tries models, if there is one.
        """
        self.channel = Channel(settings.workers)
        self._settings = settings
        self._region = region
        self._keeper = keeper
        # The process has the other end, so that each of both sees the end of the other.
        self._alive: socket.socket | None = None
        self._has_failed = False

    def look_after(self, *, is_needed: bool) -> None:
        """Start the process if it is needed and does not run, and end it if it is not needed."""
        if self._alive is not None and is_needed and not self._is_over(self._alive):
            return
        if self._alive is not None:
            if is_needed:
                log.error("the process of the shadow has ended, and is replaced")
            self._alive.close()
            self._alive = None
        if is_needed:
            try:
                self._start()
                self._has_failed = False
            except OSError as error:
                if not self._has_failed:
                    log.error("the process of the shadow cannot be started: %s", error.strerror)  # noqa: TRY400
                self._has_failed = True

    def forget(self) -> None:
        """Close, in a worker, what only the parent needs."""
        self.channel.receiving.close()
        if self._alive is not None:
            self._alive.close()

    def close(self) -> None:
        """End the process."""
        self.look_after(is_needed=False)
        self.channel.close()

    @staticmethod
    def _is_over(alive: socket.socket) -> bool:
        try:
            return not alive.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        # Forked by a child that ends at once, so that the parent has no children but workers.
        try:
            between = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if between == 0:
            try:
                if os.fork() == 0:
                    self._become(theirs)
            finally:
                os._exit(0)
        os.waitpid(between, 0)
        theirs.close()
        ours.setblocking(False)
        self._alive = ours

    def _become(self, alive: socket.socket) -> None:
        """Run candidates in the child process until the parent has ended; never return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            kept = [alive.fileno(), self.channel.receiving.fileno()]
            if self._keeper is not None:
                kept.append(self._keeper.asking.fileno())
            _close_others(kept)
            # A candidate may answer anything.
            np.seterr(all="ignore")
            priority.run_last()
            priority.end_first()
            _limit_memory()
            # A core file would have rows of clients, also private ones.
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self._region.join()
            room = Budget.of(self._settings.memory, self._settings.workers).size
            runs = Runs(self._settings.models, self._settings.provider, room, self._region)
            threading.Thread(target=_watch, args=(alive, runs), daemon=True).start()
            self._work(runs)
            code = 0
        except BaseException:
            log.critical("the process of the shadow failed", exc_info=True)
        finally:
            logging.shutdown()
            os._exit(code)

    def _work(self, runs: Runs) -> None:
        while message := self.channel.receive():
            seconds = 0.0
            try:
                seconds = runs.handle(decode(message))
            except Exception:
                log.exception("rows could not be compared")
            # A container's share of processors is used up at any priority.
            time.sleep(PAUSE * seconds)


def _close_others(kept: list[int]) -> None:
    """Close all inherited descriptors but the standard streams and those in `kept`."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _limit_memory() -> None:
    """Have allocations of this process fail before memory runs out.

    The kernel ends this process first then; but where a platform has it end all processes of a
    container together, as Kubernetes does, that would end the service.
    """
    free = memory.available()
    if free is not None:
        most = memory.taken().data + int(free * FREE)
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _watch(alive: socket.socket, runs: Runs) -> None:
    """End the process when its parent has ended, or when a run does not end."""
    alive.settimeout(LOOK_SECONDS)
    clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    while True:
        try:
            if not alive.recv(1):
                os._exit(0)
        except TimeoutError:
            if runs.is_endless(time.clock_gettime(clock)):
                runs.give_up()
                logging.shutdown()
                os._exit(1)
        except OSError:
            os._exit(0)
