"""Cuts of a graph are kept where they are worth it, and there is a bound to them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from service.inference.subgraphs import LEAST_BYTES, MORE, MOST, REMEMBERED, SubgraphCache


class Made:
    """What makes cuts of so many bytes, and notes them."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.cuts: list[Any] = []

    def __call__(self, heads: Any) -> tuple[str, int]:
        """A cut."""
        self.cuts.append(heads)
        return f"cut {heads}", self.size


def test_a_cut_is_made_once():
    """And is there from then on."""
    make = Made()
    kept = SubgraphCache(make, 100)

    assert [kept.find(heads) for heads in (1, 2, 1, 1)] == ["cut 1", "cut 2", "cut 1", "cut 1"]
    assert make.cuts == [1, 2]


def test_what_is_asked_for_now_and_then_has_none():
    """Past the bound the whole graph does it, however many sets there are."""
    make = Made()
    kept = SubgraphCache(make, 10**9)

    found = [kept.find(heads) for _ in range(5) for heads in range(1000)]

    assert len(make.cuts) == MOST
    assert sum(cut is not None for cut in found) == 5 * MOST


def test_what_is_asked_for_often_takes_a_place():
    """That of the cut that is asked for least."""
    make = Made()
    kept = SubgraphCache(make, 10**9)
    for heads in range(MOST):
        for _ in range(3 if heads == 5 else 10):
            kept.find(heads)

    found = [kept.find("new") for _ in range(3 + MORE + 5)]

    assert found == [None] * (3 + MORE) + ["cut new"] * 5
    assert kept.find(5) is None
    assert all(kept.find(heads) for heads in range(MOST) if heads != 5)


def test_cuts_have_a_bound_in_bytes():
    """What has no room is made once, used for that one, and has to earn it from then on."""
    make = Made(size=LEAST_BYTES // 2)
    kept = SubgraphCache(make, 100)

    found = [kept.find(heads) for heads in (1, 2, 2, 3, 3, 1, 2)]

    assert found == ["cut 1", "cut 2", "cut 2", "cut 3", None, "cut 1", "cut 2"]
    assert make.cuts == [1, 2, 3]

    assert [kept.find(3) for _ in range(MORE + 5)][-1] == "cut 3"
    assert make.cuts == [1, 2, 3, 3]
    assert (kept.find(1), kept.find(2)) == (None, "cut 2")


def test_what_only_a_cut_can_do_has_one():
    """In the place of the one that is asked for least; it is made once, as long as it is kept."""
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


def test_only_so_many_sets_are_remembered():
    """What was asked for often stays so."""
    kept = SubgraphCache(Made(), 100)
    for _ in range(100):
        kept.find("often")
    for heads in range(5 * REMEMBERED):
        kept.find(heads)

    assert len(kept._counts) <= REMEMBERED + 1
    assert kept.find("often") == "cut often"


def test_a_cut_that_cannot_be_made_is_tried_again():
    """The next time; whoever asked hears of it."""
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


def test_nobody_waits_for_a_cut_that_is_being_made():
    """The whole graph answers meanwhile."""
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
