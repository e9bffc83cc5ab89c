"""The hostile behaviours, one function each; a new one is added here and tried everywhere.

A behaviour raises `AssertionError` for wrong answers to itself; its effect on others is measured by
the well-behaved client beside it.  Behaviours about bodies and models are in `bodies.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import ssl
import time
from typing import TYPE_CHECKING

from tests.attack import repository
from tests.attack.hostile import (
    CUT,
    WOULD_BLOCK,
    all_closed,
    behaviour,
    drain,
    first_line,
    hear,
    push,
    reset,
    send,
)
from tests.harness.serving import HOST

if TYPE_CHECKING:
    from tests.attack.hostile import Hostile

PREDICTING = repository.PREDICTING
EVERY = tuple(repository.PATHS)
# One kind of each way to an answer, for behaviours that hardly depend on the path.
WAYS = ("fast", "version", "page")
GROWING_SECONDS = 4.0
FILLING_SECONDS = 2.0


# ── slow readers and senders ─────────────────────────────────────────────────────────────────────


@behaviour(kinds=EVERY, peak=128)
def never_reads(hostile: Hostile) -> None:
    """Request wide answers repeatedly, and read none of them."""
    socks = [hostile.connect(receive=4096) for _ in range(4)]
    with all_closed(socks):
        # Without a limit, a worker would grow by 40 MB a second.
        push(socks, hostile.request("wide"), max(hostile.seconds, GROWING_SECONDS), 1 << 26)
        time.sleep(hostile.seconds)


@behaviour(once=("off", "binary"), kinds=EVERY, peak=128)
def reads_slowly(hostile: Hostile) -> None:
    """Request wide answers, and read them at some bytes a second."""
    socks = [hostile.connect(receive=4096) for _ in range(4)]
    with all_closed(socks):
        push(socks, hostile.request("wide"), hostile.seconds / 2, 1 << 22)
        for _ in hostile.until_over():
            for sock in socks:
                with contextlib.suppress(*CUT):
                    sock.recv(16)
            time.sleep(0.1)


# From the largest body that is accepted to one smaller than any request's.
_RUNGS = [60 << 20, *(1 << power for power in range(25, 7, -1))]
_MOST_BODIES = 60


# The limit is 128 MB, in pieces that the allocator may keep.
@behaviour(once=("off", "tfserving"), kinds=PREDICTING, peak=256, kept=200)
def drips_large_bodies(hostile: Hostile) -> None:
    """Fill the limit of bodies in flight with bodies whose last byte never comes."""
    socks: list[socket.socket] = []
    with all_closed(socks):
        for size in _RUNGS:
            while len(socks) < _MOST_BODIES:
                sock = hostile.connect()
                send(sock, hostile.head("POST", _path(hostile), size, _JSON))
                if _is_refused(sock):
                    sock.close()
                    break
                socks.append(sock)
                push([sock], b" ", 2, size - 1)
        for _ in hostile.until_over():
            time.sleep(0.1)


@behaviour(once=("stranger", "fast"), kinds=WAYS[:2])
def announces_bodies_that_never_come(hostile: Hostile) -> None:
    """Announce large bodies on many connections, and send none of them."""
    _hold(hostile, hostile.head("POST", _path(hostile), 3 << 20, _JSON), hostile.many(200))


@behaviour(once=("stranger", "fast"))
def drips_heads(hostile: Hostile) -> None:
    """Send header blocks byte by byte on many connections."""
    head = hostile.request().partition(b"\r\n\r\n")[0] + b"\r\nX-More: "
    socks = []
    with all_closed(socks):
        socks += [hostile.connect() for _ in range(hostile.many(100))]
        for number in hostile.until_over():
            for sock in socks:
                send(sock, head[number : number + 1] or b"x")
            time.sleep(0.01)


@behaviour(once=("holder", "version"), kinds=WAYS[:2])
def expects_to_be_told_to_go_on(hostile: Hostile) -> None:
    """Send `Expect: 100-continue` on many connections, and never continue."""
    head = hostile.head("POST", _path(hostile), 1000, {**_JSON, "Expect": "100-continue"})
    _hold(hostile, head, hostile.many(200))


# ── too many requests ────────────────────────────────────────────────────────────────────────────


@behaviour(kinds=PREDICTING, once=("holder", "fast"))
def pipelines_refusals_of_strangers(hostile: Hostile) -> None:
    """Send one good request that expires at once, and many without a token behind it."""
    bare = f"POST {_path(hostile)} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n".encode()
    expires = hostile.request(headers={"X-Request-Timeout": "0.000000001"})
    for _ in range(4):
        with hostile.connect() as sock:
            send(sock, expires + 600 * bare)
            hear(sock, 1)


@behaviour(kinds=PREDICTING, asks=["slow"], fills=True)
def pipelines_into_a_full_queue(hostile: Hostile) -> None:
    """Fill the queue of a slow model, and pipeline requests that it refuses."""
    asking = hostile.request("slow")
    bare = hostile.head("POST", repository.PATHS[hostile.kind].format("slow"), 0)
    socks: list[socket.socket] = []
    with all_closed(socks):
        socks += [hostile.connect() for _ in range(200)]
        deadline = time.monotonic() + max(hostile.seconds, FILLING_SECONDS)
        while time.monotonic() < deadline:
            # The first request of each waits in the queue; all others are refused in a row.
            push(socks, asking, 0.3, len(asking))
            for sock in socks[::20]:
                push([sock], asking + 600 * bare, 0.1, len(asking) + 600 * len(bare))
            for sock in socks:
                drain(sock)


@behaviour(kinds=WAYS[:2])
def pipelines_what_expires_at_once(hostile: Hostile) -> None:
    """Pipeline many good requests whose time is over before they are read."""
    expires = hostile.request(headers={"X-Request-Timeout": "0.000000001"})
    for _ in range(4):
        with hostile.connect() as sock:
            send(sock, 600 * expires)
            hear(sock, 0.5)


@behaviour(once=("off", "query"), kinds=PREDICTING, asks=["slow"], fills=True)
def crowds_a_slow_model(hostile: Hostile) -> None:
    """Request a slow model on a hundred connections, each again after its answer."""
    asking = hostile.request("slow")
    socks = []
    with all_closed(socks):
        socks += [hostile.connect() for _ in range(100)]
        for _ in hostile.until_over():
            for sock in socks:
                send(sock, asking)
            for sock in socks:
                first_line(sock, 1)


@behaviour(once=("holder", "version"), kinds=EVERY, asks=["slow"], fills=True)
def hangs_up_before_the_answer(hostile: Hostile) -> None:
    """Request a slow model, and disconnect."""
    asking = hostile.request("slow")
    for number in range(hostile.many(300)):
        with contextlib.suppress(*CUT):
            sock = hostile.connect()
            send(sock, asking)
            reset(sock) if number % 2 else sock.close()


@behaviour(once=("off", "page"), kinds=WAYS)
def floods_one_connection(hostile: Hostile) -> None:
    """Pipeline good requests as fast as they are accepted, and read all answers."""
    asking = 50 * hostile.request()
    with hostile.connect() as sock:
        sent = 0
        # In one thread, since two threads cannot share an OpenSSL connection.
        for _ in hostile.until_over():
            drain(sock)
            try:
                sent += sock.send(asking[sent % len(asking) :])
            except WOULD_BLOCK:
                time.sleep(0.001)
            except CUT:
                break


# ── connections ──────────────────────────────────────────────────────────────────────────────────


@behaviour(once=("holder", "version"), kinds=WAYS)
def half_closes(hostile: Hostile) -> None:
    """Send a request, close the sending side, and wait for the answer."""
    for _ in range(hostile.many(100)):
        with contextlib.suppress(*CUT), hostile.connect() as sock:
            send(sock, hostile.request())
            sock.shutdown(socket.SHUT_WR)
            hear(sock, 2)


@behaviour(once=("holder", "page"), kinds=WAYS)
def resets_in_each_state(hostile: Hostile) -> None:
    """Reset connections within header block or body, and before, within and after the answer."""
    asking = hostile.request("wide")
    end = asking.index(b"\r\n\r\n") + 4
    cuts = (0, 1, end // 2, end - 1, end, (end + len(asking)) // 2, len(asking) - 1, len(asking))
    for number, cut in itertools.product(range(hostile.many(25)), cuts):
        with contextlib.suppress(*CUT):
            sock = hostile.connect()
            send(sock, asking[:cut])
            if cut == len(asking) and number % 2:
                sock.recv(20)
            reset(sock)


@behaviour()
def comes_in_bursts(hostile: Hostile) -> None:
    """Connect two thousand times at once, and send one request on each, which must be answered."""
    asking = hostile.request()
    socks = [socket.socket() for _ in range(2000)]
    with all_closed(socks):
        for sock in socks:
            sock.setblocking(False)
            sock.connect_ex((HOST, hostile.port))
        answered = 0
        for number, sock in enumerate(socks):
            sock.settimeout(20)
            with contextlib.suppress(*CUT):
                if hostile.tls is not None:
                    sock = hostile.tls.wrap_socket(sock, server_hostname="localhost")  # noqa: PLW2901
                    socks[number] = sock
                sock.sendall(asking)
                answered += first_line(sock, 20).startswith(b"HTTP/1.1 ")
            sock.close()
    assert answered == len(socks), f"expected {len(socks)} answers, received {answered}"


@behaviour(once=("stranger", "fast"))
def holds_idle_connections(hostile: Hostile) -> None:
    """Hold ten thousand connections without requests."""
    socks = []
    with all_closed(socks):
        for _ in range(hostile.many(10_000 if hostile.tls is None else 1_000)):
            try:
                socks.append(hostile.connect(20))
            except CUT:
                break
        time.sleep(hostile.seconds)


@behaviour(files=120)
def exhausts_descriptors(hostile: Hostile) -> None:
    """Hold more connections than the service may have descriptors."""
    socks = [socket.socket() for _ in range(400)]
    with all_closed(socks):
        for sock in socks:
            sock.setblocking(False)
            sock.connect_ex((HOST, hostile.port))
        time.sleep(hostile.seconds)


@behaviour()
def connects_and_leaves(hostile: Hostile) -> None:
    """Connect and close as fast as possible."""
    for number in hostile.until_over():
        with contextlib.suppress(*CUT):
            sock = hostile.socket()
            reset(sock) if number % 2 else sock.close()


@behaviour(tokens=["off"])
def shakes_hands_slowly(hostile: Hostile) -> None:
    """Begin a TLS handshake on many connections, and do not finish it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    socks = []
    with all_closed(socks):
        socks += [hostile.socket() for _ in range(hostile.many(400))]
        # The handshake without its last byte.
        for number in hostile.until_over():
            if number < len(hello) - 1:
                for sock in socks:
                    send(sock, hello[number : number + 1])
            time.sleep(0.02)


