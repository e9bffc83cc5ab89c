"""The files of samples: private to their owner, and bounded in size and age.

<folder>/<model>/20260131T120000000Z-17.jsonl       by the worker with the process ID 17
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

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


class SampleFiles:
    """The files of samples in one folder, of which other processes write some."""

    def __init__(self, folder: Path) -> None:
        """Write into a folder, which is made with the first file."""
        self._folder = folder
        # The file of each model, its bytes, and the time when it began.
        self._files: dict[str, tuple[Path, int, float]] = {}
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
        path, size, began = self._files.get(model, (None, 0, 0.0))
        if path is None or size + len(lines) > FILE_BYTES or now - began > FILE_SECONDS:
            folder = self._folder / model
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            began, size = now, 0
            # Two files of one millisecond are one file.
            stamp = re.sub(r"[-:.]", "", moment(now))
            path = folder / f"{stamp}-{os.getpid()}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            left = lines
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            # No half of a line stays, and the next lines go into a new file.
            self._files.pop(model, None)
            os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)
        self._files[model] = path, size + len(lines), began

    def look(self) -> None:
        """Remove old files now and then, whether or not there are new ones."""
        now = time.time()
        if now - self._looked > FILE_SECONDS:
            self._remove_old(now)

    def _remove_old(self, now: float) -> None:
        """Remove files that are old, and the oldest of those that are too many bytes together."""
        self._looked, self._written = now, 0
        total = 0
        found = [path for path in self._folder.glob("*/*.jsonl") if _NAME.fullmatch(path.name)]
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
        known = {model: file for model, file in self._files.items() if now - file[2] < MOST_SECONDS}
        self._files = known
