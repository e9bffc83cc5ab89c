"""The sandbox: a process with limits, in which a file is loaded for the first time.

    worker ─ path ─▶ keeper ─ fork ─▶ Model.load ─ memory taken, or reason ─▶ worker ─▶ loads it

Loading a bad file may fail with an error.  It may also take all memory, never end, or end the
process, and a worker would then stop serving.  So one process, the keeper, is forked before there
are models or threads.  It tries every file once for all workers, in a child process with limits,
which the kernel kills first if memory runs out all the same.  A worker loads the file only if the
memory that the child took is free.

The file is one idea: the two ends of a protocol whose messages are used nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import ModelRefused, Shortage
from service.host import memory
from service.host.descriptors import SHORT
from service.inference.execution import PLAIN, Execution
from service.repository import file_trial
from service.repository.cache import OFF
from service.repository.file_trial import MB, Verdict
from service.repository.preparation import Preparations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = logging.getLogger(__name__)

# The share of the free memory that a new model may not take, since requests need memory, too.
SPARED = 0.1
# The time after its trial in which all workers are expected to load a version.
LOADING_SECONDS = 60
# The longest time that a worker waits for a verdict; other files may have to be tried before.
VERDICT_SECONDS = 5 * file_trial.WALL_SECONDS
# The number of verdicts that are remembered.
MOST_TRIED = 20_000
# The characters of the names of views in an answer, which is one message of at most 64 kB.
LONGEST_VIEWS = 5000

_keepers: list[Keeper] = []


class Passed(NamedTuple):
    """The outcome of the trial of a file that may be loaded."""

    size: int
    """The memory in bytes that the loaded model keeps in each process."""
    views: tuple[str, ...]
    """The names of the models that are views of the file."""
    prepared: str | None = None
    """The folder of the prepared model to load, if there is one."""


class Keeper:
    """The keeper, which tries models, as seen by its parent, which replaces it.

    The parent keeps both ends of the socket for requests open, so that a request that comes while
    there is no keeper is answered by the next one.
    """

    def __init__(self, workers: int, cache: str = OFF) -> None:
        """Start the process; `workers` processes will load each version.

        `cache` is the folder of the cache of prepared models, or "off".
        """
        self._workers = workers
        self._cache = cache
        self._owner = os.getpid()
        self.asking, self._asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The keeper alone has the other end, so this one reads the end of the keeper.
        self._alive: socket.socket | None = None
        self._start()

    def look_after(self) -> None:
        """Replace the process if it has ended; do nothing in a process other than its parent."""
        if self._owner != os.getpid():
            return
        if self._alive is not None:
            try:
                self._alive.recv(1)
            except BlockingIOError:
                return
            except OSError:
                log.debug("the keeper was killed")
            self._alive.close()
            self._alive = None
            log.error("the process that tries models has ended, and is replaced")
        try:
            self._start()
        except OSError as error:
            log.error("the process that tries models cannot be started: %s", error.strerror)  # noqa: TRY400

    def forget(self) -> None:
        """Close, in a worker, the sockets that only the parent needs."""
        self._asked.close()
        if self._alive is not None:
            self._alive.close()

    def close(self) -> None:
        """Let the process end as soon as no worker can send a request any more."""
        self.forget()
        self.asking.close()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        # Forked by a child that ends at once, so that this process has no children but workers.
        try:
            between = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if between == 0:
            try:
                if os.fork() == 0:
                    _become_keeper(self._asked, theirs, self._workers, self._cache)
            finally:
                os._exit(0)
        os.waitpid(between, 0)
        theirs.close()
        ours.setblocking(False)
        self._alive = ours


@contextlib.contextmanager
def kept(workers: int, cache: str = OFF) -> Iterator[Keeper]:
    """Run a keeper during the block, for this process and all that it forks.

    Args:
        workers: the number of processes that will load each version.
        cache: the folder of the cache of prepared models; empty for the default, or "off".
    """
    keeper = Keeper(workers, cache)
    _keepers.append(keeper)
    try:
        yield keeper
    finally:
        _keepers.remove(keeper)
        keeper.close()


@contextlib.contextmanager
def passed(path: str, stamp: object, execution: Execution = PLAIN) -> Iterator[Passed | None]:
    """Try a file in the sandbox, then run the block, which loads it.

    Without a keeper, skip the trial, and yield `None`.

    Args:
        path: the path of the file.
        stamp: a value that changes when the file does; a file with the same stamp is not tried
            again.
        execution: the settings that the file is loaded with; with others, it is tried again.

    Raises:
        ModelRefused: the file cannot be loaded.
        Shortage: loading the file takes more memory than is free, or it cannot be tried now; an
            untried file is not loaded.
    """
    if not _keepers:
        yield None
        return
    keeper = _keepers[-1]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Closing `ours` tells the keeper that the file has been loaded.
    with ours:
        digest = hashlib.blake2b(repr((stamp, execution)).encode()).hexdigest()
        with theirs, contextlib.suppress(OSError):
            place = os.path.abspath(path)  # noqa: PTH100  no link is followed
            request = json.dumps([place, digest, vars(execution)]).encode()
            socket.send_fds(keeper.asking, [request], [theirs.fileno()])
        answer = _await(ours, keeper)
        if not answer:
            raise Shortage("it cannot be tried, now: the process that tries models does not answer")
        reason, is_short, size, views, prepared = json.loads(answer)
        if reason is not None:
            raise (Shortage if is_short else ModelRefused)(reason)
        yield Passed(size, tuple(views), prepared)


def _await(ours: socket.socket, keeper: Keeper) -> bytes:
    """Return the answer of the keeper; empty if it ends meanwhile, or is too busy."""
    ours.settimeout(1)
    until = time.monotonic() + VERDICT_SECONDS
    while time.monotonic() < until:
        try:
            return ours.recv(65536)
        except TimeoutError:
            keeper.look_after()
        except OSError:
            break
    return b""


def _become_keeper(end: socket.socket, alive: socket.socket, workers: int, cache: str) -> None:
    """Try files in the child process until all requesting processes have ended; never return."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # Close all other inherited sockets: as long as they are open here, their peers see no end.
        first, second = sorted((end.fileno(), alive.fileno()))
        os.closerange(3, first)
        os.closerange(first + 1, second)
        os.closerange(second + 1, os.sysconf("SC_OPEN_MAX"))
        _Keeper(end, workers, alive, cache).run()
        code = 0
    except BaseException:
        log.critical("models are not tried any more", exc_info=True)
    finally:
        logging.shutdown()
        os._exit(code)


