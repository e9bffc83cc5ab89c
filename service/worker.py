"""One process that answers: its models, its event loop, and the connections it is handed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop

from service import heap, tls
from service.app import create_app
from service.connection import Connection
from service.front import Front

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.metrics import Metrics
    from service.settings import Settings
    from service.tls import Tls

# How long it may take to finish what it has accepted, once it is told to stop.
STOP_SECONDS = 10
# Connections that are taken before what has been asked on others is answered.
AT_ONCE = 64
# How much longer than the grace a worker goes on that nobody tells when that is over.
MARGIN_SECONDS = 1


def work(
    settings: Settings, pair: socket.socket, on_closed: Callable[[], None], metrics: Metrics
) -> int:
    """Load the models and answer connections until there is an end to them; the exit code.

    SIGTERM is the beginning of that: the service is not ready any more, and answers on.

    Args:
        settings: of the service.
        pair: where connections come from, a descriptor each (SCM_RIGHTS); its end is the end.
        on_closed: called for each connection that was taken and has ended.
        metrics: what counts in this process.

    Raises:
        SettingsError: the repository is missing or unreadable.
    """
    # `wire.fast` lets sums of squares overflow; to say so once costs nothing, and at each of them
    # would cost microseconds.
    np.seterr(over="ignore")
    heap.share()
    app = create_app(settings, metrics)
    # In this process, and no earlier: no thread of the one that forked it is in it.
    app.extensions["triceps"].watch(settings.watch)
    pair_of_files = tls.of(settings.tls_certificate, settings.tls_key)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        front = Front(app, settings, runner.get_loop())
        runner.run(_answer(front, pair, on_closed, settings.grace, pair_of_files))
    return 0


async def _answer(
    front: Front,
    pair: socket.socket,
    on_closed: Callable[[], None],
    grace: float,
    encrypted: Tls | None,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def drain() -> None:
        front.drain()
        # Whoever accepts ends this sooner, by closing its end of the pair.
        loop.call_later(grace + MARGIN_SECONDS, stop.set)

    loop.add_signal_handler(signal.SIGTERM, drain)
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
                message, descriptors, _, _ = socket.recv_fds(pair, 1, 1)
                if not message:
                    # The process that accepts is gone, and nothing will come any more.
                    loop.remove_reader(pair)
                    stop.set()
                    return
                begin(descriptors[0])

    def begin(descriptor: int) -> None:
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        options = {} if encrypted is None else encrypted.options()
        made = loop.connect_accepted_socket(
            lambda: Connection(front, on_closed), connection, **options
        )
        task = loop.create_task(made)
        tasks.add(task)
        task.add_done_callback(taken)

    loop.add_reader(pair, take)
    await stop.wait()
    await front.close(STOP_SECONDS)
