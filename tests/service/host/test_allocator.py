"""What a model leaves behind is given back, where the C library can."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys

from service.host import allocator
from service.repository.reloader import Library
from tests.harness import small

_THREADS = """
import ctypes, re, threading
from service.host import allocator
allocator.share()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
found = []

def allocate():
    found.extend(libc.malloc(1000) for _ in range(100))

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
maps = open("/proc/self/maps").read()
low, high = (int(x, 16) for x in re.search(r"^(\\w+)-(\\w+) .*\\[heap\\]$", maps, re.M).groups())
print(all(low <= at < high for at in found), len(found))
"""


def test_threads_share_one_heap():
    """Whatever they allocate is in it."""
    done = subprocess.run(
        [sys.executable, "-c", _THREADS], check=False, capture_output=True, timeout=60
    )

    assert done.stdout.decode().split() == ["True", "400"], done.stderr.decode()


def test_what_the_library_has_not_is_not_asked(monkeypatch):
    """Neither macOS nor Alpine has these functions."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    allocator.share()
    allocator.give_back()


def test_memory_is_given_back_after_a_model_has_gone(tmp_path, monkeypatch):
    """At the next look, when those it was answering have their answers; and only then."""
    given = []
    monkeypatch.setattr(allocator, "give_back", lambda: given.append(1))
    small.put(tmp_path, "three", 1, small.three())
    library = Library(tmp_path)
    library.refresh()
    shutil.rmtree(tmp_path / "three")
    library.refresh()
    assert not given

    library.refresh()
    library.refresh()

    assert given == [1]
