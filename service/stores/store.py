"""What all stores have in common: the version that one offers, and how it may fail."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from service.errors import TricepsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from service.stores.download import Room

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")
# A file of a version; no part of its path begins with a dot, so that none is hidden or leads out.
# Halves of characters cannot be in the name of a file, but for those that stand for single bytes.
_NOT = r"/\\\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff"
_PART = re.compile(rf"[^.{_NOT}][^{_NOT}]{{0,254}}")


class StoreError(TricepsError):
    """The store has no version that can be pulled; another attempt has the same outcome."""


class Interrupted(StoreError):
    """The store does not answer, or has too much to do; another attempt may succeed."""

    def __init__(self, message: str, after: float = 0) -> None:
        """Keep the seconds that the store asks to wait for, if any."""
        self.after = after
        super().__init__(message)


class Replaced(StoreError):
    """A file was replaced after the store was looked at, so that a new look is needed."""


@dataclass(frozen=True)
class Entry:
    """A file of a version in a store."""

    name: str
    """Its path below the folder of the version, such as `model.onnx`."""
    key: str
    """Its place in the store."""
    size: int | None
    """Its bytes; `None` if the store does not say."""
    tag: str
    """A text that changes when the file does; empty if the store has none."""
    sha256: str | None = None
    """The SHA-256 of its content, in hexadecimal; `None` if the store does not say."""


@dataclass(frozen=True)
class Offer:
    """The version that a source has now."""

    number: str | None
    """The version's number in the source; `None` if the source has no numbers."""
    files: tuple[Entry, ...]
    digest: str | None = None
    """The digest that names all files together, in stores that have one."""
    unpack: Callable[[Path, Path, Room], Path] | None = field(default=None, compare=False)
    """Unpacks the folder of the downloaded files into another one, and returns that of the version;
    `None` if the files are those of the version already."""

    @property
    def can_be_known(self) -> bool:
        """Return whether two equal offers are certainly of the same content."""
        return all(entry.tag or entry.sha256 for entry in self.files)


class Reading(NamedTuple):
    """The bytes of a file, from a place on."""

    start: int
    """The place; 0 if the store cannot begin where it was asked to."""
    pieces: Iterator[bytes]


class Store(Protocol):
    """A place that has versions of one model."""

    def look(self) -> Offer:
        """Return the version that the source has now, without reading its files.

        Raises:
            StoreError: there is none, or the store does not answer.
        """

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of a file from `start` on, as it was when the store was looked at.

        Raises:
            Replaced: the file is another one by now.
            StoreError: the file cannot be read.
        """


def check_path(name: str) -> str:
    """Check that the path of a file leads nowhere else than below the folder of its version.

    Raises:
        StoreError: it does not, or is not a plain path.
    """
    if len(name) > 1000 or not all(map(_PART.fullmatch, name.split("/"))):  # noqa: PLR2004
        raise StoreError(
            f"expected paths of files like weights/0.bin, without '..', backslashes and parts that "
            f"begin with a dot, received {name[:200]!r}"
        )
    return name


def as_sha256(text: str) -> str | None:
    """Return a SHA-256 in lower case; `None` if the text is none."""
    match = _SHA256.fullmatch(text.strip())
    return match[1].lower() if match else None
