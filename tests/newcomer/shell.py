"""A shell in which a newcomer types what the pages show, and a service that runs beside it."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

# An installation is the longest command.
SECONDS = 600.0
# A service follows a command within two seconds, as the pages promise: a person who types the next
# command takes longer.
FOLLOWS_SECONDS = 2.0
_CHANGES = re.compile(r"triceps (?:alias|export|sign|train)\b")
_SERVES = re.compile(r"(?:make|triceps) serve\b")
# A service has printed its greeting with the `curl` to try, or that it waits for a model.
_GREETED = re.compile(r"^  curl .*\n|\bwaits\b", re.MULTILINE)
_END = "::the command ended with"


class Shell:
    """A bash that runs one command after another.

    A command that starts a service runs beside the shell until the next one is started or the shell
    ends.  At the end of a `with` statement all processes have ended.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start the shell in a folder."""
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._service: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_service()
        _end(self._bash, signal.SIGKILL)
        self._bash.stdin.close()
        self._bash.stdout.close()

    def run(self, command: str) -> str:
        """Return what a command prints on standard output and standard error; it must succeed.

        Of a command that starts a service, that is its greeting, without its log.
        """
        if _SERVES.match(command):
            return self._serve(command)
        self._bash.stdin.write(f'{command}\nprintf "\\n{_END} %d\\n" $?\n'.encode())
        self._bash.stdin.flush()
        text, until = b"", time.monotonic() + SECONDS
        while (found := re.search(rf"\n{_END} (\d+)\n".encode(), text)) is None:
            left = until - time.monotonic()
            assert left > 0, f"$ {command}\nhas not ended after {SECONDS:g} s:\n{text.decode()}"
            if select.select([self._bash.stdout], [], [], left)[0]:
                part = os.read(self._bash.stdout.fileno(), 65536)
                assert part, f"$ {command}\nended the shell:\n{text.decode()}"
                text += part
        printed = text[: found.start()].decode().strip()
        assert found[1] == b"0", f"$ {command}\nended with {found[1].decode()}:\n{printed}"
        if self._service is not None and _CHANGES.match(command):
            time.sleep(FOLLOWS_SECONDS)
        return printed

    def save(self, name: str, text: str) -> None:
        """Write a file into the current folder of the shell."""
        Path(self.run("pwd"), name).write_text(text, encoding="utf-8")

    def _serve(self, command: str) -> str:
        self._stop_service()
        entries = self.run("env -0").split("\0")
        environment = dict(entry.split("=", 1) for entry in entries if "=" in entry)
        with tempfile.TemporaryFile() as greeting, tempfile.TemporaryFile() as log:
            self._service = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.run("pwd"),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=greeting,
                stderr=log,
                start_new_session=True,
            )
            until = time.monotonic() + SECONDS
            while True:
                text = os.pread(greeting.fileno(), 2**20, 0).decode()
                if _GREETED.search(text):
                    return text.strip()
                logged = os.pread(log.fileno(), 2**20, 0).decode()
                assert self._service.poll() is None, f"$ {command}\nended:\n{text}{logged}"
                assert time.monotonic() < until, f"$ {command}\nis not ready:\n{text}{logged}"
                time.sleep(0.05)

    def _stop_service(self) -> None:
        if self._service is not None:
            _end(self._service, signal.SIGINT)
            self._service = None


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    """End all processes of a session, by a signal and then by force."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
