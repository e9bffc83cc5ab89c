"""The reloader of a model repository: it notices changes, proves them, and swaps them in.

    a look ─▶ the same as before? ─▶ a second look ─▶ load and prove ─▶ swap ─▶ follower is called
                                                                         ▲
    a request for a version that is not loaded ─▶ load and prove ────────┤
    nothing is to be done                      ─▶ load or try the next ──┘

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
from service.inference import arena
from service.repository.assembly import assemble, make
from service.repository.budget import Budget, taken
from service.repository.catalog import EMPTY
from service.repository.changes import with_late, with_outcomes, without
from service.repository.declarations import declared_in
from service.repository.kept import Kept
from service.repository.loader import Broken, later, load
from service.repository.moves import log_loads, log_moves
from service.repository.scan import Version, is_one_file, is_replaced, look, settled
from service.repository.selection import Choice
from service.repository.unloaded import mark, unmark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from service.repository.catalog import Key
    from service.repository.loader import Admit, Servable
    from service.repository.repository import Repository
    from service.repository.scan import Scan
    from service.settings import Settings

    Follower = Callable[[Repository], None]

log = logging.getLogger(__name__)

# A file that differs between two looks at this distance is still being written.
SETTLE_SECONDS = 0.1
# The interval at which the background looks for versions of which nothing is known.
IDLE_SECONDS = 1.0


class Library:
    """The current repository, and the changes that replace it; threads may share a library."""

    def __init__(  # noqa: PLR0913  (the settings that say what is served)
        self,
        path: Path,
        default: str = "",
        policy: str = "latest",
        budget: Budget | None = None,
        provider: str = "",
        *,
        name: str = "",
    ) -> None:
        """Load the repository.

        Args:
            path: a repository, the folder of a model, or a file.
            default: the model that answers a request that names none; empty for that of
                the files.
            policy: "latest", "all" or "pinned".
            budget: the memory that models may take; by default, any.
            provider: the execution provider of models whose settings name none.
            name: the name of the model, if `path` is no repository; by default, that of the path.

        Raises:
            SettingsError: there is nothing at `path`, or it cannot be read.
        """
        self._path = path
        self._name = name
        # A single file has no aliases, so that its only version could never be pinned.
        policy = "latest" if is_one_file(path) else policy
        self._budget = Budget() if budget is None else budget
        self._choice = Choice(policy, default, self._budget, provider)
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._loading: dict[Key, threading.Lock] = {}
        self.kept = Kept()
        self._follower: Follower | None = None
        # The process that has started each thread.
        self._threads: dict[str, int] = {}
        self._trouble = ""
        # Whether models have been unloaded whose memory is still to be given back to the system.
        self._left = False
        self.stopping = False
        # The watchdog's reason why a loaded model does not answer; empty if all answer.
        self.stalled = ""
        self._current = assemble(EMPTY, self._choice)
        # The number of the generation, if several workers agree on what is served; else always 0.
        self.generation: Sequence[int] = (0,)
        self._begin()

    def _begin(self) -> None:
        """Load the repository for the first time."""
        former = self._current
        repository = make(self._look_there(), self._choice)
        log_moves(self._swap(lambda _: repository), former)

    def _look_there(self) -> Scan:
        """Return what is there now.

        Raises:
            SettingsError: there is nothing any more, or it cannot be read.
        """
        return look(self._path, self._name)

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """Return the library of a service's settings."""
        return cls(
            settings.models,
            settings.default_model,
            settings.policy,
            Budget.of(settings.memory, 1),
            settings.provider,
            name=settings.model_name,
        )

    @property
    def current(self) -> Repository:
        """The repository that is served now."""
        return self._current

    def find(
        self, name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Servable:
        """Return a servable as `Repository.find` does, after loading its version if need be."""
        return self.having(name, version, alias).find(name, version, alias)

    def having(
        self, name: str | None, version: str | None = None, alias: str | None = None
    ) -> Repository:
        """Return the current repository, after loading what a request needs if that is not loaded.

        Args:
            name: the name of a model or view; by default, the default model.
            version: a version; by default, the one that answers for the model.
            alias: an alias, in place of a version.
        """
        repository, last = self.current, None
        # An older version is needed if the newest turns out to be unable to serve.
        while (found := repository.on_demand(name, version, alias)) not in (None, last):
            repository, last = self._load(found, self._make_room), found
        servable = repository.loaded(name, version, alias)
        if servable is not None:
            servable.model.asked = time.perf_counter()
        if version is not None:
            self.note(name, version, repository)
        return repository

    def note(self, name: str | None, version: str, repository: Repository | None = None) -> None:
        """Note a request for a version, so that a kept version stays loaded."""
        repository = repository or self.current
        key = repository.key(name, version)
        if key in repository.catalog.kept:
            self.kept.note(key)

    def is_leader(self) -> bool:
        """Return whether this process decides what concerns the whole service."""
        return True

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
        if name in self._look_there().unloaded:
            unmark(self._path / name)
        self.refresh()
        self.find(name)

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
            before = self._look_there()
            is_due = catalog.is_due()
            if before == known and not is_due:
                return
            time.sleep(SETTLE_SECONDS)
            scan = settled(self._look_there(), before, known)
            if scan == known and not is_due:
                return
            previous = self._current
            repository = make(scan, self._choice, previous)
            log_moves(
                self._swap(lambda now: with_late(repository, previous, now, self._choice)), previous
            )
            self._keep_to_budget()

    def watch(self, seconds: float) -> None:
        """Refresh every `seconds` from now on, in a thread of this process; 0 for never.

        Another thread loads and tries the versions of which nothing is known yet.

        A second call does nothing, except in a forked process, which has no thread of its parent.
        """
        self._start("load", load_in_background)
        if seconds > 0:
            self._start("watch", _watch, seconds)

    def _start(self, name: str, follow: Callable[..., None], *arguments: float) -> None:
        """Start a thread of this process, unless it has one of that name."""
        if self._threads.get(name) == os.getpid():
            return
        with self._lock:
            if self._threads.get(name) == os.getpid():
                return
            self._threads[name] = os.getpid()
        # By a weak reference, so that the thread ends once the library is no longer used.
        thread = threading.Thread(
            target=follow, args=(weakref.ref(self), *arguments), name=name, daemon=True
        )
        thread.start()

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

    def load_more(self) -> bool:
        """Load the next version of which nothing is known, or only try it if there is no room.

        Returns:
            Whether there was one.
        """
        unknown = self.current.catalog.unknown
        if not unknown:
            return False
        self._load(unknown[0], self._has_room)
        return True

    def _load(self, found: Version, admit: Admit) -> Repository:
        """Load a version of the scan; threads that want the same version wait for one load."""
        with self._lock:
            turn = self._loading.setdefault(found.key, threading.Lock())
        with turn:
            repository = self._current
            if repository.on_demand(*found.key) is None:
                return repository
            execution = repository.catalog.execution(found.name)
            former = repository.catalog.broken.get(found.key)
            outcome = later(load(found, execution, admit), former)
            if isinstance(outcome, Broken) and found.key in repository.catalog.selected:
                repository = self._select_another(outcome)
            else:
                repository = self._swap(lambda now: with_outcomes(now, [outcome], self._choice))
            with self._lock:
                self._loading.pop(found.key, None)
        if isinstance(outcome, Broken) and is_replaced(found):
            self.look_again()
            return self.current
        self._unload_idle()
        self._keep_to_budget()
        # As it was at the swap: others may have needed the memory since.
        return repository

    def _select_another(self, broken: Broken) -> Repository:
        """Have an older version, or none, answer in place of one that cannot serve."""
        while True:
            now = self._current
            known = with_outcomes(now, [broken], self._choice)
            if known is now:
                return now
            declared = declared_in(known.catalog)
            # Other workers would still serve the former file of what is tried again here alone.
            choice = replace(self._choice, tries_again=False)
            repository = make(known.catalog.scan, choice, known, declared)
            # Another change may have come first, since this one may have loaded a version.
            if self._swap(lambda late: repository if late is now else late) is repository:  # noqa: B023  called at once
                return repository

    def _make_room(self, size: int) -> bool:
        """Unload the versions that were requested least recently, if that is needed.

        Raises:
            ModelRefused, Shortage: a version of `size` bytes does not fit into the budget.
        """
        self._budget.check(size)
        catalog = self._current.catalog
        keys = self._budget.to_unload(catalog, self._held(), size)
        if keys:
            self._swap(lambda now: without(now, keys, self._choice))
        return True

    def _has_room(self, size: int) -> bool:
        self._budget.check(size)
        return size + taken(self._current.catalog) <= self._budget.size

    def _keep_to_budget(self) -> None:
        """Unload versions if models that stay, or two loads at once, are beyond the budget."""
        keys = self._budget.to_unload(self._current.catalog, self._held())
        if keys:
            self._swap(lambda now: without(now, keys, self._choice))

    def _held(self) -> frozenset[str]:
        """Return the models that stay loaded; the default model may be a view of one of them."""
        owner, _ = self._current.key(None, "")
        return self._current.catalog.held | {owner}

    def _swap(self, change: Callable[[Repository], Repository]) -> Repository:
        with self._lock:
            former, self._current = self._current, change(self._current)
            if self._current is former:
                return former
            self.kept.become(self._current.catalog.kept)
            log_loads(self._current, former)
            models = self._current.catalog.models
            self._left |= any(models.get(key) is not m for key, m in former.catalog.models.items())
            if self._follower is not None:
                self._follower(self._current)
            return self._current

    def _unload_idle(self) -> None:
        """Unload idle versions; requests in flight still hold the models that answer them."""
        keys = self.kept.idle()
        if keys:
            self._swap(lambda now: without(now, keys & now.catalog.kept, self._choice))

    def _give_back(self) -> None:
        """Give the memory of models that have been unloaded since the last call to the system."""
        if self._left:
            # By now, hardly any requests are still being answered by them.
            self._left = False
            arena.shrink()
            allocator.give_back()


def _watch(library: weakref.ref[Library], seconds: float) -> None:
    while True:
        time.sleep(seconds)
        there = library()
        if there is None:
            return
        there.look_again()
        del there


def load_in_background(library: weakref.ref[Library]) -> None:
    """Load the versions of which nothing is known, until the library is no longer used."""
    pause = threading.Event()
    while True:
        there = library()
        if there is None:
            return
        began = time.monotonic()
        try:
            more = there.load_more()
        except Exception:
            log.exception("a version could not be loaded in the background")
            more = False
        del there
        # Requests have at least half of the processor.
        pause.wait(time.monotonic() - began if more else IDLE_SECONDS)
