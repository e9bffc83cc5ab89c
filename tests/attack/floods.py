"""Hostile behaviours over HTTP/2: floods of frames that cost the service more than the peer.

A flood is sent until the service ends the connection, which it has to do: none of these frames
brings the peer anything.
"""

from __future__ import annotations

import itertools
import struct
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import hpack

from tests.attack import repository
from tests.attack.hostile import behaviour, send
from tests.attack.streams import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOOD_SECONDS,
    HEADERS,
    KINDS,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    Asking,
    Peer,
    frame,
    reset_stream,
    settings,
    widen,
)
from tests.harness.protobuf import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.attack.hostile import Hostile

# More frames than any peer has a reason to send.
MANY = 50_000
# A stranger's requests are answered at once, and each answer pays for the reset after it.
KNOWN = ("off", "holder")
UNKNOWN = 0x42


def _flood(hostile: Hostile, pieces: Callable[[Peer, Asking], Iterable[bytes]]) -> None:
    """Send a flood on a connection, and check that the service ends it."""
    with Peer(hostile) as peer:
        peer.flood(pieces(peer, Asking.of(hostile)), FLOOD_SECONDS)
        peer.check_calmed()


# ── streams that are opened and given up ─────────────────────────────────────────────────────────


@behaviour(kinds=KINDS, tokens=KNOWN, calls=True)
def resets_rapidly(hostile: Hostile) -> None:
    """Send good requests, and reset each at once."""

    def pieces(peer: Peer, asking: Asking) -> Iterator[bytes]:
        for _ in range(MANY):
            stream = peer.stream()
            yield asking.whole(stream) + reset_stream(stream)

    _flood(hostile, pieces)


@behaviour(kinds=KINDS, tokens=KNOWN, once=("holder", repository.CALL), calls=True)
def opens_ten_thousand_streams(hostile: Hostile) -> None:
    """Open streams on some connections, and reset each within its body."""
    for _ in range(4):
        with Peer(hostile) as peer:
            asking = Asking.of(hostile)
            streams = (peer.stream() for _ in range(10_000))
            half = asking.body[: len(asking.body) // 2]
            peer.flood(
                (asking.opening(s) + frame(DATA, 0, s, half) + reset_stream(s) for s in streams),
                FLOOD_SECONDS,
            )
            peer.check_calmed()


# Frames on a stream whose request is complete; each makes the service reset the stream.
_PROVOKING = (
    lambda stream: widen(stream, 0),
    lambda stream: widen(stream, LARGEST_WINDOW),
    lambda stream: frame(DATA, 0, stream, b"more"),
    lambda stream: frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 1)),
    lambda stream: frame(PRIORITY, 0, stream, b"x"),
)


@behaviour(kinds=KINDS, tokens=KNOWN, once=("off", repository.CALL), calls=True)
def provokes_resets(hostile: Hostile) -> None:
    """Make the service reset the streams of good requests, by wrong frames on them."""
    for provoke in _PROVOKING:

        def pieces(
            peer: Peer, asking: Asking, provoke: Callable[[int], bytes] = provoke
        ) -> Iterator[bytes]:
            for _ in range(MANY):
                stream = peer.stream()
                yield asking.whole(stream) + provoke(stream)

        with Peer(hostile) as peer:
            peer.flood(pieces(peer, Asking.of(hostile)), FLOOD_SECONDS)
            # Some of these frames may end the connection for another reason.
            peer.check_over()


@behaviour(kinds=KINDS, calls=True)
def opens_too_many_streams(hostile: Hostile) -> None:
    """Open streams whose bodies never end, on many connections, and many more than are allowed."""
    with ExitStack() as stack:
        asking = Asking.of(hostile)
        for _ in range(hostile.many(20)):
            peer = stack.enter_context(Peer(hostile))
            peer.flood((asking.opening(peer.stream()) for _ in range(1000)), 1)
        time.sleep(hostile.seconds)


# ── frames that mean little ──────────────────────────────────────────────────────────────────────


@behaviour(calls=True)
def floods_settings(hostile: Hostile) -> None:
    """Send settings, empty ones and ever other windows for open streams."""
    _flood(hostile, lambda *_: itertools.repeat(settings(), MANY))

    def pieces(peer: Peer, asking: Asking) -> Iterator[bytes]:
        yield b"".join(asking.opening(peer.stream()) for _ in range(100))
        for number in range(MANY):
            yield settings(initial_window_size=number % 2, header_table_size=4096 * (number % 2))

    _flood(hostile, pieces)


@behaviour(once=("stranger", "fast"), calls=True)
def floods_pings(hostile: Hostile) -> None:
    """Send pings, and read all answers."""
    _flood(hostile, lambda *_: itertools.repeat(frame(PING, 0, 0, b"12345678"), MANY))


@behaviour(once=("stranger", "fast"), peak=64, calls=True)
def floods_pings_and_reads_nothing(hostile: Hostile) -> None:
    """Send pings and settings on connections that are not read, so that their answers wait."""
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(hostile, receive=4096)) for _ in range(4)]
        for asking in (frame(PING, 0, 0, b"12345678"), settings()):
            for peer in peers:
                peer.sock.settimeout(0.5)
                peer.send(asking * MANY)
        time.sleep(hostile.seconds)