@behaviour(once=("holder", "fast"))
def speaks_something_else(hostile: Hostile) -> None:
    """Send bytes that are neither HTTP nor TLS."""
    chance = random.Random(0)
    said = [b"\x00" * 4096, b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 9999]
    said += [b"\x16\x03\x01\xff\xff" + b"\xff" * 70_000, b"GET / HTTP/1.1\r\n\r\n", b"x" * 200_000]
    for data in said * hostile.many(20):
        with contextlib.suppress(*CUT), hostile.socket() as sock:
            send(sock, data + chance.randbytes(64))
            hear(sock, 0.02)


# ── wrong lengths and header blocks ──────────────────────────────────────────────────────────────

_JSON = {"Content-Type": "application/json"}
_BODY = b'{"instances":[{"fruit":[1,2]}]}'
_LENGTHS = (
    *(b"Content-Length: 5", b"Content-Length: 5000", b"Content-Length: -1", b"Content-Length: +31"),
    *(b"Content-Length: 31, 31", b"Content-Length: 31\r\nContent-Length: 32"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length: 0x1f", b"Content-Length:"),
)
_CHUNKS = (
    *(b"1\r\nab\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n\r\n", b"1f\r\n%s" % _BODY),
    *(b"5000\r\n%s\r\n0\r\n\r\n" % _BODY, b"0\r\n" + b"X: y\r\n" * 9999, b"1;" + b"e" * 90_000),
    *(b"1\r\n{\r\n" * 5000, b"\r\n0\r\n\r\n", b"zz\r\n\r\n"),
)


@behaviour(once=("off", "page"), kinds=WAYS)
def lies_about_lengths(hostile: Hostile) -> None:
    """Send bodies and chunks with wrong or invalid lengths."""
    _say_all(hostile, [line + b"\r\n\r\n" + _BODY for line in _LENGTHS])
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    _say_all(hostile, [chunked + chunks for chunks in _CHUNKS])


_SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
_SMUGGLING = (
    *(
        f"Content-Length: {len(_SMUGGLED)}\r\n{form}".encode() + b"\r\n\r\n0\r\n\r\n" + _SMUGGLED
        for form in (
            *("Transfer-Encoding: chunked", "Transfer-Encoding : chunked"),
            *("Transfer-Encoding: xchunked", "Transfer-Encoding:\tchunked"),
            *("Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "X: y\r\n Folded: z"),
            *("Transfer-Encoding: identity", "Transfer-Encoding: CHUNKED, chunked"),
        )
    ),
    b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nGET " + _SMUGGLED,
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n" + _SMUGGLED,
    b"Host: a\r\nHost: b\r\n\r\n" + _SMUGGLED,
    b"X: a\x00b\r\n\r\n" + _SMUGGLED,
    b"X: a\nContent-Length: 0\n\n" + _SMUGGLED,
)


@behaviour(once=("holder", "version"), kinds=WAYS)
def smuggles(hostile: Hostile) -> None:
    """Send a request that could be read as two, in every form."""
    _say_all(hostile, list(_SMUGGLING))


@behaviour(once=("stranger", "fast"))
def sends_oversized_heads(hostile: Hostile) -> None:
    """Send header blocks, header lines and targets that are too long."""
    forms = [
        b"X: " + b"x" * 1_000_000,
        b"".join(b"X%d: y\r\n" % number for number in range(50_000)),
        b"Authorization: Bearer " + b"x" * 60_000 + b"\r\n\r\n",
        b"Cookie: " + b"a=b; " * 12_000 + b"\r\n\r\n",
    ]
    for _ in range(hostile.many(10)):
        _say_all(hostile, forms)
        with contextlib.suppress(*CUT), hostile.connect() as sock:
            send(sock, b"GET /" + b"x" * 500_000 + b" HTTP/1.1\r\n\r\n")
            hear(sock, 0.05)


@behaviour(once=("off", "version"), kinds=WAYS)
def sends_ever_other_heads(hostile: Hostile) -> None:
    """Never send the same header, or query, twice."""
    with hostile.connect() as sock:
        for number in hostile.until_over():
            asking = hostile.request(headers={f"X-{number}": "y" * 3000})
            if not send(sock, asking) or not first_line(sock, 5):
                break


@behaviour(once=("stranger", "fast"), tokens=["off", "stranger"])
def guesses_tokens(hostile: Hostile) -> None:
    """Try one token after another."""
    with hostile.connect() as sock:
        for number in hostile.until_over():
            head = hostile.head("GET", "/models", None, {"Authorization": f"Bearer t{number}"})
            if not send(sock, head) or not first_line(sock, 5):
                break


def _path(hostile: Hostile) -> str:
    return repository.PATHS[hostile.kind].format(repository.MAIN)


def _is_refused(sock: socket.socket) -> bool:
    """Return whether an answer arrives before the body is sent."""
    return first_line(sock, 0.03) != b""


def _hold(hostile: Hostile, data: bytes, count: int) -> None:
    """Send the same bytes on many connections, and wait."""
    socks = []
    with all_closed(socks):
        socks += [hostile.connect() for _ in range(count)]
        for sock in socks:
            send(sock, data)
        time.sleep(hostile.seconds)


def _say_all(hostile: Hostile, rests: list[bytes]) -> None:
    """Send header blocks with the given ends, each on a connection of its own."""
    method = "GET" if hostile.kind == "page" else "POST"
    token = f"Authorization: Bearer {hostile.token}\r\n" if hostile.token else ""
    start = f"{method} {_path(hostile)} HTTP/1.1\r\nHost: {HOST}\r\n{token}".encode()
    for number, rest in enumerate(rests):
        with contextlib.suppress(*CUT):
            sock = hostile.connect()
            send(sock, start + b"Content-Type: application/json\r\n" + rest)
            hear(sock, 0.03)
            reset(sock) if number % 2 else sock.close()
