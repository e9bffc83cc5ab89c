"""The figures of the console that are promised: what a new user waits for, and what it loads."""

import json
import time

from playwright.sync_api import expect

MOST_SECONDS = 10  # an order of magnitude more than it takes, for busy machines
MOST_REQUESTS = 8


def test_the_first_answer_comes_soon_and_without_reading_anything(visit, service):
    """From the address that the service prints: the list, a click on a model, and its answers."""
    begun = time.monotonic()
    one = visit()

    one.page.get_by_role("link", name="triceps", exact=True).click()
    expect(one.summary).to_contain_text("o1: yes · o2: Banana · o3: 4")

    assert time.monotonic() - begun < MOST_SECONDS


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
