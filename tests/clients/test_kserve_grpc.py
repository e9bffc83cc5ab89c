"""KServe's own gRPC client, and its REST client over HTTP/2, against a running `triceps serve`."""

import asyncio
import ssl

import grpc
import kserve
import numpy as np
import pytest
from kserve.protocol.infer_type import RequestedOutput
from onnx import TensorProto

from tests.harness import certificates, small, three
from tests.harness.serving import Server


@pytest.fixture(scope="module", name="address")
def _address(tmp_path_factory):
    """Yield the address of a server with models, one of which cannot serve; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    small.put(folder / "models", "three", 1, small.three())
    small.put(folder / "models", "whole", 1, small.same(TensorProto.INT64))
    small.put(folder / "models", "broken", 1, b"junk")
    with Server(folder=folder) as server:
        server.until_alive()
        yield f"{server.host}:{server.port}"
        assert server.end()[0] == 0


@pytest.fixture(name="ask")
def _ask(address):
    """Call a method of the client, and return its result."""

    def ask(method, *arguments, **more):
        async def call():
            async with kserve.InferenceGRPCClient(address, timeout=10, retries=0) as client:
                return await getattr(client, method)(*arguments, **more)

        return asyncio.run(call())

    return ask


def _inputs(arrays, *, binary):
    """Return inputs of KServe's client, with values as bytes or as numbers and texts."""
    inputs = []
    for name, values in arrays.items():
        datatype = "BYTES" if values.dtype == object else "FP32"
        entry = kserve.InferInput(name, list(values.shape), datatype)
        entry.set_data_from_numpy(values, binary_data=binary)
        inputs.append(entry)
    return inputs


def _check(answer, arrays):
    """Check all outputs of an answer."""
    assert [output.name for output in answer.outputs] == [*three.HEADS]
    outputs = {output.name: output.as_numpy() for output in answer.outputs}
    three.check(outputs.get, arrays)


def test_it_finds_the_server_alive_and_the_model_ready(ask):
    """The client sees a live and ready server, a ready model and one that is not ready."""
    assert ask("is_server_live") is True
    assert ask("is_server_ready") is True
    assert ask("is_model_ready", "three") is True
    assert ask("is_model_ready", "broken") is False


@pytest.mark.parametrize("binary", [False, True], ids=["typed", "raw"])
@pytest.mark.parametrize("rows", [1, 3000])
def test_it_predicts(ask, binary, rows):
    """Inputs may be numbers and texts or bytes; the answer has their form, and the request ID."""
    arrays = three.rows(rows)
    outputs = [RequestedOutput(name) for name in three.HEADS]
    request = kserve.InferRequest(
        "three", _inputs(arrays, binary=binary), request_id="7", request_outputs=outputs
    )

    answer = ask("infer", request)

    assert (answer.id, answer.model_name) == ("7", "three")
    _check(answer, arrays)


def test_it_predicts_without_a_list_of_outputs(ask):
    """All heads are answered; whole numbers are exact."""
    values = [1, -2, 2**62 + 1, 0]
    request = kserve.InferRequest("whole", [kserve.InferInput("x", [2, 2], "INT64", values)])

    answer = ask("infer", request)

    assert [output.name for output in answer.outputs] == ["y"]
    assert answer.outputs[0].as_numpy().ravel().tolist() == values


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        pytest.param("nope", grpc.StatusCode.NOT_FOUND, "there is none of that name", id="name"),
        pytest.param("broken", grpc.StatusCode.UNAVAILABLE, "not an ONNX file", id="refused"),
        pytest.param("three", grpc.StatusCode.INVALID_ARGUMENT, "insurance", id="inputs"),
    ],
)
def test_errors_reach_the_caller_with_their_message(ask, model, status, message):
    """The client raises gRPC's own error, with the status and the message of the service."""
    entry = kserve.InferInput("fruit", [1, 2], "FP32", [1.0, 2.0])
    with pytest.raises(grpc.RpcError) as caught:
        ask("infer", kserve.InferRequest(model, [entry]))

    assert caught.value.code() == status
    assert message in caught.value.details()


def test_a_readiness_of_an_unknown_model_is_an_error(ask):
    """The client documents an error for a model that is not found."""
    with pytest.raises(grpc.RpcError) as caught:
        ask("is_model_ready", "nope")

    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_many_at_once(address):
    """Calls of one client share a connection, and each gets its own rows."""

    async def call():
        async with kserve.InferenceGRPCClient(address, timeout=10, retries=0) as client:
            asked = [three.rows(count) for count in range(1, 33)]
            answers = await asyncio.gather(
                *(
                    client.infer(kserve.InferRequest("three", _inputs(arrays, binary=True)))
                    for arrays in asked
                )
            )
            for arrays, answer in zip(asked, answers, strict=True):
                _check(answer, arrays)

    asyncio.run(call())


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_its_rest_client_speaks_http2_over_tls(tmp_path, binary):
    """The REST client with `http2=True` chooses HTTP/2 by ALPN, and predicts as before."""
    small.put(tmp_path / "models", "three", 1, small.three())
    arrays = three.rows(3)
    request = kserve.InferRequest("three", _inputs(arrays, binary=binary))
    trust = ssl.create_default_context(cadata=certificates.A)
    with Server("--workers", 1, folder=tmp_path, encrypted=True) as server:
        server.until_ready()

        async def call():
            config = kserve.RESTConfig(protocol="v2", http2=True, verify=trust, timeout=10)
            client = kserve.InferenceRESTClient(config)
            try:
                answer = await client.infer(
                    f"https://localhost:{server.port}", request, model_name="three"
                )
            finally:
                await client.close()
                # A transport is closed in a later turn of the loop.
                await asyncio.sleep(0.01)
            return answer

        answer = asyncio.run(call())
        assert server.end()[0] == 0

    outputs = {output.name: np.float32(output.as_numpy()) for output in answer.outputs}
    three.check(outputs.get, arrays)
