"""The parts of the README and the pages under docs/: sections, tables, lists, links, consoles."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from service import settings as all_settings
from service.app import create_app
from service.commands.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

ROOT = Path(__file__).parents[2]
# The pages by path: the README first, then those of docs/ by name.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
CORPUS = "\n".join(PAGES.values())

HOST = "localhost:8080"
CLASS = re.compile(r"(-?[0-9.e-]+):([0-9]+(?::.*)?)")
NUMBER = re.compile(r"-?[0-9]+\.[0-9]+(?:e-?[0-9]+)?")


def section(text: str, title: str) -> str:
    """Return the text below a heading of the second level."""
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the rows of each table, the header first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = block.splitlines()
        yield [
            [cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])
        ]


def points(text: str) -> list[str]:
    """Return the bold beginning of each point of a list."""
    return [
        found[1]
        for line in text.splitlines()
        if (found := re.match(r"- \*\*(.+?)\.?\*\*", line)) is not None
    ]


def coded(text: str, method: str) -> list[str]:
    """Return the paths of the routes with a method."""
    return re.findall(rf"`{method} (/[^`]*)`", text)


def quoted(text: str) -> list[str]:
    """Return all inline code."""
    return re.findall(r"`([^`]*)`", text)


def paths(text: str) -> list[str]:
    """Return all paths that a path with optional parts stands for.

    `/a[/b or /c]` is `/a`, `/a/b` or `/a/c`.
    """
    found = re.search(r"\[([^\[\]]*)\]", text)
    if found is None:
        return [text]
    before, after = text[: found.start()], text[found.end() :]
    return [path for part in ("", *found[1].split(" or ")) for path in paths(before + part + after)]


def links(text: str) -> list[str]:
    """Return the targets of all links, without those in code blocks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose))


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings, as code hosts make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(text: str, language: str) -> list[str]:
    """Return all code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Session:
    """A command of a console block, and its output."""

    command: str
    answer: str


def sessions(text: str) -> list[Session]:
    """Return the commands of all console blocks."""
    found = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            more = list(takewhile(lambda line: line.endswith("\\\n"), lines))
            command = "".join(line.removesuffix("\\\n") for line in more) + lines[len(more)]
            found.append(Session(command.strip(), "".join(lines[len(more) + 1 :]).strip()))
    return found


def words(command: str) -> list[list[str]]:
    """Return the words of each command of a pipe; a redirection is a command named `>`."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|>")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in ("|", ">"):
            parts.append([] if word == "|" else [word])
        else:
            parts[-1].append(word)
    return parts


def environment(arguments: list[str]) -> dict[str, str]:
    """Return the environment variables that a `docker run` command sets."""
    return dict(value.split("=", 1) for flag, value in pairwise(arguments) if flag == "-e")


class Console:
    """A shell in a folder of its own that knows the few commands which the pages show."""

    def __init__(self, folder: Path) -> None:
        """Start in `folder`, whose `models` are served."""
        self._folder = folder
        # The environment, which `export` and `docker run -e` change.
        self._environ: dict[str, str] = {}
        self._client: FlaskClient | None = None

    def start(self, command: str) -> None:
        """Record the settings of a command that starts a service; the command does not run."""
        self._environ.update(environment(command.split()))
        self._client = None

    def run(self, command: str) -> str:
        """Return the output of a command, or of a pipe of `curl` and `sed`.

        The current directory has to be the console's folder.
        """
        name, *arguments = words(command)[0]
        if name == "export":
            self._environ.update([arguments[0].split("=", 1)])
            return ""
        if (name, arguments[:1]) == ("triceps", ["check"]):
            return self._check(arguments)
        if name == "triceps":
            done = CliRunner().invoke(main, arguments, env=self._environ, prog_name="triceps")
            assert done.exit_code == 0, done.output
            return done.output.strip()
        return self._pipe(command)

    def _check(self, arguments: list[str]) -> str:
        """Return the output of `triceps check`, which forks: this process has Keras's threads."""
        program = "from service.commands.main import main; main(prog_name='triceps')"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, **self._environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def _pipe(self, command: str) -> str:
        text = ""
        for name, *arguments in words(command):
            if name == ">":
                (self._folder / arguments[0]).write_text(text, encoding="utf-8")
                text = ""
            elif name == "curl":
                text = self._curl(arguments, text)
            else:
                assert name == "sed", f"{name}: expected a command that a console has"
                done = subprocess.run(
                    [name, *arguments], input=text, capture_output=True, text=True, check=True
                )
                text = done.stdout
        return text.strip()

    def _curl(self, arguments: list[str], text: str) -> str:
        """Return the output of `curl`, in the few forms that the pages use."""
        remaining = iter(arguments)
        headers: dict[str, str] = {}
        request: dict[str, Any] = {"method": "GET"}
        by_status = False
        for word in remaining:
            if word == "-H":
                name, value = next(remaining).split(": ")
                headers[name] = value
            elif word == "-d":
                value = next(remaining)
                if value == "@-":
                    value = text
                elif value.startswith("@"):
                    value = (self._folder / value[1:]).read_text(encoding="utf-8")
                # curl sends its own content type by default, and removes line breaks.
                headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
                request |= {"method": "POST", "data": value.replace("\n", "")}
            elif word == "-w":
                assert next(remaining) == "%{http_code}"
                by_status = True
            elif word == "-o":
                assert next(remaining) == "/dev/null"
            elif word != "-sS":
                assert word.startswith(HOST)
                request["path"] = word.removeprefix(HOST)
        if self._client is None:
            settings = all_settings.load(self._environ, models=self._folder / "models")
            self._client = create_app(settings).test_client()
        answer = self._client.open(**request, headers=headers)
        return f"{answer.status_code}" if by_status else answer.text


def check_same(found: str, shown: str) -> None:
    """Check that two answers are equal, except for rounding and for the parts that `…` omits."""
    if "…" in shown:
        pattern = re.escape(shown).replace("…", ".*")
        assert re.fullmatch(pattern, found, re.DOTALL), f"expected\n{shown}\nreceived\n{found}"
        return
    try:
        assert json.loads(found) == near(json.loads(shown))
    except json.JSONDecodeError:
        assert NUMBER.sub("#", found) == NUMBER.sub("#", shown)
        numbers = [float(number) for number in NUMBER.findall(found)]
        assert numbers == near([float(number) for number in NUMBER.findall(shown)])


class _Class:
    """A text of Triton's classification, which begins with a number that may be rounded."""

    def __init__(self, text: str) -> None:
        """Split the text into the number and the rest."""
        self.value, self.rest = CLASS.fullmatch(text).groups()

    def __eq__(self, other: object) -> bool:
        found = CLASS.fullmatch(other) if isinstance(other, str) else None
        return found is not None and (found[2], float(found[1])) == (
            self.rest,
            near(float(self.value)),
        )

    __hash__ = None


def near(value: Any) -> Any:
    """Return a JSON value that equals values with approximately the same numbers."""
    if isinstance(value, dict):
        return {name: near(part) for name, part in value.items()}
    if isinstance(value, list):
        return [near(part) for part in value]
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, str) and CLASS.fullmatch(value):
        return _Class(value)
    return value
