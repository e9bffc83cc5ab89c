"""What Markdown files say, taken apart: sections, tables, points, and consoles that can be run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask.testing import FlaskClient

HOST = "localhost:8080"
CLASS = re.compile(r"(-?[0-9.e-]+):([0-9]+(?::.*)?)")
NUMBER = re.compile(r"-?[0-9]+\.[0-9]+(?:e-?[0-9]+)?")


def section(text: str, title: str) -> str:
    """What stands below a heading of the second level."""
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def protocols(text: str) -> str:
    """What is said of the protocols: a section of the README, and all of a file of their own."""
    return section(text, "Protocols") if "\n## Protocols\n" in text else text


def tables(text: str) -> Iterator[list[list[str]]]:
    """The rows of each table, its header first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = block.splitlines()
        yield [
            [cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])
        ]


def points(text: str) -> list[str]:
    """What each point of a list begins with, in bold."""
    return [
        found[1]
        for line in text.splitlines()
        if (found := re.match(r"- \*\*(.+?)\.?\*\*", line)) is not None
    ]


def coded(text: str, method: str) -> list[str]:
    """The paths of a method's routes."""
    return re.findall(rf"`{method} (/[^`]*)`", text)


def quoted(text: str) -> list[str]:
    """What stands as code."""
    return re.findall(r"`([^`]*)`", text)


def braced(text: str) -> list[str]:
    """All that a text with a shell's braces is short for."""
    found = re.search(r"\{([^{}]*)\}", text)
    if found is None:
        return [text]
    before, after = text[: found.start()], text[found.end() :]
    return [path for part in found[1].split(",") for path in braced(f"{before}{part}{after}")]


def blocks(text: str, language: str) -> list[str]:
    """The code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Session:
    """A command of a console, and what it answers."""

    command: str
    answer: str


def sessions(text: str) -> list[Session]:
    """The commands of all consoles."""
    found = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            more = list(takewhile(lambda line: line.endswith("\\\n"), lines))
            command = "".join(line.removesuffix("\\\n") for line in more) + lines[len(more)]
            found.append(Session(command.strip(), "".join(lines[len(more) + 1 :]).strip()))
    return found


def words(command: str) -> list[list[str]]:
    """By command of a pipe, its words."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def environment(arguments: list[str]) -> dict[str, str]:
    """What `docker run` sets."""
    return dict(value.split("=", 1) for flag, value in pairwise(arguments) if flag == "-e")


def run(command: str, client: FlaskClient) -> str:
    """What a pipe of `curl`, whose requests a client sends, and `sed` prints."""
    text = ""
    for name, *arguments in words(command):
        if name == "curl":
            text = curl(arguments, text, client)
        else:
            assert name == "sed"
            done = subprocess.run(
                [name, *arguments], input=text, capture_output=True, text=True, check=True
            )
            text = done.stdout
    return text.strip()


def curl(arguments: list[str], text: str, client: FlaskClient) -> str:
    """What `curl` prints, in the few ways that are used here."""
    given = iter(arguments)
    headers: dict[str, str] = {}
    asked: dict[str, Any] = {"method": "GET"}
    by_status = False
    for word in given:
        if word == "-H":
            name, value = next(given).split(": ")
            headers[name] = value
        elif word == "-d":
            value = next(given)
            # As curl says unless told otherwise, and as it leaves out line breaks.
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
            data = (text if value == "@-" else value).replace("\n", "")
            asked |= {"method": "POST", "data": data}
        elif word == "-w":
            assert next(given) == "%{http_code}"
            by_status = True
        elif word == "-o":
            assert next(given) == "/dev/null"
        elif word != "-s":
            assert word.startswith(HOST)
            asked["path"] = word.removeprefix(HOST)
    answer = client.open(**asked, headers=headers)
    return f"{answer.status_code}" if by_status else answer.text


def check_same(found: str, shown: str) -> None:
    """See that one answer is the other, but for what processors differ in."""
    try:
        assert json.loads(found) == near(json.loads(shown))
    except json.JSONDecodeError:
        assert NUMBER.sub("#", found) == NUMBER.sub("#", shown)
        numbers = [float(number) for number in NUMBER.findall(found)]
        assert numbers == near([float(number) for number in NUMBER.findall(shown)])


class _Class:
    """A text of Triton's classification, which begins with a number."""

    def __init__(self, text: str) -> None:
        """Take it apart."""
        self.value, self.poll_coalescing = CLASS.fullmatch(text).groups()

    def __eq__(self, other: object) -> bool:
        found = CLASS.fullmatch(other) if isinstance(other, str) else None
        return found is not None and (found[2], float(found[1])) == (
            self.poll_coalescing,
            near(float(self.value)),
        )

    __hash__ = None


def near(value: Any) -> Any:
    """A JSON value that is equal to those whose numbers are near its own."""
    if isinstance(value, dict):
        return {name: near(part) for name, part in value.items()}
    if isinstance(value, list):
        return [near(part) for part in value]
    if isinstance(value, float):
        return pytest.approx(value, abs=1e-5)
    if isinstance(value, str) and CLASS.fullmatch(value):
        return _Class(value)
    return value
