"""The Flask app: every route and every way in which a request can be wrong, over HTTP."""

import contextlib
import gzip
import io
import json
import logging
import tracemalloc
import zlib
from http.client import HTTPConnection

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.exceptions import ImATeapot
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Request

from service import __version__, create_app
from service.inference.model import Model
from service.repository.reloader import Library
from service.settings import Settings
from tests.harness import small
from tests.harness.served import Served

LIMIT = 64 * 1024
ROW = {"insurance": [47, "yes", 20], "fruit": [1, 2], "digit": [0, 1, 2, 3]}
BODY = {"instances": [ROW]}
SIZE = {"instances": [{"fruit": [1, 2]}], "heads": ["size"]}
ANSWER = {"model": "three", "version": "2", "predictions": [{"size": {"value": 6.0}}]}
ROUTES = (
    "/, /livez, /metrics, /models, /models/<name>, /models/<name>/aliases/<alias>, "
    "/models/<name>/aliases/<alias>/predict, /models/<name>/example, /models/<name>/predict, "
    "/models/<name>/versions/<version>, /models/<name>/versions/<version>/predict, "
    "/openapi.json, /predict, /readyz"
)
NAMES = sorted([*small.every(), "risky", "fruity"])


def _app(models, **settings):
    return create_app(Settings(models=models, max_body=LIMIT, **settings))


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Every sort of model, `three` in two versions that serve and a third that does not."""
    models = tmp_path_factory.mktemp("models")
    for name, content in small.every().items():
        small.put(models, name, 1, content)
    views = {"risky": ["risk"], "fruity": ["tags", "size"]}
    small.put(models, "three", 2, small.three(2.0, models=views))
    small.put(models, "three", 3, b"no model")
    return models


@pytest.fixture(name="app", scope="module")
def _flask(models):
    return _app(models, default_model="three")


def _over_http(port):
    """A WSGI app that asks a server on this machine, and answers as that does."""

    def proxy(environ, start_response):
        asked = Request(environ)
        chunked = "chunked" in asked.headers.get("Transfer-Encoding", "")
        body = iter([asked.stream.read()]) if chunked else asked.get_data() or None
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            target = environ["REQUEST_URI"]
            headers = dict(asked.headers)
            connection.request(asked.method, target, body, headers, encode_chunked=chunked)
            answer = connection.getresponse()
            content = answer.read()
        start_response(f"{answer.status} {answer.reason}", answer.getheaders())
        return [content]

    return proxy


@pytest.fixture(name="front", scope="module")
def _front(models):
    served = Served(models, max_body=LIMIT, default_model="three")
    yield Client(_over_http(served.port), TestResponse)
    served.stop()


@pytest.fixture(name="client", params=["flask", "front"])
def _client(request, app):
    """Everything here holds for both ways in: the Flask app, and the front on a real socket."""
    return app.test_client() if request.param == "flask" else request.getfixturevalue("front")


def _post(client, said, path="/predict", **kwargs):
    content = said if isinstance(said, bytes) else json.dumps(said).encode()
    return client.post(path, data=content, content_type="application/json", **kwargs)


def _error(response):
    """The status, and the text that goes with it."""
    assert response.content_type == "application/json"
    return response.status_code, response.get_json()["error"]


# What is here.


def test_the_front_page_says_what_is_here(client):
    """Alive, what it is, which models, and where to look next."""
    response = client.get("/")

    assert response.status_code == 200
    assert response.get_json() == {
        "status": "alive",
        "service": f"triceps {__version__}",
        "models": NAMES,
        "links": {
            "models": "/models",
            "openapi": "/openapi.json",
            "live": "/livez",
            "ready": "/readyz",
        },
    }


def test_alive_and_ready_are_two_questions(client):
    """The one is about the process, the other about its models."""
    assert client.get("/livez").get_json() == {"status": "alive"}
    assert client.get("/readyz").get_json() == {"status": "ready", "models": NAMES}


def test_the_models_are_listed_with_versions_heads_and_what_was_refused(client):
    """The newest version that serves is the one that answers."""
    said = client.get("/models").get_json()

    assert said["default"] == "three"
    assert [entry["name"] for entry in said["models"]] == NAMES
    assert [entry for entry in said["models"] if entry["name"] in ("risky", "three")] == [
        {
            "name": "risky",
            "version": "2",
            "versions": {"1": "on demand", "2": "loaded"},
            "aliases": {},
            "heads": ["risk"],
        },
        {
            "name": "three",
            "version": "2",
            "versions": {"1": "on demand", "2": "loaded"},
            "aliases": {},
            "heads": ["risk", "size", "digits", "tags"],
        },
    ]
    assert said["refused"] == [
        {
            "name": "three",
            "version": "3",
            "reason": "it is not an ONNX file, or not the whole of one",
        }
    ]


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_every_model_works_when_posted(client, name):
    """As it stands, to the model, to each of its versions, and from its own address."""
    described = client.get(f"/models/{name}").get_json()

    assert client.get(f"/models/{name}/example").get_json() == described["example"]
    for version in described["versions"]:
        of_version = client.get(f"/models/{name}/versions/{version}").get_json()
        path = f"/models/{name}/versions/{version}/predict"
        response = _post(client, of_version["example"], path)
        assert response.status_code == 200, response.get_data(as_text=True)
    response = _post(client, described["example"], f"/models/{name}/predict")
    (answer,) = response.get_json()["predictions"]
    assert list(answer) == list(described["heads"])
    assert "imputed" not in response.get_json()


# One request.


@pytest.mark.parametrize(
    ("path", "name", "version", "size"),
    [
        pytest.param("/predict", "three", "2", 6.0, id="default"),
        pytest.param("/models/three/predict", "three", "2", 6.0, id="name"),
        pytest.param("/models/three/versions/1/predict", "three", "1", 3.0, id="older-version"),
        pytest.param("/models/three/versions/2/predict", "three", "2", 6.0, id="version"),
        pytest.param("/models/fruity/predict", "fruity", "2", 6.0, id="view"),
        pytest.param("/models/fruity/versions/1/predict", "fruity", "1", 3.0, id="version-of-view"),
        pytest.param("/predict/", "three", "2", 6.0, id="trailing-slash"),
        pytest.param("/models/three/predict/", "three", "2", 6.0, id="trailing-slash-of-a-model"),
    ],
)
def test_a_model_is_asked_by_its_address(client, path, name, version, size):
    """The answer says which model and version it is from."""
    response = _post(client, SIZE, path)

    assert response.status_code == 200
    assert response.get_json() == {
        "model": name,
        "version": version,
        "predictions": [{"size": {"value": size}}],
    }


def test_one_request_answers_every_head_by_row(client):
    """Values, labels, and what stood in for what was missing."""
    rows = [ROW, {"insurance": {"smoker": None, "bmi": 12}, "digit": [[5, 1], [2, 9]]}]

    response = _post(client, {"instances": rows})

    assert response.status_code == 200
    first, second = response.get_json()["predictions"]
    half = 1 / (1 + np.exp(-1))
    assert first == {
        "risk": {"value": pytest.approx(1 / (1 + np.exp(-17))), "label": "high"},
        "size": {"value": 6.0},
        "digits": {"value": [0.0, 1.0, 2.0], "label": "two"},
        "tags": {"value": [0.5, pytest.approx(half)], "label": ["long"]},
    }
    assert second == {
        "risk": {"value": pytest.approx(1 / (1 + np.exp(10)), rel=1e-3), "label": "low"},
        "size": {"value": 7.0},
        "digits": {"value": [5.0, 1.0, 2.0], "label": "zero"},
        "tags": {
            "value": [pytest.approx(1 / (1 + np.exp(-0.5))), pytest.approx(half)],
            "label": ["heavy", "long"],
        },
    }
    assert response.get_json()["imputed"] == [
        {"at": "instances[1].insurance.age", "value": 38},
        {"at": "instances[1].insurance.smoker", "value": "no"},
        {"at": "instances[1].fruit.weight", "value": 1.5},
        {"at": "instances[1].fruit.length", "value": 2},
    ]


def test_one_request_answers_every_head_by_column(client):
    """As lists, which hold the same values as the answers by row."""
    rows = [ROW, {**ROW, "insurance": [None, "never seen", 20]}]
    by_row = _post(client, {"instances": rows}).get_json()["predictions"]

    response = _post(client, {"inputs": {name: [row[name] for row in rows] for name in ROW}})

    assert response.status_code == 200
    assert response.get_json() == {
        "model": "three",
        "version": "2",
        "outputs": {head: [row[head]["value"] for row in by_row] for head in by_row[0]},
        "labels": {
            head: [row[head]["label"] for row in by_row] for head in ("risk", "digits", "tags")
        },
        "imputed": [{"at": "inputs.insurance[1][0]", "value": 38}],
    }


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param({"instances": [{"x": [7], "place": 99}]}, "predictions", id="by-row"),
        pytest.param({"inputs": {"x": [[7]], "place": [99]}}, "outputs", id="by-column"),
        pytest.param({"instances": [{"x": [7]}]}, "predictions", id="not-even-asked-for"),
    ],
)
def test_only_the_part_of_the_graph_that_is_asked_for_is_computed(client, said, told):
    """A branch that fails for this very row does not, as long as nobody asks for it."""
    response = _post(client, {**said, "heads": ["calm"]}, "/models/brittle/predict")

    assert response.status_code == 200
    calm = {"calm": [7.0]} if told == "outputs" else [{"calm": {"value": 7.0}}]
    assert response.get_json()[told] == calm


def test_an_input_that_no_head_needs_is_never_required(tmp_path):
    """The graph has it, and nothing in the graph does."""
    small.put(tmp_path, "idle", 1, small.idle())
    client = _app(tmp_path).test_client()

    for said in ({"x": [1]}, {"x": [1], "idle": [2]}):
        response = _post(client, {"instances": [said]})
        assert response.get_json()["predictions"] == [{"y": {"value": 1.0}}]


def test_values_that_a_graph_has_no_answer_for_are_the_callers_to_mend(client):
    """Only the graph knows where its lists end, so it is asked to say it."""
    said = {"instances": [{"x": [7], "place": 99}], "heads": ["wild"]}

    status, error = _error(_post(client, said, "/models/brittle/predict"))

    assert status == 400
    assert error.startswith("the model has no answer for these values: ")
    assert "99" in error


def test_a_model_that_takes_one_row_at_a_time_is_given_many(client):
    """One after another, and answered together."""
    response = _post(client, {"inputs": [[1, 2], [3, 4], [5, 6]]}, "/models/alone/predict")

    assert response.get_json()["outputs"] == {"y": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}


@pytest.mark.parametrize("name", ["ragged", "alone_ragged"])
def test_rows_of_a_free_length_are_of_one_length(client, name):
    """Which is refused by place, and fine in two requests."""
    path = f"/models/{name}/predict"

    assert _error(_post(client, {"instances": [[[1, 2]], [[1, 2], [3, 4]]]}, path)) == (
        400,
        "instances[1]: expected the shape of instances[0], 1 x 2, received 2 x 2",
    )
    assert _post(client, {"instances": [[[1, 2], [3, 4]]] * 3}, path).status_code == 200


@pytest.mark.parametrize(
    ("name", "row"),
    [
        pytest.param("float", [1.5, -3.25e38], id="float32"),
        pytest.param("double", [1e300, 0.1], id="float64"),
        pytest.param("float16", [65504.0, -0.5], id="float16"),
        pytest.param("bool", [True, False], id="bool"),
        pytest.param("string", ["größe 🍎", ""], id="string"),
        pytest.param("int8", [-128, 127], id="int8"),
        pytest.param("int16", [-(2**15), 2**15 - 1], id="int16"),
        pytest.param("int32", [-(2**31), 2**31 - 1], id="int32"),
        pytest.param("int64", [-(2**63), 2**63 - 1], id="int64"),
        pytest.param("uint8", [0, 255], id="uint8"),
        pytest.param("uint16", [0, 2**16 - 1], id="uint16"),
        pytest.param("uint32", [0, 2**32 - 1], id="uint32"),
        pytest.param("uint64", [0, 2**64 - 1], id="uint64"),
        pytest.param("deep", [[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]], id="rank-four"),
        pytest.param("scalar", 7.5, id="rank-one"),
    ],
)
def test_a_foreign_model_of_any_dtype_and_shape_is_served(client, name, row):
    """What goes in comes out, to the last digit, in both forms."""
    path = f"/models/{name}/predict"

    by_row = _post(client, {"instances": [row, {"x": row}]}, path).get_json()
    by_column = _post(client, {"inputs": {"x": [row, row]}}, path).get_json()

    assert by_row["predictions"] == [{"y": {"value": row}}] * 2
    assert by_column["outputs"] == {"y": [row, row]}
    assert "labels" not in by_column


def test_odd_names_are_served_by_their_own_names(client):
    """Dots, slashes, colons, quotes, spaces and umlauts."""
    row = {name: [i] for i, name in enumerate(small.ODD_NAMES)}

    response = _post(
        client, {"instances": [row], "heads": ["größe!", "a.b/c:0!"]}, "/models/odd_names/predict"
    )

    assert response.get_json()["predictions"] == [
        {"größe!": {"value": 2.0}, "a.b/c:0!": {"value": 0.0}}
    ]


def test_what_is_no_number_is_null_and_has_no_label(client):
    """JSON has no NaN, and a label for one would be made up."""
    response = _post(client, {"instances": [[-1, 7], [0, 1]]}, "/models/logs/predict")

    log7 = pytest.approx(float(np.log(np.float32(7))))
    assert response.get_json()["predictions"] == [
        {
            "many": {"value": [None, log7], "label": None},
            "best": {"value": [None, log7], "label": None},
            "first": {"value": None, "label": None},
            "whole": {"value": [-1, 7]},
            "truth": {"value": [True, True]},
            "text": {"value": ["-1", "7"]},
        },
        {
            "many": {"value": [None, 0.0], "label": []},
            "best": {"value": [None, 0.0], "label": "b"},
            "first": {"value": None, "label": "no"},
            "whole": {"value": [0, 1]},
            "truth": {"value": [False, True]},
            "text": {"value": ["0", "1"]},
        },
    ]


# What is wrong with a body.


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
            "inputs.insurance[0][2]: expected a number within ±3.40282e+38 for bmi, "
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
            f"{'x' * 199}…: expected one of instances, inputs, heads, "
            f'received the unknown key "{"x" * 38}…',
            id="long-key-cut-short",
        ),
    ],
)
def test_a_wrong_body_is_answered_400_in_clear_words(client, content, error):
    """The text is the first problem's own; `test_native.py` has all of them."""
    assert _error(_post(client, content)) == (400, error)


