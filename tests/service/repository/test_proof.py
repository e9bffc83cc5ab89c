"""Each example is answered by its model, in every dialect that can encode the answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from service.errors import ModelRefused
from service.inference.declared import LENGTHS, Declared
from service.inference.model import Model
from service.repository import proof
from service.repository.assembly import open_repository
from service.signature import Signature
from service.wire.native import reference
from tests.harness import graphs, small
from tests.harness.both_ways import BothWays

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node


def pooled(size: int) -> bytes:
    """Return a model for pictures of any size that is at least `size`."""
    model = small.model(
        [node("MaxPool", ["x"], ["y"], kernel_shape=[size, size])],
        [("x", F, ["n", 3, "height", "width"])],
        [("y", F, ["n", 3, "h", "w"])],
    )
    return model.SerializeToString()


def only_48() -> bytes:
    """Return a model whose rows may have any length as declared, and only 48 in fact."""
    model = small.model(
        [node("Reshape", ["x", "shape"], ["y"])],
        [("x", F, ["n", "any"])],
        [("y", F, ["n", 48])],
        {"shape": np.array([-1, 48])},
    )
    return model.SerializeToString()


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    for size in (8, 20, 200):
        small.put(models, f"pooled_{size}", 1, pooled(size))
    small.put(models, "only_48", 1, only_48())
    for name, content in small.every().items():
        small.put(models, name, 1, content)
    served = BothWays(models, default_model="only_48")
    yield served
    served.stop()


@pytest.mark.parametrize(("size", "tried"), [(8, 8), (20, 32), (200, 224)])
def test_free_axes_of_an_example_have_the_first_length_that_works(served, size, tried):
    """The lengths are tried in order, and the first one with an answer is used."""
    example = served.get(f"/models/pooled_{size}/example").said

    assert np.shape(example["instances"][0]["x"]) == (3, tried, tried)
    assert served.post(f"/models/pooled_{size}/predict", example).status == 200
    assert served.get(f"/models/pooled_{size}").said["example"] == example


@pytest.mark.parametrize("name", ["risky", *small.every()])
def test_every_example_is_answered(served, name):
    """The model answers its example in each dialect that has one."""
    paths = {
        "native": f"/models/{name}/predict",
        "oip": f"/v2/models/{name}/infer",
        "tfserving": f"/v1/models/{name}:predict",
    }
    examples = 0
    for dialect, path in paths.items():
        example = served.get(f"/models/{name}/example?dialect={dialect}")
        if example.status == 200:
            examples += 1
            assert served.post(path, example.said).status == 200, (dialect, example.content)

    assert examples >= (2 if name == "float16" else 3)


def test_a_model_without_a_known_example_offers_none(served):
    """The page says why; a client that knows a valid request is answered."""
    example = served.get("/models/only_48/example")
    document = served.get("/openapi.json").said

    assert example.status == 404
    assert example.said["error"].startswith(
        "model 'only_48': no example is known that it answers: the model has no answer for these "
        "values: Reshape: The input tensor cannot be reshaped to the requested shape."
    )
    assert "example" not in served.get("/models/only_48").said
    assert "/models/only_48/example" not in document["paths"]
    assert "/models/only_48/versions/1/example" not in document["paths"]
    operation = document["paths"]["/models/only_48/predict"]["post"]
    assert "example" not in operation["requestBody"]["content"]["application/json"]
    assert served.post("/predict", {"inputs": [[0] * 48]}).status == 200


def test_a_view_may_have_an_example_though_its_model_has_none(tmp_path):
    """A model may fail on one head, and a view may do without that head."""
    made = small.model(
        [
            node("Gather", ["table", "place"], ["wild"]),
            node("Identity", ["x"], ["calm"]),
        ],
        [("x", F, ["n", 2]), ("place", I64, ["n"])],
        [("wild", F, ["n"]), ("calm", F, ["n", 2])],
        {"table": np.zeros(0, np.float32)},
    )
    signature = Model.load(made.SerializeToString()).signature
    signed = small.signed(made, Signature(signature.inputs, {}, {"view": ("calm",)}))
    small.put(tmp_path, "m", 1, signed)

    repository = open_repository(tmp_path)

    assert repository.find("m").proof.no_example
    assert not repository.find("view").proof.no_example


def test_a_head_that_cannot_be_encoded_is_refused_by_name(tmp_path, monkeypatch):
    """The model is refused when it loads, before any request; the other models serve."""
    small.put(tmp_path, "good", 1, small.same(F))
    small.put(tmp_path, "bad", 1, small.same(TensorProto.FLOAT16))
    real = reference.plain

    def plain(output):
        if output.dtype == np.float16:
            raise TypeError("Type is not JSON serializable: float16")
        return real(output)

    monkeypatch.setattr(reference, "plain", plain)

    repository = open_repository(tmp_path)

    [refused] = repository.refused
    assert refused.name == "bad"
    assert refused.reason == (
        "head 'y': its answers cannot be encoded in the native format: "
        "TypeError('Type is not JSON serializable: float16')"
    )
    assert repository.find("good")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("Failed to allocate memory for requested buffer")]
)
def test_a_lack_of_memory_is_reported_as_such(monkeypatch, error):
    """The reason does not blame the graph."""
    model = Model.load(small.same(F))

    def predict(*_):
        raise error

    monkeypatch.setattr(model, "predict", predict)

    with pytest.raises(ModelRefused, match="it needs more memory than there is"):
        proof.prove(model)


def test_answers_that_are_not_utf_8_are_refused():
    """No dialect can encode them."""
    model = small.model(
        [node("Gather", ["texts", "place"], ["y"])], [("place", I64, ["n"])], [("y", S, ["n"])]
    )
    texts = model.graph.initializer.add(name="texts", data_type=S, dims=[1])
    texts.string_data.append(b"\xff\xfe")

    with pytest.raises(ModelRefused, match=r"a head answers text that is not UTF-8: b'\\xff\\xfe'"):
        Model.load(model.SerializeToString())


def test_shapes_are_tried_from_small_to_large():
    """Whole tensors are tried with a batch of 1 first, and with all axes equal last."""
    declared = Declared({"audio": ["batch", "n"], "state": [2, "batch", 4]}, {}, tensors=True)
    unnamed = Declared({"audio": [None, None], "state": [2, None, 4]}, {}, tensors=True)
    rows = Declared({"x": [3, None, "width"]}, {}, tensors=False)

    assert list(rows.shapes()) == [{"x": (3, length, length)} for length in LENGTHS]
    assert list(declared.shapes())[:3] == [
        {"audio": (1, 1), "state": (2, 1, 4)},
        {"audio": (1, 8), "state": (2, 1, 4)},
        {"audio": (8, 8), "state": (2, 8, 4)},
    ]
    assert {"audio": (1, 8), "state": (2, 1, 4)} in list(unnamed.shapes())


def test_shapes_of_too_many_values_are_not_tried():
    """A trial has to be cheap."""
    deep = Declared({"x": [None] * 4}, {}, tensors=False)

    assert [shapes["x"][0] for shapes in deep.shapes()] == [1, 8, 32]


def test_a_search_ends_in_time():
    """A search begins no trial once its time is over, however many lengths are left."""
    free = Declared({"x": ["height", "width"]}, {}, tensors=False)

    assert list(free.shapes(seconds=-1.0)) == [{"x": (1, 1)}]


def test_graphs_of_both_kinds_are_proven():
    """No axis of their shapes stays free."""
    for make in (graphs.voice, graphs.fixed, graphs.detector, graphs.mean):
        model = Model.load(make())
        result = proof.prove(model)[0]
        assert result == proof.Proof(model.tried)
        json.dumps(result.shapes)
