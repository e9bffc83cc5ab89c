"""The real processes of a service: how they share the load, end and are replaced."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from service.errors import TricepsError
from service.server import supervisor as all_workers
from tests.harness import certificates, small, tokens
from tests.harness.served import JSON
from tests.harness.serving import Server
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY = json.dumps({"instances": [{"fruit": [1, 2]}], "heads": ["size"]})
# This service kills a stopped worker after a second and a half.
HASTY = (
    "from service.commands import main; from service.server import supervisor; "
    "supervisor.DEAD_TICKS = 3; main.main()"
)
# The second worker cannot be started at first.
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
# Twice, the replacement of a worker cannot start its threads.
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


@contextlib.contextmanager
def serving(models: Path, *options: object, **more: Any) -> Iterator[Server]:
    """Yield a service of two workers with one model."""
    small.put(models, "three", 1, small.three())
    words = ("--models", models, "--workers", 2, *options)
    with Server(*words, folder=models.parent, **more) as service:
        service.until_ready()
        yield service


@pytest.fixture(name="models")
def _models(tmp_path):
    return tmp_path / "models"


@pytest.fixture(name="service")
def _service(models):
    with serving(models) as service:
        yield service


def ask(service: Server, connection: http.client.HTTPConnection | None = None) -> int:
    """Return the status of one prediction."""
    used = service.connect() if connection is None else connection
    try:
        used.request("POST", "/predict", BODY, JSON)
        answer = used.getresponse()
        answer.read()
        return answer.status
    finally:
        if connection is None:
            used.close()


def version(service: Server) -> str:
    """Return the version that answers one prediction."""
    return json.loads(service.ask("POST", "/predict", BODY, JSON)[2])["version"]


def relatives(service: Server) -> list[int]:
    """Return the processes of the service that are not workers: its keeper."""
    group = {service.process.pid, *service.workers()}
    session = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(process.name)) == service.process.pid:
                session.append(int(process.name))
    return [pid for pid in session if pid not in group]


def open_sockets(pid: int) -> int:
    """Return the number of sockets that a process has open."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(link.readlink()))
    return sum(link.startswith("socket:") for link in links)


def test_connections_are_shared_evenly(service):
    """Of sixteen connections that stay open, each worker gets eight, whatever came before."""
    for _ in range(7):
        assert ask(service) == 200
    time.sleep(0.3)
    before = {pid: open_sockets(pid) for pid in service.workers()}
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            handlers = stack.enter_context(contextlib.closing(service.connect()))
            assert ask(service, handlers) == 200
        after = {pid: open_sockets(pid) for pid in service.workers()}

    assert sorted(after[pid] - before[pid] for pid in before) == [8, 8]


def test_a_worker_that_is_killed_is_replaced(service):
    """Only the connections of that worker break; all other requests are answered."""
    connections = [service.connect() for _ in range(8)]
    for connection in connections:
        assert ask(service, connection) == 200
    victim, survivor = service.workers()
    os.kill(victim, signal.SIGKILL)

    broken = 0
    for connection in connections:
        try:
            assert ask(service, connection) == 200
        except (OSError, http.client.HTTPException):
            broken += 1
        connection.close()
    service.until(lambda: len(service.workers()) == 2)
    statuses = [ask(service) for _ in range(50)]
    code, _, _, log = service.end()

    assert broken == 4
    assert statuses == [200] * 50
    assert code == 0
    assert f"worker {victim} ended, and is replaced" in log
    assert f"worker {survivor}" not in log


def test_workers_end_with_the_supervisor(service):
    """No worker is left behind when the supervisor is killed."""
    workers = service.workers()
    service.process.kill()
    service.process.wait()
    until(lambda: not any(Path(f"/proc/{pid}/stat").exists() for pid in workers))


