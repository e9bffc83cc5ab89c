"""Requests to the Flask app that are wrong in every possible way, over HTTP."""

import gzip
import io
import json
import logging
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.exceptions import ImATeapot

from service.inference.model import Model
from service.repository.reloader import Library
from tests.harness.apps import BODY, LIMIT, NAMES, ROW, SIZE, error_of, post_json

TOO_LARGE = f"body: expected at most {LIMIT} bytes (TRICEPS_MAX_BODY), received more"
ANSWER = {"model": "three", "version": "2", "predictions": [{"size": {"value": 6.0}}]}
ROUTES = (
    "/, /console/, /console/console.css, /console/console.js, /livez, /metrics, /models, "
    "/models/<name>, /models/<name>/aliases/<alias>, "
    "/models/<name>/aliases/<alias>/predict, /models/<name>/compare, /models/<name>/drift, "
    "/models/<name>/example, /models/<name>/predict, /models/<name>/versions/<version>, "
    "/models/<name>/versions/<version>/drift, /models/<name>/versions/<version>/example, "
    "/models/<name>/versions/<version>/predict, /models/<name>/versions/<version>/report, "
    "/openapi.json, /predict, /readyz"
)


# Wrong bodies.
@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(
            b"",
            'body: expected a JSON object with "instances" or "inputs", received no body',
            id="no-body",
        ),
        pytest.param(
            b"{",
            "body: expected JSON, received something else at line 1, column 2 "
            "(Expecting property name enclosed in double quotes)",
            id="no-JSON",
        ),
        pytest.param(
            b'{"inputs": {"insurance": [[1, "no", NaN]], "digit": [[Infinity, 1e400, 1, -1e400]]}}',
            "inputs.insurance[0][2]: expected a number for bmi, which has no default, "
            "received NaN (and 3 more)",
            id="NaN-and-infinity",
        ),
        pytest.param(
            json.dumps({"instances": [{**ROW, "insurance": {"bmi": 10**400}}]}).encode(),
            "instances[0].insurance.bmi: expected a number within ±3.40282e+38 for bmi, "
            f"received 1{'0' * 38}…",
            id="huge-integer",
        ),
        pytest.param(
            b'{"instances": [' + b"9" * 5000 + b"]}",
            "body: expected numbers of at most 4,300 digits, received a longer one",
            id="5000-digits",
        ),
        pytest.param(
            b'{"inputs": ' + b"[" * 60_000,
            "body: expected JSON of a few levels, received brackets nested too deeply",
            id="deep",
        ),
        pytest.param(
            b'{"instances": [1], "instances": [2]}',
            'body: expected each key of an object once, received "instances" twice',
            id="key-twice",
        ),
        pytest.param(
            b'{"instances": [{"fruit": ["\\ud800", 2], "\\udfff": 1}], "heads": ["size"]}',
            r'instances[0]["\udfff"]: expected one of insurance, fruit, digit, '
            r'received the unknown input "\udfff" (and 1 more)',
            id="lone-surrogates",
        ),
        pytest.param(
            json.dumps({**BODY, "inputs": {}}).encode(),
            'body: expected either "instances" (by row) or "inputs" (by column), received both',
            id="both-forms",
        ),
        pytest.param(
            json.dumps({"x" * 10_000: 1, **BODY}).encode(),
            f"{'x' * 199}…: expected one of instances, inputs, heads, explain, "
            f'received the unknown key "{"x" * 38}…',
            id="long-key-cut-short",
        ),
    ],
)
def test_a_wrong_body_is_answered_400_with_a_clear_message(client, content, error):
    """The message is that of the first problem; `test_native.py` has all of them."""
    assert error_of(post_json(client, content)) == (400, error)


def test_an_answer_to_a_wrong_body_lists_its_problems(client):
    """The answer has the first twenty problems, and their number."""
    rows = [{"fruit": [i, "x"]} for i in range(30)]

    response = post_json(client, {"instances": rows, "heads": ["size"]})

    assert response.status_code == 400
    assert response.get_json() == {
        "error": 'instances[0].fruit[1]: expected a number for length, received "x" (and 29 more)',
        "problems": [
            {
                "at": f"instances[{i}].fruit[1]",
                "expected": "a number for length",
                "received": '"x"',
            }
            for i in range(20)
        ],
        "count": 30,
    }


