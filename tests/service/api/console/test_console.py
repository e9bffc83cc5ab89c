"""The files of the console: what is served, to whom, and by which headers."""

import gzip
import re
from pathlib import Path

import pytest
from werkzeug.test import Client, TestResponse

from service.app import create_app
from service.settings import Settings
from tests.harness import small, tokens
from tests.harness.apps import over_http
from tests.harness.http2 import Peer
from tests.harness.served import Served

FOLDER = Path(__file__).parents[4] / "service" / "api" / "console"
FILES = {
    "/console/": ("console.html", "text/html; charset=utf-8"),
    "/console/console.css": ("console.css", "text/css; charset=utf-8"),
    "/console/console.js": ("console.js", "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
# What Chromium and Firefox send for a page.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
MOST_BYTES = 40_000


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    return models


@pytest.fixture(name="front", scope="module")
def _front(models):
    served = Served(models, cors="https://page.example")
    yield served
    served.stop()


@pytest.fixture(name="client", params=["flask", "front"])
def _client(request, models):
    """Return a client of the Flask app, as other WSGI servers run it, and one of the front."""
    if request.param == "flask":
        return create_app(Settings(models=models)).test_client()
    return Client(over_http(request.getfixturevalue("front").port), TestResponse)


def _app(models, **settings):
    return create_app(Settings(models=models, **settings)).test_client()


@pytest.mark.parametrize("path", FILES)
def test_a_file_is_served_with_its_type_and_its_policy(client, path):
    """Only scripts, styles and answers of the service itself are allowed, and no inline code."""
    name, content_type = FILES[path]

    answer = client.get(path)

    assert (answer.status_code, answer.content_type) == (200, content_type)
    assert answer.data == (FOLDER / name).read_bytes()
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", FILES)
def test_an_unchanged_file_is_not_sent_again(client, path):
    """A browser asks each time, and is told by a 304 that its copy is right."""
    first = client.get(path)

    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    other = client.get(path, headers={"If-None-Match": 'W/"other"'})

    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "no-cache"
    assert (other.status_code, other.data) == (200, first.data)


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_304_has_the_length_of_the_file(client, path, encoding):
    """RFC 9110 allows no other, and a proxy that believed a 0 would cut its copy off."""
    headers = {"Accept-Encoding": encoding}
    first = client.get(path, headers=headers)

    again = client.get(path, headers=headers | {"If-None-Match": first.headers["ETag"]})

    assert again.status_code == 304
    assert again.headers["Content-Length"] == str(len(first.data))
    if first.headers.get("Content-Encoding") == "gzip":
        assert gzip.decompress(first.data) == (FOLDER / FILES[path][0]).read_bytes()


def test_files_are_served_over_http_2(front):
    """All three come over one connection, and a copy that is right is not sent again."""
    with Peer(front.port) as peer:
        streams = {path: peer.request(path, method="GET") for path in FILES}
        answers = {path: peer.answer(stream) for path, stream in streams.items()}
        etag = answers["/console/"].headers["etag"]
        again = peer.ask("/console/", b"", ("if-none-match", etag))

    for path, (name, _) in FILES.items():
        assert answers[path].status == 200
        assert answers[path].body == (FOLDER / name).read_bytes()
    assert (again.status, again.body) == (304, b"")


def test_a_path_without_the_slash_leads_to_the_page(client):
    """The redirect is relative, so that it holds behind a proxy that serves it below a path."""
    answer = client.get("/console")

    assert (answer.status_code, answer.headers["Location"]) == (302, "console/")


def test_below_the_path_of_an_app_redirects_hold_too(models):
    """Another WSGI server may mount the app at a path (SCRIPT_NAME)."""
    client = _app(models)

    answers = [
        client.get(path, base_url="http://localhost/below", headers={"Accept": BROWSER})
        for path in ("/", "/console", "/console/")
    ]

    assert [answer.status_code for answer in answers] == [302, 302, 200]
    assert [answer.headers.get("Location") for answer in answers] == ["console/", "console/", None]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_is_sent_from_the_home_page_to_the_console(client, method):
    """A browser prefers HTML; a cache that has its answer must not give it to a program."""
    answer = client.open("/", method=method, headers={"Accept": BROWSER})

    assert (answer.status_code, answer.headers["Location"]) == (302, "console/")
    assert (answer.headers["Vary"], answer.data) == ("Accept", b"")


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param(None, id="none"),
        pytest.param("*/*", id="curl"),
        pytest.param("application/json", id="JSON"),
        pytest.param("application/json, text/plain, */*", id="axios"),
        pytest.param("text/html, application/json", id="both alike"),
        pytest.param("text/html;q=0.5, application/json", id="JSON first"),
        pytest.param("text/html;q=0", id="no HTML"),
        pytest.param("text/*;q=x, ,;;", id="nonsense"),
    ],
)
def test_a_program_gets_json_from_the_home_page(client, models, accept):
    """It is the same as without a console, byte for byte."""
    headers = {} if accept is None else {"Accept": accept}

    answer = client.get("/", headers=headers)

    assert answer.status_code == 200
    assert answer.data == _app(models, console="off").get("/").data
    assert "Accept" in answer.headers["Vary"].split(", ")


