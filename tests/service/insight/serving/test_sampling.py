"""The share of rows that are counted follows the time that counting takes."""

import random

from service.insight.serving.sampling import ANYWAY, LEAST, SAVED, Share


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        """Return the time."""
        return self.now


def run(share, clock, seconds, each):
    """Spend so much for each second of work on all rows; return the shares over time."""
    shares = []
    for _ in range(seconds):
        clock.now += 1
        share.spend(each * share.value)
        shares.append(share.value)
    return shares


def of_busy():
    """Return the share of a process that is always at work, and its clock."""
    clock = Clock()
    return Share(0.03, clock, clock), clock


def test_all_rows_are_counted_while_that_takes_little():
    """Neither little work nor a short peak is sampled."""
    share, clock = of_busy()

    assert set(run(share, clock, 100, 0.031)) == {1.0}
    assert set(run(share, clock, 1, 0.03 + ANYWAY + SAVED / 3)) == {1.0}
    assert all(share.takes() for _ in range(100))


def test_all_rows_of_a_process_with_little_to_do_are_counted():
    """To count a few rows takes more of their time, but little of all time."""
    clock = Clock()
    share = Share(0.03, clock, lambda: clock.now * ANYWAY)

    assert set(run(share, clock, 100, ANYWAY)) == {1.0}


def test_the_share_follows_the_load():
    """Under load, counting takes its part of the time; after it, all rows are counted again."""
    share, clock = of_busy()

    busy = run(share, clock, 60, 0.3)[-20:]
    assert max(busy) < 0.3
    assert 0.025 < sum(busy) / len(busy) * 0.3 < 0.04
    assert run(share, clock, 30, 0.01)[-1] == 1.0


def test_the_share_never_ends():
    """However much there is to do, some rows say how much that is."""
    share, clock = of_busy()

    assert min(run(share, clock, 60, 1000.0)) == LEAST
    assert run(share, clock, 120, 0.01)[-1] == 1.0


def test_runs_are_chosen_at_random():
    """A pattern of clients, such as two in turn, does not decide whose rows are counted."""
    share = Share(0.03)
    share.value = 0.5
    random.seed(3)

    taken = [share.takes() for _ in range(2000)]

    assert 0.45 < sum(taken) / len(taken) < 0.55
    assert 0.4 < sum(taken[::2]) / 1000 < 0.6
