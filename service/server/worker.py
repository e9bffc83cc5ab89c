"""One process that answers: its models, its event loop, and the connections it is handed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import uvloop

from service.app import create_app
from service.host import allocator, descriptors
from service.http.connection import Connection
from service.server.front import Front
from service.server.shared_library import SharedLibrary
from service.server.worker_status import BEAT, CLOSED, ROOM, TAKEN

if TYPE_CHECKING:
    from service.http.access import Access
    from service.http.tls import Tls
    from service.observability.metrics import Metrics
    from service.server.generations import Member
    from service.server.worker_status import Status
    from service.settings import Settings

log = logging.getLogger(__name__)

# How long it may take to finish what it has accepted, once it is told to stop.
STOP_SECONDS = 10
# Connections that are taken before what has been asked on others is answered.
AT_ONCE = 64
# How much longer than the grace a worker goes on that nobody tells when that is over.
MARGIN_SECONDS = 1
# How often it shows that it runs.
BEAT_SECONDS = 0.2


class Entrance(NamedTuple):
    """Where a worker's connections come from, and what they have to pass."""

    pair: socket.socket
    """A descriptor comes for each (SCM_RIGHTS); its end is the end."""
    access: Access
    encrypted: Tls | None
    """As the process that accepts has read them: their files may be broken by now."""


def work(
    settings: Settings,
    entrance: Entrance,
    status: Status,
    metrics: Metrics,
    member: Member,
) -> int:
    """Load the models and answer connections until there is an end to them; the exit code.

    SIGTERM is the beginning of that: the service is not ready any more, and answers on.  At SIGHUP
    certificates, tokens and models are looked at again.

    Args:
        settings: of the service.
        entrance: where connections come from, and what they have to pass.
        status: what the supervisor is told of this worker.
        metrics: what counts in this process.
        member: its part in what all workers serve.

    Raises:
        SettingsError: the repository is missing or unreadable.
    """
    threading.Thread(target=_beat, args=(status,), name="beat", daemon=True).start()
    # `wire.fast` lets sums of squares overflow; to say so once costs nothing, and at each of them
    # would cost microseconds.
    np.seterr(over="ignore")
    allocator.share()
    app = create_app(settings, metrics, SharedLibrary(settings, member), entrance.access)
    # In this process, and no earlier: no thread of the one that forked it is in it.
    app.extensions["triceps"].watch(settings.watch)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        front = Front(app, settings, runner.get_loop())
        runner.run(_answer(front, entrance, status, settings.grace))
    return 0


def _beat(status: Status) -> None:
    # In a thread of its own: a run that takes long is no reason to be taken for dead.
    while True:
        status[BEAT] += 1
        time.sleep(BEAT_SECONDS)


async def _answer(front: Front, entrance: Entrance, status: Status, grace: float) -> None:
    pair, encrypted = entrance.pair, entrance.encrypted
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def drain() -> None:
        front.drain()
        # Whoever accepts ends this sooner, by closing its end of the pair.
        loop.call_later(grace + MARGIN_SECONDS, stop.set)

    def look_again() -> None:
        front.access.look_again()
        if encrypted is not None:
            encrypted.look_again()
        front.threads.submit(front.library.look_again)

    def on_closed() -> None:
        status[CLOSED] += 1

    loop.add_signal_handler(signal.SIGTERM, drain)
    loop.add_signal_handler(signal.SIGHUP, look_again)
    pair.setblocking(False)
    tasks = set()

    def taken(task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        # Who does not shake hands has never been a connection, which would have counted itself.
        if not task.cancelled() and task.exception() is not None:
            on_closed()

    def take() -> None:
        # Not one at each look: the next may be some time from now, when a model is overrun.
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                message, received, _, _ = socket.recv_fds(pair, 1, 1)
                if not message:
                    # The process that accepts is gone, and nothing will come any more.
                    loop.remove_reader(pair)
                    stop.set()
                    return
                status[TAKEN] += 1
                if received:
                    begin(received[0])
                else:
                    # The kernel has closed it: more files are open than were reckoned with.
                    on_closed()
                    log.error("a connection is lost, since no descriptor was free for it")

    def begin(descriptor: int) -> None:
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        options = {} if encrypted is None else encrypted.options()
        made = loop.connect_accepted_socket(
            lambda: Connection(front.connections, front, on_closed), connection, **options
        )
        task = loop.create_task(made)
        tasks.add(task)
        task.add_done_callback(taken)

    loop.add_reader(pair, take)
    status[ROOM] = descriptors.room()
    await stop.wait()
    await front.close(STOP_SECONDS)
