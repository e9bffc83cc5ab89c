"""The heap of the C library: one for all threads, whose free memory can be given back.

glibc gives each thread a heap of its own, and returns free memory to the system only from the end
of a heap.  In a process whose threads load and drop models, each heap keeps holes that the other
threads cannot fill, and after a hundred versions the process holds a tenth more than it needs.
"""

from __future__ import annotations

import ctypes

# malloc.h
_ARENA_MAX = -8


def share() -> None:
    """Have all threads that start from now on use one heap."""
    _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Return the heap's free memory to the system, which takes some tenths of a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of glibc; do nothing under a C library that does not have it."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
