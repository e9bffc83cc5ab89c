"""The header X-Request-Timeout: the seconds that a request gives itself."""

from __future__ import annotations

import math

from service.wire.body import wrong

HEADER = "X-Request-Timeout"


def parse(value: bytes) -> float:
    """Return the seconds that a header says.

    Raises:
        BadRequest: it is no number above 0.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if 0 < seconds < math.inf:
        return seconds
    raise wrong(HEADER, "a number of seconds above 0", repr(value.decode("latin-1")))
