"""A queue is as long as a burst needs, and short where too much keeps coming."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from service.inference.admission import LOOK_SECONDS, SHORT, AdmissionControl

LIMIT = 0.1
ROW = 0.001


@dataclass
class Queue:
    """A model that takes 1 ms a row, and those who ask it, at times that the test tells."""

    bound: AdmissionControl = field(default_factory=AdmissionControl)
    now: float = 100.0
    wait: float = 0.0
    run: float = 16 * ROW

    def go_on(self, seconds: float) -> None:
        """Work for so long."""
        self.now += seconds
        self.wait = max(0.0, self.wait - seconds)

    def ask(self, caller: object) -> bool:
        """Whether a request is let in."""
        if self.bound.is_full(self.wait, (ROW, self.run), LIMIT, caller, self.now):
            return False
        self.wait += ROW
        return True

    def overrun(self, seconds: float, callers: list[object]) -> list[float]:
        """Have five times as many come as can be answered; what those that are let in wait."""
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
    """Again and again, where it drains between two of them."""
    queue = Queue()

    for _ in range(10):
        let_in = sum(queue.ask(caller) for caller in many)
        queue.go_on(1.0)

        assert let_in == pytest.approx(LIMIT / ROW, abs=1)


def test_where_too_much_keeps_coming_it_is_short(many):
    """A fifth of what it may be, once it has stood; and the model is never idle."""
    queue = Queue()
    queue.overrun(0.5, many)

    waits = queue.overrun(2.0, many)

    assert max(waits) <= LIMIT * SHORT + ROW
    assert len(waits) == pytest.approx(2.0 / ROW, rel=0.01)


@pytest.mark.parametrize(("run", "longest"), [(0.05, 0.05), (0.5, LIMIT)])
def test_it_is_never_too_short_for_a_full_run(many, run, longest):
    """Or runs would gather less and less, and each row cost more and more."""
    queue = Queue(run=run)
    queue.overrun(0.5, many)

    waits = queue.overrun(2.0, many)

    assert max(waits) == pytest.approx(longest, abs=2 * ROW)


def test_who_was_refused_is_forgotten(many):
    """A queue that nobody asks any more holds nobody."""
    queue = Queue()
    queue.overrun(2.0, many)
    queue.bound.calm(queue.now)
    assert queue.bound._refused
    assert queue.bound.is_short

    queue.bound.calm(queue.now + 1.0)

    assert not queue.bound._refused
    assert not queue.bound.is_short


def test_it_is_long_again_once_all_fit(many):
    """Who each wait for their answer before they ask again lose nothing for long."""
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


def test_it_is_long_again_when_nobody_has_come_for_a_while(many):
    """What was refused before that is long gone."""
    queue = Queue()
    queue.overrun(2.0, many)
    assert queue.bound.is_short

    queue.go_on(10.0)

    assert sum(queue.ask(caller) for caller in many) == pytest.approx(LIMIT / ROW, abs=1)
    assert not queue.bound.is_short
