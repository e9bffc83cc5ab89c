"""grpcio against a running service, with messages as bytes: calls, health and what probes do.

grpc-health-probe and Kubernetes call `Check` as here; their messages are a name and a number.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from tests.attack import repository
from tests.harness import certificates, protobuf, small, three, tokens
from tests.harness.protobuf import field, fields
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
# The statuses of health.
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    """Yield a service with a good model, a wide one, a slow one and one that cannot serve."""
    folder = tmp_path_factory.mktemp("served")
    models = {"three": small.three(), "wide": repository.wide(), "broken": b"junk"}
    models |= {"same": small.same(small.F, (1000,)), "slow": repository.slow()}
    for name, content in models.items():
        small.put(folder / "models", name, 1, content)
    with Server(folder=folder) as server:
        server.until_alive()
        yield server
        assert server.end()[0] == 0


@pytest.fixture(scope="module", name="channel")
def _channel(served):
    """Yield a channel to the service."""
    with grpc.insecure_channel(f"{served.host}:{served.port}", NO_LIMIT) as channel:
        yield channel


def _call(channel, method, message=b"", **more):
    """Make a call that has one answer, and return it."""
    return channel.unary_unary(method)(message, timeout=PATIENCE, **more)


def _infer(channel, model, arrays, **more):
    """Return the outputs of a prediction."""
    message = protobuf.infer_request(model, arrays)
    return protobuf.infer_response(_call(channel, protobuf.INFER, message, **more))


def _fails(channel, method, message=b"", **more):
    """Return the status, the message and the trailers of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        _call(channel, method, message, **more)
    error = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata() or ())


def _health(message):
    """Return the status in an answer about health."""
    return dict(fields(message)).get(1, 0)


# ── predictions ──────────────────────────────────────────────────────────────────────────────────


def test_messages_larger_than_four_megabytes(channel):
    """The service sets no limit of 4 MB, the usual one of gRPC's servers, in either direction."""
    rows = np.random.default_rng(0).normal(size=(2000, 1000)).astype(np.float32)
    outputs = _infer(channel, "same", {"x": rows})
    assert np.array_equal(outputs["y"], rows)

    few = np.ones((1500, 1), np.float32)
    assert _infer(channel, "wide", {"x": few})["y"].shape == (1500, 2000)


def test_more_calls_than_streams(channel):
    """Calls beyond the streams of a connection wait in the client, and all are answered."""
    asked = [three.rows(1 + number % 5) for number in range(500)]
    method = channel.unary_unary(protobuf.INFER)

    calls = [
        method.future(protobuf.infer_request("three", arrays), timeout=PATIENCE) for arrays in asked
    ]

    for arrays, call in zip(asked, calls, strict=True):
        three.check(protobuf.infer_response(call.result()).get, arrays)


def test_many_connections(served):
    """Channels with connections of their own are served at once."""
    arrays = three.rows(3)
    options = [("grpc.use_local_subchannel_pool", 1)]

    def ask(_):
        with grpc.insecure_channel(f"{served.host}:{served.port}", options) as channel:
            for _ in range(5):
                three.check(_infer(channel, "three", arrays).get, arrays)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask, range(32)))


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compression(channel, compression):
    """Compressed messages are read, and the answer comes as grpcio can read it."""
    arrays = three.rows(1000)

    outputs = _infer(channel, "three", arrays, compression=compression)

    three.check(outputs.get, arrays)


def test_every_problem_is_in_the_details(channel):
    """The details of an error name each field that is wrong."""
    arrays = three.rows(2)
    wrong = {**arrays, "fruit": arrays["fruit"][:, :1], "digit": arrays["digit"][:, :2]}

    status, message, trailers = _fails(
        channel, protobuf.INFER, protobuf.infer_request("three", wrong)
    )

    assert status == grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("inputs[2].shape: expected [rows, 2]")
    details = dict(fields(trailers["grpc-status-details-bin"]))
    assert details[1] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert b"google.rpc.BadRequest" in details[3]
    assert b"inputs[2]" in details[3]
    assert b"inputs[3]" in details[3]


def test_methods_and_services_that_are_not_there(channel):
    """They are unimplemented, and the nearest name is told."""
    status, message, _ = _fails(channel, "/inference.GRPCInferenceService/ModelInfr")
    assert status == grpc.StatusCode.UNIMPLEMENTED
    assert "ModelInfer" in message
    status, _, _ = _fails(channel, "/nowhere.Service/Method")
    assert status == grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_none(channel):
    """Bytes that are no message of the method are an error of the client."""
    for junk in (b"\xff" * 100, b"\x0a\xff\x01x", b"\x07"):
        status, _, _ = _fails(channel, protobuf.INFER, junk)
        assert status == grpc.StatusCode.INVALID_ARGUMENT


def test_several_messages_where_one_is_expected(channel):
    """A stream of messages for a method of one is refused."""
    message = protobuf.infer_request("three", three.rows(1))
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(protobuf.INFER)(iter([message, message]), timeout=PATIENCE)

    assert caught.value.code() in {
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.INTERNAL,
    }


