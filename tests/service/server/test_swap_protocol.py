"""The protocol by which workers swap together, step by step in one process."""

from __future__ import annotations

import threading

import pytest

from service.repository.assembly import make
from service.repository.catalog import EMPTY
from service.repository.declarations import declare
from service.repository.scan import look
from service.repository.selection import Choice
from service.server import proposals
from service.server.generations import COMMITTED, Generations, Member
from service.server.shared_library import SharedLibrary
from service.settings import Settings
from tests.harness import small


class Leader:
    """A leading worker whose every step the test takes."""

    def __init__(self, models, slot=0, workers=2):
        self.generations = Generations(workers)
        for each in range(workers):
            self.generations.start(each)
        self.member = Member(self.generations, slot)
        self._models = models

    def propose(self):
        """Propose the repository as it is now, and load it."""
        scan = look(self._models)
        self.member.propose(proposals.dump(scan, declare(scan, EMPTY)))
        self.member.loaded(self.member.proposed(), proposals.outcome(make(scan, Choice())))

    def commit(self):
        """Commit the last proposal as soon as the other worker has loaded it."""
        while self.member.decide() != COMMITTED:
            pass


@pytest.fixture(name="pair")
def _pair(tmp_path):
    """Return a leader, and the library of a worker that follows it; both serve version 1."""
    small.put(tmp_path, "three", 1, small.three())
    leader = Leader(tmp_path)
    leader.propose()
    thread = threading.Thread(target=leader.commit)
    thread.start()
    member = Member(leader.generations, 1)
    library = SharedLibrary(Settings(models=tmp_path), member)
    thread.join()
    return leader, member, library


def test_a_commit_just_before_the_next_proposal_is_not_lost(pair, tmp_path, monkeypatch):
    """A worker that is delayed between two looks serves what was committed in between."""
    leader, member, library = pair
    small.put(tmp_path, "three", 2, small.three(2))
    leader.propose()
    library.step()
    small.put(tmp_path, "three", 3, small.three(3))
    steps = iter([leader.commit, leader.propose])

    def delayed(step):
        def late():
            for each in steps:
                each()
            return step()

        return late

    # The worker has seen that nothing was committed, and then is delayed.
    monkeypatch.setattr(member, "proposed", delayed(member.proposed))
    assert member.committed() == 1
    library.step()

    assert member.committed() == 2
    assert library.current.serving["three"].version == "2"