def test_files_need_no_token_and_their_data_does(models, tmp_path):
    """They are the same for everybody; a wrong token changes nothing either."""
    client = _app(models, tokens_file=str(tokens.put(tmp_path)))
    wrong = {"Authorization": "Bearer wrong"}

    for path in ("/console", *FILES):
        assert client.get(path).status_code == client.get(path, headers=wrong).status_code < 400
        assert client.get(path).data == client.get(path, headers=tokens.header("all")).data
    assert client.get("/", headers={"Accept": BROWSER}).status_code == 302
    assert client.get("/").status_code == 401
    assert client.post("/", headers={"Accept": BROWSER}).status_code == 401
    assert client.get("/console/other").status_code == 401


def test_off_removes_it(models):
    """Its paths are unknown, a browser gets JSON, and the document names no console."""
    client = _app(models, console="off")

    for path in ("/console", *FILES):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "no such route" in answer.get_json()["error"]
        assert "/console" not in answer.get_json()["error"].partition("no such route")[2]
    home = client.get("/", headers={"Accept": BROWSER})
    assert (home.status_code, home.mimetype) == (200, "application/json")
    assert "Accept" not in home.headers["Vary"].split(", ")
    assert "/console/" not in client.get("/openapi.json").get_json()["paths"]


def test_off_closes_it_to_clients_without_a_token(models, tmp_path):
    """Its paths are like any that does not exist."""
    client = _app(models, console="off", tokens_file=str(tokens.put(tmp_path)))

    for path in ("/console", *FILES, "/nowhere"):
        assert client.get(path, headers={"Accept": BROWSER}).status_code == 401
    assert client.get("/", headers={"Accept": BROWSER}).status_code == 401


def test_pages_of_other_origins_are_treated_as_for_any_page(front):
    """The files have the CORS headers of all answers, and no others."""
    _, headers, _ = front.ask("GET", "/console/", headers={"Origin": "https://page.example"})
    _, others, _ = front.ask("GET", "/console/", headers={"Origin": "https://evil.example"})

    assert headers["access-control-allow-origin"] == "https://page.example"
    assert "access-control-allow-origin" not in others


def test_document_describes_the_page(models):
    """It is HTML, and the home page may be a redirect."""
    paths = _app(models).get("/openapi.json").get_json()["paths"]

    assert list(paths["/console/"]["get"]["responses"]["200"]["content"]) == ["text/html"]
    assert "302" in paths["/"]["get"]["responses"]


def test_files_are_small_and_name_no_other_host():
    """They have 40 kB in all, and no address in them leaves the service."""
    files = [FOLDER / name for name, _ in FILES.values()]

    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    for path in files:
        text = path.read_text("utf-8")
        hosts = set(re.findall(r"[a-z]*:?//[\w.-]+", text))
        assert hosts <= {"http://www.w3.org"}, path  # the name of SVG, which nothing fetches


def test_page_has_no_inline_script_or_style():
    """The policy would refuse them, and the page would be broken."""
    text = (FOLDER / "console.html").read_text("utf-8")

    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", text, re.IGNORECASE)
    assert [tag for tag in re.findall(r"<script[^>]*>", text) if " src=" not in tag] == []
    addresses = re.findall(r'\b(?:src|href)="([^"]*)"', text)
    assert not [address for address in addresses if address.startswith("/")], "not relative"
