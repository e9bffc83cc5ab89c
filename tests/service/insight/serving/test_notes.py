"""Notes of rows: what is taken of runs of any size, and what waits of it."""

import numpy as np
import pytest

from service.insight.serving import notes as notes_file
from service.insight.serving.notes import Notes
from service.insight.serving.sampling import Share
from service.signature import Tensor

PLAIN = Tensor("x", "float32", (2,))
TEXT = Tensor("t", "string", (1,))
FREE = Tensor("f", "float32", (None,))


def noted(*tensors, most=10_000):
    """Return notes of these tensors, of all runs."""
    return Notes(tensors, len(tensors), Share(1.0), most)


def joined(drained, name):
    """Return the rows of a tensor in the order of their shapes."""
    return [part[name].tolist() for part in drained if name in part]


def test_rows_are_copied():
    """A run may use its memory again before they are counted."""
    notes = noted(PLAIN, TEXT)
    rows = {"x": np.float32([[1, 2]]), "t": np.array([["a"]], object)}

    assert notes.take(rows, 1) == range(1)
    rows["x"][:] = 7
    rows["t"][:] = "b"

    [drained] = notes.drain()
    assert (drained["x"].tolist(), drained["t"].tolist()) == ([[1, 2]], [["a"]])
    assert notes.drain() == []


def test_a_run_without_a_tensor_adds_none_of_its_rows():
    """Requests for some heads have neither all inputs nor all answers."""
    notes = noted(PLAIN, TEXT)
    notes.take({"x": np.float32([[1, 2], [3, 4]])}, 2)
    notes.take({"t": np.array([["a"]], object)}, 1)
    notes.take({"other": np.float32([[1]])}, 1)

    [drained] = notes.drain()

    assert (drained["x"].shape, drained["t"].shape) == ((2, 2), (1, 1))


def test_rows_of_different_shapes_are_kept_apart():
    """An axis of any length has another one in each run."""
    notes = noted(PLAIN, FREE)
    for length in (1, 3, 1):
        notes.take({"x": np.zeros((2, 2), np.float32), "f": np.ones((2, length))}, 2)

    drained = notes.drain()

    assert [part["f"].shape for part in drained] == [(4, 1), (2, 3)]
    assert [part["x"].shape for part in drained if "x" in part] == [(6, 2)]


@pytest.mark.parametrize(
    ("tensor", "row"),
    [
        pytest.param(PLAIN, np.float32([[1, 2]]), id="numbers"),
        pytest.param(TEXT, np.array([["x" * 100]], object), id="texts"),
        pytest.param(FREE, np.ones((1, 25), np.float32), id="free axis"),
    ],
)
def test_they_are_full_before_they_are_too_large(tensor, row):
    """The bytes that wait are bounded, whatever the rows are."""
    notes = noted(tensor)
    rows = 0
    while not notes.is_full:
        notes.take({tensor.name: row}, 1)
        rows += 1

    assert rows * (row.nbytes + sum(map(len, row[0] if tensor is TEXT else ()))) <= 10_000
    assert rows > 10
    notes.drain()
    assert not notes.is_full


@pytest.mark.parametrize("tensor", [PLAIN, FREE])
def test_of_very_many_rows_every_nth_is_taken(tensor):
    """They are full at once, since what is taken of them is not copied."""
    notes = noted(tensor)
    rows = np.arange(400_000, dtype=np.float32).reshape(-1, 2)

    taken = notes.take({tensor.name: rows}, len(rows))

    assert notes.is_full
    assert 1 < taken.step == len(rows) // len(taken) < 10
    [part] = joined(notes.drain(), tensor.name)
    assert part == rows[taken.start :: taken.step].tolist()


def test_of_very_many_texts_only_those_that_are_taken_are_looked_at(monkeypatch):
    """The event loop does so, and other requests wait."""
    looked = []
    size = notes_file._bytes
    monkeypatch.setattr(notes_file, "_bytes", lambda rows: looked.append(len(rows)) or size(rows))
    notes = noted(TEXT)

    taken = notes.take({TEXT.name: np.full((300_000, 1), "x", object)}, 300_000)

    assert looked == [len(taken)]
    assert 0 < len(taken) <= notes_file._RUN_VALUES


def test_a_row_that_is_too_large_is_not_taken():
    """It is among those that were answered, so the share says that it is missing."""
    notes = noted(FREE)

    assert not notes.take({"f": np.ones((1, 2**20), np.float32)}, 1)
    assert (notes.answered, notes.taken, notes.is_full) == (1, 0, False)


def test_runs_that_are_not_taken_are_answered():
    """The share of rows is that of those that were answered."""
    share = Share(1.0)
    share.value = 0.0
    notes = Notes([PLAIN], 1, share, 10_000)

    assert not notes.take({"x": np.float32([[1, 2]])}, 1)
    assert (notes.answered, notes.taken, notes.drain()) == (1, 0, [])