def test_a_stopped_worker_gets_no_more_connections_and_is_replaced(models):
    """Requests are answered once the stop has been noticed; in the end the worker is killed."""
    with serving(models, program=HASTY) as service:
        victim, _ = service.workers()
        os.kill(victim, signal.SIGSTOP)
        # Connections that the stopped worker got before it was noticed have to wait.
        service.until(lambda: ask(service) == 200)
        service.until(lambda: victim not in service.workers())
        service.until(lambda: len(service.workers()) == 2)
        statuses = [ask(service) for _ in range(50)]
        code, _, _, log = service.end()

    assert statuses == [200] * 50
    assert code == 0
    assert f"worker {victim} has been stuck for " in log
    assert f"worker {victim} ended, and is replaced" in log


def test_a_killed_keeper_is_replaced(service, models):
    """The next keeper tries a version that arrives then."""
    for pid in relatives(service):
        os.kill(pid, signal.SIGKILL)
    small.put(models, "three", 2, small.three(2.0))
    service.until(lambda: version(service) == "2")
    code, _, _, log = service.end()

    assert code == 0
    assert "the process that tries models has ended, and is replaced" in log
    assert "untried" not in log


@pytest.mark.parametrize("broken", ["tokens", "certificate"])
def test_a_worker_is_replaced_though_tokens_or_certificates_are_broken(models, broken):
    """The replacement starts with the tokens and certificates that the other workers have."""
    guarded = broken == "tokens"
    with serving(models, guarded=guarded, encrypted=not guarded) as service:
        if guarded:
            file = models.parent / "tokens.toml"
            tables = file.read_text().split("[[tokens]]")
            file.write_text("[[tokens]]".join(tables[:2] + tables[3:]))
            service.until(lambda: "has 4 tokens" in service.said())
            time.sleep(1.5)
            file.write_text("")
        else:
            (models.parent / "certificate.pem").write_text(certificates.B)
        time.sleep(1.5)
        victims = service.workers()
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            service.until(lambda: len(service.workers()) == 2)
            time.sleep(1)

        assert not {*victims} & {*service.workers()}
        for _ in range(8):
            assert service.ask("POST", "/predict", BODY.encode(), JSON)[0] == 200
        if guarded:
            service.guarded = False
            removed = JSON | tokens.header("predict")
            for _ in range(8):
                assert service.ask("POST", "/predict", BODY.encode(), removed)[0] == 401


def test_at_sighup_the_repository_is_looked_at_again(models):
    """SIGHUP does not end the service, as it would end another process."""
    with serving(models, "--watch", 0) as service:
        small.put(models, "three", 2, small.three(2.0))
        assert version(service) == "1"
        before = service.workers()
        service.process.send_signal(signal.SIGHUP)
        service.until(lambda: [version(service) for _ in range(8)] == ["2"] * 8)

        assert service.workers() == before
        assert service.end()[0] == 0


def test_a_worker_that_cannot_be_started_now_is_started_later(models):
    """A lack of processes may pass; the other workers answer meanwhile."""
    with serving(models, program=SHORT) as service:
        service.until(lambda: len(service.workers()) == 2)
        code, _, _, log = service.end()

        assert code == 0
        assert log.count("cannot start a worker for now: ") == 1


def test_a_worker_that_cannot_begin_now_is_started_again_while_others_serve(models):
    """Memory or threads may be short; the workers that serve go on."""
    with serving(models, program=THREADLESS) as service:
        victim, other = service.workers()
        os.kill(victim, signal.SIGKILL)
        for _ in range(60):
            time.sleep(0.1)
            assert ask(service) == 200
        assert len(service.workers()) == 2
        assert other in service.workers()
        code, _, _, log = service.end()

        assert code == 0
        assert log.count("ended just after its start; a new one is tried later") == 2


def test_workers_that_die_at_once_end_the_service(tmp_path, monkeypatch, caplog):
    """Starting them again would not help, and the operator's supervisor should learn of it."""

    def fail(*_: object) -> int:
        raise TricepsError("no such thing")

    (tmp_path / "models").mkdir()
    from service import settings as all_settings

    settings = all_settings.load({}, models=tmp_path / "models", port=1, workers=1)
    monkeypatch.setattr(all_workers.workers, "work", fail)
    handlers = {
        number: signal.getsignal(number) for number in (*all_workers._STOPPING, signal.SIGCHLD)
    }
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            code = all_workers.Workers(settings, listener).run()
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    assert code == 1
    assert "ended just after its start" in caplog.text
