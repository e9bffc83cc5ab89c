"""Which state of the repository all workers serve: one number in memory that they share.

    the leader ─ proposal ─▶ every worker loads it ─ outcome ─▶ all equal? ─ the leader commits it

A *generation* is a state that was committed: what was found in the repository, and what came of
loading it.  To commit is to store one number, which every worker compares with its own before it
answers a request.  So from that moment on no request is begun by an older generation, in whichever
worker.  One worker leads, and is named by the supervisor; whatever it stores has no other writer.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

from service.errors import TricepsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.server.worker_status import Status

# What is common to all: the number that is committed, that of the last proposal, and who leads.
GENERATION, _PROPOSED, _LEADER = range(3)
# Of each worker.  Written by the supervisor: whether it lives.
_LIVE = 0
# By itself: the proposal that it has loaded, what came of that, and how often it has asked the
# leader to look at the repository again.
_PREPARED, _OUTCOME, _ASKED = 1, 2, 3
# By the leader: whether it serves, that it has to be replaced, and up to which time of asking it
# has been answered.
_ADMITTED, _EXPELLED, _ANSWERED = 4, 5, 6
_WORDS = 8
# Some fifty thousand versions.
MAX_PROPOSAL = 2**24
_SIZE = struct.Struct("=q")

WAIT, DIFFER, COMMITTED = "wait", "differ", "committed"


class ProposalError(TricepsError):
    """What was found in the repository is more than workers can tell each other."""


class Generations:
    """The shared memory, to be made before the workers are forked; what the supervisor sees."""

    def __init__(self, workers: int) -> None:
        """Make room for as many `workers`."""
        memory = memoryview(mmap.mmap(-1, 8 * _WORDS * (workers + 1))).cast("q")
        parts = [memory[_WORDS * i : _WORDS * (i + 1)] for i in range(workers + 1)]
        self.common, self.slots = parts[0], parts[1:]
        # The one before is still read while the next is written.
        self.proposals = [mmap.mmap(-1, MAX_PROPOSAL) for _ in range(2)]

    def start(self, slot: int) -> None:
        """Note a worker that is about to be forked."""
        for word in range(_WORDS):
            self.slots[slot][word] = 0
        self.slots[slot][_LIVE] = 1
        self._name_leader()

    def end(self, slot: int) -> None:
        """Note that a worker has ended; its process has to be gone."""
        self.slots[slot][_LIVE] = 0
        self._name_leader()

    def is_expelled(self, slot: int) -> bool:
        """Whether a worker has to be replaced, since it does not come along with the others."""
        return self.slots[slot][_EXPELLED] != 0

    def _name_leader(self) -> None:
        """Have a worker lead that serves, or where none does one that is about to."""
        live = list(live_slots(self.slots))
        if self.common[_LEADER] - 1 in live:
            return
        serving = [slot for slot in live if self.slots[slot][_ADMITTED]]
        self.common[_LEADER] = next(iter(serving or live), -1) + 1


class Member:
    """One worker's part in it."""

    def __init__(self, generations: Generations, slot: int) -> None:
        self.common = generations.common
        self._slots = generations.slots
        self._own = generations.slots[slot]
        self._slot = slot
        self._proposals = generations.proposals

    def committed(self) -> int:
        """The number of the generation that is served; 0 before the first."""
        return self.common[GENERATION]

    def proposed(self) -> int:
        """The number of the last proposal."""
        return self.common[_PROPOSED]

    def is_leader(self) -> bool:
        """Whether it is this worker that proposes and commits."""
        return self.common[_LEADER] - 1 == self._slot

    def is_admitted(self) -> bool:
        """Whether this worker serves what is committed."""
        return self._own[_ADMITTED] != 0

    def read(self, number: int) -> bytes | None:
        """A proposal; `None` where there is a newer one already."""
        proposal = self._proposals[number % 2]
        (size,) = _SIZE.unpack_from(proposal)
        content = proposal[_SIZE.size : _SIZE.size + size]
        return content if self.proposed() == number else None

    def prepared(self, number: int, outcome: int) -> None:
        """Say what came of loading a proposal."""
        self._own[_OUTCOME] = outcome
        self._own[_PREPARED] = number

    def ask(self) -> int:
        """Ask the leader to look at the repository again; what `is_answered` takes."""
        self._own[_ASKED] += 1
        return self._own[_ASKED]

    def is_answered(self, asked: int) -> bool:
        """Whether the leader has looked since, and what it found is served."""
        return self._own[_ANSWERED] >= asked

    # What the leader does.

    def propose(self, content: bytes) -> None:
        """Propose another state.

        Raises:
            ProposalError: there is no room for it.
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
        """Commit the last proposal, if all who serve have loaded it and the same came of it.

        Where nobody serves yet, all who live are waited for, and those serve from then on of whom
        that holds which holds of the leader.
        """
        number = self.proposed()
        needed = self._serving() or self._live()
        if any(slot[_PREPARED] != number for slot in needed):
            return WAIT
        outcome = self._own[_OUTCOME]
        if any(slot[_OUTCOME] != outcome for slot in self._serving()):
            return DIFFER
        self._admit(number)
        self.common[GENERATION] = number
        return COMMITTED

    def admit(self) -> bool:
        """Have workers serve that have come since; `False` if one has loaded something else."""
        number = self.committed()
        self._admit(number)
        waiting = (slot for slot in self._live() if not slot[_ADMITTED])
        return all(slot[_PREPARED] != number for slot in waiting)

    def expel(self) -> int:
        """Have those replaced that keep the last proposal from being committed; how many."""
        number, outcome = self.proposed(), self._own[_OUTCOME]
        late = [
            slot
            for slot in self._serving() or self._live()
            if slot is not self._own
            and (slot[_PREPARED], slot[_OUTCOME]) != (number, outcome)
            and not slot[_EXPELLED]
        ]
        for slot in late:
            slot[_EXPELLED] = 1
        return len(late)

    def asked(self) -> list[int]:
        """How often each worker has asked for a look."""
        return [slot[_ASKED] for slot in self._slots]

    def is_asked(self) -> bool:
        """Whether a worker waits for a look."""
        return any(slot[_ASKED] > slot[_ANSWERED] for slot in self._slots)

    def answer(self, asked: list[int]) -> None:
        """Tell those who had asked by then that it has been looked."""
        for slot, times in zip(self._slots, asked, strict=True):
            # One that was replaced meanwhile has begun again.
            slot[_ANSWERED] = max(slot[_ANSWERED], min(times, slot[_ASKED]))

    def _admit(self, number: int) -> None:
        outcome = self._own[_OUTCOME]
        for slot in self._live():
            if (slot[_PREPARED], slot[_OUTCOME]) == (number, outcome):
                slot[_ADMITTED] = 1

    def _live(self) -> list[Status]:
        return [self._slots[slot] for slot in live_slots(self._slots)]

    def _serving(self) -> list[Status]:
        return [slot for slot in self._live() if slot[_ADMITTED]]


def live_slots(slots: list[Status]) -> Iterator[int]:
    """The workers that live."""
    return (slot for slot, words in enumerate(slots) if words[_LIVE])
