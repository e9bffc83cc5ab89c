"""Slices of a request: all rows are run, and none once nobody wants the answer."""

import numpy as np
import pytest

from service.inference.lane import Lane
from service.inference.model import Model
from service.inference.sliced import Sliced, join
from service.run import Part, Run
from tests.harness import small

ROWS = 500


class Asker:
    """A request that notes what it is told, and wants some slices."""

    def __init__(self, wants=10**6):
        self.wants = wants
        self.results = []

    def wanted(self):
        """Return whether a slice is wanted."""
        self.wants -= 1
        return self.wants >= 0

    def may_return(self):
        """Return that the client may send more."""
        return True

    def done(self, result):
        """Keep a result."""
        self.results.append(result)


@pytest.fixture(name="lane")
def _lane():
    """Return the lane of a model that has one input."""
    return Lane(Model.load(small.same(small.F)))


def run(arrays):
    """Return the answer to a slice: its rows."""
    rows = len(arrays["x"])
    return Part(Run(rows, 1.0, 2.0, {"y": arrays["x"]}), 0, rows)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_all_rows_are_answered_in_order(lane, later):
    """The executor may answer within `submit`, any number of times, or afterwards."""
    asker, waiting, sizes = Asker(), [], []

    def submit(arrays, slice_):
        sizes.append(len(arrays["x"]))
        assert lane.sliced_rows == ROWS - sum(sizes)
        if not slice_.wanted():
            return
        if later:
            waiting.append((slice_, run(arrays)))
        else:
            slice_.done(run(arrays))

    x = np.arange(2.0 * ROWS).reshape(ROWS, 2)
    Sliced(submit, lane, asker, asker.done).start({"x": x})
    assert lane.sliced_requests == (1 if later else 0)
    while waiting:
        slice_, answer = waiting.pop()
        assert not slice_.may_return()
        slice_.done(answer)

    [parts] = asker.results
    run_of_all = join(parts)
    assert (run_of_all.outputs["y"] == x).all()
    assert (run_of_all.rows, max(sizes)) == (ROWS, lane.most)
    assert (lane.sliced_requests, lane.sliced_rows) == (0, 0)


def test_what_is_kept_of_a_slice_is_chosen_by_its_first_row(lane):
    """An error in that is the answer."""

    def keep(part, start):
        kept.append((start, part.end - part.start))
        if len(kept) == 8:
            raise ValueError("kept enough")
        return part

    def submit(arrays, slice_):
        slice_.done(run(arrays))

    asker, kept = Asker(), []
    Sliced(submit, lane, asker, asker.done, keep).start({"x": np.zeros((2 * ROWS, 2))})

    assert kept == [(i * lane.most, lane.most) for i in range(8)]
    assert [str(result) for result in asker.results] == ["kept enough"]
    assert (lane.sliced_requests, lane.sliced_rows) == (0, 0)


def test_a_request_that_cannot_tell_whether_it_is_wanted_is_forgotten(lane):
    """The executor answers it with the error, and the lane has nothing of it."""
    asker, slices = Asker(), []

    def fail():
        raise ValueError("unknown")

    asker.wanted = fail
    sliced = Sliced(lambda _, slice_: slices.append(slice_), lane, asker, asker.done)
    sliced.start({"x": np.zeros((ROWS, 2))})
    with pytest.raises(ValueError, match="unknown"):
        slices[0].wanted()
    slices[0].done(ValueError("unknown"))

    assert [str(result) for result in asker.results] == ["unknown"]
    assert (lane.sliced_requests, lane.sliced_rows) == (0, 0)


@pytest.mark.parametrize("end", ["unwanted", "error", "fault", "later fault"])
def test_no_slice_is_run_once_the_answer_is_not_wanted(lane, end):
    """An error of one slice is the answer; the lane forgets the others."""
    asker, submitted, waiting = Asker(2 if end == "unwanted" else 10**6), [], []

    def submit(arrays, slice_):
        submitted.append(len(arrays["x"]))
        if end == "fault" or (end == "later fault" and len(submitted) == 3):
            raise ValueError(end)
        if slice_.wanted():
            failed = end == "error" and len(submitted) == 3
            waiting.append((slice_, ValueError(end) if failed else run(arrays)))

    sliced = Sliced(submit, lane, asker, asker.done)
    rows = {"x": np.zeros((ROWS, 2))}
    if end == "fault":
        with pytest.raises(ValueError, match=end):
            sliced.start(rows)
    else:
        sliced.start(rows)
    while waiting:
        slice_, answer = waiting.pop()
        slice_.done(answer)

    assert len(submitted) == (1 if end == "fault" else 3)
    assert [str(result) for result in asker.results] == (
        [end] if end in ("error", "later fault") else []
    )
    assert (lane.sliced_requests, lane.sliced_rows) == (0, 0)
