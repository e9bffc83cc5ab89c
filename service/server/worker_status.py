"""The status of a worker, as the supervisor sees it: a few numbers in shared memory.

Each number has one writer, so no lock is needed, and a worker that dies cannot leave one locked.
"""

from __future__ import annotations

import mmap

# The number of connections that the worker has taken from its socket pair, and of those that have
# ended since.
TAKEN = 0
CLOSED = 1
# The number of connections that the worker may have open at once; 0 until it has loaded its models.
ROOM = 2
# A number that grows as long as the process runs; it stands still if the process stops or hangs.
BEAT = 3
# The number of its models with a shadow.
SHADOWS = 4
_WORDS = 8

Status = memoryview


def share(workers: int) -> list[Status]:
    """Create the numbers of each worker, all 0, before the workers are forked."""
    memory = memoryview(mmap.mmap(-1, 8 * _WORDS * workers)).cast("q")
    return [memory[_WORDS * slot : _WORDS * (slot + 1)] for slot in range(workers)]


def clear(status: Status) -> None:
    """Set all numbers to 0, for a worker that takes the place of another."""
    for word in range(_WORDS):
        status[word] = 0
