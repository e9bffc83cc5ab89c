"""Access to the front on real sockets: tokens, request IDs and CORS."""

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
NEW_ID = re.compile(r"[0-9a-f]{32}")
CHALLENGE = 'Bearer realm="triceps"'
# The key under which each path's dialect reports an error.
ERROR_KEYS = {
    "/predict": "error",
    "/models/three/versions/1/predict": "error",
    "/v2/models/three/infer": "error",
    "/v1/models/three:predict": "error",
    "/my/predict": "error",
    "/invocations": "message",
    "/models/three/predict/": "error",
    # The Flask app answers these paths.
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
    """Yield a front over two models behind tokens, with CORS for one origin."""
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
    """Yield a front over one model without tokens, within small limits."""
    """The same model for everybody, within small limits."""
    models = tmp_path_factory.mktemp("models")
    small.put(models, "three", 1, small.three())
    served = Served(models, max_body=LIMIT, max_in_flight=LIMIT)
    yield served
    served.stop()


def _check(path, status, content, message):
    """Check that an error has the form of the path's dialect, and the message."""
    error = json.loads(content)
    assert error[ERROR_KEYS[path]] == message
    assert error.get("error_code") == (CODES[status] if path == "/invocations" else None)
    assert "problems" not in error


@pytest.mark.parametrize("path", ERROR_KEYS)
@pytest.mark.parametrize(
    ("token", "message"),
    [
        pytest.param({}, MISSING, id="none"),
        pytest.param(tokens.header("guess"), UNKNOWN, id="unknown"),
        pytest.param({"Authorization": "Basic eDp5"}, MISSING[:-4] + "another scheme", id="basic"),
        pytest.param({"Authorization": "Bearer \xff"}, UNKNOWN, id="no ASCII"),
    ],
)
def test_a_client_without_a_valid_token_is_refused_in_each_dialect(served, path, token, message):
    """The 401 has the form of the dialect's errors, with and without a body."""
    for body in (BODY, None):
        status, headers, content = served.ask("POST", path, body, {**JSON, **token})

        assert status == 401
        assert headers["www-authenticate"] == CHALLENGE
        assert headers["content-type"] == "application/json"
        _check(path, status, content, message)


@pytest.mark.parametrize("path", [path for path in ERROR_KEYS if "nowhere" not in path])
def test_a_token_with_another_scope_is_refused(served, path):
    """The 403 has the form of the dialect's errors, and the connection stays open."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)) as c:
        for name in ("metrics", "admin"):
            c.request("POST", path, BODY, {**JSON, **tokens.header(name)})
            with c.getresponse() as answer:
                message = (
                    f"token {name!r}: expected one with the scope 'predict', received one with "
                )
                assert answer.status == 403
                _check(path, 403, answer.read(), message + name)
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
def test_a_token_for_some_models_opens_those_alone(served, path, status):
    """A refused model is answered in the same way as a model that does not exist."""
    received, _, content = served.ask("POST", path, BODY, {**JSON, **tokens.header("some")})

    assert received == status, content
    if status == 403:
        message = "token 'some': expected one for the model that is asked, received one for three"
        assert json.loads(content) == {"error": message}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_token_opens_predictions(served, scheme):
    """The scheme may be written in any case, and followed by several blanks."""
    headers = {**JSON, "Authorization": f"{scheme} {tokens.secret('predict')}"}

    assert served.ask("POST", "/predict", BODY, headers)[0] == 200


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/models", "/nowhere"])
@pytest.mark.parametrize(
    "announced", [b"Content-Length: 50000000", b"Transfer-Encoding: chunked"], ids=["long", "chunk"]
)
def test_without_a_token_no_body_is_read(served, path, announced):
    """The headers alone are answered, without 100 Continue; a body sent anyway is dropped."""
    block = b"POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n%s\r\n\r\n"
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
        sock.sendall(block % (path.encode(), announced))
        answer = sock.recv(65536)
        with contextlib.suppress(OSError):
            sock.sendall(b"x" * 1_000_000)
        held = served.front.connections.bodies.held

    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"connection: close\r\n" in answer
    assert time.monotonic() - started < 10
    assert held == 0


def test_health_is_open_with_or_without_a_token(served):
    """Even an unknown token is accepted there, but a body that comes without a token is not."""
    for path in ("/livez", "/readyz", "/ping", "/v2/health/ready"):
        for headers in ({}, tokens.header("guess"), tokens.header("metrics")):
            assert served.ask("GET", path, None, headers)[0] == 200
        assert served.ask("GET", path, b"{}", JSON)[0] == 401


def test_only_a_client_that_may_predict_learns_of_a_full_queue(served, monkeypatch):
    """Other clients are answered 401 or 403 as ever."""
    monkeypatch.setattr(Lane, "is_full", lambda *_: True)
    known = served.ask("POST", "/predict", BODY, {**JSON, **tokens.header("predict")})
    other = served.ask("POST", "/predict", BODY, {**JSON, **tokens.header("metrics")})

    assert (known[0], known[1]["retry-after"]) == (429, "1")
    assert (other[0], "retry-after" in other[1]) == (403, False)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 401


def _counted(served, dialect, status, model="three"):
    """Return the number of counted requests with these labels."""
    version = "1" if model else ""
    labels = f'dialect="{dialect}",model="{model}",status="{status}",version="{version}"'
    _, _, text = served.ask("GET", "/metrics", None, tokens.header("metrics"))
    match = re.search(rf"triceps_requests_total\{{{re.escape(labels)}\}} (\S+)", text.decode())
    return 0 if match is None else float(match[1])


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
    """Requests without a token, and with a token of another scope, are counted."""
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
def test_each_answer_has_its_request_id_once(served, method, path, body, *, token, status):
    """The ID is the one that the request came with, whatever the answer; else a new one."""
    more = tokens.header(token) if token else {}
    for id_headers, name in (
        ({"X-Request-ID": "mine-1"}, "mine-1"),
        (PARENT, TRACE),
        ({**PARENT, "X-Request-ID": "mine-2"}, "mine-2"),
        ({**PARENT, "X-Request-ID": 'forged" b'}, TRACE),
        ({}, None),
    ):
        received, headers, _ = served.ask(method, path, body, {**JSON, **more, **id_headers})

        assert received == status
        if name is None:
            assert NEW_ID.fullmatch(headers["x-request-id"])
        else:
            assert headers["x-request-id"] == name


def test_an_internal_error_has_the_request_id(open_, monkeypatch, caplog):
    """The request ID of an internal error is in the answer and in the log."""

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
            id="a long header block",
        ),
        pytest.param(b"nonsense\r\n\r\n", 400, False, id="nonsense"),
        pytest.param(b"GET /" + b"x" * 200_000, 431, False, id="a long target"),
        pytest.param(post(BODY, NAMED) + b"nonsense\r\n\r\n", 400, False, id="nonsense after it"),
    ],
)
def test_a_malformed_request_has_a_request_id(open_, request_, status, named):
    """The ID is the request's own if it was read, and never that of the request before."""
    with open_.within(Timeouts(request=0.3)):
        answer = open_.raw(request_).rpartition(b"HTTP/1.1 ")[2]

    assert answer.startswith(b"%d " % status)
    (name,) = re.findall(rb"\r\nx-request-id: (.*?)\r\n", answer)
    assert (name == b"mine-3") == named
    assert named or NEW_ID.fullmatch(name.decode())


def test_a_refusal_for_bytes_in_flight_has_a_request_id(open_):
    """A refusal for too many bytes in flight also says when to try again."""
    with open_.half(LIMIT):
        until(lambda: open_.front.connections.bodies.held == LIMIT - 1)
        status, headers, _ = open_.ask("POST", "/predict", BODY, {**JSON, "X-Request-ID": "mine-4"})

    assert (status, headers["retry-after"], headers["x-request-id"]) == (429, "1", "mine-4")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param("/predict", b'{"error":"body: expected at most', id="native"),
        pytest.param("/v2/models/three/infer", b'{"error":"body: expected at most', id="oip"),
        pytest.param("/v1/models/three:predict", b'{"error":"body: expected at most', id="tf"),
        pytest.param("/invocations?x=/", b'","message":"body: expected at most', id="mlflow"),
        pytest.param("http://x/invocations", b'","message":"body: expected at most', id="absolute"),
    ],
)
def test_a_body_that_is_too_large_is_refused_in_each_dialect(open_, path, text):
    """The dialect is known from the path, before the route is looked up."""
    block = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n"
    answer = open_.raw(block.encode())

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert text in answer


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
def test_a_page_of_an_allowed_origin_may_read_every_answer(served, path, body, token, status):
    """A page of another origin may read none, and Vary tells caches of the difference."""
    headers = {**JSON, **tokens.header(token)}
    allowed = served.ask("POST", path, body, {**headers, "Origin": ORIGIN})
    other = served.ask("POST", path, body, {**headers, "Origin": "https://b.example"})
    none = served.ask("POST", path, body, headers)

    assert (allowed[0], other[0], none[0]) == (status, status, status)
    assert allowed[1]["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in allowed[1]["access-control-expose-headers"]
    for _, received, _ in (other, none):
        assert not any(name.startswith("access-control") for name in received)
        assert "vary" in received


def test_a_preflight_request_is_answered(served):
    """A preflight request needs no token; from another origin, it is answered 401."""
    first = {"Access-Control-Request-Method": "POST"}
    allowed = served.ask("OPTIONS", "/predict", None, {**first, "Origin": ORIGIN})
    other = served.ask("OPTIONS", "/predict", None, {**first, "Origin": "https://b.example"})

    assert (allowed[0], allowed[1]["access-control-allow-origin"]) == (200, ORIGIN)
    assert other[0] == 401


def test_by_default_no_page_may_read_an_answer(open_):
    """Without the setting, no answer has a CORS header."""
    _, headers, _ = open_.ask("POST", "/predict", BODY, {**JSON, "Origin": ORIGIN})

    assert not any(name.startswith("access-control") for name in headers)
    assert headers["vary"] == "Accept-Encoding"


def test_a_removed_token_is_refused(tmp_path):
    """A removed token is refused on open connections too."""
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
