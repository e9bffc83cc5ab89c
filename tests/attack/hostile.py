"""The tools of the hostile behaviours: the target, plain sockets, and the table."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.attack import repository
from tests.harness import certificates
from tests.harness.serving import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MAX_READ = 1 << 16
# The errors of an attacker whose connection the service closes, which is right.
CUT = (OSError, ssl.SSLError)
# The errors of a non-blocking socket that cannot be read or written at the moment.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Hostile:
    """An attack: the service, the kind of path, the token and the duration."""

    port: int
    tls: ssl.SSLContext | None
    token: str
    kind: str
    seconds: float = 0
    scale: float = 1
    """The size of the attack: 1 in `make attack`, less in `make test`."""

    def many(self, number: int) -> int:
        """Return a number scaled to the size of the attack."""
        return max(1, round(number * self.scale))

    def socket(self, seconds: float = 5, *, receive: int = 0) -> socket.socket:
        """Return a connection without TLS, even if the service uses TLS.

        Args:
            seconds: the longest wait for anything.
            receive: the size of the receive buffer; 0: the system's.
        """
        made = socket.socket()
        try:
            if receive:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            made.settimeout(seconds)
            made.connect((HOST, self.port))
        except BaseException:
            made.close()
            raise
        return made

    def connect(self, seconds: float = 5, *, receive: int = 0, alpn: str = "") -> socket.socket:
        """Return a connection, with TLS if the service uses it, and the protocol to ask for."""
        plain = self.socket(seconds, receive=receive)
        if self.tls is None:
            return plain
        context = self.tls
        if alpn:
            context = ssl.create_default_context(cadata=certificates.A)
            context.set_alpn_protocols([alpn])
        try:
            return context.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def head(
        self, method: str, path: str, length: int | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the header block of a request, with the token if there is one."""
        lines = {"Host": HOST, **(headers or {})}
        if self.token:
            lines["Authorization"] = f"Bearer {self.token}"
        if length is not None:
            lines["Content-Length"] = str(length)
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("latin-1")

    def request(
        self,
        model: str = repository.MAIN,
        arrays: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a whole good request to this attack's kind of path."""
        rows = repository.rows_for(model) if arrays is None else arrays
        method, sent = repository.encode(self.kind, model, rows)
        length = None if method == "GET" else len(sent.body)
        return self.head(method, sent.path, length, {**sent.headers, **(headers or {})}) + sent.body

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, model: str = "") -> bytes:
        """Return a request with a given body to this attack's kind of path."""
        path = repository.PATHS[self.kind].format(model or repository.MAIN)
        said = {"Content-Type": "application/json", **(headers or {})}
        return self.head("POST", path, len(body), said) + body

    def until_over(self) -> Iterator[int]:
        """Yield numbers from 0 until the end of the attack."""
        deadline, number = time.monotonic() + self.seconds, 0
        while time.monotonic() < deadline:
            yield number
            number += 1


def send(sock: socket.socket, data: bytes) -> bool:
    """Send all data; return false if the service has closed the connection or does not read."""
    try:
        sock.sendall(data)
    except CUT:
        return False
    return True


def hear(sock: socket.socket, seconds: float = 5) -> bytes:
    """Return all bytes until the service closes, or sends nothing for `seconds`."""
    heard = []
    with contextlib.suppress(*CUT):
        sock.settimeout(seconds)
        while data := sock.recv(MAX_READ):
            heard.append(data)
    return b"".join(heard)


def first_line(sock: socket.socket, seconds: float = 10) -> bytes:
    """Return the status line of the next answer, and perhaps more; empty without an answer."""
    heard = b""
    with contextlib.suppress(*CUT):
        sock.settimeout(seconds)
        while b"\r\n" not in heard:
            data = sock.recv(MAX_READ)
            if not data:
                break
            heard += data
    return heard.partition(b"\r\n")[0]


