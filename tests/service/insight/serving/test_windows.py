"""Counts over time: what falls out of a window, and what several workers have counted."""

import numpy as np
import pytest

from service.insight.serving import windows
from service.insight.serving.windows import ALL, DAY, HOUR, add, read, width

START = 1_000_000.0  # of the wall clock, by which the other clock is 0
MINUTE, HOURS = 60, 3600


def vector():
    """Return a vector for two numbers, as a worker begins with it."""
    return np.zeros(width(2))


def counted(vectors, window, now):
    """Return since when there is anything, by the other clock, and the numbers."""
    since, numbers = read(vectors, window, START + now, now)
    return None if since is None else since - START, numbers.tolist()


@pytest.mark.parametrize("window", [ALL, HOUR, DAY])
def test_nothing_was_counted_before_the_first_row(window):
    """There is no time since when, and there are no numbers."""
    assert counted([vector(), vector()], window, 5000) == (None, [])


@pytest.mark.parametrize("window", [ALL, HOUR, DAY])
def test_workers_are_added(window):
    """The time is that of the first row of any of them."""
    first, second, idle = vector(), vector(), vector()
    now = 100_000.0
    add(first, np.array([1, 2]), START + now, now)
    add(second, np.array([10, 20]), START + now - 7, now - 7)
    add(first, np.array([100, 200]), START + now, now)

    assert counted([first, second, idle], window, now) == (now - 7, [111, 222])


def test_an_hour_is_that_of_now():
    """Rows leave it within five minutes of an hour, and all that is counted is of the hour."""
    one = vector()
    begin = 100 * HOURS
    for minute in range(0, 180, 5):
        now = begin + minute * MINUTE
        add(one, np.array([1, minute]), START + now, now)

        since, (rows, _) = counted([one], HOUR, now)
        assert rows == min(12, minute // 5 + 1)
        assert now - since == (rows - 1) * 5 * MINUTE

    since, numbers = counted([one], HOUR, now + 30 * MINUTE)
    assert numbers == [6, sum(range(150, 180, 5))]
    assert counted([one], HOUR, now + 3 * HOURS)[1] == [0, 0]


def test_a_day_is_that_of_now():
    """Rows leave it within two hours of a day."""
    one = vector()
    begin = 100 * HOURS
    for hour in range(50):
        now = begin + hour * HOURS
        add(one, np.array([1, 0]), START + now, now)

        since, (rows, _) = counted([one], DAY, now)
        assert rows == min(hour + 1, 23 + hour % 2)
        assert (now - since) // HOURS == rows - 1

    assert counted([one], ALL, now) == (begin, [50, 0])


def test_slots_of_a_worker_that_died_are_not_read_for_ever():
    """Nobody writes into them any more, and a later period has the same slots."""
    dead, alive = vector(), vector()
    now = 100 * HOURS
    add(dead, np.array([5, 5]), START + now, now)
    later = now + HOUR.seconds * windows.SLOTS
    add(alive, np.array([1, 1]), START + later, later)

    assert counted([dead, alive], HOUR, later)[1] == [1, 1]
    assert counted([dead, alive], ALL, later) == (now, [6, 6])


def test_the_first_hour_of_a_machine_counts():
    """Its first period is the one of slots that were never used."""
    one = vector()
    add(one, np.array([3, 4]), START + 1, 1.0)
    add(one, np.array([3, 4]), START + 2, 2.0)

    assert counted([one], HOUR, 5.0) == (1.0, [6, 8])