def test_a_deadline_that_is_over(channel):
    """Calls whose time is over while they wait are dropped, and others are answered."""
    method = channel.unary_unary(protobuf.INFER)
    message = protobuf.infer_request("slow", {"x": np.ones((1, 1), np.float32)})
    calls = [method.future(message, timeout=0.05) for _ in range(50)]
    late = [call for call in calls if call.exception() is not None]

    assert {call.code() for call in late} <= {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    arrays = three.rows(2)
    three.check(_infer(channel, "three", arrays).get, arrays)


def test_request_ids(channel):
    """The ID of a request comes back, or the service makes one."""
    method = channel.unary_unary(protobuf.INFER)
    message = protobuf.infer_request("three", three.rows(1))
    _, call = method.with_call(message, metadata=[("x-request-id", "mine")], timeout=PATIENCE)
    _, other = method.with_call(message, timeout=PATIENCE)

    assert dict(call.initial_metadata())["x-request-id"] == "mine"
    assert dict(other.initial_metadata())["x-request-id"]


# ── health ───────────────────────────────────────────────────────────────────────────────────────


def test_a_probe_of_the_service(channel):
    """The service as a whole is serving, as a probe without a name asks."""
    assert _health(_call(channel, CHECK)) == SERVING


def test_a_probe_of_a_model(channel):
    """A name is that of a model: it serves, it does not, or it is not there."""
    assert _health(_call(channel, CHECK, field(1, "three"))) == SERVING
    assert _health(_call(channel, CHECK, field(1, "broken"))) == NOT_SERVING
    assert _fails(channel, CHECK, field(1, "nope"))[0] == grpc.StatusCode.NOT_FOUND


def test_a_watch_of_a_model_sees_it_go_and_come(tmp_path):
    """A watch tells the status at once, and each change of it."""
    small.put(tmp_path / "models", "three", 1, small.three())
    small.put(tmp_path / "models", "other", 1, small.three())
    with Server("--workers", 1, folder=tmp_path, guarded=True) as server:
        server.until_ready()
        header = tokens.header("all")
        metadata = [(name.lower(), value) for name, value in header.items()]
        with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
            watch = channel.unary_stream(WATCH)(
                field(1, "three"), timeout=PATIENCE, metadata=metadata
            )
            unknown = channel.unary_stream(WATCH)(
                field(1, "nope"), timeout=PATIENCE, metadata=metadata
            )
            assert _health(next(watch)) == SERVING
            assert _health(next(unknown)) == SERVICE_UNKNOWN
            for change, expected in (("unload", NOT_SERVING), ("load", SERVING)):
                status, _, content = server.ask("POST", f"/v2/repository/models/three/{change}")
                assert status == 200, content
                assert _health(next(watch)) == expected
            watch.cancel()
            unknown.cancel()
            # The connection goes on.
            assert _health(_call(channel, CHECK, metadata=metadata)) == SERVING
        assert server.end()[0] == 0


def test_watches_end_with_the_service(tmp_path):
    """A watch does not keep the service from ending."""
    small.put(tmp_path / "models", "three", 1, small.three())
    with Server("--workers", 1, folder=tmp_path) as server:
        server.until_ready()
        with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
            watch = channel.unary_stream(WATCH)(b"", timeout=PATIENCE)
            assert _health(next(watch)) == SERVING
            ended = threading.Event()
            watch.add_callback(ended.set)
            code, _, _, _ = server.end()
            assert code == 0
            assert ended.wait(PATIENCE)


# ── reflection ───────────────────────────────────────────────────────────────────────────────────


def test_reflection_lists_the_services(channel):
    """Tools such as grpcurl find the services, each with its file."""
    asked = iter([field(7, ""), field(4, "inference.GRPCInferenceService"), field(4, "no.Such")])
    answers = channel.stream_stream(REFLECTION)(asked, timeout=PATIENCE)
    listed, found, missing = (dict(fields(answer)) for answer in answers)

    names = {dict(fields(service))[1].decode() for _, service in fields(listed[6])}
    assert names >= {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "inference.GRPCInferenceService",
        "tensorflow.serving.PredictionService",
    }
    assert any(b"GRPCInferenceService" in file for _, file in fields(found[4]))
    assert dict(fields(missing[7]))[1] == grpc.StatusCode.NOT_FOUND.value[0]


# ── tokens and TLS ───────────────────────────────────────────────────────────────────────────────


def test_tokens_and_tls(tmp_path):
    """A token is metadata; each scope allows what it allows in REST."""
    small.put(tmp_path / "models", "three", 1, small.three())
    trust = grpc.ssl_channel_credentials(certificates.A.encode())
    arrays = three.rows(1)
    unload = "/inference.GRPCInferenceService/RepositoryModelUnload"

    def holding(name):
        return {"metadata": [(key.lower(), value) for key, value in tokens.header(name).items()]}

    with Server("--workers", 1, folder=tmp_path, guarded=True, encrypted=True) as server:
        server.until_ready()
        with grpc.secure_channel(f"localhost:{server.port}", trust) as channel:
            message = protobuf.infer_request("three", arrays)
            status, text, _ = _fails(channel, protobuf.INFER, message)
            assert (status, "Bearer" in text) == (grpc.StatusCode.UNAUTHENTICATED, True)
            status, _, _ = _fails(channel, protobuf.INFER, message, **holding("metrics"))
            assert status == grpc.StatusCode.PERMISSION_DENIED
            three.check(_infer(channel, "three", arrays, **holding("predict")).get, arrays)
            status, _, _ = _fails(channel, unload, field(2, "three"), **holding("predict"))
            assert status == grpc.StatusCode.PERMISSION_DENIED
            # A probe of the service has no token, as one of /livez and /readyz has none.
            assert _health(_call(channel, CHECK)) == SERVING
        assert server.end()[0] == 0
