"""What a server costs, read from /proc: the processor time and memory of all its processes."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> set[int]:
    """The descendants of a process, and all else in its session; not the process itself."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
        with contextlib.suppress(OSError):
            fields = _fields(pid)
            parents[pid] = int(fields[1])
            if int(fields[3]) == root:
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found | {root}} - found:
        found |= more
    return found - {root}


def cpu_seconds(root: int) -> float:
    """Processor time that all processes of a server have used so far."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = _fields(pid)
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def cpu_of(pid: int) -> float:
    """Processor time that one process has used so far."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(root: int) -> float:
    """Megabytes (10^6) that a server occupies: memory that processes share is counted once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            if found := re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE):
                total += int(found[1])
    return total * 1024 / 1e6


def own_memory(root: int) -> float:
    """Megabytes (10^6) that a server has written; what its processes share is counted once.

    Unlike those of `memory`, they are the same whoever else has the same libraries loaded.
    """
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += sum(
                map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", text, re.MULTILINE))
            )
    return total * 1024 / 1e6


def parent(pid: int) -> int:
    """The process that has started another, or has inherited it.

    Raises:
        OSError: that has ended.
    """
    return int(_fields(pid)[1])


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces and brackets itself."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
