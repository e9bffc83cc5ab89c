"""Methods about the service and its models: they say what the pages of HTTP say."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format

from service.wire.messages import POOL, message_class
from tests.harness import small
from tests.harness.calls import OIP, client, problems

MODEL = "/tensorflow.serving.ModelService/GetModelStatus"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"


def page(served, path, method="GET", body=None):
    """Return the JSON of a page."""
    return json.loads(served.ask(method, path, body)[2])


def said(answer):
    """Return a message as JSON, with whole numbers as JSON has them."""
    value = json_format.MessageToDict(
        answer,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        descriptor_pool=POOL,
    )
    return json.loads(json.dumps(value), object_hook=_with_numbers)


def _with_numbers(fields):
    numbers = ("shape", "dims", "count", "ns", "inference_count", "execution_count")
    return {
        key: [int(n) for n in value]
        if key in numbers and isinstance(value, list)
        else int(value)
        if key in numbers
        else value
        for key, value in fields.items()
    }


@pytest.mark.parametrize(
    ("method", "fields", "path"),
    [
        ("ServerLive", {}, "/v2/health/live"),
        ("ServerReady", {}, "/v2/health/ready"),
        ("ServerMetadata", {}, "/v2"),
        ("ModelMetadata", {"name": "three"}, "/v2/models/three"),
        ("ModelMetadata", {"name": "three", "version": "1"}, "/v2/models/three/versions/1"),
    ],
)
def test_a_method_says_what_its_page_says(served, calls, method, fields, path):
    """Every key of the page is a field of the message."""
    told = calls.oip(method, **fields)

    assert (told.code, told.text) == ("OK", "")
    assert said(told.answer) == page(served, path)


@pytest.mark.parametrize(
    ("name", "version", "ready"), [("three", "", True), ("three", "1", True), ("broken", "", False)]
)
def test_a_model_is_ready_or_not(calls, name, version, ready):
    """A model that cannot serve is an answer, and no error."""
    told = calls.oip("ModelReady", name=name, version=version)

    assert (told.code, told.answer.ready) == ("OK", ready)


def test_a_service_without_models_is_not_ready(served, calls, models):
    """Readiness is an answer, and no error."""
    for path in sorted(models.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    served.front.library.refresh()

    told = calls.oip("ServerReady")

    assert (told.code, told.answer.ready) == ("OK", False)


def test_the_configuration_is_that_of_the_page(served, calls):
    """Triton's clients read the rows that a request may have from it."""
    told = calls.oip("ModelConfig", name="three")

    config = said(told.answer)["config"]
    assert config.pop("dynamic_batching") == {}
    assert config == {
        key: value
        for key, value in page(served, "/v2/models/three/config").items()
        if key != "dynamic_batching"
    }


@pytest.mark.parametrize(
    ("fields", "path"), [({}, "/v2/models"), ({"name": "three"}, "/v2/models/three")]
)
def test_statistics_are_those_of_the_page(served, calls, fields, path):
    """They are about all models, or about one."""
    told = calls.oip("ModelStatistics", **fields)

    answered = said(told.answer)
    for entry in answered["model_stats"]:
        assert entry.pop("last_inference") == "0"
    assert answered == page(served, f"{path}/stats")


@pytest.mark.parametrize("ready", [True, False])
def test_the_index_is_that_of_the_page(served, calls, ready):
    """It has all versions, or those that are ready."""
    told = calls.oip("RepositoryIndex", ready=ready)

    index = page(served, "/v2/repository/index", "POST", json.dumps({"ready": ready}))
    assert said(told.answer)["models"] == [{"version": "", **entry} for entry in index]
    assert len(index) == (1 if ready else 3)


@pytest.mark.parametrize("field", ["model_name", "repository_name"])
def test_a_model_is_unloaded_and_loaded(guarded, field):
    """Triton's clients have its name in one field, and KServe's in another."""
    with client(guarded.port, "all") as calls:
        unloaded = calls.oip("RepositoryModelUnload", **{field: "three"})
        ready = calls.oip("ModelReady", name="three").answer.ready
        loaded = calls.oip("RepositoryModelLoad", **{field: "three"})
        ready_again = calls.oip("ModelReady", name="three").answer.ready

    assert said(unloaded.answer) == {"model_name": "three", "isUnloaded": True}
    assert said(loaded.answer) == {"model_name": "three", "isLoaded": True}
    assert (ready, ready_again) == (False, True)


def test_parameters_of_a_load_are_those_of_the_page(guarded):
    """None is known for a load, and one for an unload."""
    parameters = {"config": {"string_param": "{}"}}
    with client(guarded.port, "all") as calls:
        loaded = calls.oip("RepositoryModelLoad", model_name="three", parameters=parameters)
        parameters = {"unload_dependents": {"bool_param": True}}
        unloaded = calls.oip("RepositoryModelUnload", model_name="three", parameters=parameters)

    assert (loaded.code, unloaded.code) == ("UNIMPLEMENTED", "OK")
    assert loaded.text == (
        "load 'three': its files are the repository's, and no parameters change them: expected "
        "none, received an object with 1 key"
    )


