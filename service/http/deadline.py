"""The header X-Request-Timeout: the seconds after which a client no longer wants an answer."""

from __future__ import annotations

import math

from service.wire.body import wrong

HEADER = "X-Request-Timeout"


def parse(value: bytes) -> float:
    """Return the seconds that the header's value states.

    Raises:
        BadRequest: the value is not a finite number above 0.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if 0 < seconds < math.inf:
        return seconds
    raise wrong(HEADER, "a number of seconds above 0", repr(value.decode("latin-1")))
