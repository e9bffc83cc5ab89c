"""The C library's heap: one for all threads, and given back what a model has left.

glibc gives threads heaps of their own, and returns what is free only at the end of one.  So in a
process where threads load models and let go of them, each leaves holes that no other fills, and
after a hundred versions it holds a tenth more than it needs.
"""

from __future__ import annotations

import ctypes

# malloc.h
_ARENA_MAX = -8


def share() -> None:
    """Have all threads that are yet to come use one heap."""
    _call("mallopt", _ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free in the heap; it takes some tenths of a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    """Call a function of glibc's, where that is what there is."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)
