"""The heap of the C library: one for all threads, whose free memory can be given back.

glibc gives each thread a heap of its own, and returns free memory to the system only from the end
of a heap.  In a process whose threads load and drop models, each heap keeps holes that the other
threads cannot fill, and after a hundred versions the process holds a tenth more than it needs.

It also returns the end of the heap as soon as a few hundred kilobytes there are free.  Each large
body then asks the system for the same megabytes again, a page at a time, which takes a quarter of
the time of a request.
"""

from __future__ import annotations

import ctypes

# malloc.h
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
# Free bytes at the end of the heap that are kept: what a body of a megabyte and its arrays take.
KEPT = 4 * 2**20
# A block of at least this size is not part of the heap, and is returned once it is free.  glibc
# would raise its own limit to the size of the largest free block, at most 32 MB.
APART = 2 * 2**20


def share() -> None:
    """Have all threads that start from now on use one heap."""
    _call("mallopt", _ARENA_MAX, 1)


def keep() -> None:
    """Keep `KEPT` free bytes for what comes next."""
    _call("mallopt", _TRIM_THRESHOLD, KEPT)
    _call("mallopt", _MMAP_THRESHOLD, APART)


def give_back() -> None:
    """Return the heap's free memory to the system, which takes some tenths of a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of glibc; do nothing under a C library that does not have it."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
