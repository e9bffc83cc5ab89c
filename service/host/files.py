"""Write a file whole: what was there before stays until all of the new one is on the disk.

    content ─▶ <folder>/.triceps-… ─ fsync ─▶ rename ─▶ <folder>/<name> ─ fsync of the folder

Every temporary name is new, so two writers of one name do not meet: the last to finish wins.
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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A writer that has not touched its temporary file for so long was killed.
LEFTOVER_SECONDS = 3600
_PREFIX = ".triceps-"
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{32}")
# Descriptors that the caller opened for us; a shell's `>(command)` is one of the last kind.
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
    """The file cannot be written; what was there before is there still."""


def read_file(path: Path, most: int) -> bytes:
    """Read a regular file of at most so many bytes; anything else may have no end.

    Raises:
        OSError: it cannot be read, or something else stands there.
    """
    with open(path, "rb", opener=_at_once) as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode) or seen.st_size > most:
            raise OSError(errno.EINVAL, f"expected a file of at most {most} bytes")
        return file.read(seen.st_size)


def _at_once(path: str, flags: int) -> int:
    """Open a file; a pipe with nobody at its other end would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole.

    Raises:
        FileError: it cannot be written, or something that is no regular file stands there.
    """
    with replacing(path) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    A file that is replaced hands on its permissions, and its owner where the system allows that.

    Args:
        path: of a regular file, or of nothing yet.
        mode: the permissions of a new file, less the umask.

    Raises:
        FileError: it cannot be written, or something that is no regular file stands there.
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
        # The block may have taken hours, and a rename replaces a pipe as it does a file.
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
        pass  # one that may be written into and not read, like a letter box
    except OSError as error:
        reason = error.strerror or error
        message = f"{path}: is written, and may not be there after a power cut: {reason}"
        raise FileError(message) from error


def replaceable(path: Path) -> os.stat_result | None:
    """Look at the regular file that stands at `path`; `None` where nothing does.

    Raises:
        FileError: something else stands there, which a rename would destroy.
        OSError: nobody can look there.
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
    """Open what a command's `--out` names: a stream to write on, or a file to replace.

    Raises:
        FileError: it cannot be written.
    """
    descriptor = stream(path)
    if descriptor is None:
        with replacing(path) as file:
            yield file
    elif descriptor == _STREAMS["-"] and sys.stdout is None:
        # Its number may have gone to a file that was opened since.
        raise FileError(f"{path}: cannot be written: standard output is closed")
    elif descriptor == _STREAMS["-"] and not _has_descriptor(sys.stdout):
        yield sys.stdout.buffer
    else:
        # Not by sys.stdout: what it could not write, it would try again when the program ends; and
        # where PYTHONUNBUFFERED is set, it may write the beginning of something and raise nothing.
        try:
            own = os.dup(descriptor)
        except OSError as error:
            message = f"{path}: cannot be written: {error.strerror or error}"
            raise FileError(message) from error
        with open(own, "wb") as file:  # noqa: PTH123  a descriptor
            yield file


def _has_descriptor(file: IO[str]) -> bool:
    """Whether a file is one of the system's; a test may put another in its place."""
    try:
        file.fileno()
    except OSError:
        return False
    return True


def stream(path: Path) -> int | None:
    """The descriptor that a path stands for (`-`, /dev/stdout, /dev/fd/3); `None` for a file."""
    named = _STREAM.fullmatch(str(path))
    if named is None:
        return None
    return int(named[1]) if named[1] else _STREAMS[named[0]]


def leftovers(folder: Path) -> list[Path]:
    """Temporary files whose writers were killed, by their age."""
    since = time.time() - LEFTOVER_SECONDS
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            # Another writer may be done with its file while we look.
            with contextlib.suppress(FileNotFoundError):
                ours = _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if ours and entry.stat().st_mtime < since:
                    found.append(folder / entry.name)
    return found


def sync_folder(folder: Path) -> None:
    """Have the names in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
