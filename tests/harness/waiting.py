"""Waiting for conditions, on a machine that may be busy with other work."""

from __future__ import annotations

import contextlib
import http.client
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# In seconds: longer than any test has to wait.
PATIENCE = 30.0


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a condition is true; a failed connection counts as false.

    Raises:
        AssertionError: the condition is not true in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if true():
                return
        time.sleep(0.01)
    raise AssertionError(f"expected within {seconds:g} s, and it did not come")
