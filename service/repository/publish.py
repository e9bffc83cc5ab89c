"""Publishing of a new version into a model repository, completely or not at all.

content ─▶ <models>/.new-…/1/model.onnx ─ fsync ─▶ rename ─▶ <models>/<name>/<version>/model.onnx
report  ─▶ <models>/.new-…/1/report.html                     <models>/<name>/<version>/report.html

The first version of a model is renamed together with the model's folder, so that the folder never
exists without a version.  No number is given twice: <models>/<name>/last_version has the highest.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import time
import uuid
from typing import TYPE_CHECKING

from service.errors import MISUSED, TricepsError
from service.host.files import LEFTOVER_SECONDS, FileError, read_file, sync_folder, write_file
from service.names import NAME, NAMES

if TYPE_CHECKING:
    from pathlib import Path

FILE = "model.onnx"
REPORT = "report.html"
# An empty file in the folder of the default model.
DEFAULT = "default"
# A file with the highest version that was ever published into its folder, and its largest size.
LAST = "last_version"
MAX_DIGITS = 100
# The model that is the default by its name, if no other is.
NAMESAKE = "triceps"

# Folders of a publish or a prune in progress; each exists for moments only.
_LEFTOVERS = (".new-", ".old-")
# Plain digits without leading zeros, so that a version has one spelling.
VERSION = re.compile(r"0|[1-9][0-9]*")


class PublishError(TricepsError):
    """The version could not be published."""


class WrongName(TricepsError):
    """The name is not a valid model name."""

    exit_code = MISUSED


def versions(folder: Path) -> list[int]:
    """Return the versions in a model's folder, oldest first; other entries are ignored."""
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        if VERSION.fullmatch(entry.name) and entry.is_dir()
    )


def publish(models: Path, name: str, content: bytes, report: bytes | None = None) -> str:
    """Write `content` as the next version of `name`, with its report, and return that version.

    A reader sees the complete version or none, whenever this process is killed.  Two processes that
    publish at once get two versions.  Folders that a killed process left behind are removed.  If
    there was one other model alone, it is marked as the default, which it was as the only one.

    Raises:
        WrongName: `name` is not a valid model name.
        PublishError: the folder cannot be written, or the disk is full.
    """
    check_name(name)
    try:
        models.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(models)
        # Not by mkdtemp, whose folders only their owner may read: the service may be another user.
        staged = models / f".new-{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            (staged / "1").mkdir()
            _write(staged / "1" / FILE, content)
            if report is not None:
                _write(staged / "1" / REPORT, report)
            sync_folder(staged)
            _keep_default(models, name)
            return _move_to_next(staged, models / name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        message = (
            f"{models}: cannot publish {name!r}: {error.strerror or error}; nothing was changed"
        )
        raise PublishError(message) from error


def publish_folder(models: Path, name: str, folder: Path, version: str | None) -> str | None:
    """Move a folder of this file system to its place, as a version of `name`; return the version.

    Its files are on the disk already.  As for `publish`, a reader sees all of it or nothing.

    Args:
        models: the repository.
        name: the name of the model.
        folder: the folder with the files of the version.
        version: the number of the version; `None` for the next one.

    Returns:
        The version; `None` if another process has published that one meanwhile.

    Raises:
        PublishError: the folder cannot be written.
    """
    try:
        _clear_leftovers(models)
        staged = models / f".new-{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            first = version or "1"
            folder.rename(staged / first)
            sync_folder(staged)
            _keep_default(models, name)
            return _move(staged, models / name, first, version)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        message = (
            f"{models}: cannot publish {name!r}: {error.strerror or error}; nothing was changed"
        )
        raise PublishError(message) from error


def last(folder: Path) -> int:
    """Return the highest version that a model has or had; 0 if it had none."""
    return max([_last(folder), *versions(folder)])


def leftovers(folder: Path) -> list[Path]:
    """Return the hidden folders in `folder` that an interrupted publish or prune left behind."""
    since = time.time() - LEFTOVER_SECONDS
    old = []
    for entry in folder.iterdir():
        # A process that is at work may remove or rename its folder meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if entry.name.startswith(_LEFTOVERS) and entry.lstat().st_mtime < since:
                old.append(entry)
    return sorted(old)


def _clear_leftovers(models: Path) -> None:
    for leftover in leftovers(models):
        shutil.rmtree(leftover, ignore_errors=True)


def check_name(name: str) -> None:
    """Check that a name is a valid model name.

    Raises:
        WrongName: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise WrongName(f"model name: expected {NAMES}, received {name!r}")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _keep_default(models: Path, name: str) -> None:
    """Mark the only model as the default before the model `name` joins it."""
    # A running service keeps its default even if this fails; so it is no reason not to publish.
    with contextlib.suppress(OSError, FileError):
        others = (entry for entry in models.iterdir() if NAME.fullmatch(entry.name))
        there = [*itertools.islice(filter(versions, others), 2)]
        if len(there) == 1 and there[0].name != name and NAMESAKE not in (there[0].name, name):
            write_file(there[0] / DEFAULT, b"")


def _last(folder: Path) -> int:
    """Return the highest version that was ever published into a folder; 0 if that is unknown."""
    with contextlib.suppress(OSError, ValueError):
        return int(read_file(folder / LAST, MAX_DIGITS))
    return 0


def _note_last(folder: Path, version: str) -> None:
    """Note a version, so that no other gets its number, even once its folder has been removed."""
    # Without the note, the version is as good, and the next one has a higher number all the same.
    with contextlib.suppress(OSError, FileError):
        write_file(folder / LAST, b"%d\n" % max(_last(folder), int(version)))


def _move_to_next(staged: Path, folder: Path) -> str:
    version = _move(staged, folder, "1", None)
    # Without a number of its own, it gets the next one that is free.
    return str(version)


def _move(staged: Path, folder: Path, first: str, wanted: str | None) -> str | None:
    """Rename the version `first` of a staged model to its place, with the model if that is new.

    Returns:
        The version; `None` if `wanted` exists already.
    """
    while True:
        if folder.exists():
            version = wanted or str(last(folder) + 1)
            source, target = staged / first, folder / version
        else:
            version, source, target = first, staged, folder
            _note_last(staged, version)
        try:
            # Renaming onto a folder that is not empty fails: another process has been faster.
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if source is not staged and wanted is not None:
                return None
            continue
        if source is not staged:
            _note_last(folder, version)
        try:
            sync_folder(folder)
            sync_folder(folder.parent)
        except OSError as error:
            message = (
                f"{folder / version}: is published, and may not be there after a power cut: "
                f"{error.strerror or error}"
            )
            raise PublishError(message) from error
        return version