def test_there_is_one_repository(guarded):
    """A client that names one is told so."""
    with client(guarded.port, "all") as calls:
        told = [
            calls.oip("RepositoryIndex", repository_name="mine"),
            calls.oip("RepositoryModelLoad", repository_name="mine", model_name="three"),
        ]

    text = 'repository_name: expected none, since there is one repository; received "mine"'
    assert [(each.code, each.text) for each in told] == [("UNIMPLEMENTED", text)] * 2


@pytest.mark.parametrize(
    ("method", "fields", "code", "text"),
    [
        pytest.param(
            "ModelMetadata",
            {"name": "thre"},
            "NOT_FOUND",
            "model 'thre': there is none of that name (did you mean 'three'?). Available: three",
            id="unknown model",
        ),
        pytest.param(
            "ModelMetadata",
            {"name": "three", "version": "9"},
            "NOT_FOUND",
            "model 'three' has no version '9'. Available: 1, 2",
            id="unknown version",
        ),
        pytest.param(
            "ModelReady",
            {"name": "thre"},
            "NOT_FOUND",
            "model 'thre': there is none of that name (did you mean 'three'?). Available: three",
            id="unknown model, ready",
        ),
        pytest.param(
            "RepositoryModelLoad",
            {"model_name": "three"},
            "PERMISSION_DENIED",
            "this needs a token with the scope 'admin', and this service knows none: make one by "
            "`triceps token NAME --scope admin`, and start the service with TRICEPS_TOKENS_FILE",
            id="no tokens",
        ),
    ],
)
def test_an_error_has_the_code_and_the_words_of_the_page(calls, method, fields, code, text):
    """The HTTP status becomes a gRPC status."""
    told = calls.oip(method, **fields)

    assert (told.code, told.text) == (code, text)


def test_a_model_that_cannot_serve_is_unavailable(calls):
    """Retry-After is among the metadata."""
    told = calls.oip("ModelMetadata", name="broken")

    assert told.code == "UNAVAILABLE"
    assert told.text.startswith("model 'broken', version 1: refused, ")
    assert told.trailing["retry-after"] == "1"


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("ModelReady", {}, "name"),
        ("ModelReady", {"name": "three/versions/1"}, "name"),
        ("ModelReady", {"name": "three", "version": "1/config?"}, "version"),
        ("ModelConfig", {"name": "%2e%2e"}, "name"),
    ],
)
def test_a_name_is_no_path(calls, method, fields, field):
    """What is no name of a model does not reach another page."""
    told = calls.oip(method, **fields)

    assert told.code == "INVALID_ARGUMENT"
    assert told.text.startswith(f"{field}: expected a name, which has at most 128 letters")
    assert set(problems(told)) == {field}


def spec(**fields):
    """Return the fields of a message that names a model of TensorFlow Serving."""
    version = fields.pop("version", None)
    return {
        "model_spec": {**fields, **({} if version is None else {"version": {"value": version}})}
    }


@pytest.mark.parametrize(
    ("fields", "path", "versions"),
    [
        (spec(name="three"), "/v1/models/three", [2, 1]),
        (spec(name="three", version=1), "/v1/models/three/versions/1", [1]),
        (spec(name="three", version_label="stable"), "/v1/models/three/labels/stable", [1]),
        (spec(name="broken"), "/v1/models/broken", [1]),
    ],
)
def test_the_states_of_versions_are_those_of_the_page(served, calls, fields, path, versions):
    """A model is named alone, by a version or by an alias."""
    (served.settings.models / "three" / "aliases.json").write_text('{"stable": "1"}')
    served.front.library.refresh()
    asked = message_class("tensorflow.serving.GetModelStatusRequest")(**fields)

    told = calls.ask(MODEL, asked, "tensorflow.serving.GetModelStatusResponse")

    assert [each.version for each in told.answer.model_version_status] == versions
    assert said(told.answer)["model_version_status"] == page(served, path)["model_version_status"]


def test_the_signature_is_that_of_the_page(served, calls):
    """It is packed as the protocol says."""
    asked = message_class("tensorflow.serving.GetModelMetadataRequest")(
        **spec(name="three", version=1), metadata_field=["signature_def"]
    )

    told = calls.ask(METADATA, asked, "tensorflow.serving.GetModelMetadataResponse")

    assert (told.answer.model_spec.name, told.answer.model_spec.version.value) == ("three", 1)
    signatures = message_class("tensorflow.serving.SignatureDefMap")()
    assert told.answer.metadata["signature_def"].Unpack(signatures)
    expected = page(served, "/v1/models/three/versions/1/metadata")["metadata"]["signature_def"]
    assert said(signatures) == expected


