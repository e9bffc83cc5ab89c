"""A client of HTTP/2 over a real socket: the library h2, and frames of any kind beside it."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.harness.waiting import PATIENCE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

JSON = (("content-type", "application/json"),)


@dataclass
class Answer:
    """What has come of an answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    is_complete: bool = False
    reset: int | None = None
    """The code by which the server has reset the stream."""


class Peer:
    """One connection; answers are read while something is waited for."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        reads: bool = True,
        window: int = 2**20,
        checks: bool = True,
    ) -> None:
        """Connect, and send the preface and settings.

        Args:
            port: the port on 127.0.0.1.
            tls: for an encrypted connection.
            reads: whether windows are widened as bodies come.
            window: the bytes that each answer may have at once.
            checks: whether h2 checks what is sent.
        """
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        config = h2.config.H2Configuration(
            header_encoding="latin-1",
            validate_outbound_headers=checks,
            normalize_outbound_headers=checks,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.reads = reads
        self.answers: dict[int, Answer] = {}
        self.goaway: list[tuple[int, int, bytes]] = []
        """The GOAWAY frames that came: last stream, code and message."""
        self.pings = 0
        self.is_closed = False
        self.h2.initiate_connection()
        self.h2.update_settings({4: window})
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Send what h2 has to send."""
        self.send(self.h2.data_to_send())

    def send(self, data: bytes) -> None:
        """Send bytes as they are; the server may have closed."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def begin(
        self, path: str, *more: tuple[str, str], method: str = "POST", ends: bool = False
    ) -> int:
        """Send the head of a request, and return its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        head = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")]
        self.h2.send_headers(stream, [*head, *more], end_stream=ends)
        self.flush()
        return stream

    def write(self, stream: int, body: bytes, *, ends: bool = True) -> None:
        """Send a body, as its windows allow."""
        view = memoryview(body)
        while view:
            size = min(
                self.h2.local_flow_control_window(stream),
                self.h2.max_outbound_frame_size,
                len(view),
            )
            if size <= 0:
                self.read()
                if self.answers[stream].is_complete or self.is_closed:
                    return
                continue
            self.h2.send_data(stream, bytes(view[:size]))
            view = view[size:]
            self.flush()
        if ends:
            self.h2.end_stream(stream)
            self.flush()

    def request(
        self, path: str, body: bytes = b"", *more: tuple[str, str], method: str = "POST"
    ) -> int:
        """Send a whole request, and return its stream."""
        stream = self.begin(path, *more, method=method, ends=not body)
        if body:
            self.write(stream, body)
        return stream

    def ask(self, path: str, body: bytes = b"", *more: tuple[str, str], method: str = "") -> Answer:
        """Send a request, and return its answer."""
        verb = method or ("POST" if body else "GET")
        return self.answer(self.request(path, body, *more, method=verb))

    def answer(self, stream: int) -> Answer:
        """Wait for the end of an answer, or of the connection."""
        answer = self.answers[stream]
        while not (answer.is_complete or answer.reset is not None or self.is_closed):
            self.read()
        return answer

    def wait_for_end(self) -> None:
        """Read until the server closes the connection."""
        while not self.is_closed:
            self.read()

    def read(self) -> None:
        """Read once, and follow what has come."""
        try:
            data = self.sock.recv(2**18)
        except ConnectionError:
            data = b""
        if not data:
            self.is_closed = True
            return
        self._follow(self.h2.receive_data(data))
        self.flush()

    def _follow(self, events: Iterable[Any]) -> None:
        for event in events:
            answer = self.answers.get(getattr(event, "stream_id", 0), Answer())
            if isinstance(event, h2.events.ResponseReceived):
                answer.headers = dict(event.headers)
                answer.status = int(answer.headers.pop(":status"))
            elif isinstance(event, h2.events.TrailersReceived):
                answer.trailers = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                answer.body += event.data
                if self.reads and event.flow_controlled_length:
                    with contextlib.suppress(h2.exceptions.ProtocolError):
                        size = event.flow_controlled_length
                        self.h2.acknowledge_received_data(size, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                answer.is_complete = True
            elif isinstance(event, h2.events.StreamReset):
                answer.reset = event.error_code
            elif isinstance(event, h2.events.PingAckReceived):
                self.pings += 1
            elif isinstance(event, h2.events.ConnectionTerminated):
                message = event.additional_data or b""
                self.goaway.append((event.last_stream_id, event.error_code, message))
