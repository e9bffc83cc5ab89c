"""The choice of a canary's requests, and the periods that it is judged by."""

import itertools
from types import SimpleNamespace

import pytest

from service import canary
from service.canary import Split, Splits
from service.observability.metrics import Metrics
from service.observability.shared_memory import SharedNumbers
from service.observability.tallies import CANARY, STABLE, Tallies
from service.repository.reloader import Library
from service.run import Run
from tests.harness.changing import point, put
from tests.harness.shares import share

IDS = [f"request-{number}".encode() for number in range(10_000)]
# The first of them that the canary answers at a share of 5 %.
FIRST = [13, 43, 54, 91]


@pytest.fixture
def models(tmp_path):
    """Return a repository of a model whose stable version is 1."""
    for version in (1, 2, 3):
        put(tmp_path, version)
    point(tmp_path, stable="1")
    return tmp_path


def split(models, tallies=None, **part):
    """Return a split of a canary."""
    share(models, **{"share": 0.5, **part})
    return Split(tallies or Metrics().tallies, Library(models).current, "m")


def drawn(models, **part):
    """Return the IDs of requests that a canary answers."""
    one = split(models, **part)
    return {name for name in IDS if one.is_drawn(name)}


@pytest.mark.parametrize("part", [0.001, 0.05, 0.5, 0.95, 1.0])
def test_a_share_is_accurate(models, part):
    """To within five standard deviations, for these IDs."""
    bound = 5 * (len(IDS) * part * (1 - part)) ** 0.5

    assert abs(len(drawn(models, share=part)) - part * len(IDS)) <= bound


def test_the_draw_is_the_same_in_all_processes_and_releases(models):
    """Python's own hash of a text is another one in each process."""
    one = split(models, share=0.05)

    assert [n for n in range(100) if one.is_drawn(b"request-%d" % n)] == FIRST


def test_a_larger_share_keeps_the_requests_of_a_smaller_one(models):
    """A client that had the canary has it still."""
    shares = [drawn(models, share=part) for part in (0.01, 0.05, 0.3, 1.0)]

    assert all(fewer < more for fewer, more in itertools.pairwise(shares))


def test_another_canary_draws_others(models):
    """So that new versions are not always tried on the same clients."""
    second, third = (drawn(models, share=0.5, version=version) for version in "23")

    # Half of each are in both; the standard deviation is 50.
    assert abs(len(second & third) - 2500) < 250


def count(one, side, failed=0, times=()):
    """Count requests."""
    for _ in range(failed):
        one.failed(side, RuntimeError())
    for seconds in times:
        one.answered(side, Run(1, 0.0, seconds, {}))


def test_what_was_right_for_long_is_found_soon_once_it_fails(models, monkeypatch):
    """Counts of long ago do not outweigh those of the last minutes."""
    now = 1000.0
    monkeypatch.setattr(canary, "time", SimpleNamespace(monotonic=lambda: now))
    one = split(models)
    for _ in range(4):
        count(one, STABLE, times=[0.01] * 2000)
        count(one, CANARY, times=[0.01] * 2000)
        one.look(is_leader=True)
        now += canary.PERIOD_SECONDS + 1
    count(one, STABLE, times=[0.01] * 100)
    count(one, CANARY, failed=100)
    one.look(is_leader=True)

    assert one.retreat is not None
    assert one.retreat.requests < 5000
    assert not one.is_drawn(IDS[0])


def test_the_successor_of_a_worker_forgets_what_was_long_ago(models, monkeypatch):
    """At first it goes on from all counts, since its predecessor may have counted for a second."""
    now = 1000.0
    monkeypatch.setattr(canary, "time", SimpleNamespace(monotonic=lambda: now))
    tallies = Metrics().tallies
    share(models, share=0.5)
    repository = Library(models).current
    former = Split(tallies, repository, "m")
    count(former, STABLE, times=[0.01] * 8000)
    count(former, CANARY, times=[0.01] * 8000)
    one = Split(tallies, repository, "m")
    now += canary.PERIOD_SECONDS + 1
    one.look(is_leader=True)
    count(one, CANARY, failed=100)
    one.look(is_leader=True)

    assert one.retreat is not None
    assert one.retreat.requests == 100


def test_only_the_leader_decides_and_all_follow(models):
    """The counts of both workers are one."""
    memories = SharedNumbers(2).tallies
    share(models, share=0.5)
    repository = Library(models).current
    leader, other = (Splits(Tallies(memories, slot)) for slot in range(2))
    for each in (leader, other):
        each.use(repository)
    mine, yours = leader.of(repository, "m"), other.of(repository, "m")
    count(mine, STABLE, times=[0.01] * 100)
    count(yours, CANARY, failed=60)

    other.look(10.0, lambda: False)
    undecided = yours.retreat
    leader.look(10.0, lambda: True)
    other.look(10.5, lambda: False)
    early = yours.retreat
    other.look(11.5, lambda: False)

    assert (undecided, early) == (None, None)
    assert mine.retreat == yours.retreat
    assert str(yours.retreat) == (
        "it fails 100 % of 60 requests, and the stable version 0 % of 100"
    )


def test_a_split_goes_on_when_something_else_changes(models):
    """What was counted is kept as long as the two versions and their file are the same."""
    splits = Splits(Metrics().tallies)
    library = Library(models)
    share(models, share=0.5)
    library.refresh()
    splits.use(library.current)
    first = splits.of(library.current, "m")
    put(models, 1, "other")
    library.refresh()
    splits.use(library.current)
    second = splits.of(library.current, "m")
    point(models, stable="3")
    library.refresh()
    splits.use(library.current)
    third = splits.of(library.current, "m")
    (models / "m/traffic.json").unlink()
    library.refresh()
    splits.use(library.current)

    assert first is second
    assert third is not first
    assert third.shares == first.shares
    assert splits.of(library.current, "m") is None


def test_more_canaries_than_can_be_watched_are_named(models, monkeypatch, caplog):
    """They get their share all the same."""
    tallies = Metrics().tallies
    monkeypatch.setattr(tallies, "take", lambda *_: None)
    one = split(models, tallies)
    count(one, CANARY, failed=100, times=[1.0])
    one.look(is_leader=True)

    assert one.retreat is None
    assert caplog.messages == ["m, version 2: the canary is not watched, since there are too many"]


def test_what_runs_together_counts_once(models):
    """An accident of one run is one failure, however many requests it has."""
    tallies = Metrics().tallies
    one = split(models, tallies)
    error, run = RuntimeError(), Run(9, 0.0, 0.5, {})
    for _ in range(9):
        one.failed(CANARY, error)
        one.answered(CANARY, run)
        run.counted = True
    failed, answered, *runs = tallies.totals(one.key)[CANARY].tolist()

    assert (failed, answered, sum(runs)) == (1, 9, 1)