def test_a_version_that_no_message_has_room_for_is_left_out(served, calls):
    """Versions are whole numbers of any size, and the protocol's have 64 bits."""
    small.put(served.settings.models, "three", 2**63, small.three(3))
    served.front.library.refresh()
    asked = message_class("tensorflow.serving.GetModelStatusRequest")(**spec(name="three"))
    told = calls.ask(MODEL, asked, "tensorflow.serving.GetModelStatusResponse")
    asked = message_class("tensorflow.serving.GetModelMetadataRequest")(
        **spec(name="three"), metadata_field=["signature_def"]
    )
    metadata = calls.ask(METADATA, asked, "tensorflow.serving.GetModelMetadataResponse")

    assert [each.version for each in told.answer.model_version_status] == [2, 1]
    assert metadata.answer.model_spec.name == "three"
    assert not metadata.answer.model_spec.HasField("version")


@pytest.mark.parametrize(
    ("fields", "received"), [([], "none"), (["signature_def", "x"], '"signature_def, x"')]
)
def test_there_is_one_kind_of_metadata(calls, fields, received):
    """The message says which."""
    asked = message_class("tensorflow.serving.GetModelMetadataRequest")(
        **spec(name="three"), metadata_field=fields
    )

    told = calls.ask(METADATA, asked, "tensorflow.serving.GetModelMetadataResponse")

    text = f"metadata_field: expected signature_def, received {received}"
    assert (told.code, told.text) == ("INVALID_ARGUMENT", text)


@pytest.mark.parametrize(
    ("token", "method", "fields", "code"),
    [
        ("", "ServerLive", {}, "OK"),
        ("", "ServerReady", {}, "OK"),
        ("", "ServerMetadata", {}, "UNAUTHENTICATED"),
        ("", "ModelReady", {"name": "three"}, "UNAUTHENTICATED"),
        ("metrics", "ServerMetadata", {}, "PERMISSION_DENIED"),
        ("predict", "ModelReady", {"name": "three"}, "OK"),
        ("some", "ModelReady", {"name": "three"}, "OK"),
        ("some", "ModelReady", {"name": "broken"}, "PERMISSION_DENIED"),
        ("some", "RepositoryIndex", {}, "PERMISSION_DENIED"),
        ("predict", "RepositoryIndex", {}, "OK"),
        ("predict", "RepositoryModelLoad", {"model_name": "three"}, "PERMISSION_DENIED"),
        ("admin", "RepositoryModelLoad", {"model_name": "three"}, "OK"),
    ],
)
def test_a_method_needs_the_token_of_its_page(guarded, token, method, fields, code):
    """The token is in the metadata `authorization`."""
    with client(guarded.port, token) as calls:
        assert calls.oip(method, **fields).code == code


@pytest.mark.parametrize(
    ("metadata", "request_id"),
    [
        ({"x-request-id": "mine"}, "mine"),
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "a" * 32),
    ],
)
def test_an_answer_has_the_request_id(calls, metadata, request_id):
    """It is the client's own, in the initial metadata; those of an error are all trailing."""
    kinds = message_class("inference.ModelReadyRequest"), "inference.ModelReadyResponse"

    told = calls.ask(f"{OIP}/ModelReady", kinds[0](name="three"), kinds[1], metadata=metadata)
    error = calls.ask(f"{OIP}/ModelReady", kinds[0](name="x"), kinds[1], metadata=metadata)

    assert told.initial["x-request-id"] == error.trailing["x-request-id"] == request_id


def test_a_bug_of_a_page_is_told_to_nobody(served, calls, monkeypatch, caplog):
    """The client gets a plain error, and the log the traceback."""
    monkeypatch.setattr(served.front.library, "find", lambda *_: 1 / 0)

    told = calls.oip("ModelMetadata", name="three")

    text = f"gRPC {OIP}/ModelMetadata: an error of the service; it is logged"
    assert (told.code, told.text) == ("INTERNAL", text)
    assert "ZeroDivisionError" in caplog.text


def test_a_bug_in_the_answer_of_a_page_is_told_to_nobody(served, calls, monkeypatch, caplog):
    """Nor is an error in what becomes of the page's JSON."""
    monkeypatch.setattr("service.api.grpc.pages.ParseDict", lambda *_, **__: 1 / 0)

    told = calls.oip("ModelMetadata", name="three")

    text = f"gRPC {OIP}/ModelMetadata: an error of the service; it is logged"
    assert (told.code, told.text) == ("INTERNAL", text)
    assert "ZeroDivisionError" in caplog.text