# Wrong requests.
@pytest.mark.parametrize(
    ("method", "path", "error"),
    [
        pytest.param(
            "GET",
            "/modells",
            f"GET /modells: no such route (did you mean '/models'?). Available: {ROUTES}",
            id="route",
        ),
        pytest.param(
            "GET",
            "/models/three/x/y",
            f"GET /models/three/x/y: no such route. Available: {ROUTES}",
            id="route-of-a-model",
        ),
        pytest.param(
            "GET",
            "/models/fruits",
            "model 'fruits': there is none of that name (did you mean 'fruity'?). "
            f"Available: {', '.join(NAMES)}",
            id="model",
        ),
        pytest.param(
            "POST",
            "/models/Three/predict",
            "model 'Three': there is none of that name (did you mean 'three'?). "
            f"Available: {', '.join(NAMES)}",
            id="model-to-predict",
        ),
        pytest.param(
            "GET",
            "/models/three/versions/9",
            "model 'three' has no version '9'. Available: 1, 2",
            id="version",
        ),
        pytest.param(
            "POST",
            "/models/three/versions/01/predict",
            "model 'three' has no version '01'. Available: 1, 2",
            id="version-to-predict",
        ),
        pytest.param(
            "GET",
            "/models/%F0%9F%8D%8E%ED%A0%80",
            "model '🍎\ufffd\ufffd\ufffd': there is none of that name. "
            f"Available: {', '.join(NAMES)}",
            id="bytes",
        ),
    ],
)
def test_a_missing_route_model_or_version_is_answered_404_with_the_others(
    client, method, path, error
):
    """The error names the routes, models or versions that exist."""
    assert error_of(client.open(path, method=method, json=BODY)) == (404, error)


def test_a_doubled_slash_is_not_redirected(client):
    """The page of a redirect would not be JSON."""
    assert error_of(client.get("/models//three")) == (
        404,
        f"GET /models//three: no such route (did you mean '/models'?). Available: {ROUTES}",
    )


def test_a_refused_version_is_answered_503_with_its_reason(client):
    """The version exists, and may serve once its file is fixed."""
    assert error_of(post_json(client, SIZE, "/models/three/versions/3/predict")) == (
        503,
        "model 'three', version 3: refused, it is not an ONNX file, or not the whole of one",
    )
    retry_after = post_json(client, SIZE, "/models/three/versions/3/predict").headers["Retry-After"]
    assert retry_after == "1"


@pytest.mark.parametrize(
    ("method", "path", "allowed", "error"),
    [
        pytest.param("GET", "/predict", "OPTIONS, POST", "GET /predict: expected POST", id="get"),
        pytest.param(
            "PUT",
            "/models/three/predict",
            "OPTIONS, POST",
            "PUT /models/three/predict: expected POST",
            id="put",
        ),
        pytest.param(
            "POST", "/models", "GET, HEAD, OPTIONS", "POST /models: expected GET", id="post"
        ),
        pytest.param(
            "DELETE",
            "/models/three/versions/1",
            "GET, HEAD, OPTIONS",
            "DELETE /models/three/versions/1: expected GET",
            id="delete",
        ),
        pytest.param("PROPFIND", "/", "GET, HEAD, OPTIONS", "PROPFIND /: expected GET", id="rare"),
    ],
)
def test_a_wrong_method_is_answered_405_with_the_right_ones(client, method, path, allowed, error):
    """The right methods are in the text for people, and in Allow for programs."""
    response = client.open(path, method=method)

    assert error_of(response) == (405, error)
    assert response.headers["Allow"] == allowed


def test_head_and_options_are_answered_as_http_has_it(client):
    """HEAD is GET without its body; OPTIONS lists the methods."""
    head, options = client.head("/models"), client.options("/predict")

    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == client.get("/models").headers["Content-Length"]
    assert (options.status_code, options.data) == (200, b"")
    assert set(options.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
    assert client.head("/predict").status_code == 405


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("application/json", id="plain"),
        pytest.param("application/json; charset=utf-8", id="charset"),
        pytest.param('Application/JSON;charset="UTF-8"', id="shouted"),
        pytest.param("application/vnd.api+json", id="suffix"),
    ],
)
def test_json_has_several_content_types(client, kind):
    """Any JSON type is accepted, in UTF-8, the one charset of JSON."""
    response = client.post("/predict", data=json.dumps(SIZE), content_type=kind)

    assert response.get_json() == ANSWER


