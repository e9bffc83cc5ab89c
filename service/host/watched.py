"""What files say, read anew once they have changed: tokens, a certificate and its key."""

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

# How long a change of the files may go unnoticed.
LOOK_SECONDS = 1.0


class Watched(Generic[T]):
    """What files say, as they are now; what is wrong with a change leaves what they said before."""

    def __init__(
        self,
        look: Callable[[], object],
        read: Callable[[], T],
        changed: Callable[[T], None],
        failed: Callable[[TricepsError], None],
    ) -> None:
        """Read the files for the first time.

        Args:
            look: returns what changes when the files do (`stamp`); raises `TricepsError`.
            read: returns what they say; raises `TricepsError`.
            changed: is told what they say now, once they have changed.
            failed: is told once what is wrong with a change.

        Raises:
            TricepsError: as `look` and `read` do.
        """
        self._look = look
        self._read = read
        self._changed = changed
        self._failed = failed
        self._stamp = look()
        self.value = read()
        self._next_look = time.monotonic() + LOOK_SECONDS
        self._trouble = ""

    def current(self) -> T:
        """Return what the files say, after a look at them if the last one is a second old."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._follow()
        return self.value

    def look_again(self) -> None:
        """Have the next `current` look at the files."""
        self._next_look = 0.0

    def _follow(self) -> None:
        trouble = ""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self.value = self._read()
            # Only now: what could not be read is read again, until it can be.
            self._stamp = stamp
            self._changed(self.value)
        except TricepsError as error:
            trouble = str(error)
            if trouble != self._trouble:
                self._failed(error)
        self._trouble = trouble


def stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does, its owner and mode included.

    Raises:
        OSError: there is none, or its folder cannot be read.
    """
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def warn_of_readers(path: Path, log: logging.Logger) -> None:
    """Log that all may read a file that holds a secret, if they may."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & stat.S_IROTH:
            message = "%s: expected a mode such as 0600, received %04o: all may read it"
            log.warning(message, path, mode)
