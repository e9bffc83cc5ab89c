"""The agreement of all workers on the state of the repository that they serve, in shared memory.

    the leader ─ proposal ─▶ every worker loads it ─ outcome ─▶ all equal? ─ the leader commits it

A *generation* is a committed state: the result of a scan of the repository, and the outcome of
loading it.  To commit a generation is to store its number, which every worker compares with its own
before it answers a request.  So from that moment on, no worker begins a request with an older
generation.  The supervisor names one worker the leader; only the leader writes its numbers.
"""

from __future__ import annotations

import functools
import mmap
import struct
from operator import or_
from typing import TYPE_CHECKING

from service.errors import TricepsError
from service.inference.cores import Cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from service.repository.repository import Repository
    from service.server.worker_status import Status

    Greet = Callable[[Repository], None]

# Common to all workers: the number of the committed generation, the number of the last proposal,
# the leader's slot plus one (0 without a leader), and how far the service has greeted its user.
GENERATION, _PROPOSED, _LEADER, _GREETED = range(4)
# For each worker, written by the supervisor: 1 while the worker lives.
_LIVE = 0
# For each worker, written by the worker: the number of the proposal that it has loaded, the outcome
# of that, and how often it has asked the leader to scan the repository again.
_LOADED, _OUTCOME, _ASKED = 1, 2, 3
# For each worker, written by the worker: masks of the versions that outlive their files in it, and
# of those that it answers with 503, since others may serve them (see `outliving`).
_OUTLIVING, _UNANSWERED = 7, 8
# For each worker, written by the leader: 1 if the worker serves, 1 if it has to be replaced, and
# the count of its requests for a scan that have been answered.
_ADMITTED, _EXPELLED, _ANSWERED = 4, 5, 6
_WORDS = 9
# In bytes: enough for some fifty thousand versions.
MAX_PROPOSAL = 2**24
_SIZE = struct.Struct("=q")

WAIT, DIFFER, COMMITTED = "wait", "differ", "committed"
# The service has told its user that it waits for a model, or that it serves; 0 before either.
_WAITS, _SERVES = 1, 2


class ProposalError(TricepsError):
    """The description of the repository does not fit into the workers' shared memory."""


class Generations:
    """The shared memory, created before the workers are forked, as the supervisor uses it."""

    def __init__(self, workers: int) -> None:
        """Create the memory for `workers` workers."""
        memory = memoryview(mmap.mmap(-1, 8 * _WORDS * (workers + 1))).cast("q")
        parts = [memory[_WORDS * i : _WORDS * (i + 1)] for i in range(workers + 1)]
        self.common, self.slots = parts[0], parts[1:]
        # Two, since workers may still read the previous proposal while the next one is written.
        self.proposals = [mmap.mmap(-1, MAX_PROPOSAL) for _ in range(2)]
        self.busy = memoryview(mmap.mmap(-1, 8 * workers)).cast("q")
        """For each worker, the number of its models that have long runs to do."""
        self.greet: Greet | None = None
        """The function that tells the user what is served; it is set before workers are forked."""

    def start(self, slot: int) -> None:
        """Note a worker that is about to be forked."""
        for word in range(_WORDS):
            self.slots[slot][word] = 0
        self.busy[slot] = 0
        self.slots[slot][_LIVE] = 1
        self._name_leader()

    def end(self, slot: int) -> None:
        """Note that a worker has ended; its process must be gone by now."""
        self.slots[slot][_LIVE] = 0
        self.busy[slot] = 0
        self._name_leader()

    def is_expelled(self, slot: int) -> bool:
        """Return whether a worker has to be replaced, since it has not followed the others."""
        return self.slots[slot][_EXPELLED] != 0

    def _name_leader(self) -> None:
        """Name a leader, if the last one has ended: a worker that serves or, if none does, any."""
        live = list(live_slots(self.slots))
        if self.common[_LEADER] - 1 in live:
            return
        serving = [slot for slot in live if self.slots[slot][_ADMITTED]]
        self.common[_LEADER] = next(iter(serving or live), -1) + 1


