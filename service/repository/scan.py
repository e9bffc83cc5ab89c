"""The scan of a model repository: its files by name and stamp, without reading them.

A repository has these files, or one model takes the place of a repository; the file is one idea:

    <models>/<name>/<version>/model.onnx        a repository
    <models>/<name>/aliases.json                names for versions of a model
    <models>/<name>/settings.toml               what is set for the model
    <models>/<name>/traffic.json                the shares of other versions than the stable one
    <models>/<name>/unloaded                    the model is out of service
    <models>/<name>/default                     the model is the default model
    <models>/model.onnx                         one model, named after its folder
    <models>  (a file.onnx)                     one model, named after the file

The settings may give such a single model another name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

from service.errors import SettingsError
from service.names import NAME, NAMES
from service.repository.publish import DEFAULT, FILE, VERSION

ALIASES = "aliases.json"
UNLOADED = "unloaded"
SETTINGS = "settings.toml"
TRAFFIC = "traffic.json"
_CHOICE = "--models or TRICEPS_MODELS"

# For each file of a version: its name, and numbers that change when the file does.  The time of the
# last change of its status (ctime) is one of them, since a change of permissions may make an
# unreadable file readable.
Stamp = tuple[tuple[str | int, ...], ...]


@dataclass(frozen=True)
class Version:
    """The file of a version, which may or may not be able to serve."""

    name: str
    version: str
    path: str
    """The path of the file; a `str`, since making a `Path` takes longer than the rest of a scan."""
    stamp: Stamp
    root: str = ""
    """The repository, which no link may lead out of; empty if the settings name the file itself."""

    @property
    def key(self) -> tuple[str, str]:
        """The names of the model and of the version."""
        return self.name, self.version


@dataclass(frozen=True)
class Beside:
    """A small file beside the versions of a model, such as that of its aliases."""

    name: str
    """The name of the model."""
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
    """The files of a repository at one moment; two equal scans mean that nothing has changed."""

    versions: tuple[Version, ...]
    """Sorted by name, and oldest first."""
    aliases: tuple[Beside, ...]
    """Models with aliases."""
    refused: tuple[Refused, ...]
    """Folders that hold no version."""
    unloaded: frozenset[str] = frozenset()
    """Models that a file `unloaded` takes out of service."""
    unreadable: frozenset[str] = frozenset()
    """Models whose folder exists and cannot be read; their loaded versions keep serving."""
    tuned: tuple[Beside, ...] = ()
    """Models with settings of their own."""
    defaults: frozenset[str] = frozenset()
    """Models that a file `default` marks as the default model."""
    shared: tuple[Beside, ...] = ()
    """Models with shares of their traffic."""

    @cached_property
    def by_name(self) -> dict[str, dict[str, Version]]:
        """The versions of each model, oldest first."""
        grouped = groupby(self.versions, lambda entry: entry.name)
        return {name: {entry.version: entry for entry in group} for name, group in grouped}


def look(path: Path, name: str = "") -> Scan:
    """Find all versions at `path`, and the folders that hold none.

    Args:
        path: a repository, or one model in place of a repository.
        name: the name of that one model; by default, that of its folder or file.

    Raises:
        SettingsError: there is nothing at `path`, or it cannot be read.
    """
    try:
        return _look(path, name)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}; choose the models by {_CHOICE}"
        raise SettingsError(message) from error


def is_replaced(found: Version) -> bool:
    """Return whether the files of a version are others now than when they were found."""
    file = Path(found.path)
    if found.root and file.parent != Path(found.root):
        return found.stamp != _stamp_folder(str(file.parent))
    stamp = _stamp(file)
    return found.stamp != (() if stamp is None else (stamp,))


def is_one_file(path: Path) -> bool:
    """Return whether there is a single model in place of a repository."""
    return path.is_file() or (path / FILE).is_file()


def settled(now: Scan, before: Scan, known: Scan) -> Scan:
    """Return `now` without what is still being written, for which the entries of `known` stay.

    Args:
        now: the scan of this moment.
        before: the scan of a moment earlier; a version that differs from it is being written.
            Files of aliases and of shares are not waited for: they are small and replaced by a
            rename, and a file that is replaced all the time would never be taken.
        known: the scan that is in use.
    """
    still = {*before.versions, *before.tuned}
    old = {entry.key: entry for entry in known.versions}
    versions = [f if f in still else old.get(f.key) for f in now.versions]
    # The versions in a folder that cannot be read are taken to be unchanged.
    versions += [f for f in known.versions if f.name in now.unreadable]
    aliases = [*now.aliases, *(a for a in known.aliases if a.name in now.unreadable)]
    shared = [*now.shared, *(s for s in known.shared if s.name in now.unreadable)]
    settings = {entry.name: entry for entry in known.tuned}
    tuned = [t if t in still else settings.get(t.name) for t in now.tuned]
    tuned += [t for t in known.tuned if t.name in now.unreadable]
    return Scan(
        tuple(
            sorted((f for f in versions if f is not None), key=lambda f: (f.name, int(f.version)))
        ),
        tuple(sorted(aliases, key=lambda a: a.name)),
        now.refused,
        now.unloaded | (known.unloaded & now.unreadable),
        now.unreadable,
        tuple(t for t in tuned if t is not None),
        now.defaults | (known.defaults & now.unreadable),
        tuple(sorted(shared, key=lambda s: s.name)),
    )


def _look(path: Path, own_name: str) -> Scan:
    if path.is_file():
        return _one(own_name or as_name(path.stem), path)
    if not path.is_dir():
        what = "it is neither a folder nor a file" if path.exists() else "there is nothing there"
        raise SettingsError(
            f"{path}: {what}; expected a folder of models "
            f"(<name>/<version>/{FILE}), a folder with a {FILE} or an ONNX file, by {_CHOICE}"
        )
    if (path / FILE).is_file():
        return _one(own_name or as_name(path.resolve().name), path / FILE, str(path))
    found: list[Version] = []
    small: dict[str, list[Beside]] = {ALIASES: [], TRAFFIC: []}
    refused: list[Refused] = []
    marked: dict[str, list[str]] = {UNLOADED: [], DEFAULT: []}
    unreadable: list[str] = []
    tuned: list[Beside] = []
    for name in _folders(path):
        if not NAME.fullmatch(name):
            reason = f"its folder's name is no model name: expected {NAMES}"
            refused.append(Refused(_shown(name), None, reason))
            continue
        folder = f"{path}/{name}"
        try:
            beside = _folder(folder)
            numbers = sorted(int(n) for n, entry in beside.items() if _is_version(n, entry))
            stamps = {file: stamp for file in small if (stamp := _declaration(beside.get(file)))}
            marks = [mark for mark in marked if _beside(beside.get(mark)) is not None]
        except FileNotFoundError:  # the folder has been removed meanwhile
            continue
        except OSError as error:
            refused.append(Refused(name, None, f"its folder cannot be read: {error.strerror}"))
            unreadable.append(name)
            continue
        if not numbers:
            itself = f", and {FILE} is in {name} itself" if FILE in beside else ""
            reason = f"it has no version: expected {name}/1/{FILE}{itself}"
            refused.append(Refused(name, None, reason))
        for number in map(str, numbers):
            place = f"{folder}/{number}"
            found.append(Version(name, number, f"{place}/{FILE}", _stamp_folder(place), str(path)))
        for file, stamp in stamps.items():
            small[file].append(Beside(name, path / name / file, (stamp,)))
        for mark in marks:
            marked[mark].append(name)
        if SETTINGS in beside and (own := _stamp(beside[SETTINGS])) is not None:
            tuned.append(Beside(name, path / name / SETTINGS, (own,)))
    entries = (tuple(found), tuple(small[ALIASES]), tuple(refused))
    return Scan(
        *entries,
        frozenset(marked[UNLOADED]),
        frozenset(unreadable),
        tuple(tuned),
        frozenset(marked[DEFAULT]),
        tuple(small[TRAFFIC]),
    )


def _folder(folder: str) -> dict[str, os.DirEntry[str]]:
    """Return the entries of a model's folder by name.

    One call of the system lists them all; to ask for each of a thousand models whether it has
    aliases or settings would take most of the time of a scan.

    Raises:
        OSError: the folder cannot be read.
    """
    if not os.access(folder, os.R_OK | os.X_OK):
        os.stat(folder)  # noqa: PTH116  raises the error that says why, or that the folder is gone
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with os.scandir(folder) as entries:
        return {entry.name: entry for entry in entries}


def _is_version(name: str, entry: os.DirEntry[str]) -> bool:
    return VERSION.fullmatch(name) is not None and _is_folder(entry)


def _shown(name: str) -> str:
    """Return a folder's name as valid Unicode, since a name may be any bytes and JSON is UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _one(name: str, file: Path, root: str = "") -> Scan:
    """Return the scan of a single file; other files beside it are ignored."""
    stamp = _stamp(file)
    return Scan((Version(name, "1", str(file), () if stamp is None else (stamp,), root),), (), ())