class _Keeper:
    """The state of the keeper: the verdicts, and the workers that are loading."""

    def __init__(
        self,
        end: socket.socket,
        workers: int,
        alive: socket.socket | None = None,
        cache: str = OFF,
    ) -> None:
        self._end = end
        self._alive = alive
        self._workers = workers
        self._preparations = Preparations(cache, workers)
        self._tried: dict[str, Verdict] = {}
        self.loading: dict[socket.socket, int] = {}
        """The bytes that each load takes, by the socket that is closed when the load has ended."""
        self.longest: float = file_trial.WALL_SECONDS
        """The longest time to wait for the end of a load, in seconds."""

    def run(self) -> None:
        """Answer requests until no process is left that could send one."""
        while True:
            message, descriptors, _, _ = socket.recv_fds(self._end, 65536, 1)
            if not message:
                return
            caller = socket.socket(fileno=descriptors[0])
            self._let_go(0)
            reason: str | None
            is_short = False
            verdict = Verdict("", 0.0)
            try:
                verdict = self.judge(*json.loads(message))
                reason = verdict.reason
            except Shortage as error:
                reason, is_short = str(error), True
            except OSError as error:
                reason = f"it cannot be tried: {error.strerror}"
                is_short = error.errno in SHORT
            if reason is None:
                self.loading[caller] = verdict.peak
            # A file with very many views gets them served only once it has been loaded.
            views = verdict.views if sum(map(len, verdict.views)) < LONGEST_VIEWS else ()
            prepared = None if verdict.entry is None else verdict.entry.folder
            answer = json.dumps([reason, is_short, verdict.kept, views, prepared]).encode()
            with contextlib.suppress(OSError):  # the worker may have ended
                caller.send(answer)
            if reason is not None:
                caller.close()

    def judge(self, path: str, stamp: str, execution: Mapping[str, Any] | None = None) -> Verdict:
        """Return the verdict on a file, which may be loaded now if the verdict has no reason.

        Raises:
            Shortage: the machine is at fault, and the file may be loaded later.
        """
        verdict = self._tried.get(path)
        if (
            verdict is None
            or verdict.stamp != stamp
            or self._is_worth_another(verdict)
            or (verdict.entry is not None and not verdict.entry.is_unchanged())
        ):
            verdict = self._try(path, stamp, Execution.of(execution) if execution else PLAIN)
            self._tried.pop(path, None)
            self._tried[path] = verdict
            if len(self._tried) > MOST_TRIED:
                del self._tried[next(iter(self._tried))]
        if verdict.reason is not None:
            if verdict.needs is not None:
                raise Shortage(verdict.reason)
            return verdict
        free = self._free()
        # Workers that are loading take more memory now than they will keep.
        while free is not None and verdict.peak > free and self._wait():
            free = self._free()
        if free is not None and verdict.peak > free:
            raise Shortage(_too_much(verdict, 1, free))
        verdict.granted += 1
        return verdict

    def _is_worth_another(self, verdict: Verdict) -> bool:
        """Return whether the machine may have by now what it was short of at the last trial."""
        if verdict.reason is None or verdict.needs is None:
            return False
        free = self._free()
        return free is None or free >= verdict.needs

    def _try(self, path: str, stamp: str, execution: Execution) -> Verdict:
        free = self._free()
        if free is not None:
            now = time.monotonic()
            free -= sum(
                v.kept * max(0, self._workers - v.granted)
                for v in self._tried.values()
                if v.reason is None and now - v.since < LOADING_SECONDS
            )
        room = None if free is None else max(0, free)
        verdict = self._preparations.attempt(path, stamp, room, self._alive, execution)
        takes = verdict.peak + (self._workers - 1) * verdict.kept
        if verdict.reason is None and free is not None and takes > free:
            verdict.reason = _too_much(verdict, self._workers, free)
            verdict.needs = takes
        return verdict

    def _free(self) -> int | None:
        """Return the bytes that a model may take, besides those that are being loaded."""
        available = memory.available()
        if available is None:
            return None
        return int(available * (1 - SPARED)) - sum(self.loading.values())

    def _wait(self) -> bool:
        """Wait for a worker to finish loading; return `False` if none is, or none does in time."""
        return bool(self.loading) and self._let_go(self.longest)

    def _let_go(self, seconds: float) -> bool:
        done = select.select(list(self.loading), [], [], seconds)[0]
        for caller in done:
            del self.loading[caller]
            caller.close()
        return bool(done)


def _too_much(verdict: Verdict, workers: int, free: int) -> str:
    each = f", and {verdict.kept // MB} MB in each of {workers} processes" if workers > 1 else ""
    return (
        f"loading it takes {verdict.peak // MB} MB{each}: "
        f"expected at most the {max(0, free) // MB} MB of memory that are free for it"
    )
