"""The counts of requests that a stable version and a canary share, in the memory of workers."""

import gc

import numpy as np
import pytest

from service.observability.shared_memory import SharedNumbers
from service.observability.tallies import CANARY, COUNTS, PLACES, STABLE, Tallies


@pytest.fixture
def memories():
    """Return the memory of three workers."""
    return SharedNumbers(3, 4096, 2**16).tallies


def test_the_counts_of_all_workers_are_added(memories):
    """Of one canary alone, and by version."""
    workers = [Tallies(memories, slot) for slot in range(3)]
    mine = [worker.take(7, 1) for worker in workers]
    other = workers[0].take(8, 1)
    for tally in mine:
        tally.count(STABLE, 5)
        tally.count(CANARY, 0)
    other.count(STABLE, 5)

    for worker in workers:
        totals = worker.totals(7)
        assert totals.shape == (2, COUNTS)
        assert (totals[STABLE, 5], totals[CANARY, 0], totals.sum()) == (3, 3, 6)


def test_the_successor_of_a_worker_goes_on_from_its_counts(memories):
    """A worker that is killed changes nothing."""
    Tallies(memories, 1).take(7, 1).count(CANARY, 2)
    successor = Tallies(memories, 1)
    successor.take(7, 1).count(CANARY, 2)

    assert Tallies(memories, 0).totals(7)[CANARY, 2] == 2


def test_all_workers_know_that_shares_have_ended(memories):
    """Also for other versions of the same shares, and after the worker that found it is gone."""
    first, second = (Tallies(memories, slot) for slot in range(2))
    assert second.ended(1) is None

    first.take(7, 1).end((1.0, 30.0, 500.0, 0.25, 1e-9))
    del first
    Tallies(memories, 0).take(9, 1)

    assert second.ended(1) == (1.0, 30.0, 500.0, 0.25, 1e-9)
    assert second.ended(2) is None


def test_places_that_nobody_counts_by_are_taken_again(memories):
    """Their counts begin at zero; those that are still used stay, and so do the ended ones."""
    tallies = Tallies(memories, 0)
    kept = tallies.take(1, 1)
    kept.count(STABLE, 1)
    tallies.take(2, 2).end((0.0,) * 5)
    for key in range(3, 4 * PLACES):
        tallies.take(key, key).count(STABLE, 1)
        gc.collect(0)

    assert tallies.totals(1)[STABLE, 1] == 1
    assert tallies.totals(4 * PLACES - 1)[STABLE, 1] == 1
    assert tallies.ended(2) is not None
    assert tallies.take(1, 1) is kept


def test_more_canaries_than_places_are_not_counted(memories):
    """They take no other's place."""
    tallies = Tallies(memories, 0)
    held = [tallies.take(key, key) for key in range(1, PLACES + 1)]

    assert tallies.take(PLACES + 1, 1) is None
    assert len(set(map(id, held))) == PLACES
    assert np.all(tallies.totals(PLACES + 1) == 0)


def test_a_run_whose_end_a_process_did_not_see_is_a_crash(memories):
    """Its successor counts it, once."""
    ended, cut_off, counted = ((True, False), 0), ((True,), 1), ((), 1)
    for runs, crashes in (ended, cut_off, counted):
        tally = Tallies(memories, 0).take(7, 1)
        for now in runs:
            tally.runs(now=now)
        Tallies(memories, 0).take(7, 1)

        assert Tallies(memories, 1).crashes(7) == crashes
