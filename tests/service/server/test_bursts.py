"""More connections at once than a worker, or the limit of descriptors, has room for."""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import signal
import socket
import time
from pathlib import Path

import pytest

from service.host import descriptors
from tests.harness import small
from tests.harness.serving import PROGRAM, Server
from tests.harness.waiting import PATIENCE

ASK = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SECONDS = 60
# Lowers the soft limit of open descriptors before the service starts.
FEW = """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
"""


@pytest.fixture(name="models")
def _models(tmp_path):
    small.put(tmp_path / "models", "three", 1, small.three())
    return tmp_path / "models"


@contextlib.contextmanager
def serving(models, *, limit=0, program=PROGRAM):
    """Yield a service of two workers; each process may open `limit` descriptors (0: no limit)."""
    options = ("--models", models, "--workers", 2)
    with Server(*options, folder=models, program=program, files=limit) as server:
        server.until_alive()
        yield server


def burst(port, count, *, stopped=()):
    """Open `count` connections at once, ask on each, and return the starts of all answers.

    The `stopped` processes go on only once all clients have connected, so that none is answered
    early.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 500)), hard))
    answers = {}
    for process in stopped:
        os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + SECONDS
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            answers[client] = b""
            selector.register(client, selectors.EVENT_WRITE)
        for process in stopped:
            os.kill(process, signal.SIGCONT)
        while selector.get_map():
            assert time.monotonic() < deadline
            for key, event in selector.select(1):
                client = key.fileobj
                try:
                    if event & selectors.EVENT_WRITE:
                        client.sendall(ASK)
                        selector.modify(client, selectors.EVENT_READ)
                    elif part := client.recv(65536):
                        answers[client] += part
                    else:
                        selector.unregister(client)
                except OSError as error:
                    answers[client] += f"{error}".encode()
                    selector.unregister(client)
    return [answer[:15] for answer in answers.values()]


def test_every_connection_of_a_burst_is_answered(models):
    """Connections that workers have no room for yet wait in the kernel's backlog."""
    with serving(models) as server:
        answers = burst(server.port, 2000, stopped=server.workers())
        code, _, _, log = server.end()

    assert answers == [b"HTTP/1.1 200 OK"] * 2000
    assert code == 0
    assert "error" not in log


def test_at_the_limit_of_descriptors_connections_wait(models):
    """No connection is closed, nothing is logged for each, and afterwards there is room again."""
    with serving(models, limit=80) as server:
        first = burst(server.port, 200)
        second = burst(server.port, 200)
        code, _, _, log = server.end()

    assert first == second == [b"HTTP/1.1 200 OK"] * 200
    assert code == 0
    assert "Traceback" not in log


def test_a_connection_at_the_limit_is_answered_and_makes_room_when_it_closes(models):
    """Idle connections fill both workers; when they close, new ones are accepted."""
    with serving(models, limit=80) as server, contextlib.ExitStack() as stack:
        kept = [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
            )
            for _ in range(150)
        ]
        kept[0].sendall(ASK.replace(b"close", b"keep-alive"))
        assert kept[0].recv(65536).startswith(b"HTTP/1.1 200")
        for connection in kept:
            connection.close()
        assert server.status("/readyz") == 200
        assert server.end()[0] == 0


def test_the_soft_limit_is_raised_to_the_hard_one(models):
    """Many systems have a soft limit of 1,024 and a hard limit of half a million."""
    with serving(models, program=f"{FEW}{PROGRAM}") as server:
        for process in (server.process.pid, *server.workers()):
            lines = Path(f"/proc/{process}/limits").read_text().splitlines()
            [soft, hard] = next(x for x in lines if x.startswith("Max open files")).split()[3:5]
            assert soft == hard or int(soft) == descriptors._MOST
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 0
