"""Hostile behaviours over HTTP/2 with bodies, windows and connections; `floods.py` has others."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.attack import repository
from tests.attack.hostile import behaviour, send
from tests.attack.streams import (
    DATA,
    FLOOD_SECONDS,
    KINDS,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    PREFACE,
    Asking,
    Peer,
    frame,
    settings,
    widen,
)

if TYPE_CHECKING:
    from tests.attack.hostile import Hostile


# ── bodies and windows ───────────────────────────────────────────────────────────────────────────


@behaviour(kinds=KINDS, once=("holder", "fast"), calls=True)
def never_ends_its_bodies(hostile: Hostile) -> None:
    """Send the bodies of many streams byte by byte, and no end."""
    asking = Asking.of(hostile)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(hostile)) for _ in range(hostile.many(20))]
        streams = [[peer.stream() for _ in range(50)] for peer in peers]
        for peer, its in zip(peers, streams, strict=True):
            peer.send(b"".join(map(asking.opening, its)))
        for _ in hostile.until_over():
            for peer, its in zip(peers, streams, strict=True):
                peer.flood([frame(DATA, 0, stream, b" ") for stream in its], 0.1)
            time.sleep(0.05)


# The limit is 128 MB, in pieces that the allocator may keep.
@behaviour(kinds=KINDS, once=("off", repository.CALL), peak=256, kept=200, calls=True)
def fills_the_room_for_bodies(hostile: Hostile) -> None:
    """Begin large bodies on many streams of many connections, as much as windows let in."""
    asking = Asking.of(hostile)
    piece = bytes(LARGEST_FRAME)
    with ExitStack() as stack:
        for _ in range(hostile.many(20)):
            peer = stack.enter_context(Peer(hostile))
            streams = [peer.stream() for _ in range(50)]
            peer.flood(map(asking.opening, streams), 1)
            for _ in range(8):
                peer.flood((frame(DATA, 0, stream, piece) for stream in streams), 1)
        time.sleep(hostile.seconds)


@behaviour(kinds=KINDS, peak=128, calls=True)
def takes_nothing_of_its_answers(hostile: Hostile) -> None:
    """Request wide answers on many streams with a window of 0, and widen it by a byte at times."""
    asking = Asking.of(hostile, "wide")
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(hostile, initial_window_size=0, receive=4096))
            for _ in range(hostile.many(20))
        ]
        for peer in peers:
            peer.flood((asking.whole(peer.stream()) for _ in range(100)), 1)
        for _ in hostile.until_over():
            for peer in peers:
                peer.flood([widen(1, 1)], 0.01)
            time.sleep(0.05)


@behaviour(kinds=KINDS, once=("off", repository.CALL), peak=128, calls=True)
def starves_the_connection(hostile: Hostile) -> None:
    """Request wide answers with wide streams, and never widen the connection."""
    asking = Asking.of(hostile, "wide")
    with ExitStack() as stack:
        peers = [
            stack.enter_context(Peer(hostile, initial_window_size=LARGEST_WINDOW))
            for _ in range(hostile.many(20))
        ]
        for _ in hostile.until_over():
            for peer in peers:
                peer.flood((asking.whole(peer.stream()) for _ in range(10)), 0.1)


@behaviour(kinds=KINDS, once=("holder", repository.CALL), calls=True)
def overflows_windows(hostile: Hostile) -> None:
    """Send more of a body than the windows allow, and widen windows beyond the largest."""
    asking = Asking.of(hostile)
    piece = bytes(LARGEST_FRAME)
    for _ in range(4):
        with Peer(hostile) as peer:
            stream = peer.stream()
            peer.send(asking.opening(stream))
            peer.flood((frame(DATA, 0, stream, piece) for _ in range(20_000)), FLOOD_SECONDS)
        with Peer(hostile) as peer:
            peer.send(widen(0, LARGEST_WINDOW) * 2)
            peer.check_over()


# ── connections ──────────────────────────────────────────────────────────────────────────────────


@behaviour(tls=[True], tokens=["off"], calls=True)
def shakes_hands_and_says_nothing(hostile: Hostile) -> None:
    """Finish the TLS handshake for HTTP/2 on many connections, and send half of the preface."""
    with ExitStack() as stack:
        for number in range(hostile.many(400)):
            sock = stack.enter_context(hostile.connect(20, alpn="h2"))
            send(sock, (PREFACE + settings())[: number % 34])
        time.sleep(hostile.seconds)


@behaviour(kinds=KINDS, once=("holder", repository.CALL), calls=True)
def sends_wrong_frames(hostile: Hostile) -> None:
    """Send good requests with a few wrong bytes, and frames of random kinds."""
    chance = random.Random(0)
    asking = Asking.of(hostile)
    for _ in hostile.until_over():
        with Peer(hostile) as peer:
            for _ in range(20):
                said = bytearray(asking.whole(peer.stream()))
                for _ in range(chance.randrange(3)):
                    said[chance.randrange(len(said))] = chance.randrange(256)
                kind, flags, stream = (chance.randrange(n) for n in (12, 256, 40))
                said += frame(kind, flags, stream, chance.randbytes(chance.randrange(20)))
                if not peer.send(bytes(said)):
                    break
            peer.hear(0.02)


@behaviour(kinds=KINDS, calls=True)
def leaves_in_each_state(hostile: Hostile) -> None:
    """Close connections while streams are open, half closed, queued and being answered."""
    asking = Asking.of(hostile, "wide")
    for number in range(hostile.many(100)):
        with Peer(hostile) as peer:
            streams = [peer.stream() for _ in range(8)]
            said = b"".join(asking.whole(stream) for stream in streams)
            peer.send(said[: len(said) * (number % 8 + 1) // 8])
            if number % 2:
                peer.hear(0.02)