@pytest.mark.parametrize(
    ("kind", "received"),
    [
        pytest.param(None, "none", id="missing"),
        pytest.param("", "none", id="empty"),
        pytest.param("text/plain", "text/plain", id="text"),
        pytest.param(
            "application/x-www-form-urlencoded", "application/x-www-form-urlencoded", id="form"
        ),
        pytest.param(
            "multipart/form-data; boundary=x", "multipart/form-data; boundary=x", id="parts"
        ),
        pytest.param(
            "application/json; charset=latin-1", "application/json; charset=latin-1", id="charset"
        ),
        pytest.param("application/jsonp", "application/jsonp", id="almost"),
    ],
)
def test_a_body_with_another_content_type_is_answered_415(client, kind, received):
    """By default curl announces a form, so the message says which type is expected."""
    response = client.post("/predict", data=json.dumps(BODY), content_type=kind)

    error = f"Content-Type: expected application/json, in UTF-8, received {received}"
    assert error_of(response) == (415, error)


def _sized(size):
    """Return a valid body of exactly `size` bytes."""
    content = json.dumps(SIZE).encode()
    return content + b" " * (size - len(content))


@pytest.mark.parametrize(
    "chunked", [pytest.param(False, id="length"), pytest.param(True, id="chunked")]
)
def test_a_body_over_the_limit_is_answered_413(client, chunked):
    """The limit holds with or without a Content-Length; a body of exactly the limit is valid."""

    def post(content):
        if not chunked:
            return post_json(client, content)
        return client.post(
            "/predict",
            input_stream=io.BytesIO(content),
            content_type="application/json",
            environ_overrides={
                "wsgi.input_terminated": True,
                "HTTP_TRANSFER_ENCODING": "chunked",
                "CONTENT_LENGTH": "",
            },
        )

    assert post(_sized(LIMIT)).get_json() == ANSWER
    for size in (LIMIT + 1, LIMIT + 2, LIMIT * 3):
        assert error_of(post(_sized(size))) == (
            413,
            f"{TOO_LARGE}; split the request",
        )


def test_a_body_that_breaks_off_is_answered_400(app):
    """The client may still read the answer."""
    response = app.test_client().post(
        "/predict",
        input_stream=io.BytesIO(json.dumps(SIZE).encode()),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "1000"},
    )

    assert error_of(response) == (
        400,
        "body: expected the 1000 bytes of its Content-Length, received fewer",
    )


def _zipped(client, content, encoding="gzip"):
    return post_json(client, content, headers={"Content-Encoding": encoding})


def test_a_compressed_body_is_inflated(client):
    """The inflated body may have as many bytes as any body."""
    assert _zipped(client, gzip.compress(json.dumps(SIZE).encode())).get_json() == ANSWER
    assert _zipped(client, gzip.compress(_sized(LIMIT)), "GZIP").get_json() == ANSWER
    assert _zipped(client, zlib.compress(_sized(LIMIT)), "deflate").get_json() == ANSWER
    assert _zipped(client, json.dumps(SIZE).encode(), "identity").get_json() == ANSWER


GZIP = "body: expected gzip, as Content-Encoding says, received "


