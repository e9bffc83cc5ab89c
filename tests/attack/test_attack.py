"""A hostile client beside a well-behaved one, who is to notice nothing of it.

The suite tries each behaviour once, and in small; `make attack` tries all combinations in full,
measures how long the caller waits besides, and prints a table.
"""

from __future__ import annotations

import pytest

from tests.attack import siege
from tests.attack.pairs import pairwise

FEW = siege.few()


@pytest.fixture(scope="module", name="stage")
def _stage(tmp_path_factory):
    stage = siege.Stage(tmp_path_factory.mktemp("attack"))
    yield stage
    stage.clear()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=str(case), marks=() if case in FEW else pytest.mark.attack)
        for case in siege.cases()
    ],
)
def test_the_caller_notices_nothing(stage, case, request):
    """No answer is lost or wrong, and memory, descriptors and connections are as they were."""
    full = request.config.getoption("--attack")

    outcome = siege.attack(stage, case, seconds=1.0 if full else 0.5, scale=1.0 if full else 0.2)
    if full:
        outcome.check_speed()
        request.config.stash[siege.OUTCOMES].append(outcome)

    assert outcome.complaints == []


def test_what_is_tried_once_meets_everything():
    """Each behaviour; with and without tokens, with TLS, on each kind of path."""
    assert {case.behaviour for case in FEW} == set(siege.TABLE)
    assert {(case.tokens, case.tls) for case in FEW} == {
        (holder, tls) for holder in siege.ALL_TOKENS for tls in (False, True)
    }
    assert {case.kind for case in FEW} == set(siege.repository.PATHS)


def test_every_two_values_meet():
    """Each pair that is allowed is in some combination, and there are far fewer than all."""
    axes = range(5), range(4), range(3), range(2)

    found = pairwise(axes, lambda chosen: chosen[:2] != (0, 0))

    pairs = {
        (i, one, j, other)
        for chosen in found
        for i, one in enumerate(chosen)
        for j, other in enumerate(chosen)
        if i < j
    }
    assert len(pairs) == 5 * 4 + 5 * 3 + 5 * 2 + 4 * 3 + 4 * 2 + 3 * 2 - 1
    assert len(found) <= 25
    assert found == pairwise(axes, lambda chosen: chosen[:2] != (0, 0))
