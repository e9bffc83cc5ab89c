"""The reloader of a model repository: it notices changes, proves them, and swaps them in.

    a look ─▶ the same as before? ─▶ a second look ─▶ load and prove ─▶ swap ─▶ follower is called
                                                                         ▲
    a request for a version that is not loaded ─▶ load and prove ────────┘

A look is one pass over the stamps of the files.  Meanwhile, requests are answered from the current
repository, and a request that has begun keeps the repository that it began with.

The file is one idea: the choice of the current repository, under one lock.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import HTTPError, SettingsError
from service.host import allocator
from service.repository.assembly import assemble, make
from service.repository.catalog import EMPTY, Catalog, set_up
from service.repository.kept import Kept
from service.repository.loader import Loaded, later, load
from service.repository.moves import log_moves
from service.repository.scan import UNLOADED, Version, is_one_file, look, settled
from service.repository.unloaded import mark, unmark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from service.repository.catalog import Key
    from service.repository.loader import Broken, Servable
    from service.repository.repository import Repository
    from service.settings import Settings

    Follower = Callable[[Repository], None]

log = logging.getLogger(__name__)

# A file that differs between two looks at this distance is still being written.
SETTLE_SECONDS = 0.1


class Library:
    """The current repository, and the changes that replace it; threads may share a library."""

    def __init__(self, path: Path, default: str = "", policy: str = "latest") -> None:
        """Load the repository.

        Args:
            path: a repository, the folder of a model, or a file.
            default: the model that answers a request that names none; empty for that of
                the files.
            policy: "latest", "all" or "pinned".

        Raises:
            SettingsError: there is nothing at `path`, or it cannot be read.
        """
        self._path = path
        self._default = default
        # A single file has no aliases, so that its only version could never be pinned.
        self._policy = "latest" if is_one_file(path) else policy
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._loading: dict[Key, threading.Lock] = {}
        self.kept = Kept()
        self._follower: Follower | None = None
        self._watched_in: int | None = None
        self._trouble = ""
        # Whether models have been unloaded whose memory is still to be given back to the system.
        self._left = False
        self.stopping = False
        # The watchdog's reason why a loaded model does not answer; empty if all answer.
        self.stalled = ""
        self._current = assemble(EMPTY, policy, default)
        # The number of the generation, if several workers agree on what is served; else always 0.
        self.generation: Sequence[int] = (0,)
        self._begin()

    def _begin(self) -> None:
        """Load the repository for the first time."""
        former = self._current
        repository = make(look(self._path), self._default, self._policy)
        log_moves(self._swap(lambda _: repository), former)

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """Return the library of a service's settings."""
        return cls(settings.models, settings.default_model, settings.policy)

    @property
    def current(self) -> Repository:
        """The repository that is served now."""
        return self._current

    def find(
        self, name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Servable:
        """Return a servable as `Repository.find` does, after loading its version if need be."""
        return self.having(name, version).find(name, version, alias)

    def having(self, name: str | None, version: str | None) -> Repository:
        """Return the current repository, after loading a version if that is loaded on demand."""
        repository = self.current
        if version is None:
            return repository
        found = repository.on_demand(name, version)
        if found is not None:
            repository = self._load(found)
        self.note(name, version, repository)
        return repository

    def note(self, name: str | None, version: str, repository: Repository | None = None) -> None:
        """Note a request for a version, so that a kept version stays loaded."""
        repository = repository or self.current
        key = repository.key(name, version)
        if key in repository.catalog.kept:
            self.kept.note(key)

    def reason_not_ready(self) -> str | None:
        """Return the reason why the service is not ready; `None` if it is ready."""
        if self.stopping:
            return "it is stopping"
        return self.stalled or self.current.reason_not_ready()

    def follow(self, follower: Follower | None) -> None:
        """Call `follower` with the current repository now, and with each that replaces it.

        The thread that makes the change calls it.  `None` removes the follower.
        """
        with self._lock:
            self._follower = follower
            if follower is not None:
                follower(self._current)

    def unload(self, name: str) -> None:
        """Take a model out of service: here now, and in other services once they notice.

        Raises:
            NotFound: there is no such model.
            HTTPError: the model cannot be unloaded alone, or the repository cannot be written.
            SettingsError: the repository cannot be read.
        """
        self.refresh()
        repository = self.current
        owner, _ = repository.key(name, "")
        if owner != name:
            message = (
                f"unload {name!r}: it is a view of a model, and goes and comes with that: "
                "unload the model"
            )
            raise HTTPError(400, message)
        if name not in repository.catalog.scan.by_name:
            # Raises the error that gives the reason.
            repository.find(name)
        if is_one_file(self._path):
            message = (
                f"unload {name!r}: {self._path} is one model and no repository of models, so "
                "nothing else would be left: stop the service"
            )
            raise HTTPError(409, message)
        mark(self._path / name)
        self.refresh()

    def load(self, name: str) -> None:
        """Take a model back into service, and look for other changes too.

        Raises:
            NotFound: there is no such model.
            NotReady: the model exists, and cannot serve.
            HTTPError: the mark of an unloaded model cannot be removed.
            SettingsError: the repository cannot be read.
        """
        if name in look(self._path).unloaded:
            unmark(self._path / name)
        self.refresh()
        self.current.find(name)

    def refresh(self) -> None:
        """Look for changes in the repository, and serve them; also unload idle versions.

        Raises:
            SettingsError: there is nothing any more, or it cannot be read; what is loaded serves
                on.
        """
        with self._refreshing:
            self._give_back()
            self._unload_idle()
            catalog = self._current.catalog
            known = catalog.scan
            before = look(self._path)
            is_due = catalog.is_due()
            if before == known and not is_due:
                return
            time.sleep(SETTLE_SECONDS)
            scan = settled(look(self._path), before, known)
            if scan == known and not is_due:
                return
            previous = self._current
            repository = make(scan, self._default, self._policy, previous)
            log_moves(self._swap(lambda now: self._with_late(repository, previous, now)), previous)

    def watch(self, seconds: float) -> None:
        """Refresh every `seconds` from now on, in a thread of this process; 0 for never.

        A second call does nothing, except in a forked process, which has no thread of its parent.
        """
        with self._lock:
            if seconds == 0 or self._watched_in == os.getpid():
                return
            self._watched_in = os.getpid()
        # By a weak reference, so that the thread ends once the library is no longer used.
        arguments = (weakref.ref(self), seconds)
        threading.Thread(target=_watch, args=arguments, name="watch", daemon=True).start()

    def look_again(self) -> None:
        """Refresh, and log an error, once, instead of raising it."""
        trouble = ""
        try:
            self.refresh()
        except Exception as error:
            # Not even a bug may end the watch, or fill the log with an entry every second.
            trouble = f"{error}; what is loaded serves on"
            if trouble != self._trouble:
                log.exception("%s", trouble, exc_info=not isinstance(error, SettingsError))
        self._trouble = trouble

    def _load(self, found: Version) -> Repository:
        """Load a version of the scan; threads that want the same version wait for one load."""
        with self._lock:
            turn = self._loading.setdefault(found.key, threading.Lock())
        with turn:
            repository = self._current
            if repository.on_demand(*found.key) is None:
                return repository
            outcome = later(load(found), None)
            repository = self._swap(lambda now: self._with(now, found, outcome))
            with self._lock:
                self._loading.pop(found.key, None)
        self._unload_idle()
        return repository

    def _with(self, now: Repository, found: Version, outcome: Loaded | Broken) -> Repository:
        catalog = now.catalog
        versions = catalog.scan.by_name.get(found.name, {}).values()
        if found not in versions or found.name in catalog.scan.unloaded:
            return now  # the version was removed, unloaded or changed while it was being loaded
        if isinstance(outcome, Loaded):
            models = {**catalog.models, found.key: set_up(outcome, catalog.settings)}
            return self._assemble(replace(catalog, models=models, kept=catalog.kept | {found.key}))
        return self._assemble(replace(catalog, broken={**catalog.broken, found.key: outcome}))

    def _with_late(self, repository: Repository, before: Repository, now: Repository) -> Repository:
        """Return a repository with the versions that were loaded on demand while it was made.

        Args:
            repository: the new repository, made from `before`.
            before: the repository that was current when the work began.
            now: the repository that is current now.
        """
        for key in now.catalog.kept - before.catalog.kept - repository.catalog.models.keys():
            loaded = now.catalog.models[key]
            repository = self._with(repository, loaded.found, loaded)
        return repository

    def _assemble(self, catalog: Catalog) -> Repository:
        return assemble(catalog, self._policy, self._default)

    def _swap(self, change: Callable[[Repository], Repository]) -> Repository:
        with self._lock:
            former, self._current = self._current, change(self._current)
            self.kept.become(self._current.catalog.kept)
            _log_change(self._current, former)
            models = self._current.catalog.models
            self._left |= any(models.get(key) is not m for key, m in former.catalog.models.items())
            if self._follower is not None:
                self._follower(self._current)
            return self._current

    def _unload_idle(self) -> None:
        """Unload idle versions; requests in flight still hold the models that answer them."""
        keys = self.kept.idle()
        if keys:
            self._swap(lambda now: self._without(now, keys))

    def _give_back(self) -> None:
        """Give the memory of models that have been unloaded since the last call to the system."""
        if self._left:
            # By now, hardly any requests are still being answered by them.
            self._left = False
            allocator.give_back()

    def _without(self, now: Repository, keys: set[Key]) -> Repository:
        catalog = now.catalog
        keys = keys & catalog.kept
        models = {key: loaded for key, loaded in catalog.models.items() if key not in keys}
        return self._assemble(replace(catalog, models=models, kept=catalog.kept - keys))


def _watch(library: weakref.ref[Library], seconds: float) -> None:
    while True:
        time.sleep(seconds)
        there = library()
        if there is None:
            return
        there.look_again()
        del there


def _log_change(now: Repository, former: Repository) -> None:
    """Log the differences from the previous repository."""
    known = {*former.refused}
    for entry in now.refused:
        if entry not in known:
            version = "" if entry.version is None else f", version {entry.version}"
            log.warning("refused %s%s: %s", entry.name, version, entry.reason)
    before = former.catalog.scan.unloaded
    for name in sorted(now.catalog.scan.unloaded - before):
        log.warning("%s is out of service: the file %s/%s says so", name, name, UNLOADED)
    models = former.catalog.models
    for key, loaded in now.catalog.models.items():
        if models.get(key) is not loaded:
            on_demand = " on demand" if key in now.catalog.kept else ""
            batching = {"batching": str(loaded.servable.model.batching)}
            log.info("serving %s, version %s%s", *key, on_demand, extra=batching)
    for key in sorted(models.keys() - now.catalog.models.keys()):
        log.info("unloaded %s, version %s", *key)
