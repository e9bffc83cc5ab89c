"""The library of one of several workers, which all swap to another generation at one moment.

    leader: look ─ settled ─▶ proposal ─▶ each worker: load, prove ─▶ committed ─▶ each: swap

The guarantee: once a worker has answered from a generation, no worker begins a request with an
older one.  Requests that are in flight at the swap may still be answered by the older one.
The death of a worker changes nothing; its successor serves once it has loaded what the others
serve.  A worker that cannot load what the others can, or takes too long, is replaced; until it has
ended, all workers stay with the previous generation.  What nobody can load any more is served on
where it is loaded, and answered with 503 elsewhere (see `outliving`); a successor that would answer
nothing else follows the others, and takes no connections.

The file is one idea: the steps of one worker on the way to a generation, in order.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from service.errors import SettingsError, TricepsError
from service.repository import reloader
from service.repository.assembly import make
from service.repository.budget import Budget
from service.repository.changes import with_late
from service.repository.declarations import declare
from service.repository.moves import log_moves
from service.repository.reloader import Library
from service.repository.scan import settled
from service.server import proposals
from service.server.generations import COMMITTED, DIFFER
from service.server.outliving import ALL, mask, replaced, replaced_since

if TYPE_CHECKING:
    import weakref

    from service.repository.catalog import Catalog, Key
    from service.repository.declarations import Declared
    from service.repository.repository import Repository
    from service.repository.scan import Scan
    from service.server.generations import Member
    from service.settings import Settings

log = logging.getLogger(__name__)

# The intervals at which a worker polls the shared state: while nothing happens, and while it waits.
POLL_SECONDS = 0.05
HASTE_SECONDS = 0.005
# The longest time that the others wait for a worker that is loading.
LOAD_SECONDS = 120.0
# The time after which a worker that has loaded something else than the others says so.
DIFFER_SECONDS = 5.0
# If workers come to different outcomes, the number of new tries, the time until the first one,
# which doubles after each, and the longest time.
MOST_TRIES = 5
AGAIN_SECONDS = 0.5
MOST_AGAIN_SECONDS = 60.0
# The pause between two looks, as a multiple of the time that a look takes.
LOOK_PAUSE = 50
# The longest time that a request to load or unload a model waits until all workers serve it.
REFRESH_SECONDS = 60.0
# The interval at which idle models are unloaded.
IDLE_LOOK_SECONDS = 1.0

_UNANSWERED = (
    "%s, version %s: this worker answers requests for it with 503, while others serve on what they "
    "have loaded: %s. Mend its file or its settings, or remove the version"
)


class _LoadedProposal(NamedTuple):
    """A loaded proposal, and the repository that was served when its load began."""

    number: int
    repository: Repository
    base: Repository


class SharedLibrary(Library):
    """The current repository of one of several workers."""

    def __init__(self, settings: Settings, member: Member) -> None:
        """Load what the other workers serve or, at the start, the repository together with them.

        Raises:
            SettingsError: there is nothing at the path, or it cannot be read.
        """
        self._member = member
        self._seconds = settings.watch
        self._number = 0
        self._tried = 0
        self._loaded: _LoadedProposal | None = None
        # For the leader: the proposal that it waits for, since when, and the tries so far; the
        # times of the next try and of the next look; and the requests that the last look answers.
        self._awaited = 0
        self._since = 0.0
        self._tries = 0
        self._again = 0.0
        self._next_look = 0.0
        self._asked: list[int] = []
        self._next_idle = 0.0
        self._told: set[Key] = set()
        super().__init__(
            settings.models,
            settings.default_model,
            settings.policy,
            Budget.of(settings.memory, settings.workers),
            settings.provider,
            name=settings.model_name,
        )
        self.generation = member.common

    @property
    def current(self) -> Repository:
        """The repository of the committed generation, if this worker has loaded that."""
        if self._member.committed() != self._number:
            self._adopt()
        return self._current

    def is_leader(self) -> bool:
        """Return whether this worker decides what concerns all workers."""
        return self._member.is_leader()

    def refresh(self) -> None:
        """Have the leader look, and wait until all workers serve what is there now.

        Raises:
            SettingsError: there is nothing any more, it cannot be read, or the workers do not
                finish in time; they keep serving as before.
        """
        self._look_there()
        with self._lock:
            asked = self._member.ask()
        deadline = time.monotonic() + REFRESH_SECONDS
        while not self._member.is_answered(asked):
            if time.monotonic() > deadline:
                raise SettingsError(
                    f"{self._path}: expected all workers to have loaded what is there within "
                    f"{REFRESH_SECONDS:g} s; they are not done, and the log says why"
                )
            time.sleep(HASTE_SECONDS)

    def look_again(self) -> None:
        """Ask the leader to look, without waiting for the outcome."""
        with self._lock:
            self._member.ask()

    def watch(self, seconds: float) -> None:
        """Follow the other workers in a thread from now on; as the leader, look every `seconds`."""
        self._seconds = seconds
        self._start("watch", _follow)
        self._start("load", reloader.load_in_background)

    def _begin(self) -> None:
        """Wait until this worker serves what the others do."""
        parent, logged, patience = os.getppid(), time.monotonic(), LOAD_SECONDS
        differed = False
        while self._number == 0 or self._is_of_no_use():
            soon = self.step() if self._number == 0 else self.follow_on()
            if os.getppid() != parent:
                raise TricepsError("the process that accepts connections has ended")
            # While it loads, it may take its time; but once it has, it differs from the others.
            differs = self._number > 0 or self._loaded is not None
            differs = differs and self._member.committed() > 0
            if differs and not differed:
                logged, patience = time.monotonic(), DIFFER_SECONDS
            differed = differs
            if time.monotonic() - logged > patience:
                logged, patience = time.monotonic(), LOAD_SECONDS
                self._tell_what_it_waits_for()
            time.sleep(HASTE_SECONDS if soon or self._number == 0 else POLL_SECONDS)

    def _is_of_no_use(self) -> bool:
        """Return whether this worker has nothing to answer by, while others serve something."""
        return not self._current.answering and self._member.outliving() != 0

    def _tell_what_it_waits_for(self) -> None:
        """Log that this worker does not serve, and what others may still have loaded."""
        refused = (self._current if self._loaded is None else self._loaded.repository).refused
        why = ""
        if refused:
            name, version, reason = refused[0].name, refused[0].version, refused[0].reason
            why = (
                ". Others may still serve what it has to refuse, such as "
                f"{name}{f', version {version}' if version else ''}: {reason}. "
                "Publish what can be loaded, remove the rest, or restart the service"
            )
        log.error("this worker has not loaded what others serve, and answers no requests%s", why)

    def step(self) -> bool:
        """Do what is due now: adopt, load a proposal, lead, unload idle models.

        Returns:
            Whether the next step should follow soon.

        Raises:
            SettingsError: the repository cannot be read.
        """
        member = self._member
        # The proposal is read first: what was committed before it is then adopted before the newly
        # loaded proposal replaces it in `_loaded`.
        proposed = member.proposed()
        if member.committed() != self._number:
            self._adopt()
        self._report_unanswered()
        if proposed != self._tried:
            self._load_proposal(proposed)
        if member.is_leader():
            self._lead()
        self._free_memory()
        return member.proposed() != member.committed() or member.is_asked()

    def follow_on(self) -> bool:
        """Do a step, and log its error, once, instead of raising it.

        Returns:
            Whether the next step should follow soon.
        """
        before = self._next_look, self._tried
        try:
            soon = self.step()
        except Exception as error:
            trouble = f"{error}; what is loaded serves on"
            if trouble != self._trouble:
                log.exception("%s", trouble, exc_info=not isinstance(error, TricepsError))
            # Without this, the leader would look for a missing folder without a pause.
            self._next_look = time.monotonic() + (self._seconds or 1.0)
            self._trouble = trouble
            return False
        # Most steps do nothing; only a look or a load without an error shows that all is well.
        if (self._next_look, self._tried) != before:
            self._trouble = ""
        return soon

    def _load_proposal(self, number: int) -> None:
        """Load a proposal."""
        content = self._member.read(number)
        if content is None:
            return
        self._tried = number
        # Free the memory of a proposal that was not committed.
        self._loaded = None
        base = self._current
        scan, declared = proposals.load(content)
        if self._number == 0 and self._member.committed() > 0:
            # This is a successor: others may serve what it cannot find any more.
            declared = declared._replace(replaced=declared.replaced | replaced_since(scan))
        repository = make(scan, self._choice, base, declared)
        self._loaded = _LoadedProposal(number, repository, base)
        outliving = mask(repository.catalog.outliving)
        self._member.loaded(number, proposals.outcome(repository), outliving)

    def _adopt(self) -> None:
        """Serve the committed generation, if this worker has loaded it and is admitted."""
        if self._loaded is None or not self._member.is_admitted():
            return
        self._swap(self._with_loaded)
        self._keep_to_budget()

    def _with_loaded(self, now: Repository) -> Repository:
        """Return the repository to serve from now on; one thread at a time calls this."""
        loaded = self._loaded
        if loaded is None or loaded.number != self._member.committed():
            return now
        repository = with_late(loaded.repository, loaded.base, now, self._choice)
        self._loaded = None
        self._number = loaded.number
        return repository

    def _report_unanswered(self) -> None:
        """Report which versions this worker cannot answer by, and log those that others serve."""
        catalog = self._current.catalog
        self._member.report_unanswered(mask(catalog.unanswered))
        if self._is_of_no_use():
            return
        served = {key for key in catalog.unanswered if mask([key]) & self._member.outliving()}
        for key in sorted(served - self._told):
            log.error(_UNANSWERED, *key, catalog.broken[key].reason)
        self._told = (self._told & catalog.unanswered) | served

    def _lead(self) -> None:
        """Do what is due for the leader: commit a proposal, or look and propose."""
        member, now = self._member, time.monotonic()
        proposed = member.proposed()
        if proposed > member.committed():
            if proposed != self._awaited:
                self._awaited, self._since = proposed, now
            self._conclude(now)
            return
        all_equal = member.admit()
        # A new leader continues what the others had agreed on, even if none of them is left.
        self._adopt()
        if self._number:
            # For the last leader, which may have ended before it did.
            member.greet(self._current)
        is_wrong = not all_equal or member.unanswered() != 0
        is_new = proposed == 0 or (is_wrong and now >= self._again)
        timed = self._seconds > 0 and now >= self._next_look
        if is_new or member.is_asked() or timed:
            self._look(now, is_new=is_new)

    def _conclude(self, now: float) -> None:
        """Commit the proposal if that is possible; else try again, or have workers replaced."""
        # From before the commit, after which any thread of this worker may swap.
        member, former = self._member, self._current
        decision = member.decide()
        if decision == COMMITTED:
            self._tries = 0
            self._adopt()
            log_moves(self._current, former)
            member.greet(self._current)
            member.answer(self._asked or [0] * len(member.asked()))
            self._asked = []
            return
        if decision == DIFFER and self._tries < MOST_TRIES:
            if now - self._since >= AGAIN_SECONDS * 2**self._tries:
                self._tries += 1
                self._look(now, is_new=True)
            return
        is_late = now - self._since >= LOAD_SECONDS
        if self._loaded is None:
            # This worker itself has not loaded the proposal, because of a bug, which is logged.
            if is_late:
                self._look(now, is_new=True)
            return
        if (decision == DIFFER or is_late) and (count := member.expel()):
            log.error("%d workers cannot load what the others can, and are replaced", count)

    def _look(self, now: float, *, is_new: bool) -> None:
        """Look at the repository, and propose its state if it has changed, or if `is_new`."""
        catalog = self._current.catalog
        if is_new:
            self._again = now + min(MOST_AGAIN_SECONDS, AGAIN_SECONDS * 2**self._tries)
        self._next_look = now + self._seconds
        asked = self._member.asked()
        is_new = is_new or catalog.is_due()
        scan = self._look_there()
        # A look at thousands of models takes tenths of seconds, and must not take all the time.
        took = time.monotonic() - now
        self._next_look = max(self._next_look, now + LOOK_PAUSE * took)
        if self._number:
            if scan == catalog.scan and not is_new:
                self._member.answer(asked)
                return
            time.sleep(reloader.SETTLE_SECONDS)
            scan = settled(self._look_there(), scan, catalog.scan)
            if scan == catalog.scan and not is_new:
                self._member.answer(asked)
                return
        self._member.propose(proposals.dump(scan, self._declare(scan, catalog)))
        self._asked = asked

    def _declare(self, scan: Scan, catalog: Catalog) -> Declared:
        """Return what the files declare, and what may outlive its files in some worker."""
        declared, member = declare(scan, catalog), self._member
        if member.is_alone():
            return declared
        # Of a proposal that is not committed, the workers' reports may not be complete.
        outliving = ALL if member.proposed() > self._number else member.outliving()
        return declared._replace(replaced=replaced(scan, declared, catalog, outliving))

    def _free_memory(self) -> None:
        now = time.monotonic()
        if now >= self._next_idle:
            self._next_idle = now + min(IDLE_LOOK_SECONDS, self._seconds or IDLE_LOOK_SECONDS)
            self._give_back()
            self._unload_idle()


def _follow(library: weakref.ref[SharedLibrary]) -> None:
    soon = False
    while True:
        time.sleep(HASTE_SECONDS if soon else POLL_SECONDS)
        there = library()
        if there is None:
            return
        soon = there.follow_on()
        del there
