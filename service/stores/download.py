"""The download of a version's files into a hidden folder, which the next attempt goes on with.

    <folder>/state.json       for each file, what the store said of it and how much is on the disk
    <folder>/new/…            the files

Only bytes that are certainly on the disk are kept: after a power cut, a longer file may have holes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from service.host import disk, progress
from service.host.files import read_file, sync_folder, write_file
from service.stores.pace import Pace
from service.stores.provenance import Stored
from service.stores.store import Interrupted, Replaced, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from service.stores.backoff import Backoff
    from service.stores.store import Entry, Offer, Store

STATE, NEW = "state.json", "new"
_MAX_STATE = 2**22
# The bytes after which a file is written to the disk, so that they need not be sent again.
_SYNC = 32 * 2**20
# The part of the free disk that files may take whose size nobody knows before, or says wrongly.
_SHARE = 0.9


class Room(NamedTuple):
    """The bytes that a download may take, and what sets this limit."""

    most: int
    why: str


def room(folder: Path, most: int | None) -> Room:
    """Return the room for a download: that of the disk, or what is set, if that is less."""
    free = int(disk.free(folder) * _SHARE)
    if most is not None and most < free:
        return Room(most, "--max-bytes")
    return Room(free, f"the disk of {folder} has little more")


def download(
    store: Store,
    offer: Offer,
    folder: Path,
    most: int | None,
    backoff: Backoff,
) -> dict[str, Stored]:
    """Download the files of an offer into a folder, and return what is stored by name.

    Raises:
        StoreError: a file cannot be read, is another one by now, is too large, or has another
            SHA-256 than it should have.
        OSError: a file cannot be written.
    """
    state = _State(folder)
    state.keep_only(offer)
    left = room(folder, most)
    begun = sum(state.place(entry) for entry in offer.files)
    known = sum(entry.size or 0 for entry in offer.files)
    if known - begun > left.most or (most is not None and known > most):
        raise StoreError(
            f"expected files of at most {left.most} bytes ({left.why}), received the size {known}"
        )
    stored: dict[str, Stored] = {}
    for entry in offer.files:
        taken = sum(file.size for file in stored.values())
        limit = Room(left.most + begun - taken, left.why)
        stored[entry.name] = _File(store, entry, state, limit, backoff).fetch()
    return stored


class _State:
    """What is on the disk of each file, and what the store said of it."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / NEW
        self._file = folder / STATE
        self._known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(read_file(self._file, _MAX_STATE))
            self._known = known if isinstance(known, dict) else {}

    def keep_only(self, offer: Offer) -> None:
        """Remove all files but those that the download can go on with."""
        if not any(self.place(entry) for entry in offer.files):
            shutil.rmtree(self.files, ignore_errors=True)
        self.files.mkdir(exist_ok=True)
        names = {entry.name for entry in offer.files}
        for path in sorted(self.files.rglob("*")):
            if not path.is_dir() and path.relative_to(self.files).as_posix() not in names:
                path.unlink()

    def place(self, entry: Entry) -> int:
        """Return the bytes of a file that are on the disk, if they are of the same file."""
        known = self._known.get(entry.name)
        if not entry.tag or not isinstance(known, list) or known[:2] != [entry.tag, entry.size]:
            return 0
        with contextlib.suppress(OSError):
            return min(int(known[2]), (self.files / entry.name).stat().st_size)
        return 0

    def note(self, entry: Entry, place: int) -> None:
        """Note the bytes of a file that are on the disk."""
        self._known[entry.name] = [entry.tag, entry.size, place]
        write_file(self._file, json.dumps(self._known).encode())