def test_an_answer_to_a_wrong_body_lists_its_problems(client):
    """The first twenty, and how many there are."""
    rows = [{"fruit": [i, "x"]} for i in range(30)]

    response = _post(client, {"instances": rows, "heads": ["size"]})

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


# What is wrong with a request.


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
def test_what_is_not_there_is_answered_404_with_what_is(client, method, path, error):
    """A route, a model, a version."""
    assert _error(client.open(path, method=method, json=BODY)) == (404, error)


def test_a_doubled_slash_is_no_redirect(client):
    """A page that sends the caller on would not be JSON."""
    assert _error(client.get("/models//three")) == (
        404,
        f"GET /models//three: no such route (did you mean '/models'?). Available: {ROUTES}",
    )


def test_a_refused_version_is_answered_503_with_its_reason(client):
    """It is there, and may serve once it is mended."""
    assert _error(_post(client, SIZE, "/models/three/versions/3/predict")) == (
        503,
        "model 'three', version 3: refused, it is not an ONNX file, or not the whole of one",
    )
    again = _post(client, SIZE, "/models/three/versions/3/predict").headers["Retry-After"]
    assert again == "1"


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
    """In the text, and in Allow for programs."""
    response = client.open(path, method=method)

    assert _error(response) == (405, error)
    assert response.headers["Allow"] == allowed


