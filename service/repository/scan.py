"""What files a model repository has, found by their names and stamps; none of them is read.

A repository has these, and in place of one there may be a single model:

    <models>/<name>/<version>/model.onnx        a repository
    <models>/<name>/aliases.json                names for versions of a model
    <models>/<name>/settings.toml               what is set for the model
    <models>/<name>/unloaded                    the model is out of service
    <models>/model.onnx                         one model, called like its folder
    <models>  (a file.onnx)                     one model, called like the file
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from service.errors import SettingsError
from service.names import NAME, NAMES
from service.repository.publish import FILE, versions

if TYPE_CHECKING:
    from pathlib import Path

ALIASES = "aliases.json"
UNLOADED = "unloaded"
SETTINGS = "settings.toml"
_CHOICE = "--models or TRICEPS_MODELS"

# Of each file that belongs together: its name, and what changes when it does.  The time of its
# last change of any kind is among them, since a file that could not be read may be opened up.
Stamp = tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class Version:
    """A version's file, whether or not it is any good."""

    name: str
    version: str
    path: str
    """Of its file; no `Path`, which would take longer to make than all else of a look."""
    stamp: Stamp
    root: str = ""
    """The repository, which its files may not lead out of; empty where the file itself is named."""

    @property
    def key(self) -> tuple[str, str]:
        """What it is asked for by, whatever its file holds."""
        return self.name, self.version


@dataclass(frozen=True)
class Aliases:
    """The file that has a model's aliases."""

    name: str
    file: Path
    stamp: Stamp


@dataclass(frozen=True)
class Tuned:
    """The file that has a model's settings."""

    name: str
    file: Path
    stamp: Stamp


@dataclass(frozen=True)
class Refused:
    """A version, a view, a file of aliases or a folder that does not serve, and why."""

    name: str
    version: str | None
    reason: str


@dataclass(frozen=True)
class Scan:
    """All that is there: two that are equal say that nothing has changed in between."""

    versions: tuple[Version, ...]
    """By name, and oldest first."""
    aliases: tuple[Aliases, ...]
    refused: tuple[Refused, ...]
    """Folders that hold no version."""
    unloaded: frozenset[str] = frozenset()
    """Models that are out of service, by a file that says so."""
    unreadable: frozenset[str] = frozenset()
    """Models whose folder is there and cannot be read: what is loaded of them serves on."""
    tuned: tuple[Tuned, ...] = ()
    """Models with settings of their own."""

    @cached_property
    def by_name(self) -> dict[str, dict[str, Version]]:
        """The versions of each model, oldest first."""
        grouped = groupby(self.versions, lambda found: found.name)
        return {name: {found.version: found for found in group} for name, group in grouped}


def look(path: Path) -> Scan:
    """Find every version there is, and the folders that hold none.

    Raises:
        SettingsError: there is nothing at `path`, or it cannot be read.
    """
    try:
        return _look(path)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; choose the models by {_CHOICE}"
        raise SettingsError(message) from error


def is_one_file(path: Path) -> bool:
    """Whether there is a single model in place of a repository."""
    return path.is_file() or (path / FILE).is_file()


def settled(now: Scan, before: Scan, known: Scan) -> Scan:
    """What of `now` is done being written: in its place, what is not has what `known` has of it.

    Args:
        now: the repository.
        before: the same a moment earlier; a version that differs from then is being written.
            Aliases are not waited for: their file is small, is replaced by a rename, and one
            that is replaced all the time would never be taken.
        known: what was last taken for the repository.
    """
    still = {*before.versions, *before.tuned}
    old = {found.key: found for found in known.versions}
    found = [f if f in still else old.get(f.key) for f in now.versions]
    # Of a folder that cannot be read nobody knows that anything has changed.
    found += [f for f in known.versions if f.name in now.unreadable]
    aliases = [*now.aliases, *(a for a in known.aliases if a.name in now.unreadable)]
    settings = {entry.name: entry for entry in known.tuned}
    tuned = [t if t in still else settings.get(t.name) for t in now.tuned]
    tuned += [t for t in known.tuned if t.name in now.unreadable]
    return Scan(
        tuple(sorted((f for f in found if f is not None), key=lambda f: (f.name, int(f.version)))),
        tuple(sorted(aliases, key=lambda a: a.name)),
        now.refused,
        now.unloaded | (known.unloaded & now.unreadable),
        now.unreadable,
        tuple(t for t in tuned if t is not None),
    )


