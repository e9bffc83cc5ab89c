"""Server reflection: the interface definitions, for clients that have none."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from service.api.grpc import reflection
from service.wire.messages import SERVICES, message_class
from tests.harness.calls import REFLECTION, client, prefixed, send
from tests.harness.http2 import Peer
from tests.harness.waiting import until

ALPHA = REFLECTION.replace("v1", "v1alpha")


def ask(calls, *asked, path=REFLECTION):
    """Send requests on one stream, and return the answers."""
    package = path[1:].rpartition(".ServerReflection/")[0]
    kind = message_class(f"{package}.ServerReflectionRequest")
    made = calls.channel.stream_stream(
        path,
        lambda m: m.SerializeToString(),
        message_class(f"{package}.ServerReflectionResponse").FromString,
    )
    return [*made(iter([kind(**each) for each in asked]), 20, metadata=calls.metadata())]


@pytest.mark.parametrize("path", [REFLECTION, ALPHA])
def test_the_services_are_listed(calls, path):
    """In both versions of the protocol."""
    (told,) = ask(calls, {"host": "x", "list_services": ""}, path=path)

    assert [each.name for each in told.list_services_response.service] == [*SERVICES]
    assert (told.valid_host, told.original_request.host) == ("x", "x")


@pytest.mark.parametrize(
    "asked",
    [
        {"file_containing_symbol": "inference.GRPCInferenceService"},
        {"file_containing_symbol": "inference.GRPCInferenceService.ModelInfer"},
        {"file_containing_symbol": "inference.ModelInferRequest"},
        {"file_containing_symbol": "inference.ModelInferRequest.InferInputTensor"},
        {"file_by_filename": "inference/grpc_service.proto"},
    ],
)
def test_a_client_without_definitions_makes_a_call(calls, asked):
    """The files of a service, and those that they import, are all that it needs."""
    (told,) = ask(calls, asked)
    pool = DescriptorPool()
    files = [
        FileDescriptorProto.FromString(content)
        for content in told.file_descriptor_response.file_descriptor_proto
    ]
    for file in reversed(files):
        pool.Add(file)
    kinds = [
        GetMessageClass(pool.FindMessageTypeByName(f"inference.ModelReady{kind}"))
        for kind in ("Request", "Response")
    ]
    call = calls.channel.unary_unary(
        "/inference.GRPCInferenceService/ModelReady",
        kinds[0].SerializeToString,
        kinds[1].FromString,
    )

    assert call(kinds[0](name="three"), 20).ready


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_is_described_whole(calls, service):
    """Every file that one of them imports is there."""
    (told,) = ask(calls, {"file_containing_symbol": service})

    files = [
        FileDescriptorProto.FromString(content)
        for content in told.file_descriptor_response.file_descriptor_proto
    ]
    assert {name for file in files for name in file.dependency} <= {file.name for file in files}


@pytest.mark.parametrize(
    ("asked", "code", "text"),
    [
        (
            {"file_containing_symbol": "inference.Nothing"},
            5,
            "file_containing_symbol: there is nothing of that name",
        ),
        (
            {"file_containing_symbol": "inference.GRPCInferenceService.Nothing"},
            5,
            "file_containing_symbol: there is nothing of that name",
        ),
        ({"file_by_filename": "x.proto"}, 5, "file_by_filename: there is nothing of that name"),
        (
            {"all_extension_numbers_of_type": "x.Y"},
            5,
            "all_extension_numbers_of_type: there is nothing of that name",
        ),
        (
            {"file_containing_extension": {"containing_type": "x", "extension_number": 1}},
            5,
            "file_containing_extension: there are no extensions",
        ),
        ({}, 3, "request: expected a question, received none"),
    ],
)
def test_an_error_ends_no_stream(calls, asked, code, text):
    """It is the answer to one request."""
    told, other = ask(calls, asked, {"list_services": ""})

    assert (told.error_response.error_code, told.error_response.error_message) == (code, text)
    assert other.list_services_response.service


def test_no_message_has_extensions(calls):
    """The list of their numbers is empty."""
    (told,) = ask(calls, {"all_extension_numbers_of_type": "inference.ModelInferRequest"})

    answered = told.all_extension_numbers_response
    assert answered.base_type_name == "inference.ModelInferRequest"
    assert [*answered.extension_number] == []


@pytest.mark.parametrize(
    ("pieces", "code", "text"),
    [
        (
            [prefixed(b"\xff")],
            3,
            "message: expected one of type grpc.reflection.v1.ServerReflectionRequest",
        ),
        ([prefixed(b"x" * 5000)], 8, "message: expected at most 4096 bytes, received 5000"),
        ([prefixed(b"x")[:-1]], 13, "message: expected the bytes that its prefix says"),
    ],
)
def test_what_is_no_request_ends_the_stream(served, pieces, code, text):
    """The status says why."""
    raw = send(served.port, REFLECTION, *pieces)

    assert raw.code == code
    assert raw.text.startswith(text)
    until(lambda: not served.front.calls.reflection.streams)


def test_requests_may_come_in_pieces(served):
    """The frames of HTTP/2 end anywhere."""
    kind = message_class("grpc.reflection.v1.ServerReflectionRequest")
    asked = prefixed(kind(list_services="x").SerializeToString())

    raw = send(served.port, REFLECTION, *(asked[i : i + 1] for i in range(len(asked))))

    assert raw.code == 0
    assert raw.body


def test_requests_of_a_stream_are_limited(calls, monkeypatch):
    """Another stream may have more."""
    monkeypatch.setattr(reflection, "MOST_REQUESTS", 2)

    with pytest.raises(grpc.RpcError) as raised:
        ask(calls, *[{"list_services": ""}] * 3)

    assert raised.value.code().name == "RESOURCE_EXHAUSTED"
    assert raised.value.details().startswith("reflection: expected at most 2 requests in a stream")
    assert len(ask(calls, *[{"list_services": ""}] * 2)) == 2


def test_a_client_has_to_read_its_answers(served):
    """An answer may have a hundred times the bytes of its request, so few of them may wait."""
    kind = message_class("grpc.reflection.v1.ServerReflectionRequest")
    asked = prefixed(
        kind(file_containing_symbol="inference.GRPCInferenceService").SerializeToString()
    )
    with Peer(served.port, window=0, reads=False) as peer:
        head = (("content-type", "application/grpc"), ("te", "trailers"))
        stream = peer.begin(REFLECTION, *head)
        peer.write(stream, asked * 900, ends=False)
        unread = served.front.connections.unread
        until(lambda: unread.total and not served.front.calls.reflection.streams)
        waiting = unread.total
        peer.h2.increment_flow_control_window(2**30)
        peer.h2.increment_flow_control_window(2**30, stream)
        peer.flush()
        answer = peer.answer(stream)

    assert reflection.MOST_WAITING < waiting < reflection.MOST_WAITING + 2**14
    assert answer.trailers["grpc-status"] == "8"
    assert answer.trailers["grpc-message"].startswith("reflection: expected at most 262144")


def test_streams_are_limited_in_number_and_time(served, monkeypatch):
    """A stream that goes on for long is ended, and makes room for another one."""
    monkeypatch.setattr(reflection, "MOST_STREAMS", 1)
    waiting = grpc.insecure_channel(f"127.0.0.1:{served.port}")
    made = waiting.stream_stream(REFLECTION)(iter(lambda: until(lambda: False), None), 20)
    until(lambda: served.front.calls.reflection.streams)
    with client(served.port) as calls, pytest.raises(grpc.RpcError) as refused:
        ask(calls, {"list_services": ""})
    monkeypatch.setattr(reflection, "SECONDS", -1)

    with pytest.raises(grpc.RpcError) as ended:
        next(made)
    waiting.close()

    assert refused.value.code().name == "RESOURCE_EXHAUSTED"
    assert ended.value.code().name == "DEADLINE_EXCEEDED"
    assert not served.front.calls.reflection.streams


def test_a_service_that_stops_begins_no_stream(served, calls):
    """It would keep the service from its end for a minute."""
    served.loop.call_soon_threadsafe(served.front.calls.close)

    with pytest.raises(grpc.RpcError) as raised:
        ask(calls, {"list_services": ""})

    assert raised.value.code().name == "UNAVAILABLE"
    assert raised.value.details() == "reflection: the service stops"


@pytest.mark.parametrize(
    ("token", "code"), [("", "UNAUTHENTICATED"), ("metrics", "PERMISSION_DENIED"), ("some", "OK")]
)
def test_the_definitions_need_a_token(guarded, token, code):
    """They describe the service, as the page /v2 does, and none of its models."""
    with client(guarded.port, token) as calls:
        try:
            ask(calls, {"list_services": ""})
            told = "OK"
        except grpc.RpcError as error:
            told = error.code().name

    assert told == code


def test_a_bug_ends_its_stream(calls, monkeypatch, caplog):
    """The client is told nothing about it."""
    monkeypatch.setattr(reflection, "answer", lambda *_: 1 / 0)

    with pytest.raises(grpc.RpcError) as raised:
        ask(calls, {"list_services": ""})

    text = f"gRPC {REFLECTION}: an error of the service; it is logged"
    assert (raised.value.code().name, raised.value.details()) == ("INTERNAL", text)
    assert "ZeroDivisionError" in caplog.text
