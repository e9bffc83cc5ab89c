"""The processes of a service, as real processes: sharing the load, dying, being replaced."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small

from service import workers as all_workers
from service.errors import TricepsError

ROOT = Path(__file__).parent.parent
JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]})
PATIENCE = 20


class Service:
    """A service of two workers, and what is known of it from outside."""

    def __init__(self, models: Path, count: int = 2) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        program = "from service.cli import main; main()"
        flags = ["--models", str(models), "--port", str(self.port), "--workers", str(count)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *flags],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TRICEPS_GRACE": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._until(lambda: self.ask() == 200)

    def _until(self, true: object) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if true():
                    return
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError(self.process.communicate()[1])

    def connect(self) -> http.client.HTTPConnection:
        """A connection that stays."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.connect()
        return connection

    def ask(self, connection: http.client.HTTPConnection | None = None) -> int:
        """The status of one prediction."""
        asked = self.connect() if connection is None else connection
        try:
            asked.request("POST", "/predict", BODY, JSON)
            answer = asked.getresponse()
            answer.read()
            return answer.status
        finally:
            if connection is None:
                asked.close()

    def workers(self) -> list[int]:
        """The processes that answer."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def open_sockets(self, pid: int) -> int:
        """How many sockets a process has open."""
        links = []
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(link.readlink()))
        return sum(link.startswith("socket:") for link in links)

    def end(self) -> tuple[int, str]:
        """Exit code and what it said."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE), self.process.communicate()[1]


@pytest.fixture(name="service")
def _service(tmp_path):
    small.put(tmp_path, "three", 1, small.three())
    service = Service(tmp_path)
    yield service
    if service.process.poll() is None:
        service.process.kill()
    with contextlib.suppress(ValueError):  # the test has read all of it
        service.process.communicate()


def test_connections_are_shared_evenly(service):
    """Sixteen that stay open are eight for each worker, whenever others came and went."""
    for _ in range(7):
        assert service.ask() == 200
    time.sleep(0.3)
    before = {pid: service.open_sockets(pid) for pid in service.workers()}
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            kept = stack.enter_context(contextlib.closing(service.connect()))
            assert service.ask(kept) == 200
        after = {pid: service.open_sockets(pid) for pid in service.workers()}

    assert sorted(after[pid] - before[pid] for pid in before) == [8, 8]


def test_a_worker_that_is_killed_is_replaced(service):
    """Only what it had open breaks; everybody else is answered, before and after."""
    connections = [service.connect() for _ in range(8)]
    for connection in connections:
        assert service.ask(connection) == 200
    victim, survivor = service.workers()
    os.kill(victim, signal.SIGKILL)

    broken = 0
    for connection in connections:
        try:
            assert service.ask(connection) == 200
        except (OSError, http.client.HTTPException):
            broken += 1
        connection.close()
    service._until(lambda: len(service.workers()) == 2)
    statuses = [service.ask() for _ in range(50)]
    code, said = service.end()

    assert broken == 4
    assert statuses == [200] * 50
    assert code == 0
    assert f"worker {victim} ended, and is replaced" in said
    assert f"worker {survivor}" not in said


def test_workers_end_with_the_one_that_accepts(service):
    """Nobody is left behind when it is killed."""
    workers = service.workers()
    service.process.kill()
    service.process.communicate()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}/stat").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_that_die_at_once_end_the_service(tmp_path, monkeypatch, caplog):
    """Another try would not mend it, and a supervisor should hear of it."""

    def fail(*_: object) -> int:
        raise TricepsError("no such thing")

    (tmp_path / "models").mkdir()
    from service import settings as all_settings

    settings = all_settings.load({}, models=tmp_path / "models", port=1, workers=1)
    monkeypatch.setattr(all_workers.workers, "work", fail)
    kept = {number: signal.getsignal(number) for number in (*all_workers._STOPPING, signal.SIGCHLD)}
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            code = all_workers.Workers(settings, listener).run()
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in kept.items():
            signal.signal(number, handler)

    assert code == 1
    assert "ended as soon as it had started" in caplog.text
