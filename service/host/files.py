"""Reading and writing of whole files: the old file stays until all of the new one is on the disk.

    content ─▶ <folder>/.triceps-… ─ fsync ─▶ rename ─▶ <folder>/<name> ─ fsync of the folder

Every temporary name is new, so two writers of one file do not disturb each other: the last to
finish wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import time
import uuid
from typing import IO, TYPE_CHECKING

from service.errors import TricepsError
from service.host import standard_streams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A temporary file that has not been written to for longer was left by a writer that was killed.
LEFTOVER_SECONDS = 3600
_PREFIX = ".triceps-"
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{32}")
# The paths of descriptors that the parent process has opened; a shell's `>(command)` is one of
# the last kind.
_STREAM = re.compile(r"-|/dev/stdout|/dev/stderr|/(?:dev|proc/self)/fd/([0-9]{1,9})")
_STREAMS = {"-": 1, "/dev/stdout": 1, "/dev/stderr": 2}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileError(TricepsError):
    """An error that says that a file cannot be written; the old file, if any, is unchanged."""


def read_file(path: Path, most: int) -> bytes:
    """Read a regular file of at most `most` bytes; anything else may have no end.

    Raises:
        OSError: the file cannot be read, is too large, or is not a regular file.
    """
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise OSError(errno.EINVAL, f"expected a file of at most {most} bytes")
        return file.read(status.st_size)


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting; to open a pipe would otherwise wait for a writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, or leave the old one as it is.

    Raises:
        FileError: the file cannot be written, or `path` is something other than a regular file.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    The new file has the permissions of the old one, and its owner where the system allows that.

    Args:
        path: the path of a regular file, or one where nothing exists yet.
        mode: the permissions of a file that replaces none, less the umask.

    Raises:
        FileError: the file cannot be written, or `path` is something other than a regular file.
    """
    part = path.parent / f"{_PREFIX}{uuid.uuid4().hex}"
    try:
        before = replaceable(path)
        for leftover in leftovers(path.parent):
            with contextlib.suppress(OSError):  # another user's, in a folder like /tmp
                leftover.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(part, flags, mode), "wb") as file:  # noqa: PTH123  a descriptor
            if before is not None:
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), before.st_mode & 0o777)
            yield file
            file.flush()
            os.fsync(file.fileno())
        # Checked again: the block may have taken hours, and a rename would replace a pipe, too.
        replaceable(path)
        part.replace(path)
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    try:
        sync_folder(path.parent)
    except PermissionError:
        pass  # the folder may be written into and not read
    except OSError as error:
        reason = error.strerror or error
        message = f"{path}: is written, and may not be there after a power cut: {reason}"
        raise FileError(message) from error


def replaceable(path: Path) -> os.stat_result | None:
    """Return the status of the regular file at `path`; `None` if nothing exists there.

    Raises:
        FileError: `path` is something else, which a rename would destroy.
        OSError: the status cannot be read.
    """
    try:
        there = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(there.st_mode):
        return there
    if stat.S_ISLNK(there.st_mode):
        received, way_out = "a symbolic link", f"name what it leads to: {path.readlink()}"
    else:
        received = next((kind for is_it, kind in _KINDS if is_it(there.st_mode)), "something else")
        way_out = "it was left as it is"
    expected = "expected a regular file to replace, or nothing"
    raise FileError(f"{path}: {expected}, received {received}; {way_out}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open the stream or the file that a command's `--out` names; a file is replaced.

    Raises:
        FileError: the stream or the file cannot be written.
    """
    descriptor = stream(path)
    if descriptor is None:
        with replacing(path) as file:
            yield file
    elif descriptor in standard_streams.closed:
        which = "standard output" if descriptor == _STREAMS["-"] else f"descriptor {descriptor}"
        raise FileError(f"{path}: cannot be written: {which} is closed")
    elif descriptor == _STREAMS["-"] and not _has_descriptor(sys.stdout):
        yield sys.stdout.buffer
    else:
        # Not sys.stdout: when the program ends, it tries once more to write what it could not; and
        # with PYTHONUNBUFFERED, it may write only the beginning of the data and raise no error.
        try:
            own = os.dup(descriptor)
        except OSError as error:
            message = f"{path}: cannot be written: {error.strerror or error}"
            raise FileError(message) from error
        with open(own, "wb") as file:  # noqa: PTH123  a descriptor
            yield file


def _has_descriptor(file: IO[str]) -> bool:
    """Return whether a file has a descriptor; a test may replace it by one that has none."""
    try:
        file.fileno()
    except OSError:
        return False
    return True


def stream(path: Path) -> int | None:
    """Return the descriptor that a path names (`-`, /dev/stdout, /dev/fd/3); `None` for a file."""
    match = _STREAM.fullmatch(str(path))
    if match is None:
        return None
    return int(match[1]) if match[1] else _STREAMS[match[0]]


def leftovers(folder: Path) -> list[Path]:
    """Return the temporary files in a folder that are old enough to be left from killed writers."""
    since = time.time() - LEFTOVER_SECONDS
    paths = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Another writer may rename its file meanwhile.
            with contextlib.suppress(FileNotFoundError):
                ours = _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if ours and entry.stat().st_mtime < since:
                    paths.append(folder / entry.name)
    return paths


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that they outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
