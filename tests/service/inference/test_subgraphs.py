"""The cache of sub-graphs: which are built, kept and replaced, and their bound in bytes."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from service.inference.subgraphs import LEAST_BYTES, MORE, MOST, REMEMBERED, SubgraphCache


class Made:
    """A builder that records the sub-graphs it builds, each of a given number of bytes."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.cuts: list[Any] = []

    def __call__(self, heads: Any) -> tuple[str, int]:
        """Build a sub-graph."""
        self.cuts.append(heads)
        return f"cut {heads}", self.size


def test_a_cut_is_made_once():
    """A sub-graph is built once and kept."""
    make = Made()
    kept = SubgraphCache(make, 100)

    assert [kept.find(heads) for heads in (1, 2, 1, 1)] == ["cut 1", "cut 2", "cut 1", "cut 1"]
    assert make.cuts == [1, 2]


def test_a_rare_set_of_heads_has_no_cut():
    """Past the bound, rare sets of heads run in the whole graph, however many there are."""
    make = Made()
    kept = SubgraphCache(make, 10**9)

    cuts = [kept.find(heads) for _ in range(5) for heads in range(1000)]

    assert len(make.cuts) == MOST
    assert sum(cut is not None for cut in cuts) == 5 * MOST


def test_a_frequent_set_of_heads_takes_a_place():
    """A frequent set of heads replaces the sub-graph that is requested least."""
    make = Made()
    kept = SubgraphCache(make, 10**9)
    for heads in range(MOST):
        for _ in range(3 if heads == 5 else 10):
            kept.find(heads)

    cuts = [kept.find("new") for _ in range(3 + MORE + 5)]

    assert cuts == [None] * (3 + MORE) + ["cut new"] * 5
    assert kept.find(5) is None
    assert all(kept.find(heads) for heads in range(MOST) if heads != 5)


def test_cuts_have_a_bound_in_bytes():
    """A sub-graph that does not fit is used once, and is kept only if it is requested often."""
    make = Made(size=LEAST_BYTES // 2)
    kept = SubgraphCache(make, 100)

    cuts = [kept.find(heads) for heads in (1, 2, 2, 3, 3, 1, 2)]

    assert cuts == ["cut 1", "cut 2", "cut 2", "cut 3", None, "cut 1", "cut 2"]
    assert make.cuts == [1, 2, 3]

    assert [kept.find(3) for _ in range(MORE + 5)][-1] == "cut 3"
    assert make.cuts == [1, 2, 3, 3]
    assert (kept.find(1), kept.find(2)) == (None, "cut 2")


def test_a_set_of_heads_that_needs_a_cut_has_one():
    """A set that needs a sub-graph replaces the one that is requested least.

    Its sub-graph is built once while it is kept.
    """
    make = Made()
    kept = SubgraphCache(make, 10**9)
    for heads in range(MOST):
        for _ in range(heads + 1):
            kept.find(heads)

    assert kept.find("new") is None
    assert [kept.insist("new") for _ in range(3)] == ["cut new"] * 3
    assert kept.find("new") == "cut new"
    assert make.cuts == [*range(MOST), "new"]
    assert kept.find(0) is None


def test_a_bounded_number_of_sets_is_remembered():
    """Counts of sets are bounded, and frequent sets keep theirs."""
    kept = SubgraphCache(Made(), 100)
    for _ in range(100):
        kept.find("often")
    for heads in range(5 * REMEMBERED):
        kept.find(heads)

    assert len(kept._counts) <= REMEMBERED + 1
    assert kept.find("often") == "cut often"


def test_a_cut_that_cannot_be_made_is_tried_again():
    """The request gets the error, and the next request tries again."""
    fails = [True]

    def make(heads: Any) -> tuple[str, int]:
        if fails[0]:
            raise MemoryError
        return f"cut {heads}", 1

    kept = SubgraphCache(make, 100)
    with pytest.raises(MemoryError):
        kept.find(1)
    fails[0] = False

    assert kept.find(1) == "cut 1"


def test_no_request_waits_for_a_cut():
    """The whole graph answers while a sub-graph is built."""
    begun, go_on = threading.Event(), threading.Event()

    def make(heads: Any) -> tuple[str, int]:
        begun.set()
        go_on.wait(10)
        return f"cut {heads}", 1

    kept = SubgraphCache(make, 100)
    first: list[Any] = []
    thread = threading.Thread(target=lambda: first.append(kept.find(1)))
    thread.start()
    assert begun.wait(10)

    assert kept.find(1) is None

    go_on.set()
    thread.join(10)
    assert first == ["cut 1"]
    assert kept.find(1) == "cut 1"
