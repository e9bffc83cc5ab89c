"""Put a new version into a model repository, whole or not at all.

content ─▶ <models>/.new-…/1/model.onnx ─ fsync ─▶ rename ─▶ <models>/<name>/<version>/model.onnx

The first version of a model is renamed with its folder, so that this is never there without one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from typing import TYPE_CHECKING

from service.errors import MISUSED, TricepsError
from service.host.files import LEFTOVER_SECONDS, sync_folder
from service.names import NAME

if TYPE_CHECKING:
    from pathlib import Path

FILE = "model.onnx"

# A folder that is being published is renamed within moments of being written.
_LEFTOVERS = (".new-", ".old-")


class PublishError(TricepsError):
    """The version could not be written; the repository is as it was."""


class WrongName(TricepsError):
    """It cannot be published under that name."""

    exit_code = MISUSED


def versions(folder: Path) -> list[int]:
    """The versions of one model's folder, oldest first; other entries are not ours to judge."""
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in folder.iterdir()
        # Plain digits without leading zeros, so that a version has one spelling.
        if re.fullmatch(r"0|[1-9][0-9]*", entry.name) and entry.is_dir()
    )


def publish(models: Path, name: str, content: bytes) -> str:
    """Write `content` as the next version of `name` and return that version.

    A reader sees the complete version or none, whenever this process is killed; two that publish
    at once get two versions.  What an earlier one that was killed left behind is removed.

    Raises:
        WrongName: no model can be called that.
        PublishError: the folder cannot be written, or the disk is full.
    """
    check_name(name)
    try:
        models.mkdir(parents=True, exist_ok=True)
        for leftover in leftovers(models):
            shutil.rmtree(leftover, ignore_errors=True)
        # Not by mkdtemp, whose folders are their owner's alone: the service may be somebody else.
        staged = models / f".new-{uuid.uuid4().hex}"
        staged.mkdir()
        try:
            (staged / "1").mkdir()
            _write(staged / "1" / FILE, content)
            sync_folder(staged)
            return _move_to_next(staged, models / name)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        message = (
            f"{models}: cannot publish {name!r}: {error.strerror or error}; nothing was changed"
        )
        raise PublishError(message) from error


def leftovers(folder: Path) -> list[Path]:
    """Hidden folders in it, of publishing and pruning, that have not been touched for long."""
    since = time.time() - LEFTOVER_SECONDS
    found = []
    for entry in folder.iterdir():
        # One that is at work may be done with its folder while we look.
        with contextlib.suppress(FileNotFoundError):
            if entry.name.startswith(_LEFTOVERS) and entry.lstat().st_mtime < since:
                found.append(entry)
    return sorted(found)


def check_name(name: str) -> None:
    """See that a model can be called that.

    Raises:
        WrongName: it cannot.
    """
    if not NAME.fullmatch(name):
        message = (
            f"model name: expected letters, digits, '_', '.' and '-', and none of the last two "
            f"first, received {name!r}"
        )
        raise WrongName(message)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _move_to_next(staged: Path, folder: Path) -> str:
    while True:
        if folder.exists():
            version = str(max(versions(folder), default=0) + 1)
            source, target = staged / "1", folder / version
        else:
            version, source, target = "1", staged, folder
        try:
            # Renaming onto a folder that holds something fails: somebody else was there before.
            source.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue
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
