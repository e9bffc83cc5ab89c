"""Tokens in the console: asked for once and kept in memory only, and their scopes hold."""

import pytest
from playwright.sync_api import expect

from tests.harness import tokens

EVERYWHERE = """
() => [location.href, document.documentElement.outerHTML, JSON.stringify(history.state),
  ...[...document.querySelectorAll("input, textarea")].map(one => one.value)].join("\\n")
"""


def _asked(one):
    return one.page.get_by_role("dialog")


def test_a_token_is_asked_for_once(visit, guarded):
    """The views after it need none, and a wrong one is said to be wrong."""
    one = visit(url=guarded.url, fails=[401])
    expect(_asked(one)).to_contain_text("Authorization: expected Bearer and a token")

    one.page.get_by_label("Token", exact=True).fill("wrong")
    one.page.get_by_role("button", name="Use it").click()
    expect(_asked(one)).to_contain_text("received one that it does not know")
    one.give(tokens.secret("all"))

    one.page.get_by_role("link", name="three", exact=True).click()
    expect(one.summary).to_contain_text("size: 4")
    expect(_asked(one)).to_be_hidden()
    one.page.go_back()
    expect(one.page.get_by_role("heading", level=1)).to_have_text("Models")
    expect(_asked(one)).to_be_hidden()


def test_a_token_is_in_no_place_but_memory(visit, guarded):
    """Neither the page, nor its address, nor a storage, nor the log has it; a reload forgets it."""
    one = visit(url=guarded.url, fails=[401])
    secret = tokens.secret("all")
    one.give(secret)
    one.page.get_by_role("link", name="three", exact=True).click()
    expect(one.summary).to_contain_text("size: 4")

    assert secret not in one.page.evaluate(EVERYWHERE)
    assert secret not in guarded.said()
    assert [url for url in one.faults.requests if secret in url] == []
    one.page.reload()
    expect(_asked(one)).to_be_visible()
    expect(one.page.get_by_label("Token", exact=True)).to_have_value("")


def test_a_dialog_that_is_closed_leaves_a_way_back(visit, guarded):
    """Escape is no dead end."""
    one = visit(url=guarded.url, fails=[401])
    expect(_asked(one)).to_be_visible()

    one.page.keyboard.press("Escape")
    expect(_asked(one)).to_be_hidden()
    expect(one.page.get_by_role("alert")).to_contain_text("expected Bearer and a token")
    one.page.get_by_role("button", name="Use another token").click()
    one.give(tokens.secret("all"))

    expect(one.page.get_by_role("heading", level=1)).to_have_text("Models")


def test_a_token_for_some_models_shows_no_trace_of_others(visit, guarded):
    """It may not list models, opens its own by name, and learns of no other."""
    one = visit(url=guarded.url, fails=[401, 403])
    one.give(tokens.secret("some"))

    expect(one.page.get_by_role("alert")).to_contain_text("expected one for every model")
    one.page.get_by_label("Open a model by name").fill("three")
    one.page.get_by_role("button", name="Open").click()
    expect(one.summary).to_contain_text("size: 4")
    seen = one.page.evaluate(EVERYWHERE)
    one.page.get_by_role("link", name="Models", exact=True).click()
    expect(one.page.get_by_role("alert")).to_be_visible()
    one.page.get_by_label("Open a model by name").fill("triceps")
    one.page.get_by_role("button", name="Open").click()
    expect(one.page.get_by_role("alert")).to_contain_text(
        "expected one for the model that is asked"
    )

    assert "three" in seen
    others = ("foreign", "markup", "refusing", "whole")
    assert [name for name in others if f">{name}<" in seen or f"/{name}" in seen] == []


@pytest.mark.parametrize(("name", "sees"), [("all", True), ("predict", False)])
def test_requests_and_times_are_for_tokens_that_may_see_metrics(visit, guarded, name, sees):
    """The list is complete without them."""
    one = visit(url=guarded.url, fails=[401, 403])
    one.give(tokens.secret(name))
    expect(one.page.get_by_role("heading", level=1)).to_have_text("Models")

    lately = one.page.get_by_text("no requests lately").or_(one.page.get_by_text("a minute"))
    if sees:
        expect(lately.first).to_be_visible()
    else:
        one.page.wait_for_timeout(2500)
        expect(lately).to_have_count(0)
        expect(one.page.get_by_role("alert")).to_have_count(0)


def test_what_a_link_names_is_fetched_with_the_token(visit, guarded):
    """A link alone could not carry it."""
    one = visit(url=guarded.url, fails=[401])
    one.give(tokens.secret("all"))
    one.page.get_by_role("link", name="three", exact=True).click()
    expect(one.summary).to_contain_text("size: 4")

    for name, content in (("Signature", b'"name":"three"'), ("Report", b"Report of three")):
        with one.page.expect_download() as download:
            one.page.get_by_role("link", name=name).click()
        assert content in download.value.path().read_bytes()


def test_another_token_takes_the_place_of_the_first(visit, guarded):
    """The view is asked for again, with the new one."""
    one = visit(url=guarded.url, fails=[401, 403])
    one.give(tokens.secret("some"))
    expect(one.page.get_by_role("alert")).to_be_visible()

    one.page.get_by_role("button", name="Token", exact=True).click()
    one.give(tokens.secret("predict"))

    expect(one.page.get_by_role("heading", level=1)).to_have_text("Models")
    expect(one.page.get_by_role("alert")).to_have_count(0)
