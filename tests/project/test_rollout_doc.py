"""The page about rolling out and back: its commands are run beside its loop of requests."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from itertools import groupby
from typing import TYPE_CHECKING, Self

import pytest
from click.testing import CliRunner

from service.commands.main import main
from tests.harness import documents
from tests.harness.documents import HOST, PAGES, ROOT
from tests.harness.serving import Server
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

PAGE = PAGES["docs/rollout.md"]
[LOOP] = documents.blocks(PAGE, "bash")


class Terminals:
    """The terminals of a reader: the service, the loop of requests, and the commands."""

    def __init__(self, folder: Path) -> None:
        """Work in a folder that has the models."""
        self._folder = folder
        self._environ: dict[str, str] = {}
        self._ends = contextlib.ExitStack()
        self.service: Server
        self.shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def run(self, command: str) -> str:
        """Run a command, and return its output."""
        name, *arguments = documents.words(command)[0]
        if command == "triceps serve":
            self._serve()
            return ""
        if name == "export":
            self._environ.update([arguments[0].split("=", 1)])
            return ""
        if name == "triceps":
            done = CliRunner().invoke(main, arguments, env=self._environ)
            assert done.exit_code == 0, done.output
            self._until_known(arguments, done.output)
            return done.output.strip()
        return self._bash(command).communicate()[0].strip()

    def printed(self) -> list[str]:
        """Return the lines of the loop since the last look, without repetitions.

        The last line of the last look is the first one of the next.
        """
        lines = (self._folder / "loop.txt").read_text(encoding="utf-8").splitlines()
        return [line for line, _ in groupby(lines[max(0, self.shown - 1) :])]

    def look(self, lines: list[str]) -> None:
        """Wait until the loop has printed these lines, without repetitions, and no others."""
        until(lambda: self.printed()[-1:] == lines[-1:])
        assert self.printed() == lines
        self.shown = len((self._folder / "loop.txt").read_text(encoding="utf-8").splitlines())

    def _serve(self) -> None:
        """Start the service, and the loop once the first command beside it has run."""
        self._ends.close()
        environ = {"TRICEPS_WATCH": "0.1", **self._environ}
        self.service = Server("--workers", 2, folder=self._folder, environment=environ)
        self._ends.enter_context(self.service)
        self.service.until_ready()
        self.run(f"curl -sS {HOST}/models/triceps/example > row.json")
        loop = self._bash(f"{LOOP.strip()} > loop.txt")
        self._ends.callback(lambda: os.killpg(loop.pid, signal.SIGKILL) or loop.communicate())
        self.shown = 0
        self.service.until(lambda: self._folder.joinpath("loop.txt").is_file() and self.printed())

    def _bash(self, command: str) -> subprocess.Popen[str]:
        own = command.replace(HOST, f"{self.service.host}:{self.service.port}")
        return subprocess.Popen(
            ["bash", "-c", own],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _until_known(self, arguments: list[str], output: str) -> None:
        """Wait until the service knows what a command has changed."""

        def model() -> dict[str, dict[str, str]]:
            return self.service.get("/models")[1]["models"][0]

        if arguments[0] == "alias":
            _, _, alias, version = arguments
            self.service.until(lambda: model()["aliases"].get(alias) == version)
        elif published := re.search(r"^published triceps, version (\d+)", output, re.MULTILINE):
            self.service.until(lambda: published[1] in model()["versions"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="the loop of the page needs curl")
def test_the_loop_prints_what_the_page_shows(tmp_path, monkeypatch):
    """No request fails while versions are rolled out and back, under either policy."""
    shutil.copytree(ROOT / "models" / "triceps", tmp_path / "models" / "triceps")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(console|text)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

    with Terminals(tmp_path) as terminals:
        for language, text in blocks:
            if language == "text":
                terminals.look(text.splitlines())
                continue
            for session in documents.sessions(f"```console\n{text}```\n"):
                answer = terminals.run(session.command)
                if session.answer:
                    documents.check_same(answer, session.answer)
        log = terminals.service.end()[3]

    assert [len(text.splitlines()) for language, text in blocks if language == "text"] == [
        *(2, 2, 1),
        *(1, 2, 2),
    ]
    for move in re.findall(r"`(now serving triceps, version \d \(was 4[^`]*)`", PAGE):
        assert log.count(move) == 1
