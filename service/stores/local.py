"""file://: a folder or a file that this machine has mounted."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.repository.publish import FILE
from service.stores import folders
from service.stores.folders import Listed
from service.stores.store import Entry, Interrupted, Offer, Reading, Replaced, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 2**20
_SMALL = 4096


class Local:
    """A folder or a file of this machine."""

    def __init__(self, path: Path, number: str | None) -> None:
        """Keep the path; `number` is the number of the version, if the path names it."""
        self._path = path
        self._root = path.parent if path.is_file() else path
        self._number = number

    def look(self) -> Offer:
        """Return the version that the path has now."""
        try:
            if self._path.is_file():
                return Offer(self._number, (self._one(),))
            if not self._path.is_dir():
                raise StoreError(f"{self._path}: there is no such file or folder")
            return folders.offer(self, f"file://{self._path}", self._number)
        except OSError as error:
            raise _failed(error, self._path) from error

    def _one(self) -> Entry:
        """Return the file that is the source, which becomes a version's graph."""
        entry = self._entry(self._path, FILE)
        beside = self._path.with_name(self._path.name + folders.DIGEST)
        if not beside.is_file():
            return entry
        return replace(entry, sha256=folders.digest(self, self._entry(beside, beside.name)))

    def list(self, path: str) -> Listed:
        """Return the entries of a folder."""
        folder = self._path / path
        there = sorted(folder.iterdir())
        files = [self._entry(entry, entry.name) for entry in there if entry.is_file()]
        return Listed([entry.name for entry in there if entry.is_dir()], files)

    def walk(self, path: str) -> Iterator[Entry]:
        """Yield all files below a folder; links to folders are not followed."""
        folder = self._path / path
        for place, _, names in os.walk(folder):
            for name in names:
                file = Path(place) / name
                yield self._entry(file, file.relative_to(folder).as_posix())

    def small(self, entry: Entry) -> bytes:
        """Return the content of a small file."""
        return b"".join(self.read(entry, 0).pieces)[:_SMALL]

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of a file from `start` on."""
        return Reading(start, self._pieces(entry, start))

    def _pieces(self, entry: Entry, start: int) -> Iterator[bytes]:
        try:
            # Opened without waiting: a pipe may have taken the place of the file.
            descriptor = os.open(entry.key, os.O_RDONLY | os.O_NONBLOCK)
            with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  a descriptor
                self._compare(file.fileno(), entry)
                file.seek(start)
                while piece := file.read(_PIECE):
                    yield piece
                # The file may have been written to while it was read.
                self._compare(file.fileno(), entry)
        except OSError as error:
            raise _failed(error, Path(entry.key)) from error

    def _entry(self, file: Path, name: str) -> Entry:
        real = file.resolve()
        if not real.is_relative_to(self._root.resolve()):
            raise StoreError(
                f"{file}: a link leads out of the source, to {real}: expected the file, or a link "
                "inside"
            )
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{file}: expected a regular file")
        return Entry(name, str(file), status.st_size, _tag(status))

    def _compare(self, descriptor: int, entry: Entry) -> None:
        if _tag(os.fstat(descriptor)) != entry.tag:
            raise Replaced(f"{entry.key}: was replaced while it was read")


def _tag(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"


def _failed(error: OSError, path: Path) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return Replaced(f"{error.filename or path}: was removed while it was read")
    kind = StoreError if isinstance(error, PermissionError) else Interrupted
    return kind(f"{error.filename or path}: cannot be read: {error.strerror or error}")