def test_head_and_options_are_answered_as_http_has_it(client):
    """HEAD is GET without its body; OPTIONS tells the methods."""
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
def test_json_goes_by_several_names(client, kind):
    """Any type that is JSON, in the one charset that JSON has."""
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
def test_a_body_that_is_not_said_to_be_json_is_answered_415(client, kind, received):
    """By default curl says it is a form unless it is told otherwise, so the text tells."""
    response = client.post("/predict", data=json.dumps(BODY), content_type=kind)

    error = f"Content-Type: expected application/json, in UTF-8, received {received}"
    assert _error(response) == (415, error)


def _sized(size):
    """A good body of exactly so many bytes."""
    content = json.dumps(SIZE).encode()
    return content + b" " * (size - len(content))


@pytest.mark.parametrize(
    "chunked", [pytest.param(False, id="length"), pytest.param(True, id="chunked")]
)
def test_a_body_over_the_limit_is_answered_413(client, chunked):
    """Whether it says how long it is or not; one of just the limit is taken."""

    def post(content):
        if not chunked:
            return _post(client, content)
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
        assert _error(post(_sized(size))) == (
            413,
            f"body: expected at most {LIMIT} bytes (TRICEPS_MAX_BODY), received more",
        )


def test_a_body_that_breaks_off_is_told_so(app):
    """If its sender still listens."""
    response = app.test_client().post(
        "/predict",
        input_stream=io.BytesIO(json.dumps(SIZE).encode()),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "1000"},
    )

    assert _error(response) == (
        400,
        "body: expected the 1000 bytes of its Content-Length, received fewer",
    )


