"""What a model, an answer or an address says is text, and nothing leaves the service."""

import pytest
from playwright.sync_api import expect

from tests.harness.consoles import MARKUP, proxied
from tests.harness.serving import Server

ELEMENTS = "document.querySelectorAll('img, script:not([src]), iframe, object, [onerror]').length"


@pytest.fixture(name="evil", scope="module")
def _evil(models):
    """Return the address of the model whose every text is markup."""
    assert (models / "markup").is_dir()
    return "#/models/markup"


def test_names_and_labels_with_markup_are_text(visit, evil):
    """They are shown as they are, in every place where a name or a label stands."""
    one = visit(evil, fails=[400], moves=True)
    page = one.page

    expect(one.summary).to_contain_text(f"{MARKUP}head: {MARKUP}no")
    for text in (f"{MARKUP}table", f"{MARKUP}number", f"{MARKUP}text", f"{MARKUP}no"):
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    expect(page.locator("main")).to_contain_text(MARKUP)  # the warning
    page.get_by_text("This request as curl and Python").click()
    one.field(f"{MARKUP}table", f"{MARKUP}number").fill("x")
    assert page.evaluate(ELEMENTS) == 0
    assert page.title() == "markup · Triceps"


def test_errors_with_markup_are_text(visit, evil):
    """The service repeats what it received, and so does the page."""
    one = visit(evil, fails=[400, 404], moves=True)

    one.field(f"{MARKUP}table", f"{MARKUP}number").fill("<b>x</b>")
    expect(one.note(f"{MARKUP}table", f"{MARKUP}number")).to_contain_text("<b>x</b>")
    one.page.get_by_role("link", name="Models", exact=True).click()
    one.page.get_by_label("Open a model by name").fill(MARKUP.replace("/", ""))
    one.page.get_by_role("button", name="Open").click()

    expect(one.page.get_by_role("alert")).to_contain_text("<img src=x")
    assert one.page.evaluate(ELEMENTS) == 0


def test_a_refused_model_with_markup_is_text(visit):
    """So is an alias, and whatever the list has."""
    one = visit()
    entry = {"name": MARKUP, "version": MARKUP, "versions": {MARKUP: MARKUP}}
    model = {**entry, "aliases": {MARKUP: MARKUP}, "heads": [MARKUP]}
    model["batching"] = {"mode": "rows", "evidence": "trial", "reason": MARKUP}
    refused = {"name": MARKUP, "version": MARKUP, "reason": MARKUP}
    body = {"default": MARKUP, "policy": MARKUP, "models": [model], "refused": [refused]}
    one.page.route("**/models?*", lambda route: route.fulfill(json={**body, "next": MARKUP}))

    one.page.reload()

    expect(one.page.locator("h2").first).to_contain_text(MARKUP)
    assert one.page.evaluate(ELEMENTS) == 0


@pytest.mark.parametrize(
    "address",
    [
        pytest.param(f"#/models/{MARKUP}", id="a name"),
        pytest.param(f"#/models/three/versions/{MARKUP}", id="a version"),
        pytest.param("#/models/..%2F..%2Fmetrics", id="out of the models"),
        pytest.param("#/models/three/..%2F..%2F..", id="upwards"),
        pytest.param("#/models/../../other/models/three", id="out of the path"),
        pytest.param("#/models/%2e%2e/%2e%2e/other", id="out of the path, encoded"),
        pytest.param("#/models/three/versions/..", id="out of the versions"),
        pytest.param("#//evil.example/x", id="a host"),
        pytest.param("#/models/three?with=//evil.example", id="a host beside"),
        pytest.param("#/models/three?with=../../x", id="upwards beside"),
        pytest.param("#javascript:alert(1)", id="a script"),
    ],
)
def test_an_address_asks_the_service_alone(visit, address):
    """Whatever stands there, requests go to paths of models, and nothing runs."""
    one = visit(address, fails=[400, 404], moves=True)

    one.page.wait_for_timeout(200)

    paths = [url.removeprefix(one.url) for url in one.faults.requests]
    allowed = ("/console/", "/models", "/metrics")
    assert [path for path in paths if not path.startswith((*allowed, "data:"))] == []
    assert one.page.evaluate(ELEMENTS) == 0


def test_below_a_path_of_a_proxy_everything_works(visit, service):
    """All addresses are relative, in the page and in what is copied."""
    with proxied(service.port, "/team/a") as url:
        one = visit(url=url)
        one.page.goto(f"{url}/")
        expect(one.page).to_have_url(f"{url}/console/")
        one.page.get_by_role("link", name="three", exact=True).click()
        one.has_bars("size", {"value": 4})
        one.page.get_by_text("This request as curl and Python").click()

        expect(one.page.get_by_label("curl", exact=True)).to_contain_text(f"{url}/models/three/pre")
        links = one.page.locator("a[href]").evaluate_all("links => links.map(one => one.href)")
        one.check()
    assert [link for link in links if not link.startswith(f"{url}/")] == []


def test_another_origin_may_not_frame_it(visit, service):
    """The page of another origin shows nothing of it."""
    with proxied(service.port, "/other") as url:
        one = visit()
        frame = f'<iframe src="{url}/console/"></iframe>'
        one.fails.add("net::ERR_BLOCKED_BY_RESPONSE")
        one.page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", frame)
        one.page.wait_for_timeout(300)

        shown = [frame.url for frame in one.page.frames[1:]]
        assert not [url for url in shown if "/console" in url]
        # The page's own policy allows no frame at all, and says so.
        assert [what for kind, what in one.told if kind == "policy"] != []
        one.told.clear()
        one.faults.reports.clear()


def test_it_works_over_tls_and_http_2(visit, models, tmp_path):
    """An encrypted connection agrees on HTTP/2, and the page is the same."""
    options = ("--models", models, "--workers", 1)
    with Server(*options, folder=tmp_path, encrypted=True) as server:
        server.until_ready()
        one = visit("#/models/three", url=server.url, ignore_https_errors=True)
        one.has_bars("size", {"value": 4})
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert one.page.evaluate(protocol) == "h2"
        one.check()
