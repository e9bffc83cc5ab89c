"""The views of the console: the list of models, one model, and the ways between them."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.harness.apps import BODY

JSON = {"Content-Type": "application/json"}


def _about(page):
    return page.locator("h1 + p")


def _card(page, name):
    link = page.get_by_role("link", name=name, exact=True)
    return page.locator("main li.card").filter(has=page.get_by_role("heading").filter(has=link))


def test_a_browser_comes_to_the_list_from_the_home_page(visit, service):
    """The address of the service alone is enough."""
    page = visit().page

    page.goto(service.url)

    expect(page).to_have_url(f"{service.url}/console/")
    expect(page).to_have_title("Models · Triceps")
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


def test_list_has_every_model_with_its_versions_aliases_and_heads(visit, service):
    """It shows what `/models` says, and how each model batches."""
    page = visit().page

    names = [model["name"] for model in service.get("/models")[1]["models"]]
    assert page.locator("main h2 a").all_inner_texts() == names
    three = _card(page, "three")
    for text in ("risk · size · digits · tags", "stable → 1", "canary → 2", "2 serves", "1 loaded"):
        expect(three).to_contain_text(text)
    expect(three).to_contain_text("batches requests")
    expect(_card(page, "whole")).to_contain_text("whole tensors")
    expect(_card(page, "triceps")).to_contain_text("default")


def test_list_says_what_was_refused_and_why(visit, service):
    """The reason is in the words of the service."""
    page = visit().page

    (refused,) = service.get("/models")[1]["refused"]
    entry = page.get_by_role("listitem").filter(has_text="three · version 3")
    expect(entry).to_contain_text(refused["reason"])


def test_list_has_links_to_what_programs_read(visit, service):
    """A signature, a report and the OpenAPI document are where the links lead."""
    page = visit().page
    links = {
        "OpenAPI": page.get_by_role("link", name="OpenAPI"),
        "Signature": _card(page, "three").get_by_role("link", name="Signature"),
    }
    addresses = {name: link.evaluate("link => link.href") for name, link in links.items()}

    assert addresses == {
        "OpenAPI": f"{service.url}/openapi.json",
        "Signature": f"{service.url}/models/three",
    }


def test_a_version_with_a_report_links_to_it(visit, service):
    """A version without one has no such link."""
    page = visit("#/models/three").page
    report = page.get_by_role("link", name="Report")

    assert report.evaluate("link => link.href") == f"{service.url}/models/three/versions/2/report"
    page.goto(f"{service.url}/console/#/models/three/versions/1")
    expect(_about(page)).to_contain_text("version 1")
    expect(report).to_have_count(0)


def test_list_has_requests_and_time_of_the_last_minutes(visit, service):
    """They come from the metrics, while the list is open."""
    page = visit().page
    with page.expect_response("**/metrics"):
        page.reload()

    for _ in range(20):
        service.ask("POST", "/models/three/predict", json.dumps(BODY).encode(), JSON)

    pattern = re.compile(r"[\d.]+ requests a minute · [\d.e-]+ ms")
    expect(_card(page, "three").get_by_text(pattern)).to_be_visible()
    expect(_card(page, "foreign").get_by_text("no requests lately")).to_be_visible()


def test_list_has_parts(visit):
    """A repository of thousands of models is listed a hundred at a time."""
    one = visit()
    page = one.page
    asked = []

    def answer(route):
        asked.append(route.request.url.partition("?")[2])
        entry = {"version": "1", "versions": {"1": "loaded"}, "aliases": {}, "heads": []}
        is_first = route.request.url.endswith("after=")
        names = ["a b", "c&d"] if is_first else ["z"]
        models = [{"name": name, **entry} for name in names]
        more = {"next": "c&d"} if is_first else {}
        body = {"default": None, "policy": "latest", "models": models, "refused": [], **more}
        route.fulfill(json=body)

    page.route("**/models?*", answer)
    page.reload()
    page.get_by_role("link", name="More, after c&d").click()

    expect(page.locator("main h2 a")).to_have_text(["z"])
    assert asked == ["limit=100&after=", "limit=100&after=c%26d"]
    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.locator("main h2 a")).to_have_text(["a b", "c&d"])


def test_back_and_forward_are_the_browsers(visit):
    """Each view has an address and a title of its own, and its heading has the focus."""
    page = visit().page
    heading = page.get_by_role("heading", level=1)

    page.get_by_role("link", name="three", exact=True).click()
    expect(heading).to_have_text("three")
    expect(heading).to_be_focused()
    expect(page).to_have_title("three · Triceps")
    page.go_back()
    expect(heading).to_have_text("Models")
    _card(page, "three").get_by_role("link", name="stable → 1").click()
    expect(heading).to_have_text("three")
    expect(_about(page)).to_contain_text("version 1")
    page.go_back()
    expect(heading).to_have_text("Models")
    page.go_forward()
    expect(heading).to_have_text("three")
    expect(_about(page)).to_contain_text("version 1")
    page.reload()
    expect(_about(page)).to_contain_text("version 1")


def test_a_model_is_opened_by_its_name(visit):
    """So a client that may not list the models comes to its own."""
    page = visit().page

    page.get_by_label("Open a model by name").fill("three")
    page.get_by_role("button", name="Open").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("three")


@pytest.mark.parametrize(
    ("view", "said"),
    [
        pytest.param("#/models/ghost", "ghost", id="no model"),
        pytest.param("#/models/three/versions/9", "version '9'", id="no version"),
        pytest.param("#/models/three/aliases/none", "alias 'none'", id="no alias"),
        pytest.param("#/models/three/versions/3", "not an ONNX file", id="refused"),
        pytest.param("#/models/a%2Fb", "a/b", id="a slash in the name"),
    ],
)
def test_what_is_not_there_is_said_in_the_words_of_the_service(visit, view, said):
    """The view has the way on, and the page goes on working."""
    page = visit(view, fails=[404, 503]).page

    expect(page.get_by_role("alert")).to_contain_text(said)
    page.get_by_label("Open a model by name").fill("three")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("three")
    expect(page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("view", ["#", "#/", "#/nowhere", "#/models", "#/models/"])
def test_other_addresses_show_the_list(visit, view):
    """Nothing in an address breaks the page."""
    page = visit(view).page

    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


@pytest.mark.parametrize("view", ["#/models/%", "#/models/three?row=%7B", "#/models/three?row=[1]"])
def test_a_broken_address_breaks_nothing(visit, view):
    """The page says what is wrong with it, or does without that part of it."""
    page = visit(view, fails=[400], moves=True).page

    page.get_by_role("link", name="Models", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


def test_an_empty_repository_is_no_error(visit):
    """The list says that nothing serves yet."""
    page = visit().page
    nothing = {"default": None, "policy": "latest", "models": [], "refused": []}

    page.route("**/models?*", lambda route: route.fulfill(json=nothing))
    page.reload()

    expect(page.locator("main")).to_contain_text("No model serves.")
