"""Graphs without rows, which are served as whole tensors with one run per request."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto

from service.commands.main import main
from service.inference.model import Model
from tests.harness import graphs, small
from tests.harness.both_ways import BothWays
from tests.harness.forms import DATATYPES, raw_bytes

KINDS = {
    "voice": graphs.voice,
    "fixed": graphs.fixed,
    "detector": graphs.detector,
    "mean": graphs.mean,
}
TYPES = [
    *("FLOAT", "DOUBLE", "FLOAT16", "BOOL", "STRING", "INT8", "INT16", "INT32", "INT64"),
    *("UINT8", "UINT16", "UINT32", "UINT64"),
]
WAY_OUT = (
    'whole tensors, as {"inputs": {…}} to /models/<name>/predict or by the Open Inference Protocol '
    "to /v2/models/<name>/infer"
)


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Serve the models of this file."""
    models = tmp_path_factory.mktemp("models")
    for name, make in KINDS.items():
        small.put(models, name, 1, make())
    for name in TYPES:
        kind = TensorProto.DataType.Value(name)
        small.put(models, name.lower(), 1, graphs.typed(kind))
    served = BothWays(models, default_model="voice")
    yield served
    served.stop()


def voice(batch: int = 2, n: int = 3) -> dict[str, Any]:
    """Return inputs of the voice model."""
    return {
        "audio": np.arange(batch * n, dtype=np.float32).reshape(batch, n),
        "state": np.arange(8 * batch, dtype=np.float32).reshape(2, batch, 4),
        "sr": np.array(2, np.int64),
    }


def native(arrays: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a body of the native format."""
    return {"inputs": {name: array.tolist() for name, array in arrays.items()}, **more}


def oip(arrays: dict[str, Any], *, flat: bool = True, **more: Any) -> dict[str, Any]:
    """Return a body of the Open Inference Protocol in JSON."""
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": DATATYPES[str(array.dtype)],
            "data": array.ravel().tolist() if flat else array.tolist(),
        }
        for name, array in arrays.items()
    ]
    return {"inputs": inputs, **more}


def binary(arrays: dict[str, Any], **more: Any) -> tuple[bytes, dict[str, str]]:
    """Return a request with tensors and answers as bytes, and its headers."""
    body = oip(arrays, parameters={"binary_data_output": True}, **more)
    for entry, array in zip(body["inputs"], arrays.values(), strict=True):
        del entry["data"]
        entry["parameters"] = {"binary_data_size": len(raw_bytes(array))}
    head = json.dumps(body).encode()
    content = head + b"".join(map(raw_bytes, arrays.values()))
    return content, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }


def outputs(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays of an Open Inference Protocol answer in JSON, by head."""
    return {
        entry["name"]: np.reshape(entry["data"], entry["shape"]).tolist()
        for entry in answer["outputs"]
    }


RIGHT = {
    "speech": [[0.5], [2.0]],
    "next": [[[1, 2, 3, 4], [5, 6, 7, 8]], [[9, 10, 11, 12], [13, 14, 15, 16]]],
    "twice": [[0, 2, 4], [6, 8, 10]],
}


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "nested"])
def test_tensors_go_in_and_out_in_the_shapes_of_the_graph(served, flat):
    """In each format, the batch may be any axis of a tensor, and a tensor may be a scalar."""
    by_native = served.post("/models/voice/predict", native(voice()))
    by_oip = served.post("/v2/models/voice/infer", oip(voice(), flat=flat))

    assert (by_native.status, by_native.said["outputs"]) == (200, RIGHT)
    assert set(by_native.said) == {"model", "version", "outputs"}
    assert (by_oip.status, outputs(by_oip.said)) == (200, RIGHT)
    shapes = {entry["name"]: entry["shape"] for entry in by_oip.said["outputs"]}
    assert shapes == {"speech": [2, 1], "next": [2, 2, 4], "twice": [2, 3]}


def test_tensors_go_in_and_out_as_bytes(served):
    """The bytes of a scalar are those of its value."""
    asked = served.post("/v2/models/voice/infer", *binary(voice()))

    assert asked.status == 200, asked.content
    length = int(asked.headers["inference-header-content-length"])
    raw = np.frombuffer(asked.content[length:], np.float32)
    assert raw.tolist() == [n for head in RIGHT.values() for n in np.ravel(head)]


