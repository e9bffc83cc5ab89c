"""The loop polls for a lone client that asks again at once, and for no other."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from service.server import busy_polling
from service.server.busy_polling import SECONDS, STREAK, BusyPolling
from tests.harness import small
from tests.harness.served import BODY, JSON, Served, post

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """An event loop whose rounds the test runs by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], Any]] = []

    def call_soon(self, callback: Callable[[], Any]) -> None:
        """Note a callback."""
        self.soon.append(callback)

    def round(self) -> None:
        """Call the noted callbacks."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


@pytest.fixture
def loop():
    """Return a loop that has nothing to call yet."""
    return Loop()


@pytest.fixture
def clock(monkeypatch):
    """Return the time, in a list of one, so that a test can change it."""
    now = [100.0]
    monkeypatch.setattr(busy_polling, "perf_counter", lambda: now[0])
    return now


def ask(kept: BusyPolling, clock: list[float], *callers: str, gap: float = SECONDS / 2) -> None:
    """Let each caller ask `gap` seconds after the previous answer, and answer at once."""
    for caller in callers:
        clock[0] += gap
        kept.asked(caller, clock[0])
        kept.answered(clock[0])


def test_a_client_that_asks_again_at_once_is_polled_for(loop, clock):
    """The loop polls round after round, until no request has come for `SECONDS`."""
    kept = BusyPolling(loop)

    ask(kept, clock, *["a"] * STREAK)
    assert not loop.soon

    ask(kept, clock, "a")
    for _ in range(5):
        assert len(loop.soon) == 1
        loop.round()

    clock[0] += SECONDS
    loop.round()
    assert not loop.soon


def test_each_answer_starts_the_wait_anew(loop, clock):
    """Only one look is scheduled at a time."""
    kept = BusyPolling(loop)
    ask(kept, clock, *["a"] * (STREAK + 1))

    for _ in range(5):
        ask(kept, clock, "a", gap=SECONDS * 0.9)
        loop.round()
        assert len(loop.soon) == 1


@pytest.mark.parametrize(
    ("callers", "gap"),
    [
        pytest.param(["a", "b"] * STREAK, SECONDS / 2, id="side by side"),
        pytest.param(["a"] * STREAK * 3, SECONDS * 2, id="now and then"),
    ],
)
def test_other_clients_are_not_polled_for(loop, clock, callers, gap):
    """Polling for their next request would save nothing."""
    ask(BusyPolling(loop), clock, *callers, gap=gap)

    assert not loop.soon


def test_a_second_client_ends_the_polling(loop, clock):
    """Polling that pays for one client does not pay for two."""
    kept = BusyPolling(loop)
    ask(kept, clock, *["a"] * (STREAK + 1))

    ask(kept, clock, "b")
    loop.round()

    assert not loop.soon


def test_busy_polling_delays_no_other_client(tmp_path):
    """A loop that polls for one client serves all others and its threads as well."""
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, watch=0)
    polling = served.front.executor.busy_polling
    polling.seconds = 60.0
    try:
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as lone:
            for _ in range(2 * STREAK):
                lone.sendall(post(BODY, path=b"/models/three/predict"))
                assert lone.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert polling.awake
            for path in ("/livez", "/models"):
                started = time.perf_counter()
                assert served.ask("GET", path)[0] == 200
                assert time.perf_counter() - started < 2
                assert polling.awake
            assert served.ask("POST", "/models/three/predict", BODY, JSON)[0] == 200
            served.ask("GET", "/livez")
            assert not polling.awake
    finally:
        served.stop()
