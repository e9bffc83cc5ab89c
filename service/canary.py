"""The canary of a model: the choice of its requests, and the watch over its failures and times.

    a request ─ hash of its header or request ID ─┬─ below the share ─▶ canary ─┐
                                                  └─ else ────────────▶ stable ─┴─▶ counted
    once a second, in one worker: the counts of all workers ─▶ a bound is left ─▶ no more requests

The choice is made by a hash that is the same in all processes, so a client that names itself gets
the same version again.  A larger share has all requests of a smaller one.
"""

from __future__ import annotations

import logging
import time
import weakref
from bisect import bisect_left
from hashlib import blake2b
from typing import TYPE_CHECKING

from service.errors import CannotRun, RequestError, TooLate
from service.insight.retreat import BOUNDS, SIZES, Counts, Retreat, hung, why
from service.observability.tallies import CANARY, STABLE
from service.repository.repository import NOTHING
from service.repository.traffic import hashed

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from service.exchange import Exchange
    from service.inference.model import Model
    from service.observability.tallies import Tallies, Tally
    from service.repository.repository import Repository
    from service.repository.traffic import Canary
    from service.run import Run

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# Counts are taken over one to two periods, so that a canary that was right for a week is found soon
# once it is not.
PERIOD_SECONDS = 600.0
_HASHES = 2**64
# The places among the counts of a version.
_FAILED, _ANSWERED, _TIMES = 0, 1, 2
# The reasons of a retreat, as the figures of a tally have them.
_FAILS, _SLOW, _HANGS, _CRASHES = 0.0, 1.0, 2.0, 3.0
# A process may end during a run of the canary by accident, and hardly three times.
MOST_CRASHES = 3
# The mark of an error that is counted.
_COUNTED = "counted by split"


def retreat(tallies: Tallies, repository: Repository, name: str) -> Retreat | None:
    """Return why the canary of a model or view is asked no more; `None` if it is."""
    shares = repository.traffic(name)
    figures = None
    if shares is not None:
        figures = tallies.ended(shares.identity(repository.key(name, "")[0]))
    return None if figures is None else _retreat(figures)


def _retreat(figures: tuple[float, ...]) -> Retreat:
    kind, requests, others, value, stable_value = figures
    return Retreat(
        kind in (_SLOW, _HANGS),
        int(requests),
        int(others),
        value,
        stable_value,
        crashes=kind == _CRASHES,
        hangs=kind == _HANGS,
    )


def _counts(words: NDArray[np.int64]) -> Counts:
    """Return the counts of a version."""
    times = words[_TIMES:].reshape(SIZES, len(BOUNDS) + 1)
    return Counts(int(words[_FAILED]), int(words[_ANSWERED]), times)


def is_at_fault(error: RequestError) -> bool:
    """Return whether the version that was to answer may be at fault for an error."""
    if isinstance(error, TooLate):
        # A client could give its requests a microsecond, and no version would look well.
        return not error.is_own
    # A model that has no answer for some values is at fault if others have one.
    return error.status >= 500 or isinstance(error, CannotRun)  # noqa: PLR2004


