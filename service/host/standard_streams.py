"""The standard streams: closed ones, and encodings that lack a character."""

from __future__ import annotations

import os
import sys
from typing import TextIO

closed: set[int] = set()
"""The descriptors of standard streams that were closed when this process began."""


def make_usable() -> None:
    """Put the null device in place of closed streams, and escape what an encoding lacks.

    Else the next file that is opened would have the descriptor of the stream, and what C code
    writes to standard error would end in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest descriptor that is free is this one.
            os.open(os.devnull, os.O_RDWR)
            closed.add(number)
    sys.stdout = _usable(sys.stdout, 1)
    sys.stderr = _usable(sys.stderr, 2)


def _usable(stream: TextIO | None, number: int) -> TextIO:
    """Return the stream of a descriptor, which Python leaves out if it was closed."""
    if stream is None:
        return open(number, "w", encoding="utf-8", closefd=False)
    if hasattr(stream, "reconfigure") and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")
    return stream
