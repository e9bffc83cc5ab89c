"""A service that is told to end: not ready at once, answering on, and then gone; nobody is lost."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import small
from tests.harness.served import JSON
from tests.harness.serving import Server, free_port
from tests.harness.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]})
GRACE = 1.0
# Each run takes so long that a stop comes in the middle of it.
SLOW = [
    "import sys, time",
    "from service.commands import main; from service.inference import model",
    "predict = model.Model.predict",
    "def slowly(*args): time.sleep(0.5); return predict(*args)",
    "model.Model.predict = slowly",
    "main.main()",
]


@pytest.fixture(name="models")
def _models(tmp_path):
    small.put(tmp_path, "three", 1, small.three())
    return tmp_path


@contextlib.contextmanager
def serving(models: Path, *, grace: float = GRACE, **more: Any) -> Iterator[Server]:
    """A service of two workers, which is gone in the end in any case."""
    with Server(
        "--workers", 2, "--models", models, "--grace", grace, folder=models, **more
    ) as server:
        server.until_alive()
        yield server


def ask(
    port: int, connection: http.client.HTTPConnection | None = None, path: str = "/predict"
) -> tuple[int, str | None]:
    """A prediction's status, and what the answer says of its connection."""
    asked = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        method, body = ("POST", BODY) if path == "/predict" else ("GET", None)
        asked.request(method, path, body, JSON)
        with asked.getresponse() as answer:
            answer.read()
            return answer.status, answer.headers.get("Connection")
    finally:
        if connection is None:
            asked.close()


def test_it_is_not_ready_at_once_and_answers_on_for_the_grace(models):
    """New connections too; each answer says that it is the last there."""
    with serving(models) as server:
        port = server.port
        with contextlib.closing(server.connect()) as kept:
            assert ask(port, kept) == (200, None)
            server.process.send_signal(signal.SIGTERM)
            told = time.monotonic()
            while ask(port, path="/readyz")[0] == 200:
                assert time.monotonic() < told + GRACE / 2
            assert ask(port, kept) == (200, "close")
        while time.monotonic() < told + GRACE * 0.8:
            assert ask(port) == (200, "close")
            assert ask(port, path="/livez") == (200, "close")
            time.sleep(0.02)
        code = server.process.wait(PATIENCE)
        took = time.monotonic() - told

        assert code == 0
        assert GRACE <= took < GRACE + 3
        with pytest.raises(ConnectionRefusedError):
            ask(port)


@pytest.mark.parametrize("grace", [0.0, 0.2])
def test_what_was_accepted_is_answered(models, grace):
    """Though the grace is over before its run is."""
    with serving(models, grace=grace, program="\n".join(SLOW)) as server:
        port = server.port
        found: list[tuple[int, str | None]] = []
        threads = [threading.Thread(target=lambda: found.append(ask(port))) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.25)
        code, _, _, _ = server.end()
        for thread in threads:
            thread.join()

        assert [status for status, _ in found] == [200] * 6
        assert code == 0


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_who_is_in_a_hurry_waits_for_no_grace(models, signals):
    """Ctrl-C, and a second signal of either sort."""
    with serving(models, grace=60) as server:
        told = time.monotonic()
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.1)

        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - told < 5


def test_a_rolling_restart_loses_no_request(models):
    """Two instances are replaced in turn under load, before callers who go on to the next one."""
    ports = [free_port(), free_port()]
    statuses: list[int] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def call(first: int) -> None:
        """Ask on kept connections; one refused, and no other failure, is tried elsewhere."""
        kept: dict[int, http.client.HTTPConnection] = {}
        turn = first
        while not ended.is_set():
            port = ports[turn % 2]
            try:
                connection = kept.get(port)
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                    connection.connect()
                    kept[port] = connection
            except ConnectionRefusedError:
                turn += 1
                continue
            try:
                status, said = ask(port, connection)
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            statuses.append(status)
            if said == "close":
                kept.pop(port).close()
                turn += 1
        for connection in kept.values():
            connection.close()

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(serving(models, port=port)) for port in ports]
        callers = [threading.Thread(target=call, args=(i,)) for i in range(6)]
        for caller in callers:
            caller.start()
        try:
            for i, port in enumerate(ports):
                time.sleep(0.3)
                servers[i].process.send_signal(signal.SIGTERM)
                assert servers[i].process.wait(PATIENCE) == 0
                stack.enter_context(serving(models, port=port))
            time.sleep(0.3)
        finally:
            ended.set()
            for caller in callers:
                caller.join()

    assert failures == []
    assert set(statuses) == {200}
    assert len(statuses) > 100
