"""The mark that takes a model out of service: an empty file beside its versions.

    <models>/<name>/unloaded

Every process sees it as it sees a new version, a restarted one too, and so does every other service
of the same repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import HTTPError
from service.host.files import FileError, sync_folder, write_file
from service.repository.scan import UNLOADED

if TYPE_CHECKING:
    from pathlib import Path

# The repository is as it is, and to ask again does not change it.
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
    """Have the model of a folder, which is marked, back in service.

    Raises:
        HTTPError: the repository cannot be written.
    """
    try:
        (folder / UNLOADED).unlink(missing_ok=True)
        # Or it would be back after a power cut.
        sync_folder(folder)
    except OSError as error:
        message = (
            f"load {folder.name!r}: {folder / UNLOADED}: cannot be removed: "
            f"{error.strerror or error}. Let the service write into its repository, or remove "
            "that file yourself"
        )
        raise HTTPError(_CONFLICT, message) from error