class _File:
    """The download of one file, which goes on after interruptions."""

    def __init__(
        self, store: Store, entry: Entry, state: _State, limit: Room, backoff: Backoff
    ) -> None:
        self._store, self._entry, self._state = store, entry, state
        self._limit, self._backoff = limit, backoff
        self._path = state.files / entry.name
        self._digest = hashlib.sha256()
        self._place = 0
        self._synced = 0

    def fetch(self) -> Stored:
        """Download the file, and compare it with what the store said of it."""
        entry = self._entry
        place = self._state.place(entry)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # In place, and only in a hidden folder that is published by a rename.
        with self._path.open("a+b", buffering=0) as file:
            with progress.shown(f"downloading {entry.name}", file, size=entry.size):
                self._go_on_at(file, place)
                try:
                    self._read_all(file)
                except BaseException:  # a signal that ends the program, too
                    with contextlib.suppress(OSError):
                        self._sync(file)
                    raise
            if self._is_wrong() and place:
                self._backoff.tell(f"{entry.name}: what was kept of it is damaged: from the start")
                self._go_on_at(file, 0)
                self._read_all(file)
            self._sync(file)
        sync_folder(self._path.parent)
        if self._is_wrong():
            self._state.note(entry, 0)
            raise StoreError(
                f"{entry.name}: expected the SHA-256 {entry.sha256}, received "
                f"{self._digest.hexdigest()}; nothing was published"
            )
        verified = "sha256" if entry.sha256 else "size" if entry.size is not None else "nothing"
        return Stored(self._digest.hexdigest(), self._place, entry.tag, verified)

    def _is_wrong(self) -> bool:
        return self._entry.sha256 not in (None, self._digest.hexdigest())

    def _go_on_at(self, file: IO[bytes], place: int) -> None:
        """Cut the file off at a place, and read what is before it, so that its digest is known."""
        file.truncate(place)
        file.seek(0)
        self._digest = hashlib.sha256()
        while piece := file.read(2**20):
            self._digest.update(piece)
        self._place = self._synced = place

    def _read_all(self, file: IO[bytes]) -> None:
        failures, farthest = 0, self._place
        while self._entry.size is None or self._place < self._entry.size:
            try:
                self._read(file)
            except Interrupted as error:
                # Of bytes that are read again from the start, only those beyond are progress.
                failures = 1 if self._place > farthest else failures + 1
                farthest = max(farthest, self._place)
                self._backoff.pause(failures, error)
                if not self._entry.tag and self._place:
                    # Without a tag, the rest could be that of another file.
                    self._go_on_at(file, 0)
            else:
                if self._entry.size is None:
                    return

    def _read(self, file: IO[bytes]) -> None:
        entry = self._entry
        reading = self._store.read(entry, self._place)
        with contextlib.closing(_generator(reading.pieces)) as pieces:
            if reading.start != self._place:
                self._go_on_at(file, 0)
            pace = Pace()
            for piece in pieces:
                self._take(file, piece)
                pace.count(len(piece), entry.name)
        if entry.size is not None and self._place < entry.size:
            raise Interrupted(
                f"{entry.name}: expected {entry.size} bytes, received {self._place}: the "
                "connection was cut"
            )

    def _take(self, file: IO[bytes], piece: bytes) -> None:
        entry = self._entry
        self._place += len(piece)
        if entry.size is not None and self._place > entry.size:
            raise Replaced(f"{entry.name}: expected {entry.size} bytes, received more")
        if self._place > self._limit.most:
            self._go_on_at(file, 0)
            raise StoreError(
                f"{entry.name}: expected at most {self._limit.most} bytes ({self._limit.why}), "
                "received more"
            )
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]
        self._digest.update(piece)
        if self._place - self._synced >= _SYNC:
            self._sync(file)

    def _sync(self, file: IO[bytes]) -> None:
        """Write the file to the disk, and then note how much of it is there."""
        os.fsync(file.fileno())
        self._state.note(self._entry, self._place)
        self._synced = self._place


def _generator(pieces: Any) -> Any:
    """Return the pieces as something that can be closed, so that a connection is."""
    return pieces if hasattr(pieces, "close") else (piece for piece in pieces)
