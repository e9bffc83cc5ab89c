"""Why something does not load: in words fit for a log, and whether the machine is at fault."""

from __future__ import annotations

from service.errors import Shortage
from service.host.descriptors import SHORT
from service.inference.runtime import NO_MEMORY

# Characters of what a file says that are said again.
LONGEST = 400


def plain(text: str) -> str:
    """A message that holds what a file says, for a log: of one line, and not too long."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:LONGEST])
    return shown if len(text) <= LONGEST else f"{shown} …"


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is the machine's fault and not the file's."""
    while error is not None:
        if isinstance(error, MemoryError | Shortage) or str(error) == NO_MEMORY:
            return True
        if isinstance(error, OSError) and error.errno in SHORT:
            return True
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return True
        error = error.__cause__
    return False
