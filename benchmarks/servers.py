"""The servers of the benchmark: their start, their check and their stop."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import limit, models
from benchmarks.peers import predictor
from service.inference.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
LOGS = Path("build/bench/logs")
HOST = "127.0.0.1"
WORKERS = "2"
# The longest life of a server, in case the benchmark itself is killed.
LIFE_SECONDS = 1200.0
READY_SECONDS = 60
ASK_SECONDS = 10.0
STOP_SECONDS = 15


class NotReadyError(Exception):
    """A server does not start, or its answer is wrong."""


@dataclass(frozen=True)
class Server:
    """A server in one setting; servers of a `group` are one program in several settings.

    `command` gets the interpreter, the model's file and the port; `needs` are the distributions
    that the server requires.
    """

    name: str
    group: str
    about: str
    command: Callable[[str, str, str], list[str]]
    needs: tuple[str, ...] = ()
    calls: bool = False
    """Whether it answers calls by gRPC, and nothing else."""
    environment: Mapping[str, str] = field(default_factory=dict)


def _triceps(_: str, model: str, port: str) -> list[str]:
    command = str(Path(sys.executable).with_name("triceps"))
    options = ["--models", model, "--port", port, "--workers", WORKERS, "--grace", "0"]
    return [command, "serve", *options]


def _naive(python: str, _: str, port: str) -> list[str]:
    options = ["--workers", WORKERS, "--bind", f"{HOST}:{port}"]
    return [python, "-m", "gunicorn", *options, "benchmarks.peers.naive:app"]


def _mosec(python: str, _: str, port: str) -> list[str]:
    return [python, "-m", "benchmarks.peers.mosec", "--address", HOST, "--port", port]


def _fastapi(python: str, _: str, port: str) -> list[str]:
    options = ["--workers", WORKERS, "--host", HOST, "--port", port, "--no-access-log"]
    return [python, "-m", "uvicorn", *options, "benchmarks.peers.fastapi:app"]


def _robyn(python: str, _: str, port: str) -> list[str]:
    return [python, "-m", "benchmarks.peers.robyn", port, "--processes", WORKERS]


def _grpcio(python: str, _: str, port: str) -> list[str]:
    return [python, "-m", "benchmarks.peers.grpcio", port, "--processes", WORKERS]


def _limit(_: str, model: str, port: str) -> list[str]:
    return [str(limit.build()), model, port, WORKERS]


_RUN = ("numpy", "onnxruntime")
_MOSEC = ("mosec", "orjson", *_RUN)

TRICEPS = Server("triceps", "triceps", "triceps serve", _triceps)
LIMIT = Server("limit", "limit", "C++, by hand, without bounds or metrics", _limit)
SERVERS = {
    server.name: server
    for server in (
        TRICEPS,
        Server("naive", "naive", "Flask + gunicorn", _naive, ("flask", "gunicorn", *_RUN)),
        Server("fastapi", "fastapi", "FastAPI + uvicorn", _fastapi, ("fastapi", "uvicorn", *_RUN)),
        Server("robyn", "robyn", "Robyn", _robyn, ("robyn", "orjson", *_RUN)),
        Server("mosec-1", "mosec", "mosec, no batches", _mosec, _MOSEC),
        Server(
            *("mosec-16", "mosec", "mosec, batches of 16 within 1 ms", _mosec, _MOSEC),
            environment={"BENCH_BATCH": "16 1"},
        ),
        Server(
            *("mosec-32", "mosec", "mosec, batches of 32 within 10 ms", _mosec, _MOSEC),
            environment={"BENCH_BATCH": "32 10"},
        ),
        Server(
            *("grpcio", "grpcio", "grpcio with asyncio", _grpcio),
            needs=("grpcio", "tritonclient", *_RUN),
            calls=True,
        ),
        LIMIT,
    )
}


@dataclass(frozen=True)
class Running:
    """A running server."""

    pid: int
    port: int
    ready_seconds: float

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://{HOST}:{self.port}{path}"


@contextlib.contextmanager
def run(
    server: Server,
    python: str,
    model: Path,
    check: Callable[[Running], None],
    *,
    life: float = LIFE_SECONDS,
) -> Iterator[Running]:
    """Start a server, wait until `check` raises nothing, and stop it in the end.

    Args:
        server: the server.
        python: the interpreter that has the packages of the peers.
        model: the file or folder to serve.
        check: raises `OSError` or `NotReadyError` until the server answers.
        life: the longest life of the server, in seconds.

    Raises:
        NotReadyError: the server ended or did not answer in time; with the end of its output.
    """
    port = _free_port()
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{server.name}.log"
    variables = {predictor.VARIABLE: str(model.resolve()), **server.environment}
    command = server.command(python, str(model.resolve()), str(port))
    timeout = shutil.which("timeout")
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*([timeout, "--kill-after=5", f"{life:.0f}"] if timeout else []), *command],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait(process, Running(process.pid, port, 0), check, started, log)
        yield Running(process.pid, port, time.perf_counter() - started)
    finally:
        _stop(process)


def ask(url: str, body: bytes | None = None, timeout: float = ASK_SECONDS) -> bytes:
    """Send GET to a URL, or POST with a JSON body.

    Args:
        url: the URL.
        body: the JSON body to post.
        timeout: the longest wait for the answer, in seconds.

    Raises:
        NotReadyError: the status is not 200.
        OSError: there is no answer.
    """
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(url, body, headers)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            content: bytes = response.read()
            if response.status == 200:  # noqa: PLR2004  OK
                return content
            raise NotReadyError(f"{url}: expected 200, received {response.status}")
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(300).decode(errors="replace")
            raise NotReadyError(f"{url}: expected 200, received {error.code}: {said}") from error


@contextlib.contextmanager
def slow_sender(running: Running, body: bytes) -> Iterator[None]:
    """Keep a connection open that has sent only half of a request."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: {HOST}:{running.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((HOST, running.port), timeout=10) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        yield


def reference(model: Path, rows: int) -> dict[str, list[list[float]]]:
    """Return the answers of ONNX Runtime itself by head, without a server."""
    loaded = Model.load(model)
    outputs = loaded.predict(models.arrays(rows), tuple(models.HEADS))
    return {head: output.tolist() for head, output in outputs.items()}


def stop_when_told() -> None:
    """Let SIGTERM end this process like Ctrl-C, so that it stops the servers it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def _wait(
    process: subprocess.Popen[bytes],
    running: Running,
    check: Callable[[Running], None],
    started: float,
    log: Path,
) -> None:
    while True:
        try:
            check(running)
        except (OSError, NotReadyError) as error:
            ended = process.poll()
            if ended is None and time.perf_counter() - started < READY_SECONDS:
                time.sleep(0.01)
                continue
            why = f"it ended with {ended}" if ended is not None else f"{error}"
            said = log.read_text(errors="replace")[-2000:]
            raise NotReadyError(f"not ready: {why}; {log} ends with:\n{said}") from error
        return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the session that was started for the server, then kill what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
