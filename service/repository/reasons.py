"""Reasons why a file does not load: as text for a log, and as the fault of file or machine."""

from __future__ import annotations

from service.errors import Shortage
from service.host.descriptors import SHORT
from service.inference.runtime import NO_MEMORY

# The number of characters of a file's text that a message repeats.
LONGEST = 400


def plain(text: str) -> str:
    """Return a message that quotes a file as one printable line of limited length."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown} …"


def is_shortage(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is the machine's fault and not the file's."""
    while error is not None:
        if isinstance(error, MemoryError | Shortage) or str(error) == NO_MEMORY:
            return True
        if isinstance(error, OSError) and error.errno in SHORT:
            return True
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return True
        error = error.__cause__
    return False