class Split:
    """The requests that a stable version and its canary share, in one worker."""

    def __init__(self, tallies: Tallies, repository: Repository, owner: str) -> None:
        """Begin, or go on with what was counted before.

        Args:
            tallies: the counts of all workers.
            repository: the repository, which has a canary of the model.
            owner: the name of the model.
        """
        traffic, catalog = repository.catalog.traffic[owner], repository.catalog
        canary = traffic.canary
        if canary is None:
            raise ValueError(f"{owner} has no canary")
        self.owner = owner
        self.canary: Canary = canary
        versions = catalog.scan.by_name.get(owner, {})
        stable = repository.answering.get(owner, "")
        files = (repr(versions.get(version)) for version in (stable, canary.version))
        self.shares = traffic.identity(owner)
        self.key = hashed(str(self.shares), *files)
        self.retreat: Retreat | None = None
        self.limit = round(canary.share * _HASHES)
        # Another candidate is another draw: not always the same clients try what is new.
        self._draw = blake2b(f"{owner}/{canary.version}/".encode(), digest_size=8)
        self._tallies = tallies
        self._tally: Tally | None = tallies.take(self.key, self.shares)
        if self._tally is None:
            message = "%s, version %s: the canary is not watched, since there are too many"
            log.warning(message, owner, canary.version)
        # The counts when the last two periods began; a former worker may have counted for a
        # week, or for a second.
        now = time.monotonic()
        begun = self._tallies.totals(self.key)
        self._periods: tuple[NDArray[np.int64], NDArray[np.int64]] = begun * 0, begun
        self._next_period = now + PERIOD_SECONDS

    def is_drawn(self, client: bytes) -> bool:
        """Return whether the canary answers a client, or a request, of that name."""
        if self.retreat is not None:
            return False
        draw = self._draw.copy()
        draw.update(client)
        return int.from_bytes(draw.digest(), "big") < self.limit

    def answered(self, version: int, run: Run) -> None:
        """Count a request that was answered, and its run unless that is counted already.

        Args:
            version: `STABLE` or `CANARY`.
            run: its run, before the meter has counted that.
        """
        if self._tally is None:
            return
        self._tally.count(version, _ANSWERED)
        if not run.counted:
            size = min(run.rows.bit_length(), SIZES) - 1
            time_of_run = bisect_left(BOUNDS, run.ended - run.started)
            self._tally.count(version, _TIMES + size * (len(BOUNDS) + 1) + time_of_run)

    def failed(self, version: int, error: Exception) -> None:
        """Count a request that was answered with an error of the service or of the model.

        The requests of a run that failed as a whole have the same error, and count once.
        """
        if self._tally is not None and not vars(error).get(_COUNTED):
            # A mark, since to keep the error would keep the body of its request.
            vars(error)[_COUNTED] = True
            self._tally.count(version, _FAILED)

    def look(self, *, is_leader: bool) -> None:
        """Notice that the canary is asked no more; as the leader, decide it and log it."""
        if self.retreat is not None:
            return
        figures = self._tallies.ended(self.shares)
        if figures is not None:
            self.retreat = _retreat(figures)
            return
        totals = self._tallies.totals(self.key)
        counted = totals - self._periods[0]
        if time.monotonic() >= self._next_period:
            self._next_period += PERIOD_SECONDS
            self._periods = self._periods[1], totals
        if not is_leader or self._tally is None:
            return
        stable, canary = (_counts(counted[version]) for version in (STABLE, CANARY))
        found = why(stable, canary, self.canary.fail, self.canary.slower)
        crashes = self._tallies.crashes(self.key)
        if crashes >= MOST_CRASHES:
            others = stable.answered + stable.failed
            found = Retreat(False, crashes, others, 1.0, 0.0, crashes=True)
        if found is None:
            return
        self._end(self._tally, found)

    def runs(self, *, now: bool) -> None:
        """Note that a run of the canary begins, or is over, in case it ends the process."""
        if self._tally is not None:
            self._tally.runs(now=now)

    def hangs(self, seconds: float) -> bool:
        """Ask the canary no more, since a run of it does not end; return whether that is so now."""
        figures = self._tallies.ended(self.shares)
        if figures is not None:
            self.retreat = _retreat(figures)
        elif self._tally is not None:
            stable = _counts(self._tallies.totals(self.key)[STABLE])
            self._end(self._tally, hung(stable, seconds))
        return self.retreat is not None

    def _end(self, tally: Tally, found: Retreat) -> None:
        kind = _HANGS if found.hangs else _SLOW if found.is_slow else _FAILS
        kind = _CRASHES if found.crashes else kind
        numbers = float(found.requests), float(found.stable_requests)
        tally.end((kind, *numbers, found.value, found.stable_value))
        self.retreat = found
        log.warning(
            "%s, version %s: the canary is asked no more, since %s (%s); the stable version "
            "answers all requests",
            self.owner,
            self.canary.version,
            found,
            f"fail {100 * self.canary.fail:g} %, slower {self.canary.slower:g}",
        )


class Splits:
    """The canaries of a repository, in one worker."""

    def __init__(self, tallies: Tallies, header: str = "") -> None:
        """Choose no requests at first.

        Args:
            tallies: the counts of all workers.
            header: the request header that names a client, if there is one.
        """
        self._tallies = tallies
        self._header = header.lower().encode()
        self._of: dict[str, Split] = {}
        self._next_look = 0.0
        # A weak reference: under another WSGI server, nobody tells when a repository is replaced.
        self._repository = weakref.ref(NOTHING)
        # The canaries that are asked no more since a run of theirs does not end.
        self._hung: weakref.WeakSet[Model] = weakref.WeakSet()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._of)

    def use(self, repository: Repository) -> None:
        """Follow the canaries of another repository."""
        canaries, before = repository.candidates.canaries, self._of
        self._repository = weakref.ref(repository)
        owners = [name for name in canaries if name not in repository.owners]
        self._of = {}
        made = {owner: Split(self._tallies, repository, owner) for owner in owners}
        for owner, split in made.items():
            former = before.get(owner)
            is_same = former is not None and (former.key, former.canary) == (
                split.key,
                split.canary,
            )
            self._of[owner] = former if former is not None and is_same else split

    def of(self, repository: Repository, name: str) -> Split | None:
        """Return the split of a model or view whose requests are shared; `None` if they are not."""
        return self._of.get(repository.key(name, "")[0])

    def draw(self, split: Split, exchange: Exchange) -> tuple[bool, str]:
        """Return whether the canary answers a request, and the request ID if that decided it."""
        client, request_id = exchange.headers.get(self._header), ""
        if not client:
            # One that is new here is named in the answer, so that its choice can be repeated.
            request_id = exchange.request_id
            client = request_id.encode()
        return split.is_drawn(client), request_id

    def hangs(self, model: Model, seconds: float) -> bool:
        """Notice that a run of a model does not end; ask it no more if it is a canary.

        Returns:
            Whether the service is as ready without it, since it is, or was, only a canary.
        """
        repository = self._repository() or NOTHING
        if any(servable.model is model for servable in repository.serving.values()):
            return False
        for name, servable in repository.candidates.canaries.items():
            split = self.of(repository, name)
            if servable.model is model and split is not None and split.hangs(seconds):
                self._hung.add(model)
        return model in self._hung

    def look(self, now: float, is_leader: Callable[[], bool]) -> None:
        """Look at all canaries, unless that was done within a second."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        leads = bool(self._of) and is_leader()
        for split in [*self._of.values()]:
            split.look(is_leader=leads)
