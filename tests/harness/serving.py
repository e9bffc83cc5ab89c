"""A real `triceps serve` for tests, which observe it from outside and end it by process ID."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.harness import certificates, tokens
from tests.harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
PROGRAM = "from service.commands.main import main; main()"
FLASK = [sys.executable, "-m", "flask", "--app", "service", "run"]
# The longest life of a service, in case the tests are killed; its workers end with it.
LIFE = "import signal; signal.alarm(1800)\n"


class Server:
    """A service: its port, its processes and its log.

    At the end of a `with` statement, all of its processes have ended in any case.
    """

    def __init__(
        self,
        *options: object,
        folder: Path,
        program: str = PROGRAM,
        command: Sequence[str] | None = None,
        host: str = HOST,
        port: int | None = None,
        guarded: bool = False,
        encrypted: bool = False,
        files: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the service, without waiting.

        Args:
            options: the options of `triceps serve`.
            folder: the current directory, with the tokens file and the certificate.
            program: the Python code that runs the service, which may change it for a test first.
            command: the command that runs instead of a program.
            host: the address that clients use.
            port: the port, if the test must know it beforehand; by default a free one.
            guarded: whether the service requires the tokens of `tokens.py`.
            encrypted: whether it uses TLS, with the certificate A of `certificates.py`.
            files: the limit of open descriptors for each process; 0: that of the test.
            environment: environment variables in addition to those of the test.
        """
        self.guarded = guarded
        self.tls = ssl.create_default_context(cadata=certificates.A) if encrypted else None
        self.host = host
        self.port = free_port(host) if port is None else port
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        # Few tests are about the grace period, and they set it.
        variables |= {"PORT": str(self.port), "TRICEPS_GRACE": "0"}
        # Nor are many about prepared models, which would stay in the system's temporary files.
        variables |= {"TRICEPS_CACHE": "off"}
        if guarded:
            variables["TRICEPS_TOKENS_FILE"] = str(tokens.put(folder))
        if encrypted:
            variables |= _certify(folder)
        run = command or [sys.executable, "-c", LIFE + program, "serve"]
        limit = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] if files else []
        # A file, unlike a pipe, is never full, so that a service that logs much does not block.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed where this is
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*limit, *run, *map(str, options)],
            cwd=folder,
            env=variables | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the session of the service: as an operator does, then by force."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self._log.close()

    @property
    def url(self) -> str:
        """The URL of the service, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    def until(self, true: Callable[[], object]) -> None:
        """Wait until a condition is true; if the service ends meanwhile, fail."""

        def is_true() -> object:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended: {self.said()[-3000:]}")
            return true()

        until(is_true)

    def until_alive(self) -> float:
        """Wait for the first answer, and return the seconds that it took."""
        self.until(lambda: self.status("/livez") == http.HTTPStatus.OK)
        return time.monotonic() - self.started

    def until_ready(self) -> None:
        """Wait until the service is ready."""
        self.until(lambda: self.status("/readyz") == http.HTTPStatus.OK)

    def connect(self, seconds: float = PATIENCE) -> http.client.HTTPConnection:
        """Return a new keep-alive connection."""
        connection = (
            http.client.HTTPConnection(self.host, self.port, timeout=seconds)
            if self.tls is None
            else http.client.HTTPSConnection(
                self.host, self.port, timeout=seconds, context=self.tls
            )
        )
        connection.connect()
        return connection

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 10,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request with all permissions over a new connection."""
        sent = dict(headers or {})
        if self.guarded:
            sent |= tokens.header("all")
        with contextlib.closing(self.connect(seconds)) as connection:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, content

    def get(self, path: str) -> tuple[int, Any]:
        """Return the status and the JSON of a page."""
        status, _, content = self.ask("GET", path)
        return status, json.loads(content)

    def status(self, path: str, seconds: float = 5) -> int:
        """Return the status of a GET; 0 if there is no answer."""
        try:
            return self.ask("GET", path, seconds=seconds)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def workers(self) -> list[int]:
        """Return the process IDs of the workers."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return [int(child) for child in children.split()]

    def logged(self) -> int:
        """Return the size of the log in bytes."""
        return os.fstat(self._log.fileno()).st_size

    def said(self, offset: int = 0) -> str:
        """Return the log from a byte offset on."""
        size = self.logged() - offset
        return os.pread(self._log.fileno(), size, offset).decode(errors="replace")

    def end(self, how: int = signal.SIGTERM) -> tuple[int, float, str, str]:
        """End the service: return exit code, seconds, standard output and standard error."""
        asked = time.monotonic()
        self.process.send_signal(how)
        code, out, err = self.result()
        return code, time.monotonic() - asked, out, err

    def result(self) -> tuple[int, str, str]:
        """Wait for the end: return exit code, standard output and standard error."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, self.said()


def free_port(host: str = HOST) -> int:
    """Return a port that is free at the moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _certify(folder: Path) -> dict[str, str]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(certificates.A)
    key.touch(0o600)
    key.write_text(certificates.A_KEY)
    return {"TRICEPS_TLS_CERTIFICATE": str(certificate), "TRICEPS_TLS_KEY": str(key)}
