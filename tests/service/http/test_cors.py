"""Which pages may read answers: none, unless their origin is allowed."""

import pytest

from service.http import cors

ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        (ORIGIN, (ORIGIN,)),
        (f" {ORIGIN}, http://localhost:3000,", (ORIGIN, "http://localhost:3000")),
        (f"{ORIGIN} {ORIGIN}", (ORIGIN,)),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
        ("chrome-extension://abc", ("chrome-extension://abc",)),
        ("*", ("*",)),
    ],
)
def test_origins_are_a_list(text, origins):
    """With commas or blanks in between, each once."""
    assert cors.parse(text) == origins


@pytest.mark.parametrize(
    "text",
    [
        "app.example.com",
        f"{ORIGIN}/",
        f"{ORIGIN}/page",
        "https://App.example.com",
        "https://*.example.com",
        f"{ORIGIN}:443",
        "http://a:80",
        "null",
        f"{ORIGIN};b",
    ],
)
def test_what_no_browser_sends_is_refused(text):
    """It would never match, and nobody would know why."""
    with pytest.raises(ValueError, match="expected origins such as"):
        cors.parse(text)


@pytest.mark.parametrize(
    ("origin", "allowed", "said"),
    [
        pytest.param(ORIGIN, (), {}, id="off"),
        pytest.param("", (ORIGIN,), {"Vary": "Origin"}, id="no page asks"),
        pytest.param("https://b.example", (ORIGIN,), {"Vary": "Origin"}, id="another's page"),
        pytest.param("null", (ORIGIN,), {"Vary": "Origin"}, id="a page of no origin"),
        pytest.param(
            ORIGIN,
            ("http://a", ORIGIN),
            {"Vary": "Origin", "Access-Control-Allow-Origin": ORIGIN},
            id="one of several",
        ),
        pytest.param("http://a", ("*",), {"Access-Control-Allow-Origin": "*"}, id="all"),
    ],
)
def test_an_answer_says_who_may_read_it(origin, allowed, said):
    """And never that a browser may send cookies along."""
    found = dict(cors.headers(origin, allowed))
    exposed = found.pop("Access-Control-Expose-Headers", "")

    assert found == said
    assert ("X-Request-ID" in exposed) is ("Access-Control-Allow-Origin" in said)
    lines = cors.lines(origin, allowed).decode()
    assert lines.count("\r\n") == len(cors.headers(origin, allowed))
    assert all(f"{name}: {value}\r\n" in lines for name, value in said.items())


@pytest.mark.parametrize(
    ("method", "origin", "asked", "allowed"),
    [
        pytest.param("OPTIONS", ORIGIN, "POST", (), id="off"),
        pytest.param("OPTIONS", "https://b.example", "POST", (ORIGIN,), id="another's page"),
        pytest.param("OPTIONS", ORIGIN, "", (ORIGIN,), id="it asks for no method"),
        pytest.param("POST", ORIGIN, "POST", (ORIGIN,), id="the request itself"),
    ],
)
def test_other_requests_are_none_of_a_browser_that_asks_first(method, origin, asked, allowed):
    """They are answered as if there were no browsers."""
    assert cors.preflight(method, origin, asked, allowed) is None


@pytest.mark.parametrize("allowed", [(ORIGIN,), ("*",)])
def test_a_browser_that_asks_first_is_told_what_may_be_sent(allowed):
    """All headers that clients of some protocol send."""
    said = dict(cors.preflight("OPTIONS", ORIGIN, "POST", allowed))

    assert said["Access-Control-Allow-Origin"] in (ORIGIN, "*")
    assert said["Access-Control-Allow-Methods"] == "GET, POST"
    assert {"Authorization", "Content-Type", "X-Request-ID"} <= set(
        said["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in said
