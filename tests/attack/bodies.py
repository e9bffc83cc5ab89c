"""Hostile behaviours with bodies, and with models."""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from tests.attack import repository
from tests.attack.hostile import all_closed, answers, behaviour, first_line, hear, send
from tests.harness import forms

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tests.attack.hostile import Hostile

# Kinds of paths: each has another dialect or another way to an answer.
BODIES = ("fast", "version", "oip", "tfserving")
MEGABYTES = 63
# The service publishes its counts once a second.
COUNTED_SECONDS = 1.5
_GZIP = {"Content-Encoding": "gzip"}


# ── bodies that become large ─────────────────────────────────────────────────────────────────────

# The content of each compressed bomb, and the bytes before it.
FILLINGS = {
    "brackets": (b'{"instances":[', b"[],"),
    "objects": (b'{"instances":[', b'{"a":1},'),
    "numbers": (b'{"inputs":{"fruit":[[1,2],', b"[1,2],"),
    "strings": (b'{"instances":[', b'"aaaaaaa",'),
    "one number": (b'{"instances":[{"fruit":[', b"9" * 100),
    "keys": (b'{"instances":[{', b'"a":1,'),
}


def _bomb(name: str) -> Callable[[Hostile], None]:
    start, piece = FILLINGS[name]

    def act(hostile: Hostile) -> None:
        """Send a small body that inflates to the largest size that is accepted."""
        for megabytes in (min(MEGABYTES, hostile.many(5 * MEGABYTES)), 15, 3):
            body = gzip.compress(start + piece * ((megabytes << 20) // len(piece)), 9)
            with hostile.connect() as sock:
                send(sock, hostile.post(body, _GZIP))
                said = first_line(sock, 60)
            if b" 413 " not in said:
                break

    return act


for _number, _name in enumerate(FILLINGS):
    _kind = BODIES[_number % len(BODIES)]
    behaviour(name=f"inflates {_name}", kinds=BODIES, once=("off", _kind))(_bomb(_name))


@behaviour(kinds=BODIES)
def nests_deeply(hostile: Hostile) -> None:
    """Send deeply nested brackets and objects."""
    for body in (b"[" * 1_000_000, b'{"a":' * 200_000, b'{"instances":' + b"[" * 500_000):
        with hostile.connect() as sock:
            send(sock, hostile.post(body))
            hear(sock, 0.3)


@behaviour(kinds=BODIES)
def asks_for_a_huge_answer(hostile: Hostile) -> None:
    """Request twenty thousand rows of two thousand numbers with a small body."""
    if hostile.kind in ("oip", "binary"):
        tensor = {"name": "x", "datatype": "FP32", "shape": [20_000, 1], "data": [1.5] * 20_000}
        body = json.dumps({"inputs": [tensor]}).encode()
    else:
        body = json.dumps({"inputs": {"x": [[1.5]] * 20_000}}).encode()
    with hostile.connect() as sock:
        send(sock, hostile.post(gzip.compress(body), _GZIP, "wide"))
        first_line(sock, 30)


@behaviour(kinds=BODIES[:2])
def asks_for_costly_explanations(hostile: Hostile) -> None:
    """Request the explanations of a thousand rows, which take 63,001 runs, on many connections."""
    rows = json.loads(forms.native_columns(repository.rows_for(repository.MAIN, 1000)).body)
    asking = hostile.post(json.dumps({**rows, "explain": {"method": "shapley"}}).encode())
    for _ in hostile.until_over():
        socks: list[socket.socket] = []
        with all_closed(socks):
            socks += [hostile.connect() for _ in range(hostile.many(40))]
            for sock in socks:
                send(sock, asking)
            for sock in socks:
                said = first_line(sock, 30)
                assert not said or any(status in said for status in (b" 200 ", b" 401 ", b" 429 "))


@behaviour(kinds=BODIES)
def sends_wrong_bodies(hostile: Hostile) -> None:
    """Send right bodies with one mutation each."""
    chance = random.Random(0)
    good = hostile.request()
    end = good.index(b"\r\n\r\n") + 4
    with hostile.connect() as sock:
        for _ in hostile.until_over():
            body = bytearray(good[end:])
            for _ in range(3):
                body[chance.randrange(len(body))] = chance.randrange(256)
            if not send(sock, good[:end] + bytes(body)) or not first_line(sock, 5):
                break


@behaviour(kinds=BODIES)
def sends_bad_gzip(hostile: Hostile) -> None:
    """Send gzip that is truncated, wrong, nested or not gzip at all."""
    good = gzip.compress(b'{"instances":[{"fruit":[1,2]}]}')
    bodies = [good[:-5], good[:12], b"x" * 1000, gzip.compress(good), good * 1000, good[:-4] * 2]
    for body in bodies * hostile.many(20):
        with hostile.connect() as sock:
            send(sock, hostile.post(body, _GZIP))
            first_line(sock, 5)


# ── models ───────────────────────────────────────────────────────────────────────────────────────


@behaviour(kinds=repository.PREDICTING, asks=repository.JOINT, tokens=["off", "holder"])
def sits_beside_others_in_joint_models(hostile: Hostile) -> None:
    """Send extreme rows to models that mix rows, beside the rows of the well-behaved client."""
    asks = [
        hostile.request(name, {"x": np.full((1, 4), 1e30, np.float32)}) for name in repository.JOINT
    ]

    def flood(asking: bytes) -> None:
        with hostile.connect() as sock:
            for _ in hostile.until_over():
                if not send(sock, 4 * asking) or answers(sock, 4) < 4:
                    break

    threads = [threading.Thread(target=flood, args=(asking,)) for asking in asks * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@behaviour(kinds=BODIES, faults="liar", tokens=["off", "holder"])
def has_a_model_answer_wider_than_declared(hostile: Hostile) -> None:
    """Make a model return more values than its graph declares."""
    asking = hostile.request("liar", {"x": np.full((1, 2), 5, np.float32)})
    with hostile.connect() as sock:
        # A single request, and enough seconds that only it is counted.
        send(sock, asking)
        first_line(sock)
        time.sleep(COUNTED_SECONDS)
        for _ in hostile.until_over():
            if not send(sock, asking) or not first_line(sock, 5):
                break


@behaviour(kinds=["fast", "query", "version", "oip"], tokens=["off", "holder"])
def asks_for_ever_other_heads(hostile: Hostile) -> None:
    """Request a different set of heads each time, so that each needs a sub-graph of its own."""
    path = repository.PATHS[hostile.kind].format("many")
    with hostile.connect() as sock:
        for number in hostile.until_over():
            heads = [f"h{n}" for n in range(repository.HEADS) if (number + 1) >> n & 1]
            if hostile.kind == "oip":
                tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
                said = {"inputs": [tensor], "outputs": [{"name": head} for head in heads]}
            else:
                said = {"inputs": {"x": [[1, 2]]}, "heads": heads}
            body = json.dumps(said).encode()
            head = hostile.head("POST", path, len(body), {"Content-Type": "application/json"})
            if not send(sock, head + body) or not first_line(sock, 5):
                break
