"""Who may ask, what a request is called and whose page reads it: on the front's real sockets."""

import contextlib
import http.client
import json
import re
import socket
import time

import pytest

from service.http.timeouts import Timeouts
from service.inference.lane import Lane
from tests.harness import small, tokens
from tests.harness.served import BODY, JSON, Served, post
from tests.harness.waiting import until

LIMIT = 100_000
ORIGIN = "https://app.example.com"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
MADE = re.compile(r"[0-9a-f]{32}")
CHALLENGE = 'Bearer realm="triceps"'
# By path, the key of that dialect's errors that says what is wrong.
SAID = {
    "/predict": "error",
    "/models/three/versions/1/predict": "error",
    "/v2/models/three/infer": "error",
    "/v1/models/three:predict": "error",
    "/my/predict": "error",
    "/invocations": "message",
    "/models/three/predict/": "error",
    # These are for Flask to answer.
    "/models/nowhere/predict": "error",
    "/v2/models/nowhere/infer": "error",
    "/v1/models/nowhere:predict": "error",
}
CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
UNKNOWN = (
    "Authorization: expected a token of this service, received one that it does not know, or no "
    "longer knows"
)
MISSING = "Authorization: expected Bearer and a token, received none"


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Two models behind tokens, for the pages of one origin."""
    folder = tmp_path_factory.mktemp("closed")
    for name in ("three", "secret"):
        small.put(folder / "models", name, 1, small.three())
    served = Served(
        folder / "models",
        default_model="three",
        predict_route="/my/predict",
        tokens_file=tokens.put(folder),
        cors=ORIGIN,
    )
    yield served
    served.stop()


@pytest.fixture(scope="module", name="open_")
def _open(tmp_path_factory):
    """The same model for everybody, within small limits."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    served = Served(models, max_body=LIMIT, max_in_flight=LIMIT)
    yield served
    served.stop()


def _check(path, status, content, said):
    """See that an error is what the dialect of a path has."""
    found = json.loads(content)
    assert found[SAID[path]] == said
    assert found.get("error_code") == (CODES[status] if path == "/invocations" else None)
    assert "problems" not in found


@pytest.mark.parametrize("path", SAID)
@pytest.mark.parametrize(
    ("token", "said"),
    [
        pytest.param({}, MISSING, id="none"),
        pytest.param(tokens.header("guess"), UNKNOWN, id="unknown"),
        pytest.param({"Authorization": "Basic eDp5"}, MISSING[:-4] + "another scheme", id="basic"),
        pytest.param({"Authorization": "Bearer \xff"}, UNKNOWN, id="no ASCII"),
    ],
)
def test_a_stranger_is_refused_in_the_words_of_who_is_asked(served, path, token, said):
    """In each dialect, with and without a body."""
    for body in (BODY, None):
        status, headers, content = served.ask("POST", path, body, {**JSON, **token})

        assert status == 401
        assert headers["www-authenticate"] == CHALLENGE
        assert headers["content-type"] == "application/json"
        _check(path, status, content, said)


@pytest.mark.parametrize("path", [path for path in SAID if "nowhere" not in path])
def test_a_token_for_other_things_is_refused(served, path):
    """In each dialect; and the connection goes on."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)) as c:
        for name in ("metrics", "admin"):
            c.request("POST", path, BODY, {**JSON, **tokens.header(name)})
            with c.getresponse() as answer:
                said = f"token {name!r}: expected one with the scope 'predict', received one with "
                assert answer.status == 403
                _check(path, 403, answer.read(), said + name)
        c.request("GET", "/livez")
        with c.getresponse() as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/predict", 200),
        ("/my/predict", 400),
        ("/models/three/predict", 200),
        ("/models/three/predict/", 200),
        ("/models/secret/predict", 403),
        ("/models/secret/predict/", 403),
        ("/v2/models/secret/infer", 403),
        ("/v1/models/secret:predict", 403),
        ("/models/nowhere/predict", 403),
    ],
)
def test_a_token_for_some_models_is_for_those(served, path, status):
    """And of others says as much as of such as are not there."""
    found, _, content = served.ask("POST", path, BODY, {**JSON, **tokens.header("some")})

    assert found == status, content
    if status == 403:
        said = "token 'some': expected one for the model that is asked, received one for three"
        assert json.loads(content) == {"error": said}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_token_opens_predictions(served, scheme):
    """Whichever way the scheme is written."""
    headers = {**JSON, "Authorization": f"{scheme} {tokens.secret('predict')}"}

    assert served.ask("POST", "/predict", BODY, headers)[0] == 200


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/models", "/nowhere"])
@pytest.mark.parametrize(
    "announced", [b"Content-Length: 50000000", b"Transfer-Encoding: chunked"], ids=["long", "chunk"]
)
def test_of_a_stranger_no_body_is_read(served, path, announced):
    """It is refused by its headers, and not told to go on; what comes all the same is dropped."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%s\r\n\r\n"
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
        sock.sendall(head % (path.encode(), announced))
        answer = sock.recv(65536)
        with contextlib.suppress(OSError):
            sock.sendall(b"x" * 1_000_000)
        held = served.front.connections.bodies.held

    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"connection: close\r\n" in answer
    assert time.monotonic() - started < 10
    assert held == 0