def _stamp_folder(folder: str) -> Stamp:
    """Return the stamps of all files of a version, as the weights may be in files of their own."""
    try:
        with os.scandir(folder) as entries:
            # Names with a leading dot are temporary files of copies, editors or file systems.
            stamps = [_stamp(entry) for entry in entries if entry.name[0] != "."]
    except OSError as error:
        return (("", error.errno or 0),)
    return tuple(sorted(stamp for stamp in stamps if stamp is not None))


def _beside(file: os.DirEntry[str] | None) -> tuple[str | int, ...] | None:
    """Return the stamp of a file that may exist; `None` only if it certainly does not.

    Raises:
        OSError: the system cannot tell at the moment.
    """
    if file is None:
        return None
    stamp = _stamp(file)
    if stamp is None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                file.stat()
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
    return stamp


def _declaration(file: os.DirEntry[str] | None) -> tuple[str | int, ...] | None:
    """Return the stamp of a file as `_beside` does; that of shares may be a link to nowhere.

    Raises:
        OSError: the system cannot tell at the moment.
    """
    stamp = _beside(file)
    if stamp is None and file is not None and file.name == TRAFFIC:
        # Without that file, the newest version would answer all requests.
        with contextlib.suppress(FileNotFoundError):
            stamp = file.name, file.stat(follow_symlinks=False).st_mtime_ns
    return stamp


def _stamp(file: Path | os.DirEntry[str]) -> tuple[str | int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return (file.name, status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def as_name(text: str) -> str:
    """Return a valid model name made of the name of a file or folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip(".-")[:128] or "model"


def _folders(path: Path) -> list[str]:
    """Return the names of the folders of a repository, sorted."""
    # A folder with a leading dot is being published, or is not a model.
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed; reading the folder fails later and says why
        return True
