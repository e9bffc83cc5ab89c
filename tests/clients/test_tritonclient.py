"""Triton's own client against a running service."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient import http, utils
from tritonclient.http import InferenceServerClientPlugin

from service import __version__
from tests.harness import small, three, tokens
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE

# The number of rows from which an answer is worth compressing.
MANY = 400
DATATYPES = ("float", "double", "float16", "bool", "string", "int8", "int64", "uint16", "uint64")


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory):
    """Yield the URL of a service with one model of each kind; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    for name, content in small.every().items():
        small.put(folder / "models", name, 1, content)
    small.put(folder / "models", "three", 2, small.three(2.0))
    with Server(folder=folder) as server:
        server.until_alive()
        yield f"{server.host}:{server.port}"
        assert server.end()[0] == 0


@pytest.fixture(name="client")
def _client(url):
    """Yield a client of the service."""
    with http.InferenceServerClient(url, concurrency=4) as client:
        yield client


class _Token(InferenceServerClientPlugin):
    """A plugin that adds a token to each request of a client."""

    def __init__(self, name):
        self._header = tokens.header(name)

    def __call__(self, request):
        request.headers.update(self._header)


def _input(name, array, *, in_bytes=True):
    """Return an input of Triton's client."""
    entry = http.InferInput(name, array.shape, utils.np_to_triton_dtype(array.dtype))
    return entry.set_data_from_numpy(array, binary_data=in_bytes)


def _inputs(rows=2, *, in_bytes=True):
    """Return different rows for the model `three`."""
    arrays = three.rows(rows)
    return arrays, [_input(name, array, in_bytes=in_bytes) for name, array in arrays.items()]


def _check(result, arrays, scale=2.0):
    """Check all four outputs."""
    three.check(result.as_numpy, arrays, scale)


def test_the_server(client):
    """The server is live and ready, and describes itself."""
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert (about["name"], about["version"]) == ("triceps", __version__)
    assert "binary_tensor_data" in about["extensions"]


def test_a_model(client):
    """The client reads a model's readiness, metadata, configuration and index entry."""
    assert client.is_model_ready("three")
    assert client.is_model_ready("three", "1")
    assert not client.is_model_ready("four")
    about = client.get_model_metadata("three", "2")
    assert about["versions"] == ["1", "2"]
    assert about["inputs"][1] == {
        "name": "insurance.smoker",
        "datatype": "BYTES",
        "shape": [-1, 1],
    }
    assert client.get_model_config("three")["max_batch_size"] > MANY
    index = client.get_model_repository_index()
    states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
    assert states["three", "2"] == "READY"


def test_what_is_not_there(client):
    """The client raises its own exception with the service's message and status."""
    with pytest.raises(utils.InferenceServerException, match="did you mean 'three'") as caught:
        client.get_model_metadata("thre")
    assert caught.value.status() == "404"
    with pytest.raises(utils.InferenceServerException, match=r"fruit, digit") as caught:
        client.infer("three", _inputs()[1][:2])
    assert caught.value.status() == "400"


@pytest.mark.parametrize("in_bytes", [True, False], ids=["bytes", "json"])
@pytest.mark.parametrize("out_bytes", [True, False], ids=["bytes", "json"])
def test_infer(client, in_bytes, out_bytes):
    """Tensors may be bytes or JSON in either direction."""
    arrays, inputs = _inputs(in_bytes=in_bytes)
    names = ("risk", "size", "digits", "tags")
    outputs = [http.InferRequestedOutput(name, binary_data=out_bytes) for name in names]

    result = client.infer("three", inputs, outputs=outputs, request_id="42")

    _check(result, arrays)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("three", "2", "42")
    assert all(("data" in output) != out_bytes for output in answer["outputs"])


def test_infer_some_of_each(client):
    """Inputs and outputs may mix JSON and bytes, and outputs come in the requested order."""
    arrays, inputs = _inputs()
    inputs[2].set_data_from_numpy(arrays["fruit"], binary_data=False)
    outputs = [
        http.InferRequestedOutput("size", binary_data=False),
        http.InferRequestedOutput("digits"),
    ]

    result = client.infer("three", inputs, outputs=outputs)

    assert [output["name"] for output in result.get_response()["outputs"]] == ["size", "digits"]
    assert result.as_numpy("size").tolist() == [[0], [6]]
    assert result.as_numpy("digits").tolist() == arrays["digit"][:, :3].tolist()
    assert result.as_numpy("risk") is None


def test_infer_without_unneeded_inputs(client):
    """An output needs only its own inputs; without a list of outputs, all come as bytes."""
    arrays, inputs = _inputs()

    result = client.infer("three", inputs[2:3], outputs=[http.InferRequestedOutput("size")])
    assert result.as_numpy("size").tolist() == [[0], [6]]
    _check(client.infer("three", inputs), arrays)
    _check(client.infer("three", inputs, model_version="1"), arrays, scale=1.0)


def test_parameters(client):
    """A timeout, a priority and unknown parameters are accepted."""
    arrays, inputs = _inputs()
    options = {"timeout": 10_000_000, "priority": 1, "parameters": {"mine": "x"}}

    _check(client.infer("three", inputs, **options), arrays)
    with pytest.raises(utils.InferenceServerException, match=r"parameters.timeout: expected"):
        client.infer("three", inputs, timeout=0)


