"""The OpenAPI document: it is valid, describes the models, and agrees with the answers."""

import json
import re
from pathlib import Path

import jsonschema
import openapi_spec_validator
import pytest
import schemathesis.openapi
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from schemathesis import GenerationMode
from schemathesis.checks import ignored_auth, positive_data_acceptance

from service import __version__, create_app
from service.errors import BadRequest, HTTPError, Problem, RequestError, defect
from service.repository.publish import REPORT
from service.settings import Settings
from service.wire import native
from tests.harness import graphs, small, tokens

# The answers of `brittle` depend on more than a schema can express.
MODELS = {name: content for name, content in small.every().items() if name != "brittle"}
SERVICE = Path(__file__).parents[3] / "service"
GRAPHS = {"fixed": graphs.fixed(), "typed": graphs.typed(TensorProto.INT32)}
MODELS |= GRAPHS
NAMES = [*MODELS, "risky", "fruity"]


@pytest.fixture(name="app", scope="module")
def _app(tmp_path_factory):
    """Return the app over the models of these tests."""
    models = tmp_path_factory.mktemp("models")
    for name, content in MODELS.items():
        small.put(models, name, 1, content)
    small.put(models, "three", 2, MODELS["three"])
    (models / "three" / "1" / REPORT).write_text("<!doctype html>")
    return create_app(Settings(models=models, default_model="three"))


@pytest.fixture(name="document", scope="module")
def _document(app):
    """Return the OpenAPI document."""
    return app.test_client().get("/openapi.json").get_json()