def _look(path: Path) -> Scan:
    if path.is_file():
        return _one(_as_name(path.stem), path)
    if not path.is_dir():
        message = (
            f"{path}: there is nothing there; expected a folder of models "
            f"(<name>/<version>/{FILE}), a folder with a {FILE} or an ONNX file, by {_CHOICE}"
        )
        raise SettingsError(message)
    if (path / FILE).is_file():
        return _one(_as_name(path.resolve().name), path / FILE, str(path))
    found: list[Version] = []
    aliases: list[Aliases] = []
    refused: list[Refused] = []
    unloaded: list[str] = []
    unreadable: list[str] = []
    tuned: list[Tuned] = []
    for name in _folders(path):
        if not NAME.fullmatch(name):
            reason = f"its folder's name is no model name: expected {NAMES}"
            refused.append(Refused(_shown(name), None, reason))
            continue
        folder = path / name
        try:
            numbers = _versions(folder)
            listed, mark = _beside(folder / ALIASES), _beside(folder / UNLOADED)
        except FileNotFoundError:  # it was removed while we looked
            continue
        except OSError as error:
            refused.append(Refused(name, None, f"its folder cannot be read: {error.strerror}"))
            unreadable.append(name)
            continue
        if not numbers:
            reason = f"it has no version: expected {name}/1/{FILE}"
            if (folder / FILE).exists():
                reason += f", and {FILE} is in {name} itself"
            refused.append(Refused(name, None, reason))
        for number in map(str, numbers):
            place = f"{folder}/{number}"
            found.append(Version(name, number, f"{place}/{FILE}", _stamp_folder(place), str(path)))
        if listed is not None:
            aliases.append(Aliases(name, folder / ALIASES, (listed,)))
        if mark is not None:
            unloaded.append(name)
        tuned.extend(_tuned(folder))
    return Scan(
        tuple(found),
        tuple(aliases),
        tuple(refused),
        frozenset(unloaded),
        frozenset(unreadable),
        tuple(tuned),
    )


def _versions(folder: Path) -> list[int]:
    """The versions in a folder.

    Raises:
        OSError: it cannot be read.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        folder.stat()  # which says why, or that it is gone
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return versions(folder)


def _shown(name: str) -> str:
    """A folder's name as text: it may be any bytes, of which JSON takes only UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _tuned(folder: Path) -> list[Tuned]:
    """The file of a model's settings, if there is one."""
    stamp = _stamp(folder / SETTINGS)
    return [] if stamp is None else [Tuned(folder.name, folder / SETTINGS, (stamp,))]


def _one(name: str, file: Path, root: str = "") -> Scan:
    """A repository of one file; what else is beside it may be anybody's."""
    stamp = _stamp(file)
    return Scan((Version(name, "1", str(file), () if stamp is None else (stamp,), root),), (), ())


def _stamp_folder(folder: str) -> Stamp:
    """The stamps of all files of a version: a graph may have its weights beside it."""
    try:
        with os.scandir(folder) as entries:
            # What begins with a dot is some program's own: of a copy, an editor or a file system.
            stamps = [_stamp(entry) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        return (("", error.errno or 0),)
    return tuple(sorted(stamp for stamp in stamps if stamp is not None))


def _beside(file: Path) -> tuple[str | int, ...] | None:
    """The stamp of a file that may be there; `None` only where it is known not to be.

    Raises:
        OSError: that cannot be said, now.
    """
    stamp = _stamp(file)
    if stamp is None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                file.stat()
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
    return stamp


def _stamp(file: Path | os.DirEntry[str]) -> tuple[str | int, ...] | None:
    try:
        seen = file.stat()
    except OSError:
        return None
    return (file.name, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino)


def _as_name(text: str) -> str:
    """A model name made of a file's or folder's, which may hold what no URL does."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".-")[:128] or "model"


def _folders(path: Path) -> list[str]:
    """The names of the folders of a repository, in order."""
    # What begins with a dot is being published, or is nobody's model.
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that may not be followed, which its reader is told of
        return True
