"""The reloader of a model repository: what changes in it is noticed, proven, and then swapped in.

    a look ─▶ the same as before? ─▶ a second look ─▶ load and prove ─▶ swap ─▶ who follows is told
                                                                         ▲
    a request for a version that is not loaded ─▶ load and prove ────────┘

Looking is one pass over the files' stamps.  All the while requests are answered by the repository
that is current, and one that has begun to be answered ends as it began.

It is one idea: all of it is about which repository is the current one, under one lock.
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

# A file that differs between two looks this far apart is still being written.
SETTLE_SECONDS = 0.1


class Library:
    """The current repository, and what replaces it; safe to share between threads."""

    def __init__(self, path: Path, default: str = "", policy: str = "latest") -> None:
        """Load what there is.

        Raises:
            SettingsError: there is nothing at `path`, or it cannot be read.
        """
        self._path = path
        self._default = default
        self._policy = policy
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._loading: dict[Key, threading.Lock] = {}
        self._kept = Kept()
        self._follower: Follower | None = None
        self._watched_in: int | None = None
        self._trouble = ""
        # Whether models have gone, and the memory they had is still to be given back.
        self._left = False
        self.stopping = False
        # Why no answers come though the models are there; empty if they do.
        self.stalled = ""
        self._current = assemble(EMPTY, policy, default)
        # A number that changes with what is served, where others decide on that.
        self.generation: Sequence[int] = (0,)
        self._begin()

    def _begin(self) -> None:
        """Load what there is."""
        made = make(look(self._path), self._default, self._policy)
        self._swap(lambda _: made)

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """That of a service's settings."""
        return cls(settings.models, settings.default_model, settings.policy)

    @property
    def current(self) -> Repository:
        """What is served now."""
        return self._current

    def find(
        self, name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Servable:
        """As `Repository.find`, and a version that is there and not loaded is loaded now."""
        return self.having(name, version).find(name, version, alias)

    def having(self, name: str | None, version: str | None) -> Repository:
        """The repository that has a version loaded, if there is one and it is any good."""
        repository = self.current
        if version is None:
            return repository
        found = repository.on_demand(name, version)
        if found is not None:
            repository = self._load(found)
        self.note(name, version, repository)
        return repository

    def note(self, name: str | None, version: str, repository: Repository | None = None) -> None:
        """Note that a version was asked for, so that it stays if that is all that keeps it."""
        repository = repository or self.current
        key = repository.key(name, version)
        if key in repository.catalog.kept:
            self._kept.note(key)

    def reason_not_ready(self) -> str | None:
        """Why nothing should be asked now; `None` if all is well."""
        if self.stopping:
            return "it is stopping"
        return self.stalled or self.current.reason_not_ready()

    def follow(self, follower: Follower | None) -> None:
        """Tell `follower` of the current repository now, and of every other as it becomes that.

        It is called from whatever thread makes the change.
        """
        with self._lock:
            self._follower = follower
            if follower is not None:
                follower(self._current)

    def unload(self, name: str) -> None:
        """Take a model out of service: here now, and elsewhere as soon as it is noticed.

        Raises:
            NotFound: there is no such model.
            HTTPError: it cannot be taken out on its own, or the repository cannot be written.
            SettingsError: as `refresh` does.
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
            # It says why.
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
        """Have a model back in service, and look for what is new.

        Raises:
            NotFound: there is no such model.
            NotReady: there is, and it cannot serve.
            HTTPError: the repository cannot be written, where it has to be.
            SettingsError: as `refresh` does.
        """
        if name in look(self._path).unloaded:
            unmark(self._path / name)
        self.refresh()
        self.current.find(name)

    def refresh(self) -> None:
        """Look for what has changed, and serve it; also let go of what nobody asks for.

        Raises:
            SettingsError: there is nothing any more, or it cannot be read; all goes on as before.
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
            made = make(scan, self._default, self._policy, previous)
            self._swap(lambda now: self._with_late(made, previous, now))

    def watch(self, seconds: float) -> None:
        """Refresh every so many seconds from now on, in a thread of this process.

        A second call does nothing, unless it is in a fork, which no thread of its parent is in.
        """
        with self._lock:
            if seconds == 0 or self._watched_in == os.getpid():
                return
            self._watched_in = os.getpid()
        # Whoever lets go of the library is rid of its thread, too.
        arguments = (weakref.ref(self), seconds)
        threading.Thread(target=_watch, args=arguments, name="watch", daemon=True).start()

    def look_again(self) -> None:
        """Refresh, and log what is in the way of it, once."""
        trouble = ""
        try:
            self.refresh()
        except Exception as error:
            # Not even a bug may end the watch, nor fill the log once a second.
            trouble = f"{error}; what is loaded serves on"
            if trouble != self._trouble:
                log.exception("%s", trouble, exc_info=not isinstance(error, SettingsError))
        self._trouble = trouble

    def _load(self, found: Version) -> Repository:
        """Load a version that is there; one load serves all who wait for it."""
        with self._lock:
            turn = self._loading.setdefault(found.key, threading.Lock())
        with turn:
            repository = self._current
            if repository.on_demand(*found.key) is None:
                return repository
            made = later(load(found), None)
            repository = self._swap(lambda now: self._with(now, found, made))
            with self._lock:
                self._loading.pop(found.key, None)
        self._unload_idle()
        return repository

    def _with(self, now: Repository, found: Version, made: Loaded | Broken) -> Repository:
        catalog = now.catalog
        there = catalog.scan.by_name.get(found.name, {}).values()
        if found not in there or found.name in catalog.scan.unloaded:
            return now  # it was removed or unloaded, or has changed, while it was loaded
        if isinstance(made, Loaded):
            models = {**catalog.models, found.key: set_up(made, catalog.settings)}
            return self._assemble(replace(catalog, models=models, kept=catalog.kept | {found.key}))
        return self._assemble(replace(catalog, broken={**catalog.broken, found.key: made}))

    def _with_late(self, made: Repository, before: Repository, now: Repository) -> Repository:
        """What was made of `before`, and whatever has been loaded on demand since that was it."""
        for key in now.catalog.kept - before.catalog.kept - made.catalog.models.keys():
            loaded = now.catalog.models[key]
            made = self._with(made, loaded.found, loaded)
        return made

    def _assemble(self, catalog: Catalog) -> Repository:
        return assemble(catalog, self._policy, self._default)

    def _swap(self, change: Callable[[Repository], Repository]) -> Repository:
        with self._lock:
            former, self._current = self._current, change(self._current)
            self._kept.become(self._current.catalog.kept)
            _log_change(self._current, former)
            models = self._current.catalog.models
            self._left |= any(models.get(key) is not m for key, m in former.catalog.models.items())
            if self._follower is not None:
                self._follower(self._current)
            return self._current

    def _unload_idle(self) -> None:
        """Let go of models that nobody asks for; who is being answered by one has it still."""
        keys = self._kept.idle()
        if keys:
            self._swap(lambda now: self._without(now, keys))

    def _give_back(self) -> None:
        """Give back the memory of models that have gone since the last time."""
        if self._left:
            # By now, hardly anybody is being answered by them any more.
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
    """Log what is different from the repository before."""
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
