"""The names of bins: each is readable, and none is there twice."""

from service.inference.model import Model
from service.insight.drift.counting import Layout, Place, expected
from service.insight.drift.quantities import Quantity
from service.insight.serving.bins import bins
from service.reference import Categories, Numbers
from tests.harness import drifting


def place(one, *, labels=None, known=None, dtype="string"):
    """Return a quantity with a reference, behind ten cells of others."""
    quantity = Quantity("x", "", False, "x", dtype, lambda rows: rows, labels, known)
    return Place(quantity, one, 10, expected(one))


def test_numbers_have_intervals():
    """They are as exact as the reference, and the last one has its upper edge."""
    found = bins(place(Numbers((0.0, 0.1, 0.30000001, 5.0), (1, 2, 3)), dtype="float32"))

    assert [name for name, _ in found] == [
        *("missing", "below", "[0,0.1)", "[0.1,0.30000001)", "[0.30000001,5]", "above"),
    ]
    assert [cell for _, cell in found] == list(range(10, 16))


def test_texts_have_their_own_names():
    """Only a vocabulary has unseen texts, and words of the service are no texts."""
    one = Categories(("a", "other", '"b"', "missing"), (1, 1, 1, 1, 1))
    names = ["missing", "a", '"other"', '""b""', '"missing"', "other"]

    assert [name for name, _ in bins(place(one))] == names
    assert [name for name, _ in bins(place(one, known=frozenset("a")))] == [*names, "unseen"]


def test_labels_that_are_all_listed_leave_no_others():
    """Those of a head with more labels than bins do."""
    one = Categories(("no", "yes"), (1, 1, 0))

    few = bins(place(one, labels=("no", "yes")))
    many = bins(place(one, labels=("no", "yes", "perhaps")))

    assert [name for name, _ in few] == ["missing", "no", "yes"]
    assert [name for name, _ in many] == ["missing", "no", "yes", "other"]


def test_no_two_bins_have_one_name():
    """A name is of one cell, in each quantity of a whole model."""
    for one in Layout(Model.load(drifting.three()).signature).places:
        names = [name for name, _ in bins(one)]
        assert len(names) == len(set(names)) >= 3
