"""Waiting for what comes soon, on a machine that may be busy with other things."""

from __future__ import annotations

import contextlib
import http.client
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Longer than anything takes that a test waits for.
PATIENCE = 30.0


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something is true; connections that fail meanwhile are not yet.

    Raises:
        AssertionError: it is not in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return
        time.sleep(0.01)
    raise AssertionError(f"expected within {seconds:g} s, and it did not come")
