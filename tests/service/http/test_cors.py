"""CORS: no page may read an answer unless its origin is allowed."""

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
    """Origins are separated by commas or blanks, and duplicates are dropped."""
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
def test_an_origin_that_no_browser_sends_is_refused(text):
    """The setting would never match, and the reason would be hard to find."""
    with pytest.raises(ValueError, match="expected origins such as"):
        cors.parse(text)


@pytest.mark.parametrize(
    ("origin", "allowed", "expected"),
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
def test_an_answer_says_which_origin_may_read_it(origin, allowed, expected):
    """An answer never allows a browser to send cookies along."""
    lines_by_name = dict(cors.headers(origin, allowed))
    exposed = lines_by_name.pop("Access-Control-Expose-Headers", "")

    assert lines_by_name == expected
    assert ("X-Request-ID" in exposed) is ("Access-Control-Allow-Origin" in expected)
    lines = cors.lines(origin, allowed).decode()
    assert lines.count("\r\n") == len(cors.headers(origin, allowed))
    assert all(f"{name}: {value}\r\n" in lines for name, value in expected.items())


@pytest.mark.parametrize(
    ("method", "origin", "requested_method", "allowed"),
    [
        pytest.param("OPTIONS", ORIGIN, "POST", (), id="off"),
        pytest.param("OPTIONS", "https://b.example", "POST", (ORIGIN,), id="another's page"),
        pytest.param("OPTIONS", ORIGIN, "", (ORIGIN,), id="it asks for no method"),
        pytest.param("POST", ORIGIN, "POST", (ORIGIN,), id="the request itself"),
    ],
)
def test_other_requests_are_no_preflight_requests(method, origin, requested_method, allowed):
    """These requests are answered as any others."""
    assert cors.preflight(method, origin, requested_method, allowed) is None


@pytest.mark.parametrize("allowed", [(ORIGIN,), ("*",)])
def test_the_answer_to_a_preflight_request_says_what_may_be_sent(allowed):
    """All headers that clients of the protocols send are allowed."""
    headers = dict(cors.preflight("OPTIONS", ORIGIN, "POST", allowed))

    assert headers["Access-Control-Allow-Origin"] in (ORIGIN, "*")
    assert headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert {"Authorization", "Content-Type", "X-Request-ID"} <= set(
        headers["Access-Control-Allow-Headers"].split(", ")
    )
    assert "Access-Control-Allow-Credentials" not in headers
