"""Files that are read again when they change: tokens, a certificate and its key."""

from __future__ import annotations

import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from service.errors import TricepsError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

# The seconds that a change of the files may go unnoticed.
LOOK_SECONDS = 1.0


class Watched(Generic[T]):
    """A value that is read from files, and read again when they change.

    A change that cannot be read leaves the value as it was.
    """

    def __init__(
        self,
        look: Callable[[], object],
        read: Callable[[], T],
        changed: Callable[[T], None],
        failed: Callable[[TricepsError], None],
    ) -> None:
        """Read the files for the first time.

        Args:
            look: returns a value that changes when the files do (`stamp`); raises `TricepsError`.
            read: returns the value of the files; raises `TricepsError`.
            changed: called with the new value after a change.
            failed: called with the error if a change cannot be read, once for each error.

        Raises:
            TricepsError: `look` or `read` raises it.
        """
        self._look = look
        self._read = read
        self._changed = changed
        self._failed = failed
        self._stamp = look()
        self.value = read()
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._problem = ""

    def current(self) -> T:
        """Return the value, after a check of the files if the last check was a second ago."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._follow()
        return self.value

    def look_again(self) -> None:
        """Have the next call of `current` check the files."""
        self._next_look = 0.0

    def _follow(self) -> None:
        problem = ""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self.value = self._read()
            # After the read, so that files that cannot be read are tried again until they can be.
            self._stamp = stamp
            self._changed(self.value)
        except TricepsError as error:
            problem = str(error)
            if problem != self._problem:
                self._failed(error)
        self._problem = problem


def stamp(path: Path) -> tuple[int, ...]:
    """Return a value that changes when a file does, or its owner or mode.

    Raises:
        OSError: the file does not exist, or its folder cannot be read.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def warn_of_readers(path: Path, log: logging.Logger) -> None:
    """Log a warning if all users may read a file that holds a secret."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IROTH:
            message = "%s: expected a mode such as 0600, received %04o: all may read it"
            log.warning(message, path, mode)
