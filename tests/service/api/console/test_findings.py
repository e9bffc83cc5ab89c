"""What the service has found about a model: its drift, its shadow, and its shares of traffic."""

import json
import re

import pytest
from playwright.sync_api import expect

from service.repository.scan import ALIASES, TRAFFIC
from tests.harness import consoles, drifting, small
from tests.harness.serving import Server

# How far a bar and the mark in it reach, as shares of what is around them.
REACH = """
track => {
  const around = track.getBoundingClientRect();
  const part = tag => track.querySelector(tag).getBoundingClientRect();
  return [part("i").width / around.width, (part("b").left - around.left) / around.width];
}
"""


@pytest.fixture(name="found")
def _found(visit):
    """Return a visit to a model whose service counts drift and has a canary and a shadow."""
    one = visit("", moves=True)
    consoles.with_findings(one.page, "three", "2")
    one.open("#/models/three")
    expect(one.summary).to_contain_text("size: 4")
    return one


@pytest.fixture(name="counting", scope="module")
def _counting(tmp_path_factory):
    """Return a service that has answered rows of other ages than those of training."""
    folder = tmp_path_factory.mktemp("counting")
    small.put(folder / "models", "three", 1, drifting.three())
    options = ("--models", folder / "models", "--workers", 1, "--drift", "features")
    with Server(*options, folder=folder) as server:
        server.until_ready()
        for seed in range(5):
            body = json.dumps({"instances": drifting.instances(200, seed, older=20)}).encode()
            status, _, answer = server.ask(
                "POST", "/models/three/predict", body, {"Content-Type": "application/json"}
            )
            assert status == 200, answer
        yield server


def _opened(one, title):
    """Open a section, and return it."""
    section = one.page.locator("details").filter(has=one.page.get_by_text(re.compile(f"^{title}$")))
    section.locator("summary").click()
    return section


def test_drift_is_listed_the_worst_first(found):
    """Each quantity has its verdict, its PSI and all that is said of it, in the same words."""
    drift = _opened(found, "Drift")

    lines = drift.locator("li")
    expect(lines).to_have_count(3)
    expect(lines.nth(0)).to_contain_text("insurance.age")
    expect(lines.nth(0)).to_contain_text("drift · bound 0.2 · jensen shannon 0.1")
    expect(lines.nth(0)).to_contain_text("out of range 0.336")
    expect(lines.nth(0).locator(".value")).to_have_text("0.3")
    expect(lines.nth(1)).to_contain_text("fruit.weight")
    expect(lines.nth(1)).to_contain_text("no drift")
    expect(lines.nth(2)).to_contain_text("too few rows: 0 of 320")
    expect(lines.nth(2).locator(".value")).to_have_text("")
    expect(drift).to_contain_text("since 2026-11-02T08:00:00+00:00 · rows 1000 · share 0.5")


def test_a_bar_of_drift_reaches_beyond_its_mark_if_psi_is_above_its_bound(found):
    """The mark is in the middle, and a bar that is longer than its track is cut off."""
    tracks = _opened(found, "Drift").locator(".track")

    expect(tracks).to_have_count(2)
    assert tracks.nth(0).evaluate(REACH) == pytest.approx([0.75, 0.5], abs=0.01)
    assert tracks.nth(1).evaluate(REACH) == pytest.approx([0.125, 0.5], abs=0.01)


def test_the_comparison_with_the_shadow_is_listed_by_head(found):
    """The bar is the share of the rows with other labels; a regression has none."""
    compared = _opened(found, "Shadow")

    lines = compared.locator("li")
    expect(lines).to_have_count(2)
    expect(lines.nth(0)).to_contain_text("risk")
    expect(lines.nth(0)).to_contain_text("rows 400 · largest 0.5 · mean 0.125")
    expect(lines.nth(0).locator(".value")).to_have_text("0.25")
    expect(lines.nth(1)).to_contain_text("size")
    expect(lines.nth(1).locator(".value")).to_have_text("")
    expect(compared.locator(".track")).to_have_count(1)
    expect(compared).to_contain_text("stable 0.001 · candidate 0.002 · rows 400")
    expect(compared).to_contain_text("with 1")


def test_shares_of_the_traffic_are_said(found):
    """One line has the versions that get a share, and which."""
    line = found.page.get_by_text("version 2, batches requests")

    expect(line).to_contain_text("canary version 2 · share 0.05 · shadow version 1 · share 0.1")


def test_findings_are_asked_for_whenever_they_are_opened(found):
    """Nothing is asked for before, and what is opened again is new."""
    asked = [url for url in found.faults.requests if url.endswith(("/drift", "/compare"))]
    assert asked == []
    drift = _opened(found, "Drift")
    expect(drift.locator("li")).to_have_count(3)
    drift.locator("summary").click()

    with found.page.expect_response("**/drift"):
        drift.locator("summary").click()


def test_an_error_stands_in_its_section(found):
    """It has the words of the service."""
    found.fails.add("404")
    found.page.unroute("**/models/three/compare")

    compared = _opened(found, "Shadow")

    expect(compared).to_contain_text(re.compile("compare|shadow"))
    expect(compared.locator("li")).to_have_count(0)


def test_a_service_that_finds_nothing_is_not_asked(visit):
    """A model without a reference and without a shadow has no such sections."""
    one = visit("#/models/three")
    expect(one.summary).to_contain_text("size: 4")

    expect(one.page.locator("details")).to_have_count(1)
    assert [url for url in one.faults.requests if url.endswith(("/drift", "/compare"))] == []


def test_the_canary_of_a_service_is_said(visit, tmp_path):
    """Its share is in the file of the model, and its bounds with it; it needs no section."""
    for version in (1, 2):
        small.put(tmp_path / "models", "three", version, small.three(float(version)))
    model = tmp_path / "models" / "three"
    (model / ALIASES).write_text(json.dumps({"stable": "1"}))
    (model / TRAFFIC).write_text(json.dumps({"canary": {"version": "2", "share": 0.05}}))
    with Server("--models", model.parent, "--workers", 1, folder=tmp_path) as server:
        server.until_ready()
        one = visit("#/models/three", url=server.url)
        line = one.page.get_by_text("version 1, batches requests")

        expect(line).to_contain_text("canary version 2 · share 0.05 · fail 0.01 · slower 2")
        expect(one.page.locator("details")).to_have_count(1)
        expect(one.summary).to_contain_text("size: ")


@pytest.mark.parametrize("view", ["", "/versions/1"])
def test_the_drift_of_answered_rows_is_shown(visit, counting, view):
    """A feature that has moved is named first, by the service itself."""
    one = visit(f"#/models/three{view}", url=counting.url, moves=True)
    expect(one.summary).to_contain_text("size: ")

    lines = _opened(one, "Drift").locator("li")

    expect(lines.first).to_contain_text("insurance.age")
    expect(lines.first).to_contain_text("drift · bound")
    expect(lines.filter(has_text="no drift").first).to_be_visible()
    expect(lines).to_have_count(len(drifting.FEATURES) + len(drifting.HEADS))