@behaviour(kinds=KINDS, calls=True)
def floods_empty_data(hostile: Hostile) -> None:
    """Send frames without a byte of the body, also padded ones."""
    for flags, payload in ((0, b""), (PADDED, b"\xff" + bytes(255))):

        def pieces(
            peer: Peer, asking: Asking, flags: int = flags, payload: bytes = payload
        ) -> Iterator[bytes]:
            stream = peer.stream()
            yield asking.opening(stream)
            yield from itertools.repeat(frame(DATA, flags, stream, payload), MANY)

        _flood(hostile, pieces)


@behaviour(once=("holder", "fast"), calls=True)
def floods_priorities(hostile: Hostile) -> None:
    """Send priorities of streams that never open."""
    payload = struct.pack(">IB", 0, 255)
    _flood(hostile, lambda *_: (frame(PRIORITY, 0, 2 * n + 1, payload) for n in range(MANY)))


@behaviour(kinds=KINDS, calls=True)
def floods_window_updates(hostile: Hostile) -> None:
    """Widen windows byte by byte, of the connection and of a stream."""
    _flood(hostile, lambda *_: itertools.repeat(widen(0, 1), MANY))

    def pieces(peer: Peer, asking: Asking) -> Iterator[bytes]:
        stream = peer.stream()
        yield asking.opening(stream)
        yield from itertools.repeat(widen(stream, 1), MANY)

    _flood(hostile, pieces)


@behaviour(once=("stranger", "fast"), calls=True)
def floods_unknown_frames(hostile: Hostile) -> None:
    """Send frames of no known kind, small and large."""
    _flood(hostile, lambda *_: itertools.repeat(frame(UNKNOWN, 0, 0), MANY))
    large = frame(UNKNOWN, 0, 0, bytes(LARGEST_FRAME))
    with Peer(hostile) as peer:
        peer.flood(itertools.repeat(large, 2000), FLOOD_SECONDS)


# ── header blocks ────────────────────────────────────────────────────────────────────────────────


def _continued(peer: Peer, first: bytes, more: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a header block that does not end."""
    stream = peer.stream()
    yield frame(HEADERS, END_STREAM, stream, first)
    for piece in more:
        yield frame(CONTINUATION, 0, stream, piece)


@behaviour(kinds=KINDS, calls=True)
def never_ends_its_headers(hostile: Hostile) -> None:
    """Continue a header block without end: by nothing, by small pieces, and by large ones."""
    head = Asking.of(hostile).head
    field = hpack.Encoder().encode([("x-more", "y" * 100, True)])
    for piece in (b"", field, field * 100):
        with Peer(hostile) as peer:
            peer.flood(_continued(peer, head, itertools.repeat(piece, MANY)), FLOOD_SECONDS)
            peer.check_over()


@behaviour(kinds=KINDS, once=("off", repository.CALL), peak=64, calls=True)
def sends_header_bombs(hostile: Hostile) -> None:
    """Name one large field of the table thousands of times, a byte each."""
    head = Asking.of(hostile).head
    # A literal with indexing: it becomes entry 62 of the table, the first after the static ones.
    large = b"\x40\x01x" + b"\x7f" + varint(3900 - 127) + b"y" * 3900
    for _ in hostile.until_over():
        with Peer(hostile) as peer:
            first = peer.stream()
            bomb = head + large + b"\xbe" * (LARGEST_FRAME - len(head) - len(large))
            peer.send(frame(HEADERS, END_HEADERS | END_STREAM, first, bomb))
            for _ in range(50):
                again = head + b"\xbe" * (LARGEST_FRAME - len(head))
                if not peer.send(frame(HEADERS, END_HEADERS | END_STREAM, peer.stream(), again)):
                    break
            peer.hear(0.2)


@behaviour(calls=True)
def resizes_the_header_table(hostile: Hostile) -> None:
    """Fill header blocks with changes of the table's size."""
    # 4096, and then 0, again and again.
    changes = (b"\x3f" + varint(4096 - 31) + b"\x20") * (LARGEST_FRAME // 4)
    with Peer(hostile) as peer:
        peer.flood(_continued(peer, changes, itertools.repeat(changes, 64)), FLOOD_SECONDS)
        peer.check_over()


@behaviour(once=("stranger", "fast"), calls=True)
def drips_header_blocks(hostile: Hostile) -> None:
    """Send the headers of many connections byte by byte: preface, frame and continuation."""
    head = Asking.of(hostile).head
    said = PREFACE + settings() + frame(HEADERS, END_STREAM, 1, head)
    said += frame(CONTINUATION, 0, 1, bytes(LARGEST_FRAME))
    with ExitStack() as stack:
        socks = [stack.enter_context(hostile.connect(alpn="h2")) for _ in range(hostile.many(100))]
        for number in hostile.until_over():
            for sock in socks:
                sock.settimeout(0.1)
                send(sock, said[number : number + 1])
            time.sleep(0.01)