class Member:
    """One worker's view of the generations."""

    def __init__(self, generations: Generations, slot: int) -> None:
        self.common = generations.common
        self._slots = generations.slots
        self._own = generations.slots[slot]
        self.slot = slot
        """The place of the worker among all workers."""
        self.cores = Cores(generations.busy, slot)
        """The processors of all workers."""
        self._proposals = generations.proposals
        self._greet = generations.greet

    def committed(self) -> int:
        """Return the number of the committed generation; 0 before the first."""
        return self.common[GENERATION]

    def proposed(self) -> int:
        """Return the number of the last proposal."""
        return self.common[_PROPOSED]

    def is_leader(self) -> bool:
        """Return whether this worker is the leader, which proposes and commits."""
        return self.common[_LEADER] - 1 == self.slot

    def is_admitted(self) -> bool:
        """Return whether this worker serves the committed generation."""
        return self._own[_ADMITTED] != 0

    def read(self, number: int) -> bytes | None:
        """Return the content of a proposal, or `None` if there is a newer one already."""
        proposal = self._proposals[number % 2]
        (size,) = _SIZE.unpack_from(proposal)
        content = proposal[_SIZE.size : _SIZE.size + size]
        return content if self.proposed() == number else None

    def loaded(self, number: int, outcome: int, outliving: int = 0) -> None:
        """Report the outcome of loading a proposal, and what outlives its files with it."""
        self._own[_OUTLIVING] = outliving
        self._own[_OUTCOME] = outcome
        self._own[_LOADED] = number

    def report_unanswered(self, unanswered: int) -> None:
        """Report which versions this worker cannot answer by, while others may."""
        self._own[_UNANSWERED] = unanswered

    def outliving(self) -> int:
        """Return the mask of the versions that outlive their files in some worker.

        It is that of the committed generation, unless there is a newer proposal.
        """
        return functools.reduce(or_, (slot[_OUTLIVING] for slot in self._live()), 0)

    def unanswered(self) -> int:
        """Return the mask of the versions that some worker cannot answer by, and none serves."""
        wanted = functools.reduce(or_, (slot[_UNANSWERED] for slot in self._live()), 0)
        return wanted & ~self.outliving()

    def is_alone(self) -> bool:
        """Return whether there is no place for other workers."""
        return len(self._slots) == 1

    def ask(self) -> int:
        """Ask the leader to scan the repository again, and return a number for `is_answered`."""
        self._own[_ASKED] += 1
        return self._own[_ASKED]

    def is_answered(self, asked: int) -> bool:
        """Return whether the leader has scanned since, and what it found is served."""
        return self._own[_ANSWERED] >= asked

    # Only the leader calls the methods below.

    def greet(self, repository: Repository) -> None:
        """Tell the user once that the service waits for a model, and once that it serves."""
        stage = _SERVES if repository.serving else _WAITS
        if stage > self.common[_GREETED]:
            self.common[_GREETED] = stage
            if self._greet is not None:
                self._greet(repository)

    def propose(self, content: bytes) -> None:
        """Propose another state of the repository.

        Raises:
            ProposalError: `content` does not fit into the shared memory.
        """
        number = self.proposed() + 1
        if len(content) > MAX_PROPOSAL - _SIZE.size:
            raise ProposalError(
                f"the repository: expected at most {MAX_PROPOSAL} bytes of names and stamps of "
                f"files, found {len(content)}: remove some versions (triceps prune)"
            )
        proposal = self._proposals[number % 2]
        proposal[_SIZE.size : _SIZE.size + len(content)] = content
        _SIZE.pack_into(proposal, 0, len(content))
        self.common[_PROPOSED] = number

    def decide(self) -> str:
        """Commit the last proposal, if all workers that serve have loaded it with equal outcomes.

        While no worker serves yet, the leader waits for all that live; those whose outcome equals
        the leader's serve from then on.

        Returns:
            WAIT, DIFFER (some outcome is not the leader's) or COMMITTED.
        """
        number = self.proposed()
        needed = self._serving() or self._live()
        if any(slot[_LOADED] != number for slot in needed):
            return WAIT
        outcome = self._own[_OUTCOME]
        if any(slot[_OUTCOME] != outcome for slot in self._serving()):
            return DIFFER
        self._admit(number)
        self.common[GENERATION] = number
        return COMMITTED

    def admit(self) -> bool:
        """Let workers serve that have loaded the committed generation since it was committed.

        Returns:
            `False` if one has loaded it with another outcome.
        """
        number = self.committed()
        self._admit(number)
        waiting = (slot for slot in self._live() if not slot[_ADMITTED])
        return all(slot[_LOADED] != number for slot in waiting)

    def expel(self) -> int:
        """Mark workers that prevent the commit for replacement, and return their number."""
        number, outcome = self.proposed(), self._own[_OUTCOME]
        late = [
            slot
            for slot in self._serving() or self._live()
            if slot is not self._own
            and (slot[_LOADED], slot[_OUTCOME]) != (number, outcome)
            and not slot[_EXPELLED]
        ]
        for slot in late:
            slot[_EXPELLED] = 1
        return len(late)

    def asked(self) -> list[int]:
        """Return how often each worker has asked for a scan, by slot."""
        return [slot[_ASKED] for slot in self._slots]

    def is_asked(self) -> bool:
        """Return whether a worker waits for a scan."""
        return any(slot[_ASKED] > slot[_ANSWERED] for slot in self._slots)

    def answer(self, asked: list[int]) -> None:
        """Tell the workers that a scan has answered them, up to the counts of `asked` before it."""
        for slot, times in zip(self._slots, asked, strict=True):
            # A worker that has been replaced meanwhile counts from zero again.
            slot[_ANSWERED] = max(slot[_ANSWERED], min(times, slot[_ASKED]))

    def _admit(self, number: int) -> None:
        outcome = self._own[_OUTCOME]
        for slot in self._live():
            if (slot[_LOADED], slot[_OUTCOME]) == (number, outcome):
                slot[_ADMITTED] = 1

    def _live(self) -> list[Status]:
        return [self._slots[slot] for slot in live_slots(self._slots)]

    def _serving(self) -> list[Status]:
        return [slot for slot in self._live() if slot[_ADMITTED]]


def live_slots(slots: list[Status]) -> Iterator[int]:
    """Yield the slots of the workers that live."""
    return (slot for slot, words in enumerate(slots) if words[_LIVE])
