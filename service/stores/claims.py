"""The hidden folder of a download, which one process has at a time.

<models>/.pull-<digest of the source and the name>/lock
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_PREFIX, _LOCK = ".pull-", "lock"
_WAIT_SECONDS = 0.2
# A download that nobody has gone on with for so long is given up.
ABANDONED_SECONDS = 7 * 24 * 3600


@contextlib.contextmanager
def claimed(models: Path, source: str, name: str, tell: Callable[[str], None]) -> Iterator[Path]:
    """Yield the folder for the download of a source, once no other process has it.

    Raises:
        OSError: the folder cannot be written, or its file system cannot lock files.
    """
    models.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(models)
    key = hashlib.sha256(f"{source}\n{name}".encode()).hexdigest()[:24]
    folder = models / f"{_PREFIX}{key}"
    descriptor = _lock(folder, tell)
    try:
        yield folder
    finally:
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Remove a folder that this process has claimed; whoever waits for it makes another one."""
    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path, tell: Callable[[str], None]) -> int:
    told = False
    while True:
        descriptor = _opened(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(folder / _LOCK, descriptor):
                return descriptor
        except BlockingIOError:
            if not told:
                tell("another process downloads the same: waiting for it")
                told = True
            time.sleep(_WAIT_SECONDS)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(folder: Path) -> int:
    """Open the file that is locked; the folder may be removed at any moment before it is."""
    while True:
        # The folder may exist, and be gone a moment later, so that either call fails.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(exist_ok=True)
            return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _is_there(path: Path, descriptor: int) -> bool:
    """Return whether the locked file is still the one at a path: its owner may have removed it."""
    try:
        there, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _remove_abandoned(models: Path) -> None:
    since = time.time() - ABANDONED_SECONDS
    for folder in models.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < since:
                descriptor = os.open(folder / _LOCK, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)
