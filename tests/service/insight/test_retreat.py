"""The rule by which a canary is asked no more: what it finds, and what it leaves alone."""

import numpy as np
import pytest

from service.insight import retreat
from service.insight.retreat import BOUNDS, LEAST, SIZES, Counts, why

FAIL, SLOWER = 0.01, 2.0
# The median of the stable version, in seconds.
USUAL = 0.004


def times(seconds, size=0):
    """Return the counts of the times of runs of one size."""
    counts = np.zeros((SIZES, len(BOUNDS) + 1), np.int64)
    places = np.searchsorted(BOUNDS, seconds, side="left")
    counts[size] = np.bincount(places, minlength=len(BOUNDS) + 1)
    return counts


def of(seconds=(), failed=0, size=0):
    """Return the counts of requests that ran alone."""
    return Counts(failed, len(seconds), times(np.asarray(seconds, float), size))


def simulate(
    seed, *, failing=(0.0, 0.0), slower=1.0, requests=20_000, looks=100, share=0.05, spread=0.8
):
    """Return the canary's requests until its retreat, or `None`.

    Args:
        seed: of the random numbers.
        failing: the shares of requests that fail, of the stable version and of the canary.
        slower: how many times as long the canary takes.
        requests: the requests of both.
        looks: how often the counts are looked at.
        share: that of the canary.
        spread: the standard deviation of the logarithm of times.
    """
    random = np.random.default_rng(seed)
    counted = [of()] * 2
    for _ in range(looks):
        drawn = random.binomial(requests // looks, share)
        for side, number in enumerate((requests // looks - drawn, drawn)):
            failed = random.binomial(number, failing[side])
            took = (
                USUAL
                * (slower if side else 1)
                * np.exp(spread * random.standard_normal(number - failed))
            )
            before = counted[side]
            counted[side] = Counts(
                before.failed + failed, before.answered + len(took), before.times + times(took)
            )
        if (found := why(*counted, FAIL, SLOWER)) is not None:
            return found
    return None


@pytest.mark.parametrize(
    "same",
    [
        pytest.param({}, id="the same"),
        pytest.param({"failing": (0.05, 0.05)}, id="both fail"),
        pytest.param({"failing": (0.0, 0.01)}, id="at the bound of failures"),
        pytest.param({"failing": (0.3, 0.31)}, id="above others that fail"),
        pytest.param({"slower": 2.0}, id="at the bound of times"),
        pytest.param({"spread": 2.5}, id="heavy tails"),
        pytest.param({"share": 0.9}, id="a large share"),
        pytest.param({"share": 0.9, "failing": (0.1, 0.1)}, id="few of the stable version"),
    ],
)
def test_a_canary_within_its_bounds_stays(same):
    """However often it is looked at: 4,000 looks at 800,000 requests raise no false alarm."""
    assert [simulate(seed, **same) for seed in range(40)] == [None] * 40


@pytest.mark.parametrize(
    ("worse", "is_slow", "most"),
    [
        pytest.param({"failing": (0.0, 1.0)}, False, 40, id="all fail"),
        pytest.param({"failing": (0.0, 0.2)}, False, 150, id="one in five fails"),
        pytest.param({"failing": (0.0, 0.05)}, False, 1000, id="one in twenty fails"),
        pytest.param({"failing": (0.05, 0.2)}, False, 600, id="it fails more than the other"),
        pytest.param({"slower": 10.0}, True, 90, id="ten times as long"),
        pytest.param({"slower": 4.0}, True, 250, id="four times as long"),
    ],
)
def test_a_worse_canary_is_found(worse, is_slow, most):
    """Within so many of its requests."""
    found = [simulate(seed, looks=400, **worse) for seed in range(20)]

    assert all(each is not None and each.is_slow == is_slow for each in found)
    assert max(each.requests for each in found) <= most


def test_one_period_of_many_looks_has_a_bound_for_false_alarms():
    """With a chance of 5 % in place of one in a million, hardly more than 5 % of canaries end.

    The canary fails just as many requests as it may, which is the worst case, and each of 150
    looks could be wrong.
    """
    counts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retreat, "ALPHA", 0.05)
        patch.setattr(retreat, "_most", lambda *_: 0.0)
        for seed in range(200):
            random = np.random.default_rng(seed)
            failed = np.cumsum(random.binomial(20, FAIL, 150))
            counts.append(
                any(
                    why(
                        of(),
                        of(np.full(20 * (look + 1) - number, USUAL), int(number)),
                        FAIL,
                        SLOWER,
                    )
                    for look, number in enumerate(failed)
                )
            )

    # 10 are expected at most; the standard deviation of that is 3.
    assert sum(counts) <= 20


def test_few_requests_say_nothing():
    """Nor do any number of runs of the canary say that it is slow if the other has few."""
    slow = np.full(10_000, 100 * USUAL)

    assert why(of([USUAL] * 19), of(failed=LEAST - 1), FAIL, SLOWER) is None
    assert why(of([USUAL] * 19), of(slow), FAIL, SLOWER) is None
    assert why(of(), of(slow), FAIL, SLOWER) is None


def test_a_canary_that_answers_all_may_fail_as_often_as_is_set():
    """Without requests of the stable version, the bound is that of the file."""
    canary = of([USUAL] * 500, 500)

    assert why(of(), canary, FAIL, SLOWER) is not None
    assert why(of(), canary, 0.6, SLOWER) is None
    assert why(of(), canary, 1.0, SLOWER) is None


def test_differences_below_a_millisecond_are_none():
    """They are those of threads and caches."""
    stable = of([0.0001] * 10_000)

    assert why(stable, of([0.0009] * 1000), FAIL, SLOWER) is None
    assert why(stable, of([0.003] * 1000), FAIL, SLOWER).is_slow


def test_a_bound_of_zero_needs_more_than_one_failure():
    """One may be that of a machine."""
    stable = of(np.full(1_000_000, USUAL))

    assert why(stable, of([USUAL] * 1000, 1), 0.0, SLOWER) is None
    assert why(stable, of([USUAL] * 1000, 9), 0.0, SLOWER) is not None


@pytest.mark.parametrize(
    ("stable", "canary", "is_slow"),
    [
        pytest.param((0, 0.004), (0, 0.02), True, id="as many rows"),
        pytest.param((4, 0.02), (0, 0.004), False, id="fewer rows in less time"),
        pytest.param((4, 0.02), (0, 0.03), False, id="fewer rows in hardly more time"),
        pytest.param((4, 0.02), (0, 0.1), True, id="fewer rows in more time"),
        pytest.param((0, 0.004), (4, 0.03), False, id="more rows in more time"),
        pytest.param((0, 0.004), (4, 0.12), False, id="each row in as much time"),
        pytest.param((0, 0.004), (4, 0.4), True, id="each row in more time"),
        pytest.param((0, 0.004), (7, 9.0), False, id="any number of rows"),
    ],
)
def test_runs_are_compared_with_those_of_as_many_rows(stable, canary, is_slow):
    """A version with more requests has larger runs, which is no mistake of the other."""
    beside, own = (of([seconds] * 500, size=size) for size, seconds in (stable, canary))

    assert (why(beside, own, FAIL, SLOWER) is not None) == is_slow


def test_a_minute_and_more_is_counted():
    """The slowest are above all bounds."""
    found = why(of([0.05] * 100), of([1000.0] * 100), FAIL, SLOWER)

    assert str(found) == (
        "the median of its 100 runs takes 65.5 s, and that of the 100 of the stable version 53.8 ms"
    )
    assert found.as_json()["stable"]["runs"] == 100
