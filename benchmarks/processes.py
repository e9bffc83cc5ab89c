"""The processor time and memory of all processes of a server, read from /proc."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> set[int]:
    """Return the descendants of a process and the rest of its session, without the process."""
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
    """Return the processor time of all processes of a server, in seconds."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            fields = _fields(pid)
            total += int(fields[11]) + int(fields[12])
    return total / _TICKS


def cpu_of(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(root: int) -> float:
    """Return the memory of a server in megabytes (10^6 bytes); shared memory counts once."""
    total = 0
    for pid in tree(root):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            if found := re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE):
                total += int(found[1])
    return total * 1024 / 1e6


def own_memory(root: int) -> float:
    """Return the memory that a server has written, in megabytes; shared memory counts once.

    Unlike `memory`, the result does not depend on other programs that use the same libraries.
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
    """Return the parent of a process, or the process that has inherited it.

    Raises:
        OSError: the process has ended.
    """
    return int(_fields(pid)[1])


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may contain spaces and brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
