"""A real `triceps serve`, started for a test, watched from outside, ended by its process ID."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness import certificates, tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
# The longest that a service lives, should the tests themselves be killed.
LIFE_SECONDS = 1800
PATIENCE = 30.0
PROGRAM = "from service.commands.main import main; main()"


@dataclass(frozen=True)
class Look:
    """The workers of a service at one moment: bytes resident and open descriptors, by process."""

    resident: dict[int, int]
    files: dict[int, int]
    connections: int


class Service:
    """One service: its port, its processes, and what it logged."""

    def __init__(
        self,
        folder: Path,
        models: Path,
        *,
        guarded: bool = False,
        encrypted: bool = False,
        files: int = 0,
        environment: Mapping[str, str] | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        """Start it, and wait until it is ready.

        Args:
            folder: where its log, tokens and certificates go.
            models: its repository.
            guarded: whether it asks for the tokens of `tokens.py`.
            encrypted: whether it speaks TLS, by the certificate A of `certificates.py`.
            files: the descriptors that each of its processes may have open; 0: as many as we may.
            environment: variables of it beside our own.
            options: flags of `triceps serve`.
        """
        self.guarded = guarded
        self.tls = ssl.create_default_context(cadata=certificates.A) if encrypted else None
        self.log = folder / "log"
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "TRICEPS_GRACE": "0"}
        variables |= environment or {}
        if guarded:
            variables["TRICEPS_TOKENS_FILE"] = str(tokens.put(folder))
        if encrypted:
            variables |= _certify(folder)
        command = [sys.executable, "-c", PROGRAM, "serve", "--models", str(models)]
        command += ["--host", HOST, "--port", str(self.port), *options]
        if files:
            command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
        timeout = shutil.which("timeout")
        wrapper = [timeout, "--kill-after=5", str(LIFE_SECONDS)] if timeout else []
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [*wrapper, *command],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            until(lambda: self._alive() and self.status("/readyz") == http.HTTPStatus.OK)
            self.pid = _children(self._process.pid)[0] if wrapper else self._process.pid
        except BaseException:
            self.stop()
            raise

    def _alive(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(f"the service ended: {self.log.read_text()[-3000:]}")
        return True

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 10,
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask as one who may everything, over a connection of its own."""
        sent = dict(headers or {})
        if self.guarded:
            sent |= tokens.header("all")
        connection = (
            http.client.HTTPConnection(HOST, self.port, timeout=seconds)
            if self.tls is None
            else http.client.HTTPSConnection(HOST, self.port, timeout=seconds, context=self.tls)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, content

    def status(self, path: str, seconds: float = 5) -> int:
        """The status of a GET; 0 if there is no answer."""
        try:
            return self.ask("GET", path, seconds=seconds)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def workers(self) -> list[int]:
        """The processes that answer."""
        return _children(self.pid)

    def resident(self) -> dict[int, int]:
        """The bytes of memory of each worker."""
        return {pid: size for pid in self.workers() if (size := _resident(pid))}

    def look(self) -> Look:
        """Memory, descriptors, and the connections that the service itself counts."""
        status, _, content = self.ask("GET", "/metrics")
        assert status == http.HTTPStatus.OK, content
        counted = re.findall(
            r"^triceps_connections(?:\{.*\})? (\S+)$", content.decode(), re.MULTILINE
        )
        resident = self.resident()
        files = {pid: _open_files(pid) for pid in resident}
        return Look(resident, files, int(sum(map(float, counted))))

    def logged(self, offset: int = 0) -> list[str]:
        """The errors that it logged, from `offset` bytes on: a line each."""
        found = []
        for line in self.log.read_bytes()[offset:].decode(errors="replace").splitlines():
            if line.startswith("{"):
                entry = json.loads(line)
                if entry.get("level") in {"error", "critical"}:
                    found.append(f"{entry['message']} {entry.get('exception', '')}")
            elif "Traceback" in line:
                found.append(line)
        return found

    def stop(self) -> None:
        """End it: as an operator does, then by force; the session that was made for it alone."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is true; connections that fail meanwhile are not yet.

    Raises:
        AssertionError: it is not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return
        time.sleep(0.02)
    raise AssertionError(f"expected within {seconds:g} s, and it did not come")


def _certify(folder: Path) -> dict[str, str]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(certificates.A)
    key.touch(0o600)
    key.write_text(certificates.A_KEY)
    return {"TRICEPS_TLS_CERTIFICATE": str(certificate), "TRICEPS_TLS_KEY": str(key)}


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _open_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
