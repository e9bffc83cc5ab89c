"""The memory of this process, and the memory that its container, not only the host, has left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.host.processors import groups

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Taken:
    """The memory of this process in bytes; all 0 if the system does not report it."""

    now: int
    """The resident memory."""
    own: int
    """The part of the resident memory that belongs to no file (RssAnon), so that only the end of
    this process, or a free, gives it back."""
    most: int
    """The peak of the resident memory."""
    data: int
    """The memory that it has allocated, used or not, as RLIMIT_DATA counts it."""


_TAKEN = ("VmRSS:", "RssAnon:", "VmHWM:", "VmData:")


def taken(root: Path = Path("/")) -> Taken:
    """Return the memory of this process, and its peak since the process was forked."""
    numbers = _numbers(root / "proc/self/status")
    return Taken(*(numbers.get(key, 0) * 1024 for key in _TAKEN))


def available(root: Path = Path("/")) -> int | None:
    """Return the bytes that can be allocated before the kernel kills processes for memory.

    That is the least of the machine's available memory and of the rest that each control group of
    this process may still use; `None` if the system reports neither.

    Args:
        root: the root of the file system that /proc and /sys are read from.
    """
    free = _numbers(root / "proc/meminfo").get("MemAvailable:")
    return min([*([] if free is None else [free * 1024]), *_left(root)], default=None)


def limit(root: Path = Path("/")) -> int:
    """Return the bytes that the container of this process may have at most.

    That is the least of the machine's memory and the limits of all control groups of this process;
    0 if the system reports neither.

    Args:
        root: the root of the file system that /proc and /sys are read from.
    """
    whole = _numbers(root / "proc/meminfo").get("MemTotal:")
    limits = (most for most, _, _ in _limits(root))
    return min([*([] if whole is None else [whole * 1024]), *limits], default=0)


def _left(root: Path) -> Iterator[int]:
    for most, folder, usage in _limits(root):
        used = _number(folder / usage)
        if used is not None:
            # Cached pages of files count as used, and are given up first.  In cgroup v1, only the
            # lines that begin with total_ include the groups below; in v2, all lines do.
            stat = _numbers(folder / "memory.stat")
            files = (stat.get(f"total_{key}", stat.get(key, 0)) for key in _FILES)
            yield max(0, most - used + sum(files))


def _limits(root: Path) -> Iterator[tuple[int, Path, str]]:
    """Yield the limit of each group of this process, its folder, and the file of its usage."""
    for controllers, path in groups(root):
        if controllers == "":
            base, name, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            usage = "memory.usage_in_bytes"
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            most = _number(base / folder / name)
            if most is not None:
                yield most, base / folder, usage


_FILES = ("active_file", "inactive_file")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _numbers(file: Path) -> dict[str, int]:
    """Return the numbers in a file by the word before each; empty if it cannot be read."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
