"""The cache of prepared models: a private folder on a disk, with an entry for each file's content.

    <TRICEPS_CACHE>/triceps-<user ID>/<digest>/{model.onnx, weights, entry.json}

An entry is written in a hidden folder, which is renamed once `entry.json` has the digests of all
files.  It is used only while its files have these digests: weights that are damaged would change
answers, and nothing else would notice.  Nothing is synced to the disk, since a file that a power
cut has damaged has another digest.

Sessions map these files.  So the folder belongs to this user alone, and nothing in it is ever
changed; an entry is removed as a whole, which leaves mapped files as they are.

The file is one idea: the life of an entry, and the checks that make it safe to map.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import onnxruntime

from service import __version__
from service.errors import TricepsError
from service.host import disk, processors
from service.host.files import read_file, write_file
from service.host.watched import stamp
from service.inference.prepared import FILES, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Stamp = tuple[int, ...]

OFF = "off"
# Raised when files are prepared in another way.
FORMAT = 1
ENTRY = "entry.json"
# Written by the process that prepares a model: the names of the files that its weights are in.
BESIDE = "beside.json"
HIDDEN = ".triceps-"
# An entry that no process uses is removed when nobody has asked for it for this time.
UNUSED_SECONDS = 24 * 3600
# Hidden folders of this age are left from processes that were killed.
LEFTOVER_SECONDS = 600
_MOST_JSON = 2**20
_CHUNK = 2**20
_DIGITS = 32


class CacheError(TricepsError):
    """The cache cannot be used, or one model cannot be kept in it."""


class Entry(NamedTuple):
    """A prepared model in the cache whose files had the right digests."""

    folder: str
    stamps: tuple[Stamp, ...]
    """The stamps of its files at that moment."""

    def is_unchanged(self) -> bool:
        """Return whether its files are those whose digests were right."""
        try:
            return self.stamps == _stamps(Path(self.folder))
        except OSError:
            return False


def open_folder(setting: str) -> Path:
    """Return the private folder of this user, which is made if need be.

    Args:
        setting: the folder that has it; empty for the folder of temporary files.

    Raises:
        CacheError: the folder cannot be used.
    """
    try:
        return _open(Path(setting or tempfile.gettempdir()))
    except OSError as error:
        where = error.filename or setting or "TMPDIR"
        raise CacheError(f"{where}: {error.strerror or error}") from error


def _open(parent: Path) -> Path:
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise CacheError(f"{parent}: all users may rename what others have in it: chmod o-w or +t")
    folder = parent / f"triceps-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    # Another user may have made it first, or a link to a folder of others.
    there = folder.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
        raise CacheError(f"{folder}: expected a folder of this user, received another's, or a link")
    if there.st_mode & 0o077:
        mode = stat.S_IMODE(there.st_mode)
        raise CacheError(f"{folder}: expected the mode 0700, received {mode:04o}: remove it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise CacheError(f"{folder}: it cannot be written")
    if (kind := disk.file_system(folder)) in disk.IN_MEMORY:
        raise CacheError(f"{folder}: it is in memory itself ({kind})")
    return folder


def files_of(path: Path) -> dict[str, Stamp]:
    """Return the stamps of a version's regular files, by name.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
    return {name: stamp(path.parent / name) for name in names}


def size_of(files: Mapping[str, Stamp]) -> int:
    """Return the size of files in bytes."""
    return sum(size for _, _, size, _, _ in files.values())


def find(folder: Path, path: Path) -> tuple[Entry | None, int]:
    """Return the entry for a file, and the number of damaged ones, which are removed.

    Raises:
        OSError: the file cannot be read.
    """
    damaged = 0
    for entry in sorted(folder.glob(f"{_key(path)}-*")):
        known = _read(entry)
        if known is not None and not _fit(known["beside"], path.parent):
            continue  # the same graph with other weights
        with contextlib.suppress(OSError):
            stamps = _stamps(entry)
            if known is not None and _fit(known["files"], entry):
                # The time of its last use.
                os.utime(entry)
                return Entry(str(entry), stamps), damaged
        damaged += 1
        remove(entry)
    return None, damaged


def begin(folder: Path, name: str) -> Path:
    """Make the hidden folder in which a model is to be prepared."""
    place = folder / f"{HIDDEN}{name}"
    place.mkdir(mode=0o700)
    return place


