"""Hostile behaviours by gRPC: messages that lie or grow, and streams of answers without end."""

from __future__ import annotations

import gzip
import random
import struct
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tests.attack import repository
from tests.attack.hostile import behaviour
from tests.attack.streams import DATA, FLOOD_SECONDS, Asking, Peer, frame
from tests.harness.protobuf import INFER, field, framed, infer_request, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.attack.hostile import Hostile

WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
# The largest message that is accepted, and one that is not.
MEGABYTES = (15, 60)
_calls = partial(behaviour, kinds=(repository.CALL,), calls=True)


def _message() -> bytes:
    return infer_request(repository.MAIN, repository.rows_for(repository.MAIN))


def _say(hostile: Hostile, asking: Asking, seconds: float = 2) -> None:
    """Make a call on a connection of its own, and wait for the answer."""
    with Peer(hostile) as peer:
        peer.answer(asking, seconds)


@_calls(once=("off", repository.CALL))
def lies_about_messages(hostile: Hostile) -> None:
    """Send messages with wrong lengths and flags, none, several, and encodings of no kind."""
    message = _message()
    bodies = [
        *(b"", b"\x00", struct.pack(">BI", 0, 2**32 - 1) + message),
        *(struct.pack(">BI", 0, len(message) - 1) + message, framed(message) + framed(message)),
        *(struct.pack(">BI", 0, len(message) + 1) + message, struct.pack(">BI", 0, 0)),
        *(struct.pack(">BI", 255, len(message)) + message, framed(message, compressed=True)),
    ]
    for body in bodies:
        _say(hostile, Asking.call(hostile, INFER, body))
    for encoding in ("gzip", "deflate", "br", "identity, gzip", "x" * 5000):
        for compressed in (False, True):
            body = framed(message, compressed=compressed)
            _say(hostile, Asking.call(hostile, INFER, body, {"grpc-encoding": encoding}))
    for timeout in ("", "0n", "99999999H", "100000000S", "-1S", "1", "S", "1.5S", "1n"):
        more = {"grpc-timeout": timeout}
        _say(hostile, Asking.call(hostile, INFER, framed(message), more))


# The parts of a message that are repeated until it is as large as allowed.
FILLINGS = {
    "inputs": field(5, b""),
    "outputs": field(6, field(1, "size")),
    "contents": field(7, b""),
    "parameters": field(4, field(1, "x") + field(2, field(1, 1))),
    "shapes": field(5, field(1, "x") + field(3, varint(2**62) * 1000)),
    "unpacked shapes": field(5, field(3, 1) * 1000),
    "typed values": field(5, field(5, field(6, bytes(4000)))),
    "texts": field(5, field(5, field(8, b"") * 1000)),
    "names": field(1, b"x" * 1000),
    "unknown fields": field(1000, 1),
    "groups": varint(9 << 3 | 3),
}


def _grows(piece: bytes, *, compressed: bool) -> Callable[[Hostile], None]:
    def act(hostile: Hostile) -> None:
        """Send a message of as many parts as are accepted."""
        for megabytes in MEGABYTES:
            message = _message() + piece * ((megabytes << 20) // len(piece))
            more = {"grpc-encoding": "gzip"} if compressed else {}
            body = gzip.compress(message, 1) if compressed else message
            asking = Asking.call(hostile, INFER, framed(body, compressed=compressed), more)
            with Peer(hostile) as peer:
                peer.upload(asking, 30)

    return act


for _number, (_name, _piece) in enumerate(FILLINGS.items()):
    _calls(
        name=f"calls with many {_name}",
        once=("off", repository.CALL),
        tokens=["off", "holder"],
    )(_grows(_piece, compressed=_number % 2 == 1))


@_calls(once=("holder", repository.CALL))
def calls_with_wrong_messages(hostile: Hostile) -> None:
    """Make good calls with a few wrong bytes each."""
    chance = random.Random(0)
    good = _message()
    with Peer(hostile) as peer:
        for _ in hostile.until_over():
            message = bytearray(good)
            for _ in range(3):
                message[chance.randrange(len(message))] = chance.randrange(256)
            peer.answer(Asking.call(hostile, INFER, framed(bytes(message))))
            if peer.over:
                break


@_calls(once=("stranger", repository.CALL))
def calls_what_is_not_there(hostile: Hostile) -> None:
    """Call ever other methods and services."""
    with Peer(hostile) as peer:
        for number in hostile.until_over():
            path = f"/service{number}.X/Y" if number % 2 else f"{INFER}{'x' * (number % 5000)}"
            peer.answer(Asking.call(hostile, path, framed(b"")))
            if peer.over:
                break


@_calls(once=("off", repository.CALL), asks=["slow"], fills=True)
def calls_what_expires_at_once(hostile: Hostile) -> None:
    """Call a slow model with deadlines that are over before it could answer."""
    body = repository.call("slow", repository.rows_for("slow"))
    asking = Asking.call(hostile, INFER, body, {"grpc-timeout": "1m"})
    with Peer(hostile) as peer:
        for _ in hostile.until_over():
            peer.flood((asking.whole(peer.stream()) for _ in range(50)), 1)
            peer.hear(0.05)


@_calls(once=("off", repository.CALL), peak=64)
def watches_without_end(hostile: Hostile) -> None:
    """Watch the health of models that are there and are not, on many streams, and read nothing."""
    with ExitStack() as stack:
        for _ in range(hostile.many(20)):
            peer = stack.enter_context(Peer(hostile, receive=4096))
            peer.flood(
                (
                    Asking.call(hostile, WATCH, framed(field(1, f"x{number}"))).whole(peer.stream())
                    for number in range(200)
                ),
                FLOOD_SECONDS,
            )
        time.sleep(hostile.seconds)


@_calls(once=("off", repository.CALL), peak=64)
def reflects_without_end(hostile: Hostile) -> None:
    """Ask one stream of reflection for the largest files, again and again, and read nothing."""
    asked = framed(field(4, "inference.GRPCInferenceService"))
    many = asked * (16_000 // len(asked))

    def pieces(peer: Peer) -> Iterator[bytes]:
        streams = [peer.stream() for _ in range(20)]
        for stream in streams:
            yield Asking.call(hostile, REFLECTION, b"").opening(stream)
        for _ in range(hostile.many(500)):
            yield from (frame(DATA, 0, stream, many) for stream in streams)

    with ExitStack() as stack:
        for _ in range(4):
            peer = stack.enter_context(Peer(hostile, receive=4096, initial_window_size=100))
            peer.flood(pieces(peer), hostile.seconds)
        time.sleep(hostile.seconds)
