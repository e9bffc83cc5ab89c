"""The files below /models in the layers of an image, as platforms mount them.

Layers are tar archives, each of which adds files to those of the layers before it, replaces them,
or removes them by an empty file `.wh.<name>`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from service.repository.publish import FILE
from service.stores.store import StoreError, check_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from service.stores.download import Room

# The folder of an image that has the model.
MODELS = "models"
_REMOVED, _ALL_REMOVED = ".wh.", ".wh..wh..opq"
_PIECE = 2**20
# A name or a comment of a file is in memory as a whole.
_LONGEST_HEADER = 2**20
_GZIP = b"\x1f\x8b"
_MOST_FILES = 10_000


def unpack(layers: Iterable[Path], folder: Path, room: Room) -> Path:
    """Write the files below /models into a folder, and return the part of it that has the graph.

    Raises:
        StoreError: a layer is damaged, leads elsewhere, or is too large; or there is no graph, or
            more than one.
        OSError: a file cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    left = room.most
    for layer in layers:
        with layer.open("rb") as file, _inflated(file) as inflated:
            bounded = _Bounded(inflated, left, room)
            try:
                _apply(bounded, folder)
            # The last two are of headers of comments: in endless rows, or of odd numbers.
            except (
                *(tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile),
                *(RecursionError, ValueError),
            ) as error:
                raise StoreError(f"a layer of the image is damaged: {error}") from error
            left = bounded.left
    graphs = sorted(folder.rglob(FILE))
    if len(graphs) != 1:
        found = ", ".join(str(graph.relative_to(folder)) for graph in graphs[:5]) or "none"
        raise StoreError(f"expected one {FILE} below /{MODELS} of the image, found {found}")
    return graphs[0].parent


def _inflated(file: IO[bytes]) -> Any:
    is_packed = file.read(2) == _GZIP
    file.seek(0)
    if is_packed:
        return gzip.GzipFile(fileobj=file)
    return contextlib.nullcontext(file)


class _Bounded:
    """The bytes of a layer, inflated, up to a limit; few bytes may inflate to very many."""

    def __init__(self, file: IO[bytes], most: int, room: Room) -> None:
        self._file, self.left, self._room = file, most, room

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        self.left -= len(piece)
        if self.left < 0:
            raise StoreError(
                f"expected layers of at most {self._room.most} bytes ({self._room.why}), inflated, "
                "received more"
            )
        return piece


class _Member(tarfile.TarInfo):
    """An entry of an archive, whose name and comments are not endless."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if not self.isreg() and not self.isdir() and self.size > _LONGEST_HEADER:
            raise tarfile.HeaderError("the header of an entry is too large")
        return super()._proc_member(archive)  # type: ignore[misc]


def _apply(layer: _Bounded, folder: Path) -> None:
    count = 0
    with tarfile.open(fileobj=cast("Any", layer), mode="r|", tarinfo=_Member) as archive:
        for member in archive:
            archive.members = []  # type: ignore[attr-defined]  # it would keep all that it has seen
            name = member.name.removeprefix("./").strip("/")
            if not name.startswith(f"{MODELS}/") or member.isdir():
                continue
            count += 1
            if count > _MOST_FILES:
                raise StoreError(f"expected at most {_MOST_FILES} files in a layer, found more")
            _put(archive, member, name.removeprefix(f"{MODELS}/"), folder)


def _put(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, folder: Path) -> None:
    above, _, own = name.rpartition("/")
    place = folder / check_path(above) if above else folder
    if own == _ALL_REMOVED:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    elif own.startswith(_REMOVED):
        _remove(place / check_path(own.removeprefix(_REMOVED)))
    elif own.startswith("."):
        return
    else:
        # A sparse file is larger than what is read of it.
        is_plain = member.isreg() and not member.issparse()
        content = archive.extractfile(member) if is_plain else None
        if content is None:
            raise StoreError(f"/{MODELS}/{name[:200]!r}: expected a regular file in the image")
        path = place / check_path(own)
        place.mkdir(parents=True, exist_ok=True)
        _remove(path)
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, _PIECE)
            file.flush()
            os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