def test_the_only_tensor_may_come_as_its_bytes_alone(served):
    """The bytes have the fixed shape of the graph, without an axis for rows."""
    body = np.arange(6, dtype=np.float32).tobytes()

    asked = served.post("/v2/models/fixed/infer", body, {"Inference-Header-Content-Length": "0"})

    length = int(asked.headers["inference-header-content-length"])
    assert json.loads(asked.content[:length])["outputs"][0]["shape"] == [2, 3]
    assert np.frombuffer(asked.content[length:], np.float32).tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("body", [{"x": [[0, 1, 2], [3, 4, 5]]}, [[0, 1, 2], [3, 4, 5]]])
def test_the_only_tensor_needs_no_name(served, body):
    """The name of a single tensor may be left out, as in the form by column."""
    asked = served.post("/models/fixed/predict", {"inputs": body})

    assert asked.said["outputs"] == {"y": [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]}


def test_heads_without_an_axis_for_the_batch_are_answered_as_they_are(served):
    """A head may have any number of boxes, also none, or be a scalar."""
    image = np.zeros((1, 1, 8, 16), np.float32)
    none = served.post("/v2/models/detector/infer", oip({"image": image}))
    image[0, 0, 2, 3] = 7
    some = served.post("/models/detector/predict", native({"image": image}))

    assert [entry["shape"] for entry in none.said["outputs"]] == [[0, 4], []]
    assert [entry["data"] for entry in none.said["outputs"]] == [[], [0.0]]
    assert some.said["outputs"] == {
        "found": [[0, 0, 0, place] for place in range(4)],
        "best": 7.0,
    }


def test_some_heads_need_some_inputs_and_one_may_need_none(served):
    """Inputs on which no requested head depends may be absent."""
    speech = served.post(
        "/models/voice/predict", native({"state": voice()["state"]}, heads=["next"])
    )
    nothing = served.post("/models/mean/predict", {"inputs": {}, "heads": ["classes"]})
    by_oip = served.post("/v2/models/mean/infer", {"inputs": [], "outputs": [{"name": "classes"}]})

    assert speech.said["outputs"] == {"next": RIGHT["next"]}
    assert nothing.said["outputs"] == {"classes": ["no", "yes"]}
    assert outputs(by_oip.said) == {"classes": ["no", "yes"]}


@pytest.mark.parametrize("name", TYPES)
def test_scalars_and_lists_of_every_dtype(served, name):
    """Values keep the graph's shape and are not turned into rows."""
    values = {"BOOL": [True, False], "STRING": ["a", "ä"]}.get(name, [1, 2])
    body = {"inputs": {"one": values[0], "many": values}}

    asked = served.post(f"/models/{name.lower()}/predict", body)

    assert asked.said["outputs"] == {"same": values[0], "all": values}


ROW_FORMS = [
    ("/models/voice/predict", {"instances": [{"audio": [1], "state": [1], "sr": 1}]}),
    ("/v1/models/voice:predict", {"instances": [{"audio": [1], "state": [1], "sr": 1}]}),
    ("/v1/models/voice:predict", {"inputs": {"audio": [1], "state": [1], "sr": 1}}),
    ("/v1/models/voice:classify", {"examples": [{"audio": [1]}]}),
    ("/v1/models/voice:regress", {"examples": [{"audio": [1]}], "signature_name": "speech"}),
    ("/invocations", {"instances": [{"audio": [1], "state": [1], "sr": 1}]}),
    ("/invocations", {"dataframe_split": {"columns": ["audio"], "data": [[1]]}}),
]


@pytest.mark.parametrize(("path", "body"), ROW_FORMS)
def test_forms_of_rows_are_refused_with_the_ones_that_work(served, path, body):
    """The message names the formats that work, and the tensor without rows."""
    asked = served.post(path, body)

    error = asked.said.get("error") or asked.said["message"]
    assert asked.status == 400
    assert WAY_OUT in error
    assert "input 'sr' is a scalar" in error


@pytest.mark.parametrize(
    ("change", "at", "expected", "received"),
    [
        ({"shape": [2]}, "inputs[0].shape", "[1 or more, 1 or more]", "[2]"),
        ({"shape": [-1, 3]}, "inputs[0].shape", "[1 or more, 1 or more]", "[-1, 3]"),
        ({"shape": [0, 3]}, "inputs[0].shape", "[1 or more, 1 or more]", "[0, 3]"),
        ({"shape": [True, 3]}, "inputs[0].shape", "[1 or more, 1 or more]", "[true, 3]"),
        ({"shape": [2.0, 3]}, "inputs[0].shape", "[1 or more, 1 or more]", "[2.0, 3]"),
        ({"shape": "2"}, "inputs[0].shape", "[1 or more, 1 or more]", '"2"'),
        ({"datatype": "FP64"}, "inputs[0].datatype", "FP32", '"FP64"'),
        (
            {"shape": [2**62, 2**62]},
            "inputs[0].data",
            f"{2**124} numbers, flat or as {2**62} x {2**62}",
            "6 numbers",
        ),
        ({"data": [1]}, "inputs[0].data", "6 numbers, flat or as 2 x 3", "1 number"),
    ],
)
def test_a_shape_that_is_not_the_graphs_is_refused_by_its_place(
    served, change, at, expected, received
):
    """A wrong shape of any size is refused before an array is allocated."""
    body = oip(voice())
    body["inputs"][0] |= change

    asked = served.post("/v2/models/voice/infer", body)

    problem = {"at": at, "expected": expected, "received": received}
    assert (asked.status, asked.said["problems"]) == (400, [problem])


