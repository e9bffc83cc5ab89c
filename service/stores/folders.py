"""The version that a folder of a store has: itself, or the newest of its numbered folders.

<folder>/model.onnx             the folder is a version
<folder>/<version>/model.onnx   the folder is a model, as in a repository
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from service.repository.publish import FILE, MAX_DIGITS, VERSION
from service.stores.store import Entry, Offer, StoreError, as_sha256, check_path
from service.wire.body import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A version has a graph and its weights; a folder of more files is something else.
MOST_FILES = 1000
# The ending of a small file that has the SHA-256 of the file beside it, as sha256sum writes it.
DIGEST = ".sha256"
# The provenance of a version, which a store may have from another repository.
PROVENANCE = "source.json"


class Listed(NamedTuple):
    """The entries of a folder: the names of folders in it, and its files."""

    folders: list[str]
    files: list[Entry]


class Folders(Protocol):
    """A store that has folders."""

    def list(self, path: str) -> Listed:
        """Return the entries of a folder, whose path is relative to the source."""

    def walk(self, path: str) -> Iterable[Entry]:
        """Yield all files below a folder; their names are relative to it."""

    def small(self, entry: Entry) -> bytes:
        """Return the content of a small file."""


def offer(store: Folders, shown: str, number: str | None) -> Offer:
    """Return the version that the folder of a source has.

    Args:
        store: the store, at the folder.
        shown: the source, for messages.
        number: the number of the version, if the source names it.

    Raises:
        StoreError: it has none.
    """
    listed = store.list("")
    if _has_model(listed):
        return Offer(number, tuple(_files(store, "", shown)))
    names = [n for n in listed.folders if VERSION.fullmatch(n) and len(n) < MAX_DIGITS]
    numbers = sorted(map(int, names), reverse=True)
    for newest in map(str, numbers):
        # A folder without a graph is being written: its version does not exist yet.
        if _has_model(store.list(newest)):
            return Offer(newest, tuple(_files(store, newest, shown)))
    there = listing(sorted([*(f"{n}/" for n in listed.folders), *(f.name for f in listed.files)]))
    raise StoreError(f"{shown}: expected {FILE} or <version>/{FILE}, found {there or 'nothing'}")


def _has_model(listed: Listed) -> bool:
    return any(entry.name == FILE for entry in listed.files)


def _files(store: Folders, path: str, shown: str) -> Iterator[Entry]:
    """Yield the files of a version, with the SHA-256 that lies beside them."""
    entries: dict[str, Entry] = {}
    for entry in store.walk(path):
        # Names with a leading dot are temporary files, as in a repository.
        if any(part.startswith(".") and part != ".." for part in entry.name.split("/")):
            continue
        entries[check_path(entry.name)] = entry
        if len(entries) > MOST_FILES:
            raise StoreError(f"{shown}: expected at most {MOST_FILES} files, found more")
    for name, entry in sorted(entries.items()):
        if name == PROVENANCE or (name.endswith(DIGEST) and name.removesuffix(DIGEST) in entries):
            continue
        beside = entries.get(name + DIGEST)
        yield entry if beside is None else replace(entry, sha256=digest(store, beside))


def digest(store: Folders, beside: Entry) -> str:
    """Return the SHA-256 that a file has beside it.

    Raises:
        StoreError: the file has something else.
    """
    words = store.small(beside).decode("ascii", "replace").split()
    stated = as_sha256(words[0]) if words else None
    if stated is None:
        raise StoreError(
            f"{beside.key}: expected a SHA-256 of 64 digits, as sha256sum writes it, received "
            f"{' '.join(words)[:80]!r}"
        )
    return stated
