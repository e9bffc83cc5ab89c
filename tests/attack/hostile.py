"""What every hostile behaviour has at hand: whom it attacks, plain sockets, and the table."""

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
from tests.harness.serving import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

MAX_READ = 1 << 16
# What an attacker sees when it is cut off, which is as it should be.
CUT = (OSError, ssl.SSLError)
# What a socket that does not block says while there is nothing to read, or no room to write.
WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True)
class Hostile:
    """One attack: whom it meets, by which kind of path, with which token, for how long."""

    port: int
    tls: ssl.SSLContext | None
    token: str
    kind: str
    seconds: float
    scale: float
    """How much of everything: 1 in `make attack`, less in `make test`."""

    def many(self, number: int) -> int:
        """So many, or fewer if this attack is a small one."""
        return max(1, round(number * self.scale))

    def socket(self, seconds: float = 5) -> socket.socket:
        """A connection without TLS, whatever is spoken there."""
        return socket.create_connection((HOST, self.port), seconds)

    def connect(self, seconds: float = 5) -> socket.socket:
        """A connection."""
        plain = self.socket(seconds)
        if self.tls is None:
            return plain
        try:
            return self.tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def head(
        self, method: str, path: str, length: int | None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The head of a request, with the token if there is one."""
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
        """A whole request that is good, on this attack's kind of path."""
        rows = repository.rows_for(model) if arrays is None else arrays
        method, sent = repository.encode(self.kind, model, rows)
        length = None if method == "GET" else len(sent.body)
        return self.head(method, sent.path, length, {**sent.headers, **(headers or {})}) + sent.body

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, model: str = "") -> bytes:
        """A request with any body, on this attack's kind of path."""
        path = repository.PATHS[self.kind].format(model or repository.MAIN)
        said = {"Content-Type": "application/json", **(headers or {})}
        return self.head("POST", path, len(body), said) + body

    def until_over(self) -> Iterator[int]:
        """Count, for as long as the attack takes."""
        deadline, number = time.monotonic() + self.seconds, 0
        while time.monotonic() < deadline:
            yield number
            number += 1


def send(sock: socket.socket, data: bytes) -> bool:
    """Send all of it; false if the other side has cut us off, or does not read."""
    try:
        sock.sendall(data)
    except CUT:
        return False
    return True


def hear(sock: socket.socket, seconds: float = 5) -> bytes:
    """All that comes until the other side closes, or nothing comes for so long."""
    heard = []
    with contextlib.suppress(*CUT):
        sock.settimeout(seconds)
        while data := sock.recv(MAX_READ):
            heard.append(data)
    return b"".join(heard)


def first_line(sock: socket.socket, seconds: float = 10) -> bytes:
    """The status line of the next answer, and perhaps more; empty without one."""
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
    """Read until so many answers have begun; how many have."""
    heard = b""
    with contextlib.suppress(*CUT):
        sock.settimeout(seconds)
        while heard.count(b"HTTP/1.1 ") < count and (data := sock.recv(MAX_READ)):
            heard += data
    return heard.count(b"HTTP/1.1 ")


def drain(sock: socket.socket) -> None:
    """Read what is there, and wait for nothing."""
    with contextlib.suppress(*CUT):
        sock.setblocking(False)
        while sock.recv(MAX_READ):
            pass


def reset(sock: socket.socket) -> None:
    """Close with a reset in place of an end."""
    with contextlib.suppress(*CUT):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def all_closed(socks: Iterable[socket.socket]) -> Iterator[None]:
    """Close all sockets in the end."""
    try:
        yield
    finally:
        for sock in socks:
            sock.close()


def push(socks: Sequence[socket.socket], data: bytes, seconds: float, most: int) -> list[int]:
    """Send the same over and over on all of them at once, and read nothing.

    Args:
        socks: the connections.
        data: what is sent.
        seconds: for how long at most.
        most: the bytes that each is sent at most.

    Returns:
        How many bytes each has taken.
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
"""No tokens at all; a file of tokens, and an attacker without one; or with one to predict."""


@dataclass(frozen=True)
class Behaviour:
    """A row of the table: what is done, where, and what it may legitimately cause."""

    name: str
    about: str
    act: Callable[[Hostile], None]
    kinds: tuple[str, ...]
    """The kinds of path that it is tried on."""
    tokens: tuple[str, ...]
    tls: tuple[bool, ...]
    once: tuple[str, str]
    """The token and the kind of path with which it does most harm, where it is tried only once."""
    asks: tuple[str, ...]
    """Models that the well-behaved caller asks besides."""
    fills: bool
    """Whether it may fill the queue of those, which then answer 429 or 503 for its time."""
    faults: str
    """What any error says that the service may log for it, if it may."""
    files: int
    """Descriptors that each process of the service may have; 0: as many as we may."""
    peak: int
    """Megabytes that a worker may take for it."""
    kept: int
    """Megabytes of those that it need not give back: pools of the allocator, versions, cuts."""


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
) -> Callable[[Callable[[Hostile], None]], Callable[[Hostile], None]]:
    """Put a function into the table as a behaviour; by its own name, unless one is given."""

    def add(act: Callable[[Hostile], None]) -> Callable[[Hostile], None]:
        called = name or act.__name__.replace("_", " ")
        about = (act.__doc__ or "").partition("\n")[0]
        TABLE[called] = Behaviour(
            *(called, about, act, tuple(kinds), tuple(tokens), tuple(tls), once),
            *(tuple(asks), fills, faults, files, peak, kept),
        )
        return act

    return add
