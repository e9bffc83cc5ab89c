"""The figures of the console that are promised: what a new user waits for, and what it loads."""

import json
import re
import time
from pathlib import Path

from playwright.sync_api import expect

ROOT = Path(__file__).parents[4]

MOST_SECONDS = 10  # an order of magnitude more than it takes, for busy machines
MOST_REQUESTS = 8


def test_the_first_answer_comes_soon_and_without_reading_anything(visit, service):
    """From the address that the service prints: the list, a click on a model, and its answers."""
    begun = time.monotonic()
    one = visit()

    one.page.get_by_role("link", name="triceps", exact=True).click()
    expect(one.summary).to_contain_text("o1: yes · o2: Banana · o3: 4")

    assert time.monotonic() - begun < MOST_SECONDS


def test_figures_that_are_published_are_those_of_this_console():
    """A large change of the page asks for new ones, by `benchmarks.console --write`."""
    page = (ROOT / "benchmarks" / "CONSOLE.md").read_text()
    figures = dict(re.findall(r"(?m)^\| (.+) \| ([\d.,]+) \|$", page))
    files = (ROOT / "service" / "api" / "console").glob("console.*")

    size = int(figures["page, style sheet and script, in bytes"].replace(",", ""))
    assert abs(size - sum(file.stat().st_size for file in files)) < 500
    assert figures["violations that axe-core finds in 12 views"] == "0"
    assert float(figures["seconds to the first answer"]) < MOST_SECONDS


def test_a_model_is_answered_after_few_requests(visit, service):
    """Three files, the signature and the prediction: no picture, font or library besides."""
    one = visit("#/models/triceps")
    expect(one.summary).to_contain_text("o3: 4")

    asked = [url.removeprefix(service.url) for url in one.faults.requests if url[:5] != "data:"]
    assert len(asked) <= MOST_REQUESTS
    assert set(asked) == {
        *("/console/", "/console/console.css", "/console/console.js"),
        *("/models/triceps", "/models/triceps/predict"),
    }


def test_an_open_page_asks_for_nothing_while_nobody_does_anything(visit):
    """A model's page is quiet, so that an open console costs predictions nothing."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})
    asked = len(one.faults.requests)

    one.page.wait_for_timeout(1500)

    assert len(one.faults.requests) == asked
    assert json.dumps(one.sent[-1]) == json.dumps(one.sent[0])