def finish(folder: Path, place: Path, path: Path, files: Mapping[str, Stamp]) -> Entry:
    """Make an entry of what has been written into a hidden folder.

    The process that wrote it has read a file that may be hostile.  So all that is taken from it are
    the contents of the files; the digest of the file that they are for is computed here.

    Args:
        folder: the private folder.
        place: the hidden folder.
        path: the file that was prepared.
        files: the stamps of the files beside it, from before it was read.

    Raises:
        CacheError: a file has changed meanwhile, or is not where it is expected.
        OSError: a file cannot be read or written.
    """
    listed = json.loads(read_file(place / BESIDE, _MOST_JSON))
    (place / BESIDE).unlink()
    names = [path.name, *listed]
    written = [(place / name).lstat() for name in FILES]
    if not all(stat.S_ISREG(each.st_mode) and each.st_nlink == 1 for each in written):
        raise CacheError("it is not in files of its own")
    if sorted(os.listdir(place)) != sorted(FILES) or not all(name in files for name in names):  # noqa: PTH208  names alone
        raise CacheError("its weights are not all in the folder of its file")
    key = _key(path)
    beside = _digests(path.parent, sorted(listed))
    if any(stamp(path.parent / name) != files[name] for name in names):
        raise CacheError("its file has been changed meanwhile")
    for name in FILES:
        (place / name).chmod(0o400)
    before = [stamp(place / name) for name in FILES]
    known = {"beside": beside, "files": _digests(place, FILES)}
    write_file(place / ENTRY, json.dumps(known).encode())
    stamps = _stamps(place)
    if list(stamps[: len(FILES)]) != before:
        raise CacheError("what was written has been changed meanwhile")
    entry = folder / f"{key}-{_hash(json.dumps(beside).encode())}"
    try:
        place.rename(entry)
    except OSError:  # another service has made the same
        found, _ = find(folder, path)
        if found is None:
            raise
        return found
    return Entry(str(entry), stamps)


def sweep(folder: Path) -> None:
    """Remove entries that nobody uses any more, and what killed processes have left."""
    now = time.time()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.startswith(HIDDEN):
                    if age > LEFTOVER_SECONDS:
                        shutil.rmtree(entry.path, ignore_errors=True)
                elif age > UNUSED_SECONDS and not _is_held(Path(entry.path)):
                    remove(Path(entry.path))


def remove(entry: Path) -> None:
    """Remove an entry at once; sessions that have mapped its files are not affected."""
    hidden = entry.with_name(f"{HIDDEN}{time.monotonic_ns()}-{os.getpid()}")
    with contextlib.suppress(OSError):
        entry.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _is_held(entry: Path) -> bool:
    """Return whether a session of any process has mapped an entry, as `prepared.Hold` says."""
    try:
        descriptor = os.open(entry / WEIGHTS, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _key(path: Path) -> str:
    """Return the first part of the names of a file's entries.

    Raises:
        OSError: the file cannot be read.
    """
    about = [FORMAT, __version__, onnxruntime.__version__, processors.kind(), _digest(path)[1]]
    return _hash(json.dumps(about).encode())


def _read(entry: Path) -> dict[str, Any] | None:
    """Return the content of `entry.json`; `None` if it is damaged."""
    try:
        known = json.loads(read_file(entry / ENTRY, _MOST_JSON))
        is_whole = sorted(known["files"]) == sorted(FILES) and isinstance(known["beside"], dict)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return known if is_whole else None


def _fit(digests: Mapping[str, Any], folder: Path) -> bool:
    """Return whether files have the sizes and digests that are listed."""
    try:
        return all(
            (folder / name).stat().st_size == size and _digest(folder / name) == [size, digest]
            for name, (size, digest) in digests.items()
        )
    except (OSError, ValueError, TypeError):
        return False


def _digests(folder: Path, names: Iterator[str] | list[str] | tuple[str, ...]) -> dict[str, Any]:
    return {name: _digest(folder / name) for name in names}


def _digest(path: Path) -> list[Any]:
    """Return the size and the digest of a regular file, up to the size that it has at first.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  it is open already
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        digest, left = hashlib.sha256(), status.st_size
        while left and (part := file.read(min(left, _CHUNK))):
            digest.update(part)
            left -= len(part)
    return [status.st_size, digest.hexdigest()]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _stamps(entry: Path) -> tuple[Stamp, ...]:
    return tuple(stamp(entry / name) for name in (*FILES, ENTRY))
