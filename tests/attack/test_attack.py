"""A hostile client beside a well-behaved one, which must not notice it.

`make test` runs each behaviour once and small.  `make attack` runs all combinations in full size,
measures the waits of the well-behaved client, and prints a table.
"""

from __future__ import annotations

import pytest

from tests.attack import page, siege
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
        request.config.stash[page.OUTCOMES].append(outcome)

    assert outcome.complaints == []


def test_what_is_tried_once_meets_everything():
    """Each behaviour; with and without tokens, with TLS, on each kind of path."""
    assert {case.behaviour for case in FEW} == set(siege.TABLE)
    assert {(case.tokens, case.tls) for case in FEW} == {
        (holder, tls) for holder in siege.ALL_TOKENS for tls in (False, True)
    }
    assert {case.kind for case in FEW} == set(siege.repository.KINDS)


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


def test_the_page_of_an_attack_says_what_was_promised_and_found(tmp_path, monkeypatch):
    """A row for each behaviour, with the worst that came of it."""
    calm = {"p99": 0.002, "longest": 0.003, "lost": 0, "wrong": 0, "right": 100}
    outcomes = []
    for case, p99, lost in zip(FEW, (0.02, 0.2), (0, 1), strict=False):
        attacked = {**calm, "p99": p99, "lost": lost}
        phases = {"calm": calm, "attack": attacked, "after": calm}
        sizes = {"before": 100 << 20, "peak": 150 << 20, "after": 110 << 20}
        outcomes.append(siege.Outcome(case, phases, ["1 lost"] * lost, **sizes))
    monkeypatch.setattr(page.results, "commit", lambda: "abc")

    page.write(outcomes, tmp_path / "docs" / "attack.md")

    text = (tmp_path / "docs" / "attack.md").read_text()
    assert "at commit abc by `make attack ARGS=--write`" in text
    assert "2 attacks, 600 right answers" in text
    assert "| answers that were lost | 0 | 1 |" in text
    assert f"| 200 ms ({FEW[1].behaviour}) |" in text
    assert f"| {FEW[0].behaviour} | 1 | 20 | 3 | 0 | 0 | 50 | 10 |" in text
    assert [*page.lines(outcomes)][-1].endswith("| FAILED |")
    assert [*page.lines([])] == []
