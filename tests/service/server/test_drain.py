"""A service that stops: not ready at once, answering during the grace, losing no request."""

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
# Each run takes so long that the stop comes in the middle of it.
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
    """Yield a service of two workers, and end it in any case."""
    with Server(
        "--workers", 2, "--models", models, "--grace", grace, folder=models, **more
    ) as server:
        server.until_alive()
        yield server


def ask(
    port: int, connection: http.client.HTTPConnection | None = None, path: str = "/predict"
) -> tuple[int, str | None]:
    """Return the status of a prediction, and the Connection header of its answer."""
    used = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        method, body = ("POST", BODY) if path == "/predict" else ("GET", None)
        used.request(method, path, body, JSON)
        with used.getresponse() as answer:
            answer.read()
            return answer.status, answer.headers.get("Connection")
    finally:
        if connection is None:
            used.close()


def test_a_stopping_service_is_not_ready_at_once_and_answers_during_the_grace(models):
    """New connections are answered too; each answer says that it is the last on its connection."""
    with serving(models) as server:
        port = server.port
        with contextlib.closing(server.connect()) as kept:
            assert ask(port, kept) == (200, None)
            server.process.send_signal(signal.SIGTERM)
            stopped_at = time.monotonic()
            while ask(port, path="/readyz")[0] == 200:
                assert time.monotonic() < stopped_at + GRACE / 2
            assert ask(port, kept) == (200, "close")
        while time.monotonic() < stopped_at + GRACE * 0.8:
            assert ask(port) == (200, "close")
            assert ask(port, path="/livez") == (200, "close")
            time.sleep(0.02)
        code = server.process.wait(PATIENCE)
        took = time.monotonic() - stopped_at

        assert code == 0
        assert GRACE <= took < GRACE + 3
        with pytest.raises(ConnectionRefusedError):
            ask(port)


@pytest.mark.parametrize("grace", [0.0, 0.2])
def test_accepted_requests_are_answered(models, grace):
    """Accepted requests are answered even if the grace ends before their run."""
    with serving(models, grace=grace, program="\n".join(SLOW)) as server:
        port = server.port
        answers: list[tuple[int, str | None]] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(port))) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(0.25)
        code, _, _, _ = server.end()
        for thread in threads:
            thread.join()

        assert [status for status, _ in answers] == [200] * 6
        assert code == 0


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_an_interrupt_or_a_second_signal_ends_the_grace(models, signals):
    """Ctrl-C, or a second signal of either sort, stops the service at once."""
    with serving(models, grace=60) as server:
        started = time.monotonic()
        for number in signals:
            server.process.send_signal(number)
            time.sleep(0.1)

        assert server.process.wait(PATIENCE) == 0
        assert time.monotonic() - started < 5


def test_a_rolling_restart_loses_no_request(models):
    """Two instances are replaced in turn under load; clients go on to the other instance."""
    ports = [free_port(), free_port()]
    statuses: list[int] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def call(first: int) -> None:
        """Send requests on kept connections; go on to the other instance only if one refuses."""
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
                status, close_header = ask(port, connection)
            except (OSError, http.client.HTTPException) as error:
                failures.append(error)
                return
            statuses.append(status)
            if close_header == "close":
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