@pytest.mark.parametrize(
    ("sr", "at", "expected", "received"),
    [
        ({"shape": [1], "data": [2]}, "inputs[2].shape", "[]", "[1]"),
        (
            {"shape": [], "data": [2, 3]},
            "inputs[2].data",
            f"a whole number from {-(2**63)} to {2**63 - 1}",
            "2 numbers",
        ),
        ({"shape": [], "data": []}, "inputs[2].data", "a whole number", "an empty list"),
    ],
)
def test_a_scalar_is_one_value_without_axes(served, sr, at, expected, received):
    """A list of one value is refused for a scalar, since it has an axis."""
    body = oip(voice())
    body["inputs"][2] |= sr

    [problem] = served.post("/v2/models/voice/infer", body).said["problems"]

    assert problem["at"] == at
    assert problem["expected"].startswith(expected)
    assert problem["received"] == received


@pytest.mark.parametrize("data", [2, [2]])
def test_the_value_of_a_scalar_may_be_bare_or_in_the_list_that_data_is(served, data):
    """The `data` of a scalar is a value or, as in the protocol, a list of one."""
    body = oip(voice())
    body["inputs"][2]["data"] = data

    assert served.post("/v2/models/voice/infer", body).status == 200


@pytest.mark.parametrize(
    ("inputs", "at", "received"),
    [
        ({"sr": [2]}, "inputs.sr", "1 number"),
        ({"sr": None}, "inputs.sr", "null"),
        ({"state": [[[1, 2, 3, 4]]]}, "inputs.state", "a list in the shape 1 x 1 x 4"),
        ({"audio": [[], []]}, "inputs.audio", "a list of 2"),
        ({"audio": []}, "inputs.audio", "an empty list"),
        ({"audio": [[1], [1, 2]]}, "inputs.audio[1]", "a list of 2"),
        ({"audio": [1, 2]}, "inputs.audio", "2 numbers"),
        ({"sound": [1]}, "inputs.sound", 'the unknown input "sound"'),
    ],
)
def test_native_tensors_of_another_shape_are_refused_by_name(served, inputs, at, received):
    """Each wrong tensor is refused at its place, as values are."""
    body = native(voice())
    body["inputs"] |= inputs

    [problem] = served.post("/models/voice/predict", body).said["problems"]

    assert (problem["at"], problem["received"]) == (at, received)


def test_bytes_that_are_not_as_many_as_the_shape_has_are_refused(served):
    """The number of bytes is checked before any are read."""
    content, headers = binary(voice())
    changed = content.replace(b'"binary_data_size": 24', b'"binary_data_size": 20')

    asked = served.post("/v2/models/voice/infer", changed, headers)

    assert asked.status == 400
    assert asked.said["problems"][0]["expected"] == "24, the bytes of float32[2 x 3]"


def test_whole_tensors_are_not_classified(served):
    """Without rows there is nothing to classify."""
    body = oip(voice(), outputs=[{"name": "speech", "parameters": {"classification": 1}}])

    [problem] = served.post("/v2/models/voice/infer", body).said["problems"]

    assert problem["at"] == "outputs[0].parameters.classification"


