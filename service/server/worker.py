"""A worker process: its models, its event loop, and the connections that it is handed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
from service.http.http2 import opening
from service.server.front import Front
from service.server.shared_library import SharedLibrary
from service.server.worker_status import BEAT, CLOSED, ROOM, TAKEN

if TYPE_CHECKING:
    from service.http.access import Access
    from service.http.tls import Tls
    from service.insight.shadow.hand_over import HandOver
    from service.observability.metrics import Metrics
    from service.server.generations import Member
    from service.server.worker_status import Status
    from service.settings import Settings

log = logging.getLogger(__name__)

# The time to answer the requests in flight once the worker is told to stop.
STOP_SECONDS = 10
# The number of connections that are taken before requests on other connections are answered.
AT_ONCE = 64
# A worker that is not told when the grace is over stops this much later by itself.
MARGIN_SECONDS = 1
# The interval between heartbeats.
BEAT_SECONDS = 0.2
# New containers, less those that are freed, after which Python looks for reference cycles.  A body
# of some hundred rows is more than a thousand for a moment, none of them in a cycle; by default,
# Python would look once or twice for each such body.
COLLECT_AFTER = 5_000


class Entrance(NamedTuple):
    """The source of a worker's connections, and what they have to pass: tokens and TLS."""

    pair: socket.socket
    """The worker's end of a socket pair; for each connection it receives a descriptor (SCM_RIGHTS).
    When the other end is closed, the worker stops."""
    access: Access
    encrypted: Tls | None
    """The TLS context; like `access`, it was read by the supervisor, since files may be broken by
    now."""


def work(  # noqa: PLR0913, PLR0917  (all that the supervisor shares with a worker)
    settings: Settings,
    entrance: Entrance,
    status: Status,
    metrics: Metrics,
    member: Member,
    hand_over: HandOver,
) -> int:
    """Load the models, answer connections until the supervisor closes the socket pair, and return.

    After SIGTERM the worker is not ready any more, and still answers.  On SIGHUP it reads
    certificates, tokens and models again.

    Args:
        settings: the settings of the service.
        entrance: the source of connections, with tokens and TLS.
        status: the numbers by which this worker tells the supervisor how it is.
        metrics: the metrics of this process.
        member: the worker's part in the generations that all workers serve.
        hand_over: takes rows that were answered, for shadows.

    Returns:
        The exit code.

    Raises:
        SettingsError: the repository is missing or unreadable.
    """
    threading.Thread(target=_beat, args=(status,), name="beat", daemon=True).start()
    # `wire.quick` lets sums of squares overflow.  To allow it once costs nothing; to allow it
    # around each sum would cost microseconds.
    np.seterr(over="ignore")
    allocator.share()
    allocator.keep()
    gc.set_threshold(COLLECT_AFTER)
    app = create_app(settings, metrics, SharedLibrary(settings, member), entrance.access)
    # Not before the fork, since a forked process has none of its parent's threads.
    app.extensions["triceps"].watch(settings.watch)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        front = Front(app, settings, runner.get_loop(), member.cores, hand_over)
        runner.run(_answer(front, entrance, status, settings))
    return 0


def _beat(status: Status) -> None:
    # In a thread of its own, so that a worker in a long run does not look dead.
    while True:
        status[BEAT] += 1
        time.sleep(BEAT_SECONDS)


async def _answer(front: Front, entrance: Entrance, status: Status, settings: Settings) -> None:
    pair, encrypted = entrance.pair, entrance.encrypted
    protocols = settings.protocols
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def drain() -> None:
        front.drain()
        # The supervisor ends it sooner, by closing its end of the pair.
        loop.call_later(settings.grace + MARGIN_SECONDS, stop.set)

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
        # A client that fails the TLS handshake never becomes a `Connection`, which would call this.
        if not task.cancelled() and task.exception() is not None:
            on_closed()

    def take() -> None:
        # More than one per poll: with an overloaded model, the next poll may be some time away.
        with contextlib.suppress(BlockingIOError):
            for _ in range(AT_ONCE):
                message, received, _, _ = socket.recv_fds(pair, 1, 1)
                if not message:
                    # The supervisor has closed its end, and no more connections will come.
                    loop.remove_reader(pair)
                    stop.set()
                    return
                status[TAKEN] += 1
                if received:
                    begin(received[0])
                else:
                    # The kernel has closed the connection: more files are open than expected.
                    on_closed()
                    log.error("a connection is lost, since no descriptor was free for it")

    def begin(descriptor: int) -> None:
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        options = {} if encrypted is None else encrypted.options()
        made = loop.connect_accepted_socket(
            lambda: opening.accept(protocols, front.connections, front, on_closed),
            connection,
            **options,
        )
        task = loop.create_task(made)
        tasks.add(task)
        task.add_done_callback(taken)

    loop.add_reader(pair, take)
    status[ROOM] = descriptors.room()
    await stop.wait()
    await front.close(STOP_SECONDS)
