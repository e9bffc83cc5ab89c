"""Lists that any thread appends to, until one of them counts what they hold."""

from __future__ import annotations

from typing import Any


def take(notes: list[Any]) -> list[Any]:
    """Empty a list that other threads may append to meanwhile, and only this one takes from."""
    counted = notes[:]
    del notes[: len(counted)]
    return counted