def test_health_is_open_with_a_token_or_without(served):
    """Even with one that nobody knows; what is sent with it is read of nobody who is unknown."""
    for path in ("/livez", "/readyz", "/ping", "/v2/health/ready"):
        for headers in ({}, tokens.header("guess"), tokens.header("metrics")):
            assert served.ask("GET", path, None, headers)[0] == 200
        assert served.ask("GET", path, b"{}", JSON)[0] == 401


def test_a_full_queue_is_told_to_who_may_ask(served, monkeypatch):
    """And to nobody else: a stranger is one all the same."""
    monkeypatch.setattr(Lane, "is_full", lambda *_: True)
    known = served.ask("POST", "/predict", BODY, {**JSON, **tokens.header("predict")})
    other = served.ask("POST", "/predict", BODY, {**JSON, **tokens.header("metrics")})

    assert (known[0], known[1]["retry-after"]) == (429, "1")
    assert (other[0], "retry-after" in other[1]) == (403, False)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 401


def _counted(served, dialect, status, model="three"):
    """How many requests are counted."""
    version = "1" if model else ""
    labels = f'dialect="{dialect}",model="{model}",status="{status}",version="{version}"'
    _, _, text = served.ask("GET", "/metrics", None, tokens.header("metrics"))
    found = re.search(rf"triceps_requests_total\{{{re.escape(labels)}\}} (\S+)", text.decode())
    return 0 if found is None else float(found[1])


@pytest.mark.parametrize(
    ("method", "path", "dialect", "model"),
    [
        ("POST", "/predict", "native", "three"),
        ("POST", "/v2/models/three/infer", "oip", "three"),
        ("POST", "/v1/models/three:predict", "tfserving", "three"),
        ("POST", "/invocations", "mlflow", "three"),
        ("GET", "/models", "other", ""),
        ("POST", "/nowhere", "other", ""),
    ],
)
def test_refusals_are_counted(served, method, path, dialect, model):
    """Of strangers, and of those who have a token for other things."""
    before = [_counted(served, dialect, status, model) for status in (401, 403)]
    body = BODY if method == "POST" else None
    served.ask(method, path, body, JSON)
    served.ask(method, path, None, JSON)
    served.ask(method, path, body, {**JSON, **tokens.header("admin")})
    after = [_counted(served, dialect, status, model) for status in (401, 403)]

    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1]


@pytest.mark.parametrize(
    ("method", "path", "body", "token", "status"),
    [
        pytest.param("POST", "/predict", BODY, "predict", 200, id="a prediction"),
        pytest.param("POST", "/v2/models/three/infer", BODY, "predict", 400, id="an error"),
        pytest.param("POST", "/invocations", BODY, "metrics", 403, id="forbidden"),
        pytest.param("POST", "/predict", BODY, None, 401, id="a stranger's body"),
        pytest.param("POST", "/predict", None, None, 401, id="a stranger"),
        pytest.param("GET", "/models", None, "predict", 200, id="a page"),
        pytest.param("GET", "/nowhere", None, "predict", 404, id="no page"),
        pytest.param("PUT", "/predict", BODY, "predict", 405, id="another method"),
        pytest.param("GET", "/livez", None, None, 200, id="health"),
    ],
)
def test_a_request_has_its_name_in_the_answer(served, method, path, body, *, token, status):
    """The one that it came with, whoever answers it and how; one and no more."""
    more = tokens.header(token) if token else {}
    for given, name in (
        ({"X-Request-ID": "mine-1"}, "mine-1"),
        (PARENT, TRACE),
        ({**PARENT, "X-Request-ID": "mine-2"}, "mine-2"),
        ({**PARENT, "X-Request-ID": 'forged" b'}, TRACE),
        ({}, None),
    ):
        found, headers, _ = served.ask(method, path, body, {**JSON, **more, **given})

        assert found == status
        if name is None:
            assert MADE.fullmatch(headers["x-request-id"])
        else:
            assert headers["x-request-id"] == name


def test_a_bug_of_ours_has_the_name_of_its_request(open_, monkeypatch, caplog):
    """In the answer, and in the log."""

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("service.wire.native.fast.Decoder.decode", fail)
    monkeypatch.setattr("service.server.wsgi.call", fail)
    for path in ("/predict", "/models"):
        status, headers, _ = open_.ask("POST", path, BODY, {**JSON, "X-Request-ID": "mine-5"})

        assert (status, headers["x-request-id"]) == (500, "mine-5")
    failed = [record for record in caplog.records if record.exc_info]
    assert [record.request_id for record in failed] == ["mine-5", "mine-5"]


NAMED = b"X-Request-ID: mine-3"