def test_requests_side_by_side_are_never_joined(served, monkeypatch):
    """Each request is a run of its own, even if the shapes are equal."""
    shapes: list[tuple[int, ...]] = []
    real = Model.predict

    def predict(self: Model, arrays: Any, heads: Any) -> Any:
        shapes.append(arrays["audio"].shape)
        return real(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", predict)
    together = threading.Barrier(8)

    def ask(number: int) -> Any:
        arrays = voice()
        arrays["audio"] += number
        together.wait(10)
        content = json.dumps(native(arrays)).encode()
        _, _, answer = served.served.ask(
            "POST", "/predict", content, {"Content-Type": "application/json"}
        )
        return json.loads(answer)["outputs"]["twice"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    assert answers == [(2 * (voice()["audio"] + n)).tolist() for n in range(8)]
    assert shapes == [(2, 3)] * 8


# ── pages and commands ───────────────────────────────────────────────────────────────────────────


def test_the_models_page_has_the_graphs_shapes_and_why(served):
    """The page also has an example that works."""
    page = served.get("/models/voice").said

    assert page["batching"] == {
        "mode": "tensor",
        "evidence": "operators",
        "reason": "input 'sr' is a scalar",
    }
    assert page["inputs"]["state"]["shape"] == [2, None, 4]
    assert page["inputs"]["sr"]["shape"] == []
    assert page["heads"]["speech"]["shape"] == [None, 1]
    assert served.post("/models/voice/predict", page["example"]).status == 200


def test_the_pages_of_the_protocols_have_the_shapes_too(served):
    """The shapes have no additional axis for rows."""
    oip_page = served.get("/v2/models/voice").said
    config = served.get("/v2/models/voice/config").said
    metadata = served.get("/v1/models/voice/metadata").said["metadata"]["signature_def"]

    assert [entry["shape"] for entry in oip_page["inputs"]] == [[-1, -1], [2, -1, 4], []]
    assert [entry["shape"] for entry in oip_page["outputs"]] == [[-1, 1], [2, -1, 4], [-1, -1]]
    assert config["max_batch_size"] == 0
    assert "dynamic_batching" not in config
    inputs = metadata["signature_def"]["serving_default"]["inputs"]
    assert [dim["size"] for dim in inputs["state"]["tensor_shape"]["dim"]] == ["2", "-1", "4"]
    assert inputs["sr"]["tensor_shape"]["dim"] == []


@pytest.mark.parametrize("name", [*KINDS, *map(str.lower, TYPES)])
@pytest.mark.parametrize("dialect", ["native", "oip"])
def test_an_example_is_answered(served, name, dialect):
    """The example of a protocol works, if the protocol has one."""
    path = {"native": f"/models/{name}/predict", "oip": f"/v2/models/{name}/infer"}[dialect]

    example = served.get(f"/models/{name}/example?dialect={dialect}")

    if (name, dialect) == ("float16", "oip"):
        assert example.status == 404
        assert "has no form in JSON" in example.said["error"]
    else:
        asked = served.post(path, example.said)
        assert asked.status == 200, asked.content


@pytest.mark.parametrize("dialect", ["tfserving", "mlflow"])
def test_there_is_no_example_in_forms_of_rows(served, dialect):
    """The message names the formats that have an example."""
    asked = served.get(f"/models/voice/example?dialect={dialect}")

    assert asked.status == 404
    assert WAY_OUT in asked.said["error"]


def test_openapi_takes_whole_tensors_alone(served):
    """The document has no `instances`, and its shapes have every axis."""
    document = served.get("/openapi.json").said
    schema = document["components"]["schemas"]["voice.Request"]
    answer = document["components"]["schemas"]["voice.Answer"]

    assert set(schema["properties"]) == {"inputs", "heads"}
    assert schema["properties"]["inputs"]["properties"]["sr"]["type"] == "integer"
    assert set(answer["properties"]) == {"model", "version", "outputs"}
    body = document["paths"]["/models/voice/predict"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert served.post("/models/voice/predict", example).status == 200


def test_triceps_show_prints_the_mode(tmp_path):
    """The mode has a line of its own."""
    (tmp_path / "voice.onnx").write_bytes(graphs.voice())

    done = CliRunner().invoke(main, ["show", str(tmp_path / "voice.onnx")])

    assert done.exit_code == 0
    assert "whole tensors, and no rows: input 'sr' is a scalar" in done.output
    assert "float32[2 x any x 4]" in done.output


def test_triceps_predict_and_sign_are_for_rows(tmp_path):
    """Each command refuses the model with the reason or the way out."""
    model = tmp_path / "voice.onnx"
    model.write_bytes(graphs.voice())
    rows = tmp_path / "rows.csv"
    rows.write_text("audio\n1\n")

    predicted = CliRunner().invoke(main, ["predict", str(model), "--in", str(rows)])
    signed = CliRunner().invoke(
        main, ["sign", str(model), "--labels", "speech=no,yes", "--out", str(tmp_path / "out.onnx")]
    )

    assert predicted.exit_code == 1
    assert WAY_OUT in predicted.output
    assert signed.exit_code == 2
    assert "received one of whole tensors" in signed.output
    assert not (tmp_path / "out.onnx").exists()
