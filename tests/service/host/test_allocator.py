"""Memory of a model is given back to the system, if the C library can."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.host import allocator
from service.repository.reloader import Library
from tests.harness import small

MEGABYTE = 1 << 20
_BLOCKS = """
import ctypes, os, re, threading
from service.host import allocator

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def allocate(size, count, kept):
    for _ in range(count):
        kept.append(libc.malloc(size))
        libc.memset(kept[-1], 1, size)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
"""
_THREADS = """
allocator.share()
found = []
threads = [threading.Thread(target=allocate, args=(1000, 100, found)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
maps = open("/proc/self/maps").read()
low, high = (int(x, 16) for x in re.search(r"^(\\w+)-(\\w+) .*\\[heap\\]$", maps, re.M).groups())
print(all(low <= at < high for at in found), len(found))
"""
# The last block is never freed, so that the end of the heap stays where it is.
_HOLES = """
blocks = []
before = resident()
allocate(10_000, 10_000, blocks)
for block in blocks[:-1]:
    libc.free(block)
freed = resident()
allocator.give_back()
print(before, freed, resident())
"""
_AGAIN = """
import resource

def faults(size, count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = []
    allocate(size, count, blocks)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults(2**20, 3)
returned = faults(2**20, 3)
allocator.keep()
faults(2**20, 3)
print(returned, faults(2**20, 3))
before = resident()
faults(16 * 2**20, 2)
print(resident() - before)
"""


@pytest.fixture
def _glibc():
    if not hasattr(ctypes.CDLL(None), "malloc_trim") or not Path("/proc/self/statm").exists():
        pytest.skip("only glibc has these functions, and only Linux shows their effect")


def run(code):
    """Return the output of a process of its own, since the heap changes for good."""
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKS + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.usefixtures("_glibc")
def test_threads_share_one_heap():
    """Whatever they allocate is in the one heap."""
    assert run(_THREADS) == ["True", "400"]


@pytest.mark.usefixtures("_glibc")
def test_free_blocks_between_used_ones_are_given_back():
    """By itself, glibc would keep them, since they are not at the end of the heap."""
    before, freed, given_back = (int(size) / MEGABYTE for size in run(_HOLES))

    assert freed > before + 90
    assert given_back < before + 10


@pytest.mark.usefixtures("_glibc")
def test_a_few_free_megabytes_are_kept_and_large_blocks_are_returned():
    """Megabytes that are used again are not asked of the system again, page by page."""
    returned, kept, left = map(int, run(_AGAIN))

    assert kept < 100 < returned
    assert left < 10 * MEGABYTE


def test_functions_that_the_c_library_lacks_are_not_called(monkeypatch):
    """Neither macOS nor Alpine has them."""
    looked_for = []

    class Libc:
        def __getattr__(self, name):
            looked_for.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Libc())

    allocator.share()
    allocator.keep()
    allocator.give_back()

    assert looked_for == ["mallopt", "mallopt", "mallopt", "malloc_trim"]


def test_memory_is_given_back_after_a_model_is_gone(tmp_path, monkeypatch):
    """This happens once, at the next look, when the open requests of the model have ended."""
    calls = []
    monkeypatch.setattr(allocator, "give_back", lambda: calls.append(1))
    small.put(tmp_path, "three", 1, small.three())
    library = Library(tmp_path)
    library.refresh()
    shutil.rmtree(tmp_path / "three")
    library.refresh()
    assert not calls

    library.refresh()
    library.refresh()

    assert calls == [1]
