"""KServe's own client, with both of its protocols, against a running `triceps serve`."""

import asyncio

import httpx
import kserve
import numpy as np
import pytest
from kserve.protocol.infer_type import RequestedOutput

from tests.harness import small
from tests.harness.serving import Server

ROWS = {
    "insurance": np.float32([[30, 30], [40, 25]]),
    "insurance.smoker": np.array([["no"], ["yes"]], object),
    "fruit": np.float32([[1, 2], [0.1, 3]]),
    "digit": np.float32([[0, 1, 2, 3], [3, 2, 1, 0]]),
}
ANSWERS = {
    "risk": np.float32([[0.5], [1 / (1 + np.exp(-15))]]),
    "size": np.float32([[3], [3.1]]),
    "digits": np.float32([[0, 1, 2], [3, 2, 1]]),
}


@pytest.fixture(scope="module", name="url")
def _url(tmp_path_factory):
    """Yield the URL of a server with two models, one of which cannot serve; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    small.put(folder / "models", "three", 1, small.three())
    small.put(folder / "models", "broken", 1, b"junk")
    with Server(folder=folder) as server:
        server.until_alive()
        yield server.url
        assert server.end()[0] == 0


@pytest.fixture(name="ask")
def _ask(url):
    """Call a method of the client, and return its result."""

    def ask(protocol, method, *arguments, **more):
        async def call():
            client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol=protocol, timeout=10))
            try:
                return await getattr(client, method)(url, *arguments, **more)
            finally:
                await client.close()
                # A transport is closed in a later turn of the loop.
                await asyncio.sleep(0.01)

        return asyncio.run(call())

    return ask


def _by_row():
    return [
        {name: values[i].tolist() for name, values in ROWS.items()}
        for i in range(len(ROWS["fruit"]))
    ]


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_it_finds_the_server_alive_and_the_model_ready(ask, protocol):
    """The client sees a live server, a ready model and one that is not ready."""
    assert ask(protocol, "is_server_live") is True
    assert ask(protocol, "is_model_ready", "three") is True
    assert ask(protocol, "is_model_ready", "broken") is False


def test_it_finds_the_server_ready(ask):
    """Only version 2 of the protocol has a readiness page."""
    assert ask("v2", "is_server_ready") is True


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_v1_predicts(ask, form):
    """The client passes rows by name and columns on unchanged."""
    columns = {name: values.tolist() for name, values in ROWS.items()}
    body = {"instances": _by_row()} if form == "instances" else {"inputs": columns}
    answer = ask("v1", "infer", body, model_name="three")

    if form == "instances":
        outputs = {name: [row[name] for row in answer["predictions"]] for name in ANSWERS}
    else:
        outputs = answer["outputs"]
    for name, expected in ANSWERS.items():
        np.testing.assert_allclose(np.float32(outputs[name]), expected, rtol=1e-6)


def test_v1_explains(ask):
    """The client returns an explanation for each row, of each head that has one."""
    answer = ask("v1", "explain", data={"instances": _by_row()}, model_name="three")

    assert len(answer["explanations"]) == len(ROWS["fruit"])
    for i, row in enumerate(answer["explanations"]):
        np.testing.assert_allclose(row["risk"]["answer"], ANSWERS["risk"][i, 0], rtol=1e-6)
        assert row["risk"]["parts"]


@pytest.mark.parametrize(
    ("method", "model", "status", "message"),
    [
        pytest.param("infer", "nope", 404, "there is none of that name", id="name"),
        pytest.param("infer", "broken", 503, "not an ONNX file", id="refused"),
        pytest.param(
            "infer",
            "three",
            400,
            r"instances\[0\]: expected an object of inputs",
            id="a bad row",
        ),
        pytest.param(
            "explain", "three", 400, r"instances\[0\]: expected an object of inputs", id="explain"
        ),
    ],
)
def test_v1_errors_reach_the_caller_with_their_message(ask, method, model, status, message):
    """The client shows the message of the key `error`."""
    with pytest.raises(httpx.HTTPStatusError, match=message) as caught:
        ask("v1", method, data={"instances": [1]}, model_name=model)

    assert caught.value.response.status_code == status


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
def test_v2_predicts(ask, binary):
    """Inputs may be JSON or bytes, with some of the outputs and a request ID."""
    inputs = []
    for name, values in ROWS.items():
        datatype = "BYTES" if values.dtype == object else "FP32"
        entry = kserve.InferInput(name, list(values.shape), datatype)
        entry.set_data_from_numpy(values, binary_data=binary)
        inputs.append(entry)
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ANSWERS]
    request = kserve.InferRequest("three", inputs, request_id="7", request_outputs=outputs)
    answer = ask("v2", "infer", request, model_name="three")

    assert (answer.id, answer.model_name) == ("7", "three")
    assert [output.name for output in answer.outputs] == list(ANSWERS)
    for output in answer.outputs:
        np.testing.assert_allclose(output.as_numpy(), ANSWERS[output.name], rtol=1e-6)


def test_v2_errors_reach_the_caller_with_their_message(ask):
    """The client shows the message, as in version 1."""
    entry = kserve.InferInput("fruit", [1, 2], "FP32", [1, 2])
    request = kserve.InferRequest("three", [entry])
    with pytest.raises(httpx.HTTPStatusError, match="insurance") as caught:
        ask("v2", "infer", request, model_name="three")

    assert caught.value.response.status_code == 400
