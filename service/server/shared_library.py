"""The repository that several workers serve as one: all swap to another state at one moment.

    leader: look ─ settled ─▶ proposal ─▶ each worker: load, prove ─▶ committed ─▶ each: swap

What holds: once an answer by a generation has been sent, no request that is begun after that is
answered by an older one, by any worker.  Requests that were on their way at that moment may be.
A worker that dies changes nothing; its successor serves once it has loaded what the others serve.
One that cannot load what the others can, or does not within a bound, is replaced, and all stay
with the generation before until it is gone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple

from service.errors import SettingsError, TricepsError
from service.repository import reloader
from service.repository.assembly import make
from service.repository.declarations import declare
from service.repository.reloader import Library
from service.repository.scan import look, settled
from service.server import proposals
from service.server.generations import COMMITTED, DIFFER

if TYPE_CHECKING:
    from service.repository.repository import Repository
    from service.server.generations import Member
    from service.settings import Settings

log = logging.getLogger(__name__)

# How often a worker looks at what the others say: while nothing happens, and while it waits.
POLL_SECONDS = 0.05
HASTE_SECONDS = 0.005
# How long the others wait for a worker that is loading.
LOAD_SECONDS = 120.0
# How often it is tried again, ever later, when workers have come to different outcomes.
MOST_TRIES = 5
AGAIN_SECONDS = 0.5
MOST_AGAIN_SECONDS = 60.0
# How long somebody who has changed the repository waits for that to be served.
REFRESH_SECONDS = 60.0
# How often models that nobody asks for are let go.
IDLE_LOOK_SECONDS = 1.0


class _Prepared(NamedTuple):
    """A proposal that is loaded, and what was served when that was begun."""

    number: int
    made: Repository
    base: Repository


class SharedLibrary(Library):
    """The current repository of one of several workers."""

    def __init__(self, settings: Settings, member: Member) -> None:
        """Load what the others serve, or with them what there is.

        Raises:
            SettingsError: there is nothing at the path, or it cannot be read.
        """
        self._member = member
        self._seconds = settings.watch
        self._number = 0
        self._tried = 0
        self._prepared: _Prepared | None = None
        # The leader's: which proposal it waits for, since when, how often it came to nothing; when
        # it is to look again; and who had asked for its last look.
        self._awaited = 0
        self._since = 0.0
        self._tries = 0
        self._again = 0.0
        self._next_look = 0.0
        self._asked: list[int] = []
        self._next_idle = 0.0
        super().__init__(settings.models, settings.default_model, settings.policy)
        self.generation = member.common

    @property
    def current(self) -> Repository:
        """What is committed now."""
        if self._member.committed() != self._number:
            self._adopt()
        return self._current

    def refresh(self) -> None:
        """Have all workers serve what there is now.

        Raises:
            SettingsError: there is nothing any more, or it cannot be read, or they do not come to
                an end with it; all goes on as before.
        """
        look(self._path)
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
        """Have the leader look, without waiting for it."""
        with self._lock:
            self._member.ask()

    def watch(self, seconds: float) -> None:
        """Follow the others from now on, in a thread; as leader, look every so many seconds."""
        self._seconds = seconds
        arguments = (weakref.ref(self),)
        threading.Thread(target=_follow, args=arguments, name="watch", daemon=True).start()

    def _begin(self) -> None:
        """Wait until this worker serves what the others do."""
        parent, told = os.getppid(), time.monotonic()
        while self._number == 0:
            self.step()
            if os.getppid() != parent:
                raise TricepsError("the process that accepts connections has ended")
            if time.monotonic() - told > LOAD_SECONDS:
                told = time.monotonic()
                log.error("this worker has not loaded what the others serve, and takes no part")
            time.sleep(HASTE_SECONDS)

    def step(self) -> bool:
        """Do what is to be done now; whether more is to come soon.

        Raises:
            SettingsError: the repository cannot be looked at.
        """
        member = self._member
        # In this order: whatever was committed before that was proposed is seen to be, and is
        # served before what it had loaded of it makes way.
        proposed = member.proposed()
        if member.committed() != self._number:
            self._adopt()
        if proposed != self._tried:
            self._prepare(proposed)
        if member.is_leader():
            self._lead()
        self._let_go()
        return member.proposed() != member.committed() or member.is_asked()

    def follow_on(self) -> bool:
        """As `step`; what is in the way of it is logged, once."""
        before = self._next_look, self._tried
        try:
            soon = self.step()
        except Exception as error:
            trouble = f"{error}; what is loaded serves on"
            if trouble != self._trouble:
                log.exception("%s", trouble, exc_info=not isinstance(error, TricepsError))
            # Else a folder that is gone would be looked for as fast as can be.
            self._next_look = time.monotonic() + (self._seconds or 1.0)
            self._trouble = trouble
            return False
        # Most steps do nothing; only by a look or a load is it known that all is well again.
        if (self._next_look, self._tried) != before:
            self._trouble = ""
        return soon

    def _prepare(self, number: int) -> None:
        """Load a proposal."""
        content = self._member.read(number)
        if content is None:
            return
        self._tried = number
        # What has come to nothing needs its memory no more.
        self._prepared = None
        base = self._current
        scan, declared = proposals.load(content)
        made = make(scan, self._default, self._policy, base, declared)
        self._prepared = _Prepared(number, made, base)
        self._member.prepared(number, proposals.outcome(made))

    def _adopt(self) -> None:
        """Serve what is committed, if this worker has loaded that and takes part."""
        if self._prepared is None or not self._member.is_admitted():
            return
        self._swap(self._with_prepared)

    def _with_prepared(self, now: Repository) -> Repository:
        """What is served from now on; called by one thread at a time."""
        prepared = self._prepared
        if prepared is None or prepared.number != self._member.committed():
            return now
        made = self._with_late(prepared.made, prepared.base, now)
        self._prepared = None
        self._number = prepared.number
        return made

    def _lead(self) -> None:
        """Look, propose, and commit."""
        member, now = self._member, time.monotonic()
        proposed = member.proposed()
        if proposed > member.committed():
            if proposed != self._awaited:
                self._awaited, self._since = proposed, now
            self._conclude(now)
            return
        all_equal = member.admit()
        is_new = proposed == 0 or (not all_equal and now >= self._again)
        timed = self._seconds > 0 and now >= self._next_look
        if is_new or member.is_asked() or timed:
            self._look(now, is_new=is_new)

    def _conclude(self, now: float) -> None:
        """Commit what was proposed, if it can be; or try again, or have workers replaced."""
        decision = self._member.decide()
        if decision == COMMITTED:
            self._tries = 0
            self._adopt()
            self._member.answer(self._asked or [0] * len(self._member.asked()))
            self._asked = []
            return
        if decision == DIFFER and self._tries < MOST_TRIES:
            if now - self._since >= AGAIN_SECONDS * 2**self._tries:
                self._tries += 1
                self._look(now, is_new=True)
            return
        is_late = now - self._since >= LOAD_SECONDS
        if self._prepared is None:
            # It is this worker that has not loaded it, by a bug, which is logged.
            if is_late:
                self._look(now, is_new=True)
            return
        if (decision == DIFFER or is_late) and (count := self._member.expel()):
            log.error("%d workers do not load what the others do, and are replaced", count)

    def _look(self, now: float, *, is_new: bool) -> None:
        """Look, and propose what is found if it is another state, or if `is_new`."""
        catalog = self._current.catalog
        if is_new:
            self._again = now + min(MOST_AGAIN_SECONDS, AGAIN_SECONDS * 2**self._tries)
        self._next_look = now + self._seconds
        asked = self._member.asked()
        is_new = is_new or catalog.is_due()
        scan = look(self._path)
        if self._number:
            if scan == catalog.scan and not is_new:
                self._member.answer(asked)
                return
            time.sleep(reloader.SETTLE_SECONDS)
            scan = settled(look(self._path), scan, catalog.scan)
            if scan == catalog.scan and not is_new:
                self._member.answer(asked)
                return
        self._member.propose(proposals.dump(scan, declare(scan, catalog)))
        self._asked = asked

    def _let_go(self) -> None:
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