@pytest.mark.parametrize(
    ("content", "encoding", "status", "error"),
    [
        pytest.param(
            gzip.compress(_sized(LIMIT + 1)),
            "gzip",
            413,
            f"{TOO_LARGE} once inflated; split the request",
            id="one-byte-too-many",
        ),
        pytest.param(
            gzip.compress(b" " * 2**25),
            "gzip",
            413,
            f"{TOO_LARGE} once inflated; split the request",
            id="bomb",
        ),
        pytest.param(
            gzip.compress(_sized(200))[:-9],
            "gzip",
            400,
            f"{GZIP}only the beginning of it",
            id="cut",
        ),
        pytest.param(
            gzip.compress(_sized(200))[:-1],
            "gzip",
            400,
            f"{GZIP}only the beginning of it",
            id="tail",
        ),
        pytest.param(_sized(200), "gzip", 400, f"{GZIP}bytes that are not", id="garbage"),
        pytest.param(
            gzip.compress(_sized(200))[:-8] + bytes(8),
            "gzip",
            400,
            f"{GZIP}bytes that are not",
            id="wrong-checksum",
        ),
        pytest.param(
            gzip.compress(_sized(200)) + b"more",
            "gzip",
            400,
            "body: expected gzip of one piece, as Content-Encoding says, "
            "received 4 bytes after its end",
            id="more-after-its-end",
        ),
        pytest.param(
            gzip.compress(b""),
            "gzip",
            400,
            'body: expected a JSON object with "instances" or "inputs", received no body',
            id="of-nothing",
        ),
        pytest.param(
            b"",
            "gzip",
            400,
            'body: expected a JSON object with "instances" or "inputs", received no body',
            id="nothing",
        ),
        pytest.param(
            zlib.compress(b" " * 2**25),
            "deflate",
            413,
            f"{TOO_LARGE} once inflated; split the request",
            id="deflate-bomb",
        ),
        pytest.param(
            zlib.compress(_sized(200))[2:-4],
            "deflate",
            400,
            "body: expected deflate, as Content-Encoding says, received bytes that are not",
            id="deflate-without-zlib",
        ),
        pytest.param(
            b"x",
            "br",
            415,
            "Content-Encoding: expected gzip, deflate or none, received br",
            id="brotli",
        ),
        pytest.param(
            b"x",
            "gzip, gzip",
            415,
            "Content-Encoding: expected gzip, deflate or none, received gzip, gzip",
            id="twice",
        ),
    ],
)
def test_a_compressed_body_that_cannot_be_read_is_refused(client, content, encoding, status, error):
    """It is refused by its size, by the checks of gzip itself, or by its encoding."""
    assert error_of(_zipped(client, content, encoding)) == (status, error)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        pytest.param("gzip", "gzip", id="gzip"),
        pytest.param("br, gzip;q=0.5", "gzip", id="among-others"),
        pytest.param("*", "gzip", id="any"),
        pytest.param("gzip;q=0", None, id="refused"),
        pytest.param("*;q=0", None, id="none"),
        pytest.param("identity", None, id="plain"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="no-header"),
    ],
)
def test_an_answer_is_compressed_on_request(client, accepted, encoding):
    """The inflated answer is the same, and Vary tells caches of the difference."""
    rows = {"instances": [ROW] * 50}

    response = post_json(
        client, rows, headers={} if accepted is None else {"Accept-Encoding": accepted}
    )

    assert response.headers.get("Content-Encoding") == encoding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert int(response.headers["Content-Length"]) == len(response.data)
    content = gzip.decompress(response.data) if encoding else response.data
    assert content == post_json(client, rows).data


def test_a_short_answer_is_not_compressed(client):
    """Compression would only make it longer."""
    response = post_json(client, SIZE, headers={"Accept-Encoding": "gzip"})

    assert response.get_json() == ANSWER


def test_a_gzip_bomb_is_not_inflated(client):
    """No more is inflated than shows that the body is too large."""
    bomb = gzip.compress(b" " * 2**25)

    tracemalloc.start()
    status, _ = error_of(_zipped(client, bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert status == 413
    assert peak < 2**23


def test_an_internal_error_is_a_plain_500_and_a_logged_traceback(client, monkeypatch, caplog):
    """The client learns that there was an error, and nothing of its inside."""

    def fail(self, arrays, heads):
        raise RuntimeError("secret")

    monkeypatch.setattr(Model, "predict", fail)
    with caplog.at_level(logging.ERROR):
        response = post_json(client, SIZE)

    assert error_of(response) == (
        500,
        "POST /predict: an error of the service; it is logged",
    )
    (record,) = caplog.records
    assert record.exc_info[0] is RuntimeError
    monkeypatch.undo()
    assert post_json(client, SIZE).get_json() == ANSWER


def test_any_other_error_of_http_is_json_too(app, monkeypatch):
    """Any HTTP error of Werkzeug has a JSON body."""

    def fail(*_):
        raise ImATeapot("no coffee here")

    monkeypatch.setattr(Library, "having", fail)

    assert error_of(post_json(app.test_client(), SIZE)) == (418, "POST /predict: no coffee here")


# Arbitrary requests.
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "instances": st.lists(
            st.fixed_dictionaries(
                {}, optional={"x": ANY, "place": ANY, "insurance": ANY, "digit": ANY}
            )
            | ANY,
            max_size=2,
        ),
        "inputs": st.dictionaries(st.sampled_from(["x", "fruit"]), ANY) | ANY,
        "heads": st.lists(st.sampled_from(["y", "size", "calm", "x"]) | ANY, max_size=2),
    },
)


@hypothesis_settings(max_examples=300)
@given(name=st.sampled_from(NAMES), body=NEARLY | ANY)
def test_any_json_is_answered_without_an_internal_error(app, name, body):
    """The answer has predictions, or an error in JSON."""
    response = post_json(app.test_client(), body, f"/models/{name}/predict")

    assert response.content_type == "application/json"
    assert response.status_code in (200, 400)
    assert ("error" in response.get_json()) == (response.status_code == 400)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "identity", "br", ""]))
def test_any_bytes_are_answered_without_an_internal_error(app, content, encoding):
    """The bytes may be compressed or not."""
    response = _zipped(app.test_client(), content, encoding)

    assert response.status_code in (400, 415)
    assert "error" in response.get_json()