def _zipped(client, content, encoding="gzip"):
    return _post(client, content, headers={"Content-Encoding": encoding})


def test_a_compressed_body_is_inflated(client):
    """Up to the limit that any body has."""
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
            f"body: expected at most {LIMIT} bytes (TRICEPS_MAX_BODY), received more once inflated",
            id="one-byte-too-many",
        ),
        pytest.param(
            gzip.compress(b" " * 2**25),
            "gzip",
            413,
            f"body: expected at most {LIMIT} bytes (TRICEPS_MAX_BODY), received more once inflated",
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
            f"body: expected at most {LIMIT} bytes (TRICEPS_MAX_BODY), received more once inflated",
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
    """By the limit, by what gzip itself checks, and by name."""
    assert _error(_zipped(client, content, encoding)) == (status, error)


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
        pytest.param(None, None, id="not-said"),
    ],
)
def test_an_answer_is_compressed_for_those_who_ask(client, accepted, encoding):
    """The same answer, and caches are told that it differs."""
    rows = {"instances": [ROW] * 50}

    response = _post(
        client, rows, headers={} if accepted is None else {"Accept-Encoding": accepted}
    )

    assert response.headers.get("Content-Encoding") == encoding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert int(response.headers["Content-Length"]) == len(response.data)
    content = gzip.decompress(response.data) if encoding else response.data
    assert content == _post(client, rows).data


