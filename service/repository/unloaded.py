"""The mark that takes a model out of service: an empty file beside its versions.

    <models>/<name>/unloaded

Every process notices the file as it notices a new version, also after a restart, and so does every
other service with the same repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import HTTPError
from service.host.files import FileError, sync_folder, write_file
from service.repository.scan import UNLOADED

if TYPE_CHECKING:
    from pathlib import Path

# 409, since the same request would fail again until someone changes the repository's permissions.
_CONFLICT = 409


def mark(folder: Path) -> None:
    """Take the model of a folder out of service.

    Raises:
        HTTPError: the repository cannot be written.
    """
    try:
        write_file(folder / UNLOADED, b"")
    except FileError as error:
        message = (
            f"unload {folder.name!r}: {error}. Let the service write into its repository, or put "
            "an empty file of that name there yourself"
        )
        raise HTTPError(_CONFLICT, message) from error


def unmark(folder: Path) -> None:
    """Take the model of a marked folder back into service.

    Raises:
        HTTPError: the repository cannot be written.
    """
    try:
        (folder / UNLOADED).unlink(missing_ok=True)
        # Otherwise the file might exist again after a power cut.
        sync_folder(folder)
    except OSError as error:
        message = (
            f"load {folder.name!r}: {folder / UNLOADED}: cannot be removed: "
            f"{error.strerror or error}. Let the service write into its repository, or remove "
            "that file yourself"
        )
        raise HTTPError(_CONFLICT, message) from error
