"""How much memory is free: what the container may still take, not what the host has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.host.processors import groups

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Taken:
    """Bytes that this process has taken; all 0 where nobody says."""

    now: int
    most: int
    data: int
    """What it has asked for, whether or not it has touched it: what RLIMIT_DATA counts."""


def taken(root: Path = Path("/")) -> Taken:
    """What this process has taken, and the most it had since it was forked."""
    said = _numbers(root / "proc/self/status")
    return Taken(*(said.get(key, 0) * 1024 for key in ("VmRSS:", "VmHWM:", "VmData:")))


def available(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken before the kernel kills for them; `None` where nobody says.

    The least of what the machine has and what each group that this process is in may still take.

    Args:
        root: of the file system that /proc and /sys are read from.
    """
    free = _numbers(root / "proc/meminfo").get("MemAvailable:")
    return min([*([] if free is None else [free * 1024]), *_left(root)], default=None)


def _left(root: Path) -> Iterator[int]:
    for controllers, path in groups(root):
        if controllers == "":
            base, limit, usage = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
            usage = "memory.usage_in_bytes"
        else:
            continue
        inside = Path(path.lstrip("/"))
        for folder in (inside, *inside.parents):
            most, used = _number(base / folder / limit), _number(base / folder / usage)
            if most is not None and used is not None:
                # Pages of files count as used, and are given up first.  With v1, the lines that
                # begin with total_ have the groups below in them, as all lines have with v2.
                seen = _numbers(base / folder / "memory.stat")
                files = (seen.get(f"total_{key}", seen.get(key, 0)) for key in _FILES)
                yield max(0, most - used + sum(files))


_FILES = ("active_file", "inactive_file")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _numbers(file: Path) -> dict[str, int]:
    """The lines of a file that have a word and a number."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}
