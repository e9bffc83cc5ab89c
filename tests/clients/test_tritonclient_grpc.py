"""Triton's own gRPC client, blocking and in an event loop, against a running service.

It runs in a process of its own (`make clients`), since kserve declares the same messages, and
protobuf takes each name only once in a process.
"""

import asyncio
import contextlib
import queue
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient import utils
from tritonclient.grpc import InferenceServerClientPlugin, aio, service_pb2, service_pb2_grpc

from service import __version__
from tests.harness import certificates, small, three, tokens
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE

# More rows than fit into one frame, or into the window that HTTP/2 begins with.
MANY = 4000
DATATYPES = ("float", "double", "float16", "bool", "string", "int8", "int64", "uint16", "uint64")


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory):
    """Yield the address of a service with a model of each kind; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    for name, content in small.every().items():
        small.put(folder / "models", name, 1, content)
    small.put(folder / "models", "three", 2, small.three(2.0))
    small.put(folder / "models", "broken", 1, b"junk")
    with Server(folder=folder) as server:
        server.until_alive()
        yield f"{server.host}:{server.port}"
        assert server.end()[0] == 0


@pytest.fixture(name="client")
def _client(url):
    """Yield a client of the service."""
    with triton.InferenceServerClient(url) as client:
        yield client


class _Token(InferenceServerClientPlugin):
    """A plugin that adds a token to each request of a client."""

    def __init__(self, name):
        # Names of metadata are in lower case.
        self._header = {key.lower(): value for key, value in tokens.header(name).items()}

    def __call__(self, request):
        request.headers = {**(request.headers or {}), **self._header}


def _input(name, array):
    """Return an input of Triton's client, with its values as bytes."""
    entry = triton.InferInput(name, array.shape, utils.np_to_triton_dtype(array.dtype))
    return entry.set_data_from_numpy(array)


def _inputs(rows=2):
    """Return different rows for the model `three`."""
    arrays = three.rows(rows)
    return arrays, [_input(name, array) for name, array in arrays.items()]


def _check(result, arrays, scale=2.0):
    """Check all four outputs."""
    three.check(result.as_numpy, arrays, scale)


@contextlib.contextmanager
def _fails(status, message):
    """Expect the client's exception with a status and a message."""
    with pytest.raises(utils.InferenceServerException, match=message) as caught:
        yield
    assert caught.value.status() == f"StatusCode.{status}"


def _putting(received):
    """Return a callback that puts its result and its error into a queue."""
    return lambda result, error: received.put((result, error))


def test_the_server(client):
    """The server is live and ready, and describes itself."""
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert (about.name, about.version) == ("triceps", __version__)
    assert "model_configuration" in about.extensions


def test_a_model(client):
    """The client reads a model's readiness, metadata, configuration and index entry."""
    assert client.is_model_ready("three")
    assert client.is_model_ready("three", "1")
    assert not client.is_model_ready("broken")
    about = client.get_model_metadata("three", "2")
    assert [*about.versions] == ["1", "2"]
    text = about.inputs[1]
    assert (text.name, text.datatype, [*text.shape]) == ("insurance.smoker", "BYTES", [-1, 1])
    config = client.get_model_config("three").config
    assert config.name == "three"
    assert config.max_batch_size > MANY
    assert [entry.name for entry in config.input] == [*three.rows()]
    states = {
        (entry.name, entry.version): entry.state
        for entry in client.get_model_repository_index().models
    }
    assert states["three", "2"] == "READY"
    assert states["broken", "1"] == "UNAVAILABLE"


def test_pages_as_json(client):
    """The client's own form of each answer in JSON is complete."""
    assert client.get_server_metadata(as_json=True)["name"] == "triceps"
    assert client.get_model_metadata("three", as_json=True)["platform"]
    assert client.get_model_config("three", as_json=True)["config"]["name"] == "three"
    assert client.get_model_repository_index(as_json=True)["models"]


def test_what_is_not_there(client):
    """The client raises its own exception with the service's message and status."""
    with _fails("NOT_FOUND", "did you mean 'three'"):
        client.get_model_metadata("thre")
    with _fails("NOT_FOUND", "did you mean 'three'"):
        client.infer("thre", _inputs()[1])
    with _fails("UNAVAILABLE", "not an ONNX file"):
        client.infer("broken", _inputs()[1])
    with _fails("INVALID_ARGUMENT", r"fruit, digit"):
        client.infer("three", _inputs()[1][:2])


def test_methods_that_the_service_lacks(client):
    """Shared memory, traces and log settings are unimplemented."""
    with _fails("UNIMPLEMENTED", "SystemSharedMemoryStatus"):
        client.get_system_shared_memory_status()
    with _fails("UNIMPLEMENTED", "TraceSetting"):
        client.get_trace_settings()
    with _fails("UNIMPLEMENTED", "LogSettings"):
        client.get_log_settings()