@pytest.mark.parametrize(
    ("request_", "status", "named"),
    [
        pytest.param(post(b"", NAMED, b"Content-Length: 3"), 400, True, id="two lengths"),
        pytest.param(post(BODY, NAMED)[:-10], 408, True, id="half a body"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\n"
            + NAMED
            + b"\r\nContent-Length: 100001\r\n\r\n",
            413,
            True,
            id="too large",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\n" + NAMED + b"\r\nA: " + b"x" * 200_000,
            431,
            True,
            id="long head",
        ),
        pytest.param(b"nonsense\r\n\r\n", 400, False, id="nonsense"),
        pytest.param(b"GET /" + b"x" * 200_000, 431, False, id="long target"),
        pytest.param(post(BODY, NAMED) + b"nonsense\r\n\r\n", 400, False, id="nonsense after it"),
    ],
)
def test_what_is_no_whole_request_has_a_name_too(open_, request_, status, named):
    """Its own, as far as that has come; and never that of the request before."""
    with open_.within(Timeouts(request=0.3)):
        answer = open_.raw(request_).rpartition(b"HTTP/1.1 ")[2]

    assert answer.startswith(b"%d " % status)
    (name,) = re.findall(rb"\r\nx-request-id: (.*?)\r\n", answer)
    assert (name == b"mine-3") == named
    assert named or MADE.fullmatch(name.decode())


def test_too_much_in_flight_has_a_name_too(open_):
    """And when to come again."""
    with open_.half(LIMIT):
        until(lambda: open_.front.connections.bodies.held == LIMIT - 1)
        status, headers, _ = open_.ask("POST", "/predict", BODY, {**JSON, "X-Request-ID": "mine-4"})

    assert (status, headers["retry-after"], headers["x-request-id"]) == (429, "1", "mine-4")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("/predict", b'{"error":"body: expected at most', id="native"),
        pytest.param("/v2/models/three/infer", b'{"error":"body: expected at most', id="oip"),
        pytest.param("/v1/models/three:predict", b'{"error":"body: expected at most', id="tf"),
        pytest.param("/invocations?x=/", b'","message":"body: expected at most', id="mlflow"),
        pytest.param("http://x/invocations", b'","message":"body: expected at most', id="absolute"),
    ],
)
def test_what_is_too_large_is_refused_in_the_words_of_who_is_asked(open_, path, words):
    """Before its route is known to anybody else."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n"
    answer = open_.raw(head.encode())

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert words in answer


@pytest.mark.parametrize(
    ("path", "body", "token", "status"),
    [
        pytest.param("/predict", BODY, "predict", 200, id="a prediction"),
        pytest.param("/predict", b"{", "predict", 400, id="an error"),
        pytest.param("/predict", BODY, "metrics", 403, id="forbidden"),
        pytest.param("/predict", BODY, "guess", 401, id="a stranger"),
        pytest.param("/nowhere", BODY, "predict", 404, id="no page"),
    ],
)
def test_a_page_of_an_allowed_origin_reads_every_answer(served, path, body, token, status):
    """That of another origin reads none, and a cache is told that they differ."""
    headers = {**JSON, **tokens.header(token)}
    allowed = served.ask("POST", path, body, {**headers, "Origin": ORIGIN})
    other = served.ask("POST", path, body, {**headers, "Origin": "https://b.example"})
    none = served.ask("POST", path, body, headers)

    assert (allowed[0], other[0], none[0]) == (status, status, status)
    assert allowed[1]["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in allowed[1]["access-control-expose-headers"]
    for _, found, _ in (other, none):
        assert not any(name.startswith("access-control") for name in found)
        assert "vary" in found


def test_a_browser_that_asks_first_is_told(served):
    """Without a token, which it does not send then; of another origin, it is a stranger."""
    first = {"Access-Control-Request-Method": "POST"}
    allowed = served.ask("OPTIONS", "/predict", None, {**first, "Origin": ORIGIN})
    other = served.ask("OPTIONS", "/predict", None, {**first, "Origin": "https://b.example"})

    assert (allowed[0], allowed[1]["access-control-allow-origin"]) == (200, ORIGIN)
    assert other[0] == 401


def test_by_default_no_page_reads_anything(open_):
    """Nothing is said of origins."""
    _, headers, _ = open_.ask("POST", "/predict", BODY, {**JSON, "Origin": ORIGIN})

    assert not any(name.startswith("access-control") for name in headers)
    assert headers["vary"] == "Accept-Encoding"


def test_a_token_that_is_taken_back_opens_no_more(tmp_path):
    """On a connection that is open, too."""
    small.put(tmp_path / "models", "three", 1, small.three())
    file = tokens.put(tmp_path)
    served = Served(tmp_path / "models", tokens_file=file)
    statuses = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)) as c:
        for text in (file.read_text(), "count = 0\n"):
            file.write_text(text)
            served.front.access.look_again()
            c.request("POST", "/predict", BODY, {**JSON, **tokens.header("predict")})
            with c.getresponse() as answer:
                answer.read()
            statuses.append(answer.status)
    served.stop()

    assert statuses == [200, 401]