@pytest.mark.parametrize("request_with", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_with", [None, "gzip", "deflate"])
@pytest.mark.parametrize("in_bytes", [True, False], ids=["bytes", "json"])
def test_compression(client, request_with, response_with, in_bytes):
    """Requests may be gzip or deflate, and answers are compressed if the client accepts it."""
    arrays, inputs = _inputs(MANY, in_bytes=in_bytes)

    result = client.infer(
        "three",
        inputs,
        request_compression_algorithm=request_with,
        response_compression_algorithm=response_with,
    )

    _check(result, arrays)


def test_classification(client):
    """The client receives the best classes with their labels, as bytes or in JSON."""
    _, inputs = _inputs()
    outputs = [
        http.InferRequestedOutput("digits", class_count=2),
        http.InferRequestedOutput("risk", class_count=1, binary_data=False),
    ]

    result = client.infer("three", inputs, outputs=outputs)

    assert result.as_numpy("digits").tolist() == [
        [b"0.0:0:zero", b"-0.0:1:one"],
        [b"1.0:0:zero", b"0.0:2:two"],
    ]
    (first,), (second,) = result.as_numpy("risk").tolist()
    assert first.endswith(":0:high")
    assert second.endswith(":0:high")


@pytest.mark.parametrize("name", DATATYPES)
def test_datatypes(client, name):
    """Values of each datatype come back unchanged."""
    dtype = {"float": "float32", "double": "float64", "string": object}.get(name, name)
    array = np.array([[1, 0], [0, 1]]).astype(str if name == "string" else dtype).astype(dtype)

    output = client.infer(name, [_input("x", array)]).as_numpy("y")

    if name == "string":
        output = np.vectorize(bytes.decode, otypes=[object])(output)
    assert output.dtype == array.dtype
    assert output.tolist() == array.tolist()


def test_infinities_in_json(client):
    """The client reads the names of NaN and infinities as these values."""
    array = np.float32([[np.nan, np.inf], [-np.inf, 1]])
    outputs = [http.InferRequestedOutput("y", binary_data=False)]

    output = client.infer("float", [_input("x", array)], outputs=outputs).as_numpy("y")

    assert np.array_equal(output, array, equal_nan=True)


def test_async_infer(client):
    """Several requests run at once on one client's connections."""
    arrays, inputs = _inputs()

    waiting = [client.async_infer("three", inputs) for _ in range(8)]

    for each in waiting:
        _check(each.get_result(), arrays)


def test_clients_in_threads(url):
    """Requests of several threads share runs, and each gets its own rows."""

    def ask(rows):
        with http.InferenceServerClient(url) as client:
            arrays, inputs = _inputs(rows)
            for _ in range(5):
                _check(client.infer("three", inputs), arrays)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, [1, 2, 3, 4]))


def test_statistics(client):
    """The statistics count the requested rows."""
    before = client.get_inference_statistics("ragged")["model_stats"][0]
    array = np.float32([[[1, 2]], [[3, 4]], [[5, 6]]])
    client.infer("ragged", [_input("x", array)])
    until = time.monotonic() + PATIENCE
    # The numbers of other workers are up to a second old.
    after = before
    while after == before and time.monotonic() < until:
        time.sleep(0.1)
        after = client.get_inference_statistics("ragged", "1")["model_stats"][0]

    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["success"]["count"] == 1


def test_models_are_unloaded_and_loaded(tmp_path):
    """A client with a token can unload a model, as the index and the model's readiness show."""
    for name in ("three", "other"):
        small.put(tmp_path / "models", name, 1, small.three())
    with Server("--workers", 1, folder=tmp_path, guarded=True) as server:
        server.until_alive()
        with http.InferenceServerClient(f"{server.host}:{server.port}") as client:
            with pytest.raises(utils.InferenceServerException, match="expected Bearer") as caught:
                client.infer("three", _inputs()[1])
            assert caught.value.status() == "401"

            client.register_plugin(_Token("all"))
            client.unload_model("three")
            assert not client.is_model_ready("three")
            assert client.is_server_ready()
            assert client.get_model_repository_index()[1] == {
                "name": "three",
                "version": "1",
                "state": "UNAVAILABLE",
                "reason": "unloaded",
            }
            with pytest.raises(utils.InferenceServerException, match="it is unloaded") as caught:
                client.infer("three", _inputs()[1])
            assert caught.value.status() == "503"

            client.load_model("three")
            assert client.is_model_ready("three")
            arrays, inputs = _inputs()
            _check(client.infer("three", inputs), arrays, scale=1.0)
            with pytest.raises(utils.InferenceServerException, match="no parameters change"):
                client.load_model("three", config="{}")
        assert server.end()[0] == 0


def test_models_are_not_loaded_by_clients(client):
    """A client without a token cannot load a model."""
    for change in (client.load_model, client.unload_model):
        with pytest.raises(utils.InferenceServerException, match="the scope 'admin'") as caught:
            change("three")
        assert caught.value.status() == "403"