def answers(sock: socket.socket, count: int, seconds: float = 5) -> int:
    """Read until `count` answers have begun, and return how many have."""
    heard = b""
    with contextlib.suppress(*CUT):
        sock.settimeout(seconds)
        while heard.count(b"HTTP/1.1 ") < count and (data := sock.recv(MAX_READ)):
            heard += data
    return heard.count(b"HTTP/1.1 ")


def drain(sock: socket.socket) -> None:
    """Read all available bytes without waiting."""
    with contextlib.suppress(*CUT):
        sock.setblocking(False)
        while sock.recv(MAX_READ):
            pass


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    with contextlib.suppress(*CUT):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def all_closed(socks: Iterable[socket.socket]) -> Iterator[None]:
    """Close all sockets at the end of the block."""
    try:
        yield
    finally:
        for sock in socks:
            sock.close()


def push(socks: Sequence[socket.socket], data: bytes, seconds: float, most: int) -> list[int]:
    """Send the same bytes repeatedly on all connections at once, and read nothing.

    Args:
        socks: the connections.
        data: the bytes to send.
        seconds: the longest duration.
        most: the most bytes to send on each connection.

    Returns:
        The bytes that each connection has accepted.
    """
    data *= max(1, MAX_READ // len(data))
    taken = dict.fromkeys(range(len(socks)), 0)
    with selectors.DefaultSelector() as selector:
        for number, sock in enumerate(socks):
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_WRITE, number)
        deadline = time.monotonic() + seconds
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                number = key.data
                start = taken[number] % len(data)
                end = start + most - taken[number]
                try:
                    taken[number] += key.fileobj.send(data[start:end])  # type: ignore[union-attr]
                except WOULD_BLOCK:
                    continue
                except CUT:
                    selector.unregister(key.fileobj)
                    continue
                if taken[number] >= most:
                    selector.unregister(key.fileobj)
    return list(taken.values())


# ── the table ────────────────────────────────────────────────────────────────────────────────────

ALL_TOKENS = ("off", "stranger", "holder")
"""No tokens file; a tokens file, and an attacker without a token; or with one for predictions."""


@dataclass(frozen=True)
class Behaviour:
    """A row of the table: the behaviour, its combinations, and its permitted effects."""

    name: str
    about: str
    act: Callable[[Hostile], None]
    kinds: tuple[str, ...]
    """The kinds of path to try."""
    tokens: tuple[str, ...]
    tls: tuple[bool, ...]
    once: tuple[str, str]
    """The most harmful token and kind of path, for `make test`, which tries only these."""
    asks: tuple[str, ...]
    """Additional models that the well-behaved client uses."""
    fills: bool
    """Whether the behaviour may fill their queues, so that they answer 429 or 503 meanwhile."""
    faults: str
    """A text of the errors that the service may log because of it, if any."""
    files: int
    """The limit of descriptors of each process of the service; 0: that of the test."""
    peak: int
    """The megabytes by which a worker may grow."""
    kept: int
    """The megabytes that it may keep: pools of the allocator, versions, sub-graphs."""
    calls: bool
    """Whether the well-behaved client calls by gRPC too."""


TABLE: dict[str, Behaviour] = {}


def behaviour(
    *,
    name: str = "",
    kinds: Sequence[str] = ("fast",),
    tokens: Sequence[str] = ALL_TOKENS,
    tls: Sequence[bool] = (False, True),
    once: tuple[str, str] = ("off", "fast"),
    asks: Sequence[str] = (),
    fills: bool = False,
    faults: str = "",
    files: int = 0,
    peak: int = 512,
    kept: int = 100,
    calls: bool = False,
) -> Callable[[Callable[[Hostile], None]], Callable[[Hostile], None]]:
    """Register a function as a behaviour, under its own name or `name`."""

    def add(act: Callable[[Hostile], None]) -> Callable[[Hostile], None]:
        called = name or act.__name__.replace("_", " ")
        about = (act.__doc__ or "").partition("\n")[0]
        TABLE[called] = Behaviour(
            *(called, about, act, tuple(kinds), tuple(tokens), tuple(tls), once),
            *(tuple(asks), fills, faults, files, peak, kept, calls),
        )
        return act

    return add
