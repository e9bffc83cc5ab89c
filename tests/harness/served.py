"""The front of `triceps serve` in a thread of the test's process, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import uvloop

from service import settings as all_settings
from service.app import create_app
from service.http.http2 import opening
from service.server.front import Front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.http.timeouts import Timeouts
    from service.observability.metrics import Metrics

RIGHT = {"insurance": {"age": 47, "bmi": 20}, "fruit": [1, 2.5], "digit": [1, 2, 3, 4]}
BODY = json.dumps({"instances": [RIGHT]}).encode()
JSON = {"Content-Type": "application/json"}


def post(body: bytes, *more: bytes, path: bytes = b"/predict", version: bytes = b"1.1") -> bytes:
    """Return a request as bytes."""
    head = [b"POST " + path + b" HTTP/" + version, b"Host: x", b"Content-Type: application/json"]
    return b"\r\n".join([*head, *more, b"Content-Length: %d" % len(body), b"", body])


LAST = post(BODY, b"Connection: close")


class Served:
    """A front in a thread of this process, so that a test can look inside."""

    def __init__(self, models: Any, metrics: Metrics | None = None, **settings: Any) -> None:
        self._metrics = metrics
        self.settings = all_settings.load({}, models=models, **settings)
        self.loop = uvloop.new_event_loop()
        self.closed = 0
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def _run(self, started: threading.Event) -> None:
        np.seterr(over="ignore")
        asyncio.set_event_loop(self.loop)
        self.app = create_app(self.settings, self._metrics)
        self.front = Front(self.app, self.settings, self.loop)
        server = self.loop.run_until_complete(self.loop.create_server(self.connect, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.loop.call_soon(started.set)
        self.loop.run_forever()
        server.close()
        self.loop.run_until_complete(self.front.close(2))
        self.loop.close()

    def connect(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        protocols = self.settings.protocols
        return opening.accept(protocols, self.front.connections, self.front, self._count)

    def _count(self) -> None:
        self.closed += 1

    def stop(self) -> None:
        """Stop as a worker does, and check that the thread ends."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        assert not self.thread.is_alive()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Any = ()
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a new connection: return status, lower-case headers and body."""
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        ) as c:
            c.request(method, path, body, dict(headers))
            answer = c.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()

    def turns(self, *requests: bytes) -> bytes:
        """Send requests, each after the answer to the previous one, and return all bytes."""
        answers = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            for request in requests:
                sock.sendall(request)
                answers += sock.recv(65536)
        return answers

    def half(self, size: int) -> socket.socket:
        """Open a connection that has sent all but the last byte of a body of `size` bytes."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        sock.sendall(post(b" " * size)[:-1])
        return sock

    @contextlib.contextmanager
    def within(self, timeouts: Timeouts) -> Iterator[None]:
        """Serve connections within other timeouts during the block."""
        connections = self.front.connections
        usual, connections.timeouts = connections.timeouts, timeouts
        try:
            yield
        finally:
            connections.timeouts = usual

    def raw(self, *pieces: bytes, pause: float = 0.0) -> bytes:
        """Send bytes as they are, and return all bytes that come back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(pause)
            return b"".join(iter(lambda: sock.recv(65536), b""))
