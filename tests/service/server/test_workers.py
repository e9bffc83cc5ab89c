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
from typing import Any

import pytest

from service.errors import TricepsError
from service.server import supervisor as all_workers
from tests.harness import certificates, serving, small, tokens

ROOT = Path(__file__).parents[3]
JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]})
PATIENCE = 20


PLAIN = "from service.commands.main import main; main()"
# Kills a worker that is stopped after a second and a half.
HASTY = (
    "from service.commands import main; from service.server import supervisor; "
    "supervisor.DEAD_TICKS = 3; main.main()"
)
# The second worker has to wait.
SHORT = """
import os
from service.commands import main
from service.server import supervisor
fork, forks = os.fork, []
def short():
    forks.append(1)
    if len(forks) in (3, 4):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
supervisor.os.fork = short
main.main()
"""
# Those that replace a worker cannot start their threads, twice.
THREADLESS = """
import os
from service.commands import main
from service.server import supervisor, worker
fork, forks = os.fork, []
def counted():
    forks.append(1)
    return fork()
class Thread(worker.threading.Thread):
    def start(self):
        if len(forks) in (4, 5):
            raise RuntimeError("can't start new thread")
        super().start()
supervisor.os.fork = counted
worker.threading.Thread = Thread
main.main()
"""


class Service:
    """A service of two workers, and what is known of it from outside."""

    def __init__(
        self, models: Path, count: int = 2, program: str = PLAIN, **environment: str
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        flags = ["--models", str(models), "--port", str(self.port), "--workers", str(count)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", *flags],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TRICEPS_GRACE": "0", **environment},
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

    def answer(self) -> dict[str, Any]:
        """What one prediction is answered with."""
        with contextlib.closing(self.connect()) as asked:
            asked.request("POST", "/predict", BODY, JSON)
            return json.load(asked.getresponse())

    def relatives(self) -> list[int]:
        """The processes of the service that are no workers: its keeper."""
        group = {self.process.pid, *self.workers()}
        code = self.process.args[2].encode()
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                arguments = (process / "cmdline").read_bytes()
                if code in arguments and f"\0{self.port}\0".encode() in arguments:
                    found.append(int(process.name))
        return [pid for pid in found if pid not in group]

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


def test_a_stopped_worker_is_given_nothing_more_and_is_replaced(tmp_path):
    """All who ask once it has been noticed are answered; in the end it is killed."""
    small.put(tmp_path, "three", 1, small.three())
    service = Service(tmp_path, program=HASTY)
    victim, _ = service.workers()
    os.kill(victim, signal.SIGSTOP)
    try:
        # Given to the other one as soon as it is known; until then, those it was given wait.
        service._until(lambda: service.ask() == 200)
        service._until(lambda: victim not in service.workers())
        service._until(lambda: len(service.workers()) == 2)
        statuses = [service.ask() for _ in range(50)]
        code, said = service.end()
    finally:
        service.process.kill()

    assert statuses == [200] * 50
    assert code == 0
    assert f"worker {victim} has not moved for " in said
    assert f"worker {victim} ended, and is replaced" in said


def test_a_killed_keeper_is_replaced(service, tmp_path):
    """A version that comes then is tried by the next one."""
    for pid in service.relatives():
        os.kill(pid, signal.SIGKILL)
    small.put(tmp_path, "three", 2, small.three(2.0))
    service._until(lambda: service.answer()["version"] == "2")
    code, said = service.end()

    assert code == 0
    assert "the process that tries models has ended, and is replaced" in said
    assert "untried" not in said


@pytest.mark.parametrize("broken", ["tokens", "certificate"])
def test_a_worker_is_replaced_though_tokens_or_certificates_are_broken(tmp_path, broken):
    """The successor begins with what the others have: not with what held at the start either."""
    models = tmp_path / "models"
    small.put(models, "three", 1, small.three())
    guarded = broken == "tokens"
    service = serving.Service(
        tmp_path, models, guarded=guarded, encrypted=not guarded, options=("--workers", "2")
    )
    try:
        if guarded:
            file = tmp_path / "tokens.toml"
            tables = file.read_text().split("[[tokens]]")
            file.write_text("[[tokens]]".join(tables[:2] + tables[3:]))
            serving.until(lambda: "has 4 tokens" in service.log.read_text())
            time.sleep(1.5)
            file.write_text("")
        else:
            (tmp_path / "certificate.pem").write_text(certificates.B)
        time.sleep(1.5)
        victims = service.workers()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            serving.until(lambda: len(service.workers()) == 2)
            time.sleep(1)

        assert not {*victims} & {*service.workers()}
        for _ in range(8):
            assert service.ask("POST", "/predict", BODY.encode(), JSON)[0] == 200
        if guarded:
            service.guarded = False
            for _ in range(8):
                assert (
                    service.ask("POST", "/predict", BODY.encode(), JSON | tokens.header("predict"))[
                        0
                    ]
                    == 401
                )
    finally:
        service.stop()


def test_at_sighup_everything_is_looked_at_again(tmp_path):
    """The service goes on, where a process would end by it."""
    small.put(tmp_path, "three", 1, small.three())
    service = Service(tmp_path, TRICEPS_WATCH="0")
    small.put(tmp_path, "three", 2, small.three(2.0))
    assert service.answer()["version"] == "1"
    before = service.workers()
    service.process.send_signal(signal.SIGHUP)
    service._until(lambda: [service.answer()["version"] for _ in range(8)] == ["2"] * 8)

    assert service.workers() == before
    assert service.end()[0] == 0


def test_a_worker_that_cannot_be_started_now_is_started_later(tmp_path):
    """There may be too many processes; that passes, and the others answer meanwhile."""
    small.put(tmp_path, "three", 1, small.three())
    service = Service(tmp_path, program=SHORT)
    service._until(lambda: len(service.workers()) == 2)
    code, said = service.end()

    assert code == 0
    assert said.count("no worker can be started, now: ") == 1


def test_a_worker_that_cannot_begin_now_is_tried_again_while_others_serve(tmp_path):
    """No memory or thread may be free for it; those who serve go on."""
    small.put(tmp_path, "three", 1, small.three())
    service = Service(tmp_path, program=THREADLESS)
    victim, other = service.workers()
    os.kill(victim, signal.SIGKILL)
    for _ in range(60):
        time.sleep(0.1)
        assert service.ask() == 200
    assert len(service.workers()) == 2
    assert other in service.workers()
    code, said = service.end()

    assert code == 0
    assert said.count("ended as soon as it had started; one is tried later") == 2


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
