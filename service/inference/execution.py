"""The execution of a graph: the settings that its session is made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """How a session runs its graph; another one takes another session."""

    threads: int = 1
    """The threads that compute one run."""


PLAIN = Execution()
