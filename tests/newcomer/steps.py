"""The steps of a page, in its order: files to save, and commands with what they print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.harness import documents

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The sentence before a block says what the file is called.
_NAMED = re.compile(r"\bas `([\w.-]+)`")


@dataclass(frozen=True)
class File:
    """A file that the reader saves."""

    name: str
    text: str


def steps(page: str, headings: tuple[str, ...]) -> Iterator[File | documents.Session]:
    """Yield the steps below some headings of a page, or of the whole page if there are none."""
    for text in [part(page, heading) for heading in headings] or [page]:
        end = 0
        for block in _BLOCK.finditer(text):
            before, end = text[end : block.start()], block.end()
            if block[1] == "console":
                yield from documents.sessions(block[0])
                continue
            named = _NAMED.findall(before)
            if named:
                yield File(named[-1], block[2])


def part(page: str, heading: str) -> str:
    """Return what is below a heading, up to the next heading of its level or above."""
    lines = page.splitlines(keepends=True)
    fenced = False
    level, kept = "", []
    for line in lines:
        fenced ^= line.startswith("```")
        mark = "" if fenced else line.partition(" ")[0]
        if mark and set(mark) == {"#"}:
            if level and len(mark) <= len(level):
                break
            if line.strip() == f"{mark} {heading}":
                level = mark
                continue
        if level:
            kept.append(line)
    assert level, f"expected the heading {heading!r}"
    return "".join(kept)
