"""The disk that a folder is on: its kind of file system, and its free bytes."""

from __future__ import annotations

import os
from pathlib import Path

# The file systems whose files are in memory.
IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})


def file_system(folder: Path, root: Path = Path("/")) -> str:
    """Return the kind of file system that a folder is on, such as ext4; empty if unknown.

    Args:
        folder: the folder, which exists.
        root: the root of the file system that /proc is read from.
    """
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        # Fields that vary in number end with a dash: proc(5).
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == number:
            return rest.split()[0]
    return ""


def free(folder: Path) -> int:
    """Return the free bytes of the disk that a folder is on, as far as this user may take them."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
