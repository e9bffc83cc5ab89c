"""The published stubs of TensorFlow Serving against a running service."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import wrappers_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.harness import certificates, small, three, tokens
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE

# More rows than fit into a frame, or into the windows that HTTP/2 begins with.
MANY = 4000
DTYPES = ("float32", "float64", "float16", "bool", "int8", "int32", "int64", "uint16", "uint64")
NAMES = {"float32": "float", "float64": "double"}


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Yield a service with a model of each kind; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    for name, content in small.every().items():
        small.put(folder / "models", name, 1, content)
    small.put(folder / "models", "three", 2, small.three(2.0))
    small.put(folder / "models", "broken", 1, b"junk")
    with Server(folder=folder) as server:
        server.until_ready()
        yield server
        assert server.end()[0] == 0


@pytest.fixture(scope="module", name="channel")
def _channel(served):
    """Yield a channel to the service."""
    with grpc.insecure_channel(f"{served.host}:{served.port}") as channel:
        yield channel


@pytest.fixture(name="predict")
def _predict(channel):
    """Return the method Predict."""
    return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def _request(model, arrays, *, version=0, label="", outputs=(), packed=True):
    """Return a request; `packed` tensors are bytes, and others have a value in each field."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model
    if version:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for name, array in arrays.items():
        if packed or array.dtype == object:
            tensor = tf.make_tensor_proto(array)
        else:
            tensor = tf.make_tensor_proto(array[:0], shape=(0, *array.shape[1:]))
            tensor.ClearField("tensor_content")
            tensor.tensor_shape.dim[0].size = len(array)
            tensor.float_val.extend(array.ravel().tolist())
        request.inputs[name].CopyFrom(tensor)
    return request


def _arrays(answer):
    """Return the outputs of an answer as arrays."""
    return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}


def _fails(status, call, request, **more):
    """Make a call that must fail, and return the message."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=PATIENCE, **more)
    assert caught.value.code() == status
    return caught.value.details()


@pytest.mark.parametrize("packed", [True, False], ids=["as bytes", "value by value"])
@pytest.mark.parametrize("rows", [1, 3, MANY])
def test_predict(predict, rows, packed):
    """Tensors are read in both of their forms, and the answer names the version."""
    arrays = three.rows(rows)

    answer = predict(_request("three", arrays, packed=packed), timeout=PATIENCE)

    assert (answer.model_spec.name, answer.model_spec.version.value) == ("three", 2)
    assert answer.model_spec.signature_name == "serving_default"
    three.check(_arrays(answer).get, arrays, scale=2.0)


def test_predict_by_version(predict):
    """A version is chosen by number, and one that is not there is an error."""
    arrays = three.rows(3)

    answer = predict(_request("three", arrays, version=1), timeout=PATIENCE)
    assert answer.model_spec.version.value == 1
    three.check(_arrays(answer).get, arrays)
    message = _fails(grpc.StatusCode.NOT_FOUND, predict, _request("three", arrays, version=7))
    assert "7" in message


def test_predict_some_heads(predict):
    """An output filter asks for some heads, which need only their own inputs."""
    arrays = {"fruit": three.rows(3)["fruit"]}

    answer = predict(_request("three", arrays, outputs=["size"]), timeout=PATIENCE)

    outputs = _arrays(answer)
    assert [*outputs] == ["size"]
    np.testing.assert_allclose(outputs["size"], 2 * arrays["fruit"].sum(1, keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(predict, dtype):
    """Values of each dtype come back unchanged."""
    array = np.array([[1, 0], [0, 1]]).astype(dtype)

    answer = predict(_request(NAMES.get(dtype, dtype), {"x": array}), timeout=PATIENCE)

    output = _arrays(answer)["y"]
    assert output.dtype == array.dtype
    assert output.tolist() == array.tolist()


def test_texts(predict):
    """Texts come back unchanged."""
    array = np.array([["größe", ""], ["x", "y" * 1000]], object)

    answer = predict(_request("string", {"x": array}), timeout=PATIENCE)

    output = _arrays(answer)["y"]
    assert [[text.decode() for text in row] for row in output] == array.tolist()


def test_errors(predict):
    """Errors have gRPC's statuses, and the messages that REST has."""
    arrays = three.rows(2)

    message = _fails(grpc.StatusCode.NOT_FOUND, predict, _request("thre", arrays))
    assert "did you mean 'three'" in message
    message = _fails(grpc.StatusCode.UNAVAILABLE, predict, _request("broken", arrays))
    assert "not an ONNX file" in message
    wrong = {**arrays, "fruit": arrays["fruit"][:, :1]}
    message = _fails(grpc.StatusCode.INVALID_ARGUMENT, predict, _request("three", wrong))
    assert "fruit" in message
    request = _request("three", arrays)
    request.model_spec.signature_name = "other"
    assert "other" in _fails(grpc.StatusCode.INVALID_ARGUMENT, predict, request)


def test_methods_that_the_service_lacks(channel):
    """A method that is not offered is unimplemented, by name."""
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "three"
    assert "Classify" in _fails(grpc.StatusCode.UNIMPLEMENTED, stub.Classify, request)


def test_metadata(channel):
    """The metadata have the signature, with names, dtypes and shapes."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "three"
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    answer = stub.GetModelMetadata(request, timeout=PATIENCE)

    assert answer.model_spec.version.value == 2
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert set(signature.inputs) == set(three.rows())
    assert set(signature.outputs) == set(three.HEADS)
    fruit = signature.inputs["fruit"]
    assert fruit.dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in fruit.tensor_shape.dim] == [-1, 2]


def test_status(channel):
    """The status lists the versions with their states."""
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "three"

    answer = stub.GetModelStatus(request, timeout=PATIENCE)

    state = get_model_status_pb2.ModelVersionStatus
    assert {one.version: one.state for one in answer.model_version_status}[2] == state.AVAILABLE
    request.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=2))
    answer = stub.GetModelStatus(request, timeout=PATIENCE)
    assert [one.version for one in answer.model_version_status] == [2]
    request.model_spec.name = "nope"
    _fails(grpc.StatusCode.NOT_FOUND, stub.GetModelStatus, request)


def test_tokens_and_tls(tmp_path):
    """The stubs send a token as metadata, over TLS."""
    small.put(tmp_path / "models", "three", 1, small.three())
    arrays = three.rows(2)
    trust = grpc.ssl_channel_credentials(certificates.A.encode())
    with Server("--workers", 1, folder=tmp_path, guarded=True, encrypted=True) as server:
        server.until_ready()
        with grpc.secure_channel(f"localhost:{server.port}", trust) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            request = _request("three", arrays)
            _fails(grpc.StatusCode.UNAUTHENTICATED, predict, request)
            header = tokens.header("predict")
            metadata = [(name.lower(), value) for name, value in header.items()]
            answer = predict(request, timeout=PATIENCE, metadata=metadata)
        assert server.end()[0] == 0

    three.check(_arrays(answer).get, arrays)