def test_a_stream_of_inferences_is_unimplemented(client):
    """The client's stream ends with an error that says so."""
    received = queue.Queue()
    client.start_stream(_putting(received))
    # It may have learned already that there is no such method.
    with contextlib.suppress(utils.InferenceServerException):
        client.async_stream_infer("three", _inputs()[1])

    result, error = received.get(timeout=PATIENCE)

    client.stop_stream(cancel_requests=True)
    assert result is None
    assert "ModelStreamInfer" in error.message()


@pytest.mark.parametrize("rows", [1, 2, MANY])
def test_infer(client, rows):
    """Tensors go both ways as bytes, few rows or many, with the request's ID."""
    arrays, inputs = _inputs(rows)
    outputs = [triton.InferRequestedOutput(name) for name in three.HEADS]

    result = client.infer("three", inputs, outputs=outputs, request_id="42")

    _check(result, arrays)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("three", "2", "42")
    assert [output.name for output in answer.outputs] == [*three.HEADS]
    assert len(answer.raw_output_contents) == len(three.HEADS)


def test_infer_with_typed_contents(url):
    """A message with values as numbers and texts is answered in the same form."""
    arrays = three.rows()
    request = service_pb2.ModelInferRequest(model_name="three", model_version="1")
    for name, array in arrays.items():
        entry = request.inputs.add(name=name, shape=array.shape, datatype="FP32")
        if array.dtype == object:
            entry.datatype = "BYTES"
            entry.contents.bytes_contents.extend(text.encode() for text in array.ravel())
        else:
            entry.contents.fp32_contents.extend(array.ravel())
    with grpc.insecure_channel(url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=PATIENCE)

    assert [*answer.raw_output_contents] == []
    outputs = {
        output.name: np.float32(output.contents.fp32_contents).reshape(output.shape)
        for output in answer.outputs
    }
    three.check(outputs.get, arrays)


def test_infer_some_heads(client):
    """An output needs only its own inputs, and outputs come in the requested order."""
    arrays, inputs = _inputs()
    outputs = [triton.InferRequestedOutput(name) for name in ("size", "digits")]

    result = client.infer("three", inputs[2:], outputs=outputs)
    assert [output.name for output in result.get_response().outputs] == ["size", "digits"]
    assert result.as_numpy("size").tolist() == [[0], [6]]
    assert result.as_numpy("digits").tolist() == arrays["digit"][:, :3].tolist()
    assert result.as_numpy("risk") is None
    _check(client.infer("three", inputs, model_version="1"), arrays, scale=1.0)


def test_parameters(client):
    """A timeout, a priority and unknown parameters are accepted."""
    arrays, inputs = _inputs()
    options = {"timeout": 10_000_000, "priority": 1, "parameters": {"mine": "x"}}

    _check(client.infer("three", inputs, **options), arrays)
    with _fails("INVALID_ARGUMENT", r"parameters.timeout: expected"):
        client.infer("three", inputs, timeout=0)


def test_deadlines(client):
    """A deadline that is long enough changes nothing, and one that is over has a status."""
    arrays, inputs = _inputs()

    _check(client.infer("three", inputs, client_timeout=PATIENCE), arrays)
    # In microseconds, and in the message, so that the service itself answers.
    with _fails("DEADLINE_EXCEEDED", "timeout"):
        client.infer("three", inputs, timeout=1)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("rows", [2, MANY])
def test_compression(client, algorithm, rows):
    """Requests may be compressed in both of gRPC's usual ways."""
    arrays, inputs = _inputs(rows)

    _check(client.infer("three", inputs, compression_algorithm=algorithm), arrays)


def test_classification(client):
    """The client receives the best classes with their labels."""
    outputs = [
        triton.InferRequestedOutput("digits", class_count=2),
        triton.InferRequestedOutput("risk", class_count=1),
    ]

    result = client.infer("three", _inputs()[1], outputs=outputs)

    assert result.as_numpy("digits").tolist() == [
        [b"0.0:0:zero", b"-0.0:1:one"],
        [b"1.0:0:zero", b"0.0:2:two"],
    ]
    assert [row[0].endswith(b":0:high") for row in result.as_numpy("risk")] == [True, True]


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


def test_calls_in_the_background(client):
    """Several calls are open at once on one connection."""
    arrays, inputs = _inputs()
    received = queue.Queue()

    for _ in range(16):
        client.async_infer("three", inputs, _putting(received))

    for _ in range(16):
        result, error = received.get(timeout=PATIENCE)
        assert error is None
        _check(result, arrays)