def _check(document, name, value):
    """Validate a value against a schema of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def _fits(document, name, value):
    """Return whether a value is valid against a schema of the document."""
    try:
        _check(document, name, value)
    except jsonschema.ValidationError:
        return False
    return True


def test_the_document_is_openapi_3_1(document):
    """An independent validator accepts the document."""
    openapi_spec_validator.validate(document)

    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__


def test_every_model_version_and_view_has_its_paths(document):
    """The document has paths for models, versions and views, and those of the service."""
    own = {"/", "/console/", "/livez", "/readyz", "/models", "/openapi.json", "/predict"}
    of_models = {
        f"/models/{name}{end}"
        for name in NAMES
        for end in ("", "/example", "/predict", "/versions/1")
    }
    of_version = ("/example", "/predict")
    newest = {f"/models/{name}/versions/1{end}" for name in NAMES for end in of_version} | {
        f"/models/{name}/versions/2{end}"
        for name in ("three", "risky", "fruity")
        for end in ("", *of_version)
    }
    older = {
        f"/models/{name}/versions/1{end}"
        for name in ("three", "risky", "fruity")
        for end in of_version
    }

    reports = {"/models/three/versions/1/report"}  # of the one version that has a report

    assert set(document["paths"]) == (own | of_models | newest | reports) - older


def test_every_path_that_has_one_answer_is_answered(app, document):
    """Every documented GET is answered by 200."""
    client = app.test_client()

    for path, operations in document["paths"].items():
        if "get" in operations:
            assert client.get(path).status_code == 200, path


def test_a_report_is_html(app, document):
    """The document says that the answer is no JSON."""
    path = "/models/three/versions/1/report"
    content = document["paths"][path]["get"]["responses"]["200"]["content"]

    assert list(content) == [app.test_client().get(path).mimetype] == ["text/html"]


def test_operation_ids_are_unique(tmp_path):
    """Operation IDs are unique, whatever the names of the models."""
    for name in ("default", "predict", "x", "x.1", "x.v1", "x.1.predict", "Error", "models"):
        small.put(tmp_path, name, 1, MODELS["float"])

    document = create_app(Settings(models=tmp_path, default_model="x")).test_client()
    document = document.get("/openapi.json").get_json()

    openapi_spec_validator.validate(document)
    called = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(called) == len(set(called))


def test_without_models_the_document_is_valid_too(tmp_path):
    """Without models, the document describes the other paths."""
    document = create_app(Settings(models=tmp_path)).test_client().get("/openapi.json").get_json()

    openapi_spec_validator.validate(document)
    paths = {"/", "/console/", "/livez", "/readyz", "/models", "/openapi.json"}
    assert set(document["paths"]) == paths


@pytest.fixture(name="closed", scope="module")
def _closed(tmp_path_factory):
    """Return a service behind tokens, with one model of two versions."""
    folder = tmp_path_factory.mktemp("closed")
    for version in (1, 2):
        small.put(folder / "models", "three", version, MODELS["three"])
    options = {"models": folder / "models", "default_model": "three"}
    return create_app(Settings(**options, tokens_file=str(tokens.put(folder))))


def test_behind_tokens_every_operation_requires_a_token(closed, document):
    """With a tokens file every operation requires a token; otherwise none mentions tokens."""
    client = tokens.bring(closed.test_client(), "predict")
    described = client.get("/openapi.json").get_json()

    openapi_spec_validator.validate(described)
    assert described["components"]["securitySchemes"]["token"].items() >= {
        ("type", "http"),
        ("scheme", "bearer"),
    }
    assert described["security"] == [{"token": []}]
    for path, operations in described["paths"].items():
        for operation in operations.values():
            is_open = path in {"/livez", "/readyz", "/console/"}
            assert operation.get("security") == ([] if is_open else None), path
            assert ({"401", "403"} <= set(operation["responses"])) != is_open, path
    assert "security" not in document
    assert "securitySchemes" not in document["components"]
    assert "Unauthorized" not in document["components"]["responses"]


def test_behind_tokens_each_path_answers_as_the_document_says(closed):
    """Answers agree with the document without a token, with a wrong one and with the right one."""
    client = closed.test_client()
    described = client.get("/openapi.json", headers=tokens.header("predict")).get_json()

    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for token, status in (("guess", 401), ("admin", 403), ("predict", 200)):
                headers = tokens.header(token)
                sent = {"json": _example_of(operation)} if method == "post" else {}
                answer = client.open(path, method=method.upper(), headers=headers, **sent)
                expected = 200 if operation.get("security") == [] else status

                assert answer.status_code == expected, path
                if expected != 200:
                    _check(described, "Error", answer.get_json())


def _example_of(operation):
    """Return the example of an operation."""
    return operation["requestBody"]["content"]["application/json"]["example"]


def _errors(kind=RequestError):
    """Return every error of a request that has a status of its own."""
    for error in kind.__subclasses__():
        if error.__module__ == kind.__module__:
            yield error
            yield from _errors(error)


def _statuses_of_a_prediction():
    """Return the statuses of a prediction: those of its errors and those in the source."""
    yield from (error.status for error in _errors() if error is not HTTPError)
    yield defect("").status
    for path in (SERVICE / "prediction.py", *(SERVICE / "http").glob("*.py")):
        yield from map(int, re.findall(r"HTTPError\(\s*(\d+)", path.read_text("utf-8")))


def test_every_status_of_a_prediction_is_in_the_document(closed, document):
    """The document lists 429, 500, 504 and all other statuses of a prediction."""
    behind_tokens = closed.test_client().get("/openapi.json", headers=tokens.header("predict"))
    statuses = set(map(str, _statuses_of_a_prediction()))

    assert statuses >= {"400", "401", "403", "404", "408", "429", "500", "503", "504"}
    for described, also in ((behind_tokens.get_json(), set()), (document, {"401", "403"})):
        for path, operations in described["paths"].items():
            if "post" in operations:
                responses = set(operations["post"]["responses"])
                assert responses == ({"200"} | statuses) - also, path


@pytest.mark.parametrize("kind", list(_errors()), ids=lambda kind: kind.__name__)
def test_every_error_of_a_prediction_has_the_body_and_headers_of_the_document(document, kind):
    """Errors agree with the document as the native format writes them."""
    made = {
        BadRequest: lambda: BadRequest([Problem("body", "an object", "null")]),
        HTTPError: lambda: HTTPError(500, "a bug"),
    }
    error = made.get(kind, lambda: kind("why"))()
    reply = native.DIALECT.encode_error(error)

    _check(document, "Error", json.loads(reply.content))
    posts = document["paths"]["/predict"]["post"]["responses"]
    if (documented := posts.get(str(error.status))) is not None:
        name = documented["$ref"].rpartition("/")[2]
        headers = document["components"]["responses"][name].get("headers", {})
        assert set(headers) == {name for name, _ in error.headers}


def test_the_schemas_have_the_real_names_labels_and_limits(document):
    """Schemas have the features, labels, dtypes and vocabularies of the model."""
    by_row, by_column = document["components"]["schemas"]["three.Request"]["oneOf"]
    row = by_row["properties"]["instances"]["items"]
    insurance = row["properties"]["insurance"]["anyOf"][0]
    largest = 3.4028234663852886e38

    assert by_row["required"] == ["instances"]
    assert by_column["required"] == ["inputs"]
    assert by_row["properties"]["heads"]["items"] == {"enum": ["risk", "size", "digits", "tags"]}
    assert insurance == {
        "type": "object",
        "additionalProperties": False,
        "required": ["bmi"],
        "properties": {
            "age": {
                "type": ["number", "null"],
                "default": 38,
                "minimum": -largest,
                "maximum": largest,
            },
            "smoker": {"type": ["string", "null"], "default": "no", "examples": ["no", "yes"]},
            "bmi": {"type": "number", "minimum": -largest, "maximum": largest},
        },
    }
    answer = document["components"]["schemas"]["three.Answer"]["properties"]
    assert answer["unseen"]["items"]["properties"] == {
        "at": {"type": "string"},
        "received": {"type": "string"},
    }
    assert answer["predictions"]["items"]["properties"]["risk"] == {
        "type": "object",
        "additionalProperties": False,
        "required": ["value", "label"],
        "properties": {
            "value": {
                "type": ["number", "null"],
                "description": 'the probability of "high", the second label, whatever the label '
                "of the answer is",
            },
            "label": {"enum": ["low", "high", None]},
        },
    }


def test_the_schema_has_the_only_texts_where_others_are_refused(tmp_path):
    """A text outside of the vocabulary does not fit, and `null` does where there is a default."""
    small.put(tmp_path, "three", 1, small.refusing())
    document = create_app(Settings(models=tmp_path)).test_client().get("/openapi.json").get_json()

    by_row, _ = document["components"]["schemas"]["three.Request"]["oneOf"]
    insurance = by_row["properties"]["instances"]["items"]["properties"]["insurance"]["anyOf"][0]
    assert insurance["properties"]["smoker"] == {
        "type": ["string", "null"],
        "default": "no",
        "enum": ["no", "yes", None],
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_example_fits_its_schema_and_so_does_its_answer(app, document, name):
    """Each example is valid, and so is the answer to it."""
    post = document["paths"][f"/models/{name}/predict"]["post"]
    content = post["requestBody"]["content"]["application/json"]
    response = app.test_client().post(f"/models/{name}/predict", json=content["example"])

    assert content["schema"] == {"$ref": f"#/components/schemas/{name}.Request"}
    assert response.status_code == 200
    _check(document, f"{name}.Request", content["example"])
    _check(document, f"{name}.Answer", response.get_json())


@pytest.mark.parametrize(
    ("name", "body"),
    [
        pytest.param("three", {}, id="neither-form"),
        pytest.param("three", {"instances": [], "heads": ["size"]}, id="no-rows"),
        pytest.param("three", {"instances": [{}], "heads": []}, id="no-heads"),
        pytest.param("three", {"instances": [{}], "heads": ["sizes"]}, id="unknown-head"),
        pytest.param("three", {"instances": [{}], "heads": ["size"] * 2}, id="head-twice"),
        pytest.param("three", {"instances": [{"fruits": [1, 2]}]}, id="unknown-input"),
        pytest.param("three", {"instances": [{"fruit": [1]}]}, id="short-row"),
        pytest.param("three", {"instances": [{"fruit": [1, 2, 3]}]}, id="long-row"),
        pytest.param("three", {"instances": [{"digit": [1, 2, 3]}]}, id="short-image"),
        pytest.param("three", {"instances": [{"insurance": {"age": 1}}]}, id="no-default"),
        pytest.param("three", {"instances": [{"fruit": ["1", 2]}]}, id="text-for-a-number"),
        pytest.param("three", {"instances": [[47, "yes", 20]]}, id="bare-row-of-three-inputs"),
        pytest.param("three", {"inputs": {"fruit": {"weight": 1}}, "heads": ["size"]}, id="value"),
        pytest.param("three", {"inputs": {"fruit": {}}, "heads": ["size"]}, id="no-columns"),
        pytest.param("plant", {"inputs": {"height": [1], "plant": [2]}}, id="no-such-default"),
        pytest.param("int8", {"instances": [[1, 128]]}, id="out-of-range"),
        pytest.param("int8", {"instances": [[1, 1.5]]}, id="no-whole-number"),
        pytest.param("bool", {"instances": [[1, 0]]}, id="numbers-for-booleans"),
    ],
)
def test_a_body_that_the_service_refuses_fits_no_schema(app, document, name, body):
    """The schemas reject wrong bodies, as far as a schema can express it."""
    assert app.test_client().post(f"/models/{name}/predict", json=body).status_code == 400
    assert not _fits(document, f"{name}.Request", body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        pytest.param("plant", {"instances": [[1, 2, "red"]]}, id="bare-rows"),
        pytest.param("plant", {"inputs": [[None, 2, "red"]]}, id="bare-column"),
        pytest.param("plant", {"instances": [{"plant": 2, "colour": "red"}]}, id="bare-features"),
        pytest.param("scalar", {"instances": [5, {"x": 6}]}, id="values-of-rank-one"),
        pytest.param(
            "plant", {"inputs": {"plant": [2, 3], "colour": ["red", "x"]}}, id="bare-columns"
        ),
        pytest.param(
            "three",
            {"inputs": {"insurance": {"bmi": [20, 30], "age": [1, None]}, "digit": [[0] * 4] * 2}},
            id="columns",
        ),
        pytest.param(
            "per_column", {"inputs": {"age": [1.5], "visits": [2], "city": ["x"]}}, id="1"
        ),
        pytest.param("deep", {"inputs": {"x": [[1, 2, 3, 4, 5, 6]]}}, id="flat"),
        pytest.param(
            "three", {"inputs": {"digit": [[[0, 1], [2, 3]]]}, "heads": ["digits"]}, id="image"
        ),
        pytest.param("logs", {"instances": [[-1, 1]]}, id="NaN-by-row"),
        pytest.param("logs", {"inputs": [[-1, 1]]}, id="NaN-by-column"),
    ],
)
def test_every_way_to_write_a_row_fits_its_schema_and_so_does_the_answer(app, document, name, body):
    """Rows may be bare, flat or nested, and an answer may hold null."""
    response = app.test_client().post(f"/models/{name}/predict", json=body)

    assert response.status_code == 200
    _check(document, f"{name}.Request", body)
    _check(document, f"{name}.Answer", response.get_json())


TEXT = st.text(st.characters(codec="utf-8"), max_size=5)


def _like(schema, rows):
    """Draw values of a schema, in which every list of a free length has `rows` items.

    Properties with a default are sometimes left out.
    """
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of(*(_like(one, rows) for one in schema[several]))
    if schema.get("enum"):
        return st.sampled_from(schema["enum"])
    if schema.get("uniqueItems"):
        return st.lists(st.sampled_from(schema["items"]["enum"]), min_size=1, unique=True)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of(*(_of_type(kind, schema, rows) for kind in kinds))


def _of_type(kind, schema, rows):
    if kind == "object":
        values = {name: _like(one, rows) for name, one in schema["properties"].items()}
        optional = {
            name
            for name, one in schema["properties"].items()
            if "default" in one or name in ("heads", "explain")
        }
        return st.fixed_dictionaries(
            {name: value for name, value in values.items() if name not in optional},
            optional={name: values[name] for name in optional},
        )
    if kind == "array" and "prefixItems" in schema:
        return st.tuples(*(_like(one, rows) for one in schema["prefixItems"])).map(list)
    if kind == "array":
        length = schema.get("maxItems", rows)
        return st.lists(_like(schema["items"], rows), min_size=length, max_size=length)
    return {
        "null": st.none(),
        "string": TEXT,
        "boolean": st.booleans(),
        "integer": st.integers(schema.get("minimum"), schema.get("maximum")),
        "number": st.floats(schema.get("minimum"), schema.get("maximum")) | st.integers(-9, 9),
    }[kind]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_body_that_fits_the_schema_is_answered_as_the_schema_says(app, document, data):
    """A valid body with aligned rows gets 200, with all rows and the requested heads."""
    name = data.draw(st.sampled_from([name for name in NAMES if name not in GRAPHS]), "model")
    rows = data.draw(st.integers(1, 3), "rows")
    body = data.draw(_like(document["components"]["schemas"][f"{name}.Request"], rows), "body")
    # Heads that are explained have to be requested.
    assume(not body.get("explain") or _fits(document, f"{name}.Request", body))
    _check(document, f"{name}.Request", body)

    response = app.test_client().post(f"/models/{name}/predict", json=body)

    answer = response.get_json()
    assert response.status_code == 200, answer
    _check(document, f"{name}.Answer", answer)
    values = answer.get("predictions") or next(iter(answer["outputs"].values()))
    assert len(values) == rows
    heads = answer["predictions"][0] if "predictions" in answer else answer["outputs"]
    explained = answer.get("explanations", [heads.pop("explanations", None)])
    assert list(heads) == body.get("heads", list(heads))
    assert (explained != [None]) == bool(body.get("explain", False) is not False)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_whole_tensors_that_fit_the_schema_are_answered_as_the_schema_says(app, document, data):
    """Tensors may have any length along a free axis, and exactly the axes of the graph."""
    name = data.draw(st.sampled_from(sorted(GRAPHS)), "model")
    length = data.draw(st.integers(1, 3), "length")
    body = data.draw(_like(document["components"]["schemas"][f"{name}.Request"], length), "body")
    _check(document, f"{name}.Request", body)

    response = app.test_client().post(f"/models/{name}/predict", json=body)

    assert response.status_code == 200, response.get_json()
    _check(document, f"{name}.Answer", response.get_json())


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(GenerationMode.POSITIVE, id="by-the-schema"),
        pytest.param(GenerationMode.NEGATIVE, id="against-it"),
    ],
)
def test_requests_of_schemathesis_are_answered_as_the_document_says(tmp_path, mode):
    """Answers have a documented status, type, headers and schema, and are never a 500."""
    for name in ("three", "plant", "ragged", "string"):
        small.put(tmp_path, name, 1, MODELS[name])
    app = create_app(Settings(models=tmp_path, default_model="three"))
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    operations = [result.ok() for result in document.get_all_operations()]
    # A GET has no parameters here, so none can be wrong.
    chosen = [o for o in operations if mode is GenerationMode.POSITIVE or o.method == "post"]

    _try(chosen, mode, {})

    assert {operation.method for operation in chosen} >= {"post"}


@pytest.mark.parametrize("token", ["predict", "admin", None])
def test_requests_of_schemathesis_behind_tokens_are_answered_as_the_document_says(closed, token):
    """Answers agree with the document for the right token, a wrong one and generated ones."""
    known = tokens.header("predict")
    document = schemathesis.openapi.from_wsgi("/openapi.json", closed, headers=known)
    operations = [operation.ok() for operation in document.get_all_operations()]

    _try(operations, GenerationMode.POSITIVE, tokens.header(token) if token else {})


def _try(operations, mode, headers):
    """Compare the answers to generated requests, valid or not, with the document."""
    for operation in operations:

        @settings(
            max_examples=12,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            # The WSGI client of schemathesis accepts gzip like a browser, but does not inflate it.
            response = case.call(headers={"Accept-Encoding": "identity", **headers})
            # A schema cannot say that rows line up, or which inputs the asked heads need; and of a
            # token that replaces the one it has made up itself, it does not know.
            excluded = [positive_data_acceptance, *([ignored_auth] if headers else [])]
            case.validate_response(response, excluded_checks=excluded)

        ask()
