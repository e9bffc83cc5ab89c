"""Admission control: the queue is long for a burst, and short under a standing overload."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from service.inference.admission import LOOK_SECONDS, SHORT, AdmissionControl

LIMIT = 0.1
ROW = 0.001


@dataclass
class Queue:
    """A model that takes 1 ms per row, and its clients, on a simulated clock."""

    bound: AdmissionControl = field(default_factory=AdmissionControl)
    now: float = 100.0
    wait: float = 0.0
    run: float = 16 * ROW

    def go_on(self, seconds: float) -> None:
        """Advance the clock by this many seconds of work."""
        self.now += seconds
        self.wait = max(0.0, self.wait - seconds)

    def ask(self, caller: object) -> bool:
        """Return whether a request is admitted."""
        if self.bound.is_full(self.wait, (ROW, self.run), LIMIT, caller, self.now):
            return False
        self.wait += ROW
        return True

    def overrun(self, seconds: float, callers: list[object]) -> list[float]:
        """Send five times as many requests as fit; return the waits of those that are admitted."""
        waits = []
        for i in range(round(seconds / ROW * 5)):
            self.go_on(ROW / 5)
            if self.ask(callers[i % len(callers)]):
                waits.append(self.wait)
        return waits


@pytest.fixture(name="many")
def _many() -> list[object]:
    return [object() for _ in range(1000)]


def test_a_burst_fills_the_queue(many):
    """Each burst may fill the queue, if the queue drains between them."""
    queue = Queue()

    for _ in range(10):
        let_in = sum(queue.ask(caller) for caller in many)
        queue.go_on(1.0)

        assert let_in == pytest.approx(LIMIT / ROW, abs=1)


def test_a_standing_overload_makes_the_queue_short(many):
    """Under standing overload the queue shrinks to a fifth, and the model is never idle."""
    queue = Queue()
    queue.overrun(0.5, many)

    waits = queue.overrun(2.0, many)

    assert max(waits) <= LIMIT * SHORT + ROW
    assert len(waits) == pytest.approx(2.0 / ROW, rel=0.01)


@pytest.mark.parametrize(("run", "longest"), [(0.05, 0.05), (0.5, LIMIT)])
def test_the_queue_is_never_too_short_for_a_full_run(many, run, longest):
    """A queue shorter than a full run would make batches smaller and each row dearer."""
    queue = Queue(run=run)
    queue.overrun(0.5, many)

    waits = queue.overrun(2.0, many)

    assert max(waits) == pytest.approx(longest, abs=2 * ROW)


def test_refused_requests_are_forgotten(many):
    """A queue without new requests holds no state of refused ones."""
    queue = Queue()
    queue.overrun(2.0, many)
    queue.bound.calm(queue.now)
    assert queue.bound._refused
    assert queue.bound.is_short

    queue.bound.calm(queue.now + 1.0)

    assert not queue.bound._refused
    assert not queue.bound.is_short


def test_the_queue_is_long_again_once_all_requests_fit(many):
    """Clients that wait for each answer are soon admitted in full again."""
    queue = Queue()
    queue.overrun(2.0, many)
    callers = many[:64]
    free = dict.fromkeys(callers, 0.0)
    refused: list[float] = []
    started = queue.now

    while queue.now < started + 2.0:
        for caller in callers:
            if free[caller] <= queue.now:
                if queue.ask(caller):
                    free[caller] = queue.now + queue.wait
                else:
                    refused.append(queue.now)
        queue.go_on(ROW)

    assert refused
    assert max(refused) < started + 3 * LOOK_SECONDS


def test_the_queue_is_long_again_after_a_pause(many):
    """Past refusals do not count after a pause."""
    queue = Queue()
    queue.overrun(2.0, many)
    assert queue.bound.is_short

    queue.go_on(10.0)

    assert sum(queue.ask(caller) for caller in many) == pytest.approx(LIMIT / ROW, abs=1)
    assert not queue.bound.is_short