def test_a_cancelled_call(client):
    """A call that the client cancels raises its own error, and the connection goes on."""
    arrays, inputs = _inputs(MANY)
    received = queue.Queue()

    call = client.async_infer("three", inputs, _putting(received))
    call.cancel()
    result, error = received.get(timeout=PATIENCE)

    # It may have been answered first.
    if error is None:
        _check(result, arrays)
    else:
        assert error.status() == "StatusCode.CANCELLED"
    _check(client.infer("three", inputs), arrays)


def test_clients_in_threads(url):
    """Requests of several threads share runs, and each gets its own rows."""

    def ask(rows):
        with triton.InferenceServerClient(url) as client:
            arrays, inputs = _inputs(rows)
            for _ in range(5):
                _check(client.infer("three", inputs), arrays)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, [1, 2, 3, 4]))


def test_the_client_of_an_event_loop(url):
    """The client for asyncio has its calls answered at once on one connection."""

    async def ask():
        async with aio.InferenceServerClient(url) as client:
            assert await client.is_server_live()
            assert await client.is_model_ready("three")
            assert (await client.get_model_metadata("three")).name == "three"
            asked = [_inputs(rows) for rows in range(1, 33)]
            results = await asyncio.gather(
                *(client.infer("three", inputs, client_timeout=PATIENCE) for _, inputs in asked)
            )
            for (arrays, _), result in zip(asked, results, strict=True):
                _check(result, arrays)
            with _fails("NOT_FOUND", "did you mean 'three'"):
                await client.infer("thre", asked[0][1])
            with _fails("DEADLINE_EXCEEDED", "timeout"):
                await client.infer("three", asked[0][1], timeout=1)

    asyncio.run(ask())


def test_statistics(client):
    """The statistics count the requested rows."""
    before = client.get_inference_statistics("ragged").model_stats[0]
    array = np.float32([[[1, 2]], [[3, 4]], [[5, 6]]])
    client.infer("ragged", [_input("x", array)])
    until = time.monotonic() + PATIENCE
    # The numbers of other workers are up to a second old.
    after = before
    while after == before and time.monotonic() < until:
        time.sleep(0.1)
        after = client.get_inference_statistics("ragged", "1").model_stats[0]

    assert after.inference_count - before.inference_count == 3
    assert after.execution_count - before.execution_count == 1
    assert after.inference_stats.success.count == before.inference_stats.success.count + 1


def test_models_are_unloaded_and_loaded(tmp_path):
    """A client with a token can unload a model, as the index and the model's readiness show."""
    for name in ("three", "other"):
        small.put(tmp_path / "models", name, 1, small.three())
    with Server("--workers", 1, folder=tmp_path, guarded=True) as server:
        server.until_alive()
        with triton.InferenceServerClient(f"{server.host}:{server.port}") as client:
            with _fails("UNAUTHENTICATED", "expected Bearer"):
                client.infer("three", _inputs()[1])
            client.register_plugin(_Token("predict"))
            with _fails("PERMISSION_DENIED", "admin"):
                client.unload_model("three")
            client.unregister_plugin()

            client.register_plugin(_Token("all"))
            client.unload_model("three")
            assert not client.is_model_ready("three")
            assert client.is_server_ready()
            entry = client.get_model_repository_index().models[1]
            assert (entry.name, entry.version) == ("three", "1")
            assert (entry.state, entry.reason) == ("UNAVAILABLE", "unloaded")
            with _fails("UNAVAILABLE", "it is unloaded"):
                client.infer("three", _inputs()[1])

            client.load_model("three")
            assert client.is_model_ready("three")
            arrays, inputs = _inputs()
            _check(client.infer("three", inputs), arrays, scale=1.0)
            with _fails("UNIMPLEMENTED", "no parameters change"):
                client.load_model("three", config="{}")
        assert server.end()[0] == 0


def test_models_are_not_loaded_by_clients(client):
    """A client without a token cannot load a model."""
    for change in (client.load_model, client.unload_model):
        with _fails("PERMISSION_DENIED", "the scope 'admin'"):
            change("three")


def test_tls(tmp_path):
    """The client speaks TLS, by the service's certificate."""
    small.put(tmp_path / "models", "three", 1, small.three())
    root = tmp_path / "root.pem"
    root.write_text(certificates.A)
    with Server("--workers", 1, folder=tmp_path, encrypted=True) as server:
        server.until_ready()
        address = f"localhost:{server.port}"
        with triton.InferenceServerClient(address, ssl=True, root_certificates=str(root)) as client:
            arrays, inputs = _inputs(MANY)
            _check(client.infer("three", inputs), arrays, scale=1.0)
        assert server.end()[0] == 0
