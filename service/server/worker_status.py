"""What a worker tells the supervisor about itself: a few numbers in memory that both see.

Each number has one writer, so that no lock is needed, and a worker that dies leaves none behind.
"""

from __future__ import annotations

import mmap

# Connections that the worker has taken from its socket pair, and those that have ended since.
TAKEN = 0
CLOSED = 1
# How many connections may be open in it at once; 0 until it has loaded its models.
ROOM = 2
# Grows as long as the process runs: one that is stopped, or hangs, stands still.
BEAT = 3
_WORDS = 8

Status = memoryview


def share(workers: int) -> list[Status]:
    """The numbers of each worker, all 0; to be made before the workers are forked."""
    memory = memoryview(mmap.mmap(-1, 8 * _WORDS * workers)).cast("q")
    return [memory[_WORDS * slot : _WORDS * (slot + 1)] for slot in range(workers)]


def clear(status: Status) -> None:
    """Begin again, for a worker that takes the place of another."""
    for word in range(_WORDS):
        status[word] = 0
