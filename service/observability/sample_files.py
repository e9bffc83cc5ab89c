"""The files of samples: private to their owner, and bounded in size and age.

<folder>/<model>/20260131T120000000Z-17.jsonl       by the worker with the process ID 17
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from service.observability.logs import moment

if TYPE_CHECKING:
    from pathlib import Path

# A file is followed by the next one once it has so many bytes, or is so old.
FILE_BYTES = 2**24
FILE_SECONDS = 3600.0
# All files together, and the age at which one is removed.
MOST_FILE_BYTES = 2**30
MOST_SECONDS = 7 * 86400.0
# Other files in the folder are not removed.
_NAME = re.compile(r"\d{8}T\d{9}Z-\d+\.jsonl")


class _File(NamedTuple):
    """A file that this process has begun: its path, device and inode, its bytes, and since when."""

    path: Path
    inode: tuple[int, int]
    size: int
    began: float


class SampleFiles:
    """The files of samples in one folder, of which other processes write some."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder, which is made with the first file."""
        self._folder = folder
        # The file of each model.
        self._files: dict[str, _File] = {}
        self._looked = 0.0
        # The bytes that were written since then.
        self._written = 0

    def write(self, model: str, lines: bytes) -> None:
        """Append lines to the file of a model, or to the next one.

        Raises:
            OSError: they cannot be written.
        """
        now = time.time()
        self._written += len(lines)
        if self._written > FILE_BYTES:
            self._remove_old(now)
        file, descriptor = self._files.pop(model, None), None
        if file and file.size + len(lines) <= FILE_BYTES and now - file.began <= FILE_SECONDS:
            descriptor = _open_again(file)
        if file is None or descriptor is None:
            file, descriptor = self._open_next(model, now)
        try:
            left = lines
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            # No half of a line stays.  A full disk takes no new files either.
            os.ftruncate(descriptor, file.size)
            self._files[model] = file
            raise
        finally:
            os.close(descriptor)
        self._files[model] = file._replace(size=file.size + len(lines))

    def _open_next(self, model: str, now: float) -> tuple[_File, int]:
        """Open a new file of a model; somebody else's file or folder is never taken for it."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._folder / model
        folder.mkdir(mode=0o700, exist_ok=True)
        name = re.sub(r"[-:.]", "", moment(now)) + f"-{os.getpid()}.jsonl"
        inside = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=inside)
        finally:
            os.close(inside)
        status = os.fstat(descriptor)
        return _File(folder / name, (status.st_dev, status.st_ino), 0, now), descriptor

    def look(self) -> None:
        """Remove old files now and then, whether or not there are new ones."""
        now = time.time()
        if now - self._looked > FILE_SECONDS:
            self._remove_old(now)

    def _remove_old(self, now: float) -> None:
        """Remove files that are old, and the oldest of those that are too many bytes together."""
        self._looked, self._written = now, 0
        total = 0
        found = [
            path
            for path in self._folder.glob("*/*.jsonl")
            if _NAME.fullmatch(path.name) and not path.parent.is_symlink()
        ]
        # Names begin with the time.
        for path in sorted(found, key=lambda path: path.name, reverse=True):
            try:
                status = path.lstat()
                total += status.st_size
                if now - status.st_mtime > MOST_SECONDS or total > MOST_FILE_BYTES - FILE_BYTES:
                    path.unlink()
            except OSError:
                # Another process has removed it, or it is removed next time.
                continue
        self._files = {
            m: file for m, file in self._files.items() if now - file.began < MOST_SECONDS
        }


def _open_again(file: _File) -> int | None:
    """Open a file to append to it; `None` if it is gone, or something else is there by now."""
    try:
        # A pipe would not be opened until somebody reads it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file.path, flags)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if (status.st_dev, status.st_ino, status.st_size) == (*file.inode, file.size):
        return descriptor
    os.close(descriptor)
    return None
