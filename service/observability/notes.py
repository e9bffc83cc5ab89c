"""Lists that any thread appends to, and that one thread at a time empties."""

from __future__ import annotations

from typing import Any


def take(notes: list[Any]) -> list[Any]:
    """Empty a list and return its items; other threads may append to it meanwhile, not remove."""
    taken = notes[:]
    del notes[: len(taken)]
    return taken
