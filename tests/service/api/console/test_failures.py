"""What the page does when the service is busy, fails, is slow or is gone."""

import time

import pytest
from playwright.sync_api import expect

from tests.harness import small
from tests.harness.serving import Server
from tests.harness.waiting import until

# The body of /metrics ends before it is read.
GONE = """
() => {
  const { text } = Response.prototype;
  Response.prototype.text = function () {
    const gone = () => Promise.reject(new DOMException("gone", "AbortError"));
    return this.url.endsWith("/metrics") ? gone() : text.call(this);
  };
}
"""

ROW = b"age,smoker,bmi,weight,length,digit.0,digit.1,digit.2,digit.3\n30,no,22,1,1,0,1,0,1\n"


def _fails(one, status, body, headers=None, times=1):
    """Have the next predictions fail; the list of when they came grows as they do."""
    came = []

    def answer(route):
        came.append(time.monotonic())
        if len(came) > times:
            route.continue_()
        else:
            route.fulfill(status=status, json=body, headers=headers or {})

    one.page.route("**/predict", answer)
    return came


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_when_it_says(visit, status):
    """The page waits as long as Retry-After says, and goes on by itself."""
    one = visit("#/models/three", fails=[status], moves=True)
    one.has_bars("size", {"value": 4})
    came = _fails(one, status, {"error": "too much is asked"}, {"Retry-After": "1"})

    one.field("fruit", "weight").fill("2")

    expect(one.page.get_by_role("alert")).to_contain_text("too much is asked")
    expect(one.summary).to_contain_text("sks again in 1 s")
    one.has_bars("size", {"value": 6})
    expect(one.page.get_by_role("alert")).to_have_count(0)
    assert len(came) == 2
    assert came[1] - came[0] > 0.9


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(500, {"error": "the service failed"}, "the service failed", id="500"),
        pytest.param(504, {"error": "too late"}, "too late", id="504"),
        pytest.param(413, {"error": "the body is too large"}, "too large", id="413"),
    ],
)
def test_an_error_is_said_and_the_next_change_is_answered(visit, status, body, said):
    """The answers before it stay, and the page is not asked in a loop."""
    one = visit("#/models/three", fails=[status], moves=True)
    one.has_bars("size", {"value": 4})
    came = _fails(one, status, body)

    one.field("fruit", "weight").fill("2")

    expect(one.page.get_by_role("alert")).to_contain_text(said)
    one.page.wait_for_timeout(500)
    assert len(came) == 1
    one.field("fruit", "weight").fill("3")
    one.has_bars("size", {"value": 8})
    expect(one.page.get_by_role("alert")).to_have_count(0)


def test_an_answer_of_a_proxy_is_no_json_and_breaks_nothing(visit):
    """A proxy says in its own form that it reaches no service."""
    one = visit("#/models/three", fails=[502], moves=True)
    one.has_bars("size", {"value": 4})
    one.page.route("**/predict", lambda route: route.fulfill(status=502, body="<h1>Bad</h1>"))

    one.field("fruit", "weight").fill("2")

    expect(one.page.get_by_role("alert")).to_contain_text("502")


@pytest.mark.parametrize("body", ["null", "[]", '"Bad"', '{"message": "Bad"}'])
def test_another_json_of_a_proxy_is_said_by_its_status(visit, body):
    """Its message has no name that all proxies use."""
    one = visit("#/models/three", fails=[502], moves=True)
    one.has_bars("size", {"value": 4})
    one.page.route("**/predict", lambda route: route.fulfill(status=502, body=body))

    one.field("fruit", "weight").fill("2")

    expect(one.page.get_by_role("alert")).to_contain_text("The status is 502.")


def test_answers_of_a_new_version_do_not_stand_below_names_of_the_old_one(
    visit, tmp_path, tmp_path_factory
):
    """The page says which version answers; the view of it has its own labels."""
    small.put(tmp_path, "three", 1, small.three())
    options = ("--models", tmp_path, "--workers", 1)
    with Server(*options, folder=tmp_path_factory.mktemp("service")) as server:
        server.until_ready()
        one = visit("#/models/three", url=server.url, moves=True)
        one.has_bars("size", {"value": 2})
        small.put(tmp_path, "three", 2, small.three(2.0))
        until(lambda: server.get("/models/three")[1]["version"] == "2", 20)

        one.field("fruit", "weight").fill("2")
        expect(one.page.get_by_role("alert")).to_have_text("Version 2 answers now.")
        file = {"name": "rows.csv", "mimeType": "text/csv", "buffer": ROW}
        one.page.get_by_label("choose", exact=False).set_input_files(file)
        expect(one.page.locator("section.csv")).to_contain_text("Version 2 answers now.")
        one.page.get_by_role("link", name="Models", exact=True).click()
        one.page.get_by_role("link", name="three", exact=True).click()

        one.has_bars("size", {"value": 4})
        one.check()


def test_a_service_that_is_gone_is_asked_again(visit):
    """The page comes back with the service, without a reload."""
    one = visit("#/models/three", fails=["net::ERR_CONNECTION_REFUSED"], moves=True)
    one.has_bars("size", {"value": 4})
    came = []

    def answer(route):
        came.append(route)
        if len(came) == 1:
            route.abort("connectionrefused")
        else:
            route.continue_()

    one.page.route("**/predict", answer)
    one.field("fruit", "weight").fill("2")

    expect(one.page.get_by_role("alert")).to_contain_text("does not answer")
    one.has_bars("size", {"value": 6})
    expect(one.page.get_by_role("alert")).to_have_count(0)


def test_a_slow_answer_is_not_shown_in_another_view(visit):
    """What is left is no longer waited for."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})
    held = []

    def hold(route):
        held.append(route)

    one.page.route("**/three/predict", hold)
    one.field("fruit", "weight").fill("2")
    one.page.wait_for_timeout(300)

    one.page.get_by_role("link", name="Models", exact=True).click()
    one.page.get_by_role("link", name="whole", exact=True).click()
    expect(one.head("y").locator("pre")).to_be_visible()
    for route in held:
        route.fulfill(json={"predictions": [{"size": {"value": 77}}]})

    one.page.wait_for_timeout(200)
    assert held
    expect(one.page.get_by_role("heading", level=1)).to_have_text("whole")
    assert "77" not in one.page.locator("main").inner_text()


def test_numbers_whose_request_ends_while_they_are_read_are_left_out(visit):
    """The list stays as it is, and the page has no error to report."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})
    one.page.evaluate(GONE)

    with one.page.expect_response("**/metrics"):
        one.page.get_by_role("link", name="Models", exact=True).click()

    one.page.wait_for_timeout(300)
    expect(one.page.get_by_role("link", name="three", exact=True)).to_be_visible()


def test_the_list_fails_with_the_words_of_the_service(visit):
    """The view stays usable, and the list comes with the next visit of it."""
    one = visit(fails=[500])
    one.page.route("**/models?*", lambda route: route.fulfill(status=500, json={"error": "no"}))
    one.page.reload()
    expect(one.page.get_by_role("alert")).to_contain_text("no")
    one.page.unroute("**/models?*")

    one.page.reload()

    expect(one.page.get_by_role("heading", level=1)).to_have_text("Models")
