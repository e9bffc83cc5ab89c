"""The request as programs to copy, and a link that brings another person the same row."""

import json
import os
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.harness import tokens

MARKS = 'it\'s "so" \\ \\n é $HOME `id` True null'


def _code(one, title):
    one.page.get_by_text("This request as curl and Python").click()
    return one.page.get_by_label(title, exact=True).text_content()


def _run(title, code, folder):
    """Run a program that was copied, with the token in the environment."""
    command = ["bash", "-c", code] if title == "curl" else [sys.executable, "-c", code]
    environment = {**os.environ, "TOKEN": tokens.secret("all")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if title == "curl" else eval(done.stdout)  # noqa: S307


def _say(one):
    """Write a row with marks that shells and Python know, and tick one head."""
    for head in ("size", "digits", "tags"):
        one.tick(head).uncheck()
    one.field("insurance", "smoker").select_option("other…")
    one.field("insurance", "smoker, another text").fill(MARKS)
    one.has_bars("risk", {"low": 0.006693, "high": 0.9933})


@pytest.mark.parametrize("title", ["curl", "Python"])
def test_a_copied_program_sends_exactly_what_the_page_sent(visit, title, tmp_path):
    """Its answer is the same, whatever marks the texts have."""
    one = visit("#/models/three", moves=True)
    _say(one)

    answer = _run(title, _code(one, title), tmp_path)

    sent = one.sent[-1]
    assert sent["heads"] == ["risk"]
    assert answer["predictions"][0]["risk"]["label"] == "high"
    assert sent["instances"][0]["insurance"]["smoker"] == answer["unseen"][0]["received"] == MARKS


@pytest.mark.parametrize("title", ["curl", "Python"])
def test_a_copied_program_has_the_token_in_a_variable(visit, guarded, title, tmp_path):
    """The token itself is in no text that is copied."""
    one = visit(url=guarded.url, fails=[401], moves=True)
    one.give(tokens.secret("all"))
    one.page.get_by_role("link", name="three", exact=True).click()
    expect(one.summary).to_contain_text("size: 4")

    code = _code(one, title)

    assert tokens.secret("all") not in code
    assert _run(title, code, tmp_path)["predictions"][0]["size"] == {"value": 4}


@pytest.mark.parametrize("title", ["curl", "Python"])
def test_a_program_is_copied_by_a_button(visit, title):
    """The clipboard has what stands in the box."""
    one = visit("#/models/three", moves=True, permissions=["clipboard-read", "clipboard-write"])
    code = _code(one, title)

    one.page.get_by_role("button", name=f"Copy {title}").click()

    expect(one.page.get_by_role("button", name="Copied")).to_be_visible()
    assert one.page.evaluate("navigator.clipboard.readText()") == code


def test_without_a_clipboard_the_page_says_so(visit):
    """Browsers have none for pages of other machines without TLS; the address has the row then."""
    one = visit("#/models/three")
    one.has_bars("size", {"value": 4})
    one.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")

    one.page.get_by_role("button", name="Copy a link").click()

    expect(one.page.get_by_role("button", name="Copy by hand")).to_be_visible()
    assert "row=" in one.page.url


def test_a_link_brings_the_same_row(visit, service):
    """The row is in the fragment, which no browser sends to a server."""
    one = visit("#/models/three/versions/1", permissions=["clipboard-read", "clipboard-write"])
    one.field("insurance", "age").fill("31")
    one.field("insurance", "smoker").select_option("yes")
    one.field("fruit", "weight").fill("")
    one.has_bars("size", {"value": 2.5})

    one.page.get_by_role("button", name="Copy a link").click()
    expect(one.page.get_by_text("Copied")).to_be_visible()
    link = one.page.evaluate("navigator.clipboard.readText()")
    other = visit(link.partition("/console/")[2])

    assert link.startswith(f"{service.url}/console/#/models/three/versions/1?")
    expect(other.field("insurance", "age")).to_have_value("31")
    other.has_bars("size", {"value": 2.5})
    assert other.sent[0] == one.sent[-1]
    assert [url for url in other.faults.requests if "31" in url.partition("#")[0]] == []


def test_a_picture_is_in_the_link_too(visit):
    """Every pixel comes as it was."""
    one = visit("#/models/triceps", permissions=["clipboard-read", "clipboard-write"])
    expect(one.summary).to_contain_text("o3: ")

    one.page.get_by_role("button", name="Copy a link").click()
    expect(one.page.get_by_text("Copied")).to_be_visible()
    other = visit(one.page.evaluate("navigator.clipboard.readText()").partition("/console/")[2])
    expect(other.summary).to_contain_text("o3: ")

    assert other.sent[0] == one.sent[0]