def test_a_short_answer_is_not_compressed(client):
    """It would only grow."""
    response = _post(client, SIZE, headers={"Accept-Encoding": "gzip"})

    assert response.get_json() == ANSWER


def test_a_gzip_bomb_is_not_inflated(client):
    """No more of it than shows that it is one."""
    bomb = gzip.compress(b" " * 2**25)

    tracemalloc.start()
    status, _ = _error(_zipped(client, bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert status == 413
    assert peak < 2**23


def test_our_own_fault_is_a_plain_500_and_a_traceback_in_the_log(client, monkeypatch, caplog):
    """The caller learns that it happened, and nothing of what is inside."""

    def fail(self, arrays, heads):
        raise RuntimeError("secret")

    monkeypatch.setattr(Model, "predict", fail)
    with caplog.at_level(logging.ERROR):
        response = _post(client, SIZE)

    assert _error(response) == (
        500,
        "POST /predict: an error of the service; it is logged",
    )
    (record,) = caplog.records
    assert record.exc_info[0] is RuntimeError
    monkeypatch.undo()
    assert _post(client, SIZE).get_json() == ANSWER


def test_any_other_error_of_http_is_json_too(app, monkeypatch):
    """Whoever raises it."""

    def fail(*_):
        raise ImATeapot("no coffee here")

    monkeypatch.setattr(Library, "find", fail)

    assert _error(_post(app.test_client(), SIZE)) == (418, "POST /predict: no coffee here")


# Repositories without a model that serves, and the default model.


def test_an_empty_repository_is_alive_and_not_ready(tmp_path):
    """A trainer will fill it; until then each answer says so."""
    client = _app(tmp_path).test_client()
    reason = "the model repository is empty: train or publish a model into it"

    ready = client.get("/readyz")

    assert client.get("/livez").status_code == 200
    assert (ready.status_code, ready.get_json()) == (503, {"status": "not ready", "reason": reason})
    assert client.get("/models").get_json() == {
        "default": None,
        "policy": "latest",
        "models": [],
        "refused": [],
    }
    assert client.get("/").get_json()["models"] == []
    assert client.get("/openapi.json").status_code == 200
    assert _error(_post(client, BODY)) == (503, reason)
    assert _error(_post(client, BODY, "/models/x/predict")) == (
        404,
        "model 'x': there is none of that name. Available: none yet",
    )


def test_a_repository_of_refused_models_is_not_ready(tmp_path):
    """And says which of them, and why."""
    small.put(tmp_path, "broken", 7, b"no model")
    client = _app(tmp_path).test_client()
    reason = "it is not an ONNX file, or not the whole of one"

    ready = client.get("/readyz")

    assert (ready.status_code, ready.get_json()) == (
        503,
        {"status": "not ready", "reason": f"no model is usable: broken, version 7: {reason}"},
    )
    assert _error(_post(client, BODY)) == (503, f"model 'broken', version 7: refused, {reason}")
    assert client.get("/models").get_json() == {
        "default": "broken",
        "policy": "latest",
        "models": [],
        "refused": [{"name": "broken", "version": "7", "reason": reason}],
    }


def test_a_model_that_does_not_answer_its_golden_rows_does_not_serve(tmp_path):
    """The older version goes on."""
    small.put(tmp_path, "three", 1, small.three())
    wrong = small.signed(onnx.load_from_string(small.three(2.0)), small.three_signature(1.0))
    small.put(tmp_path, "three", 2, wrong)
    client = _app(tmp_path).test_client()

    assert _post(client, SIZE).get_json()["version"] == "1"
    (refused,) = client.get("/models").get_json()["refused"]
    assert refused["version"] == "2"
    assert refused["reason"].startswith(
        "head 'size' does not answer its golden rows as it did when it was made: "
    )


@pytest.mark.parametrize(
    ("names", "wanted", "default"),
    [
        pytest.param(["only"], "", "only", id="the-only-one"),
        pytest.param(["other", "triceps"], "", "triceps", id="triceps"),
        pytest.param(["other", "triceps"], "other", "other", id="as-told"),
        pytest.param(["other", "triceps"], "risky", "risky", id="a-view-as-told"),
    ],
)
def test_the_default_model_is_the_one_told_or_the_obvious_one(tmp_path, names, wanted, default):
    """The views of a file do not make it less obvious."""
    for name in names:
        views = {"risky": ["risk"]} if name != "triceps" else None
        small.put(tmp_path, name, 1, small.three(models=views))
    client = _app(tmp_path, default_model=wanted).test_client()

    assert client.get("/models").get_json()["default"] == default
    said = {"instances": [{"insurance": ROW["insurance"]}], "heads": ["risk"]}
    assert _post(client, said).get_json()["model"] == default


def test_without_an_obvious_model_the_caller_has_to_name_one(tmp_path):
    """The answer says how, and which there are."""
    small.put(tmp_path, "a", 1, small.three())
    small.put(tmp_path, "b", 1, small.three())

    status, error = _error(_post(_app(tmp_path).test_client(), BODY))

    assert status == 404
    assert error == (
        "no model was named, and none is the default: ask /models/<name>/predict, or set "
        "TRICEPS_DEFAULT_MODEL. Available: a, b"
    )


# Whatever comes.

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
@given(name=st.sampled_from(NAMES), said=NEARLY | ANY)
def test_any_json_is_answered_and_never_as_our_fault(app, name, said):
    """With predictions, or with an error in JSON."""
    response = _post(app.test_client(), said, f"/models/{name}/predict")

    assert response.content_type == "application/json"
    assert response.status_code in (200, 400)
    assert ("error" in response.get_json()) == (response.status_code == 400)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "identity", "br", ""]))
def test_any_bytes_are_answered_and_never_as_our_fault(app, content, encoding):
    """Compressed or not."""
    response = _zipped(app.test_client(), content, encoding)

    assert response.status_code in (400, 415)
    assert "error" in response.get_json()
