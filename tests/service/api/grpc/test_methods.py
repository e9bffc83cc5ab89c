"""The table of methods: all that are defined are served, and another one is told what there is."""

import threading

import grpc
import pytest

from service.api.grpc import methods, pages
from service.wire.messages import SERVICES
from tests.harness.calls import OIP, prefixed, send

OTHERS = (methods.CHECK, methods.LIST, methods.WATCH, methods.REFLECT, methods.REFLECT_ALPHA)


def test_each_defined_method_is_served():
    """It is a prediction, a page, health or reflection."""
    served = {*methods.PREDICTIONS, *pages.PAGES, *OTHERS}

    assert {path.decode() for path in methods.METHODS} == served
    assert {*methods.ADDRESSES} == {*methods.PREDICTIONS}
    assert methods.METHODS.keys() > methods.OPEN
    assert methods.METHODS.keys() > methods.STREAMED


@pytest.mark.parametrize(
    ("path", "close"),
    [
        (f"{OIP}/ModelInfe", f" (did you mean '{OIP}/ModelInfer'?)"),
        ("/grpc.health.v1.Health/check", " (did you mean '/grpc.health.v1.Health/Check'?)"),
        ("/predict", ""),
        ("/" + "x" * 5000, ""),
        ("/tensorflow.serving.PredictionService/Classify", None),
    ],
)
def test_an_unknown_method_is_not_implemented(served, path, close):
    """The message has the nearest method, and the services that there are."""
    raw = send(served.port, path, prefixed(b""))

    assert raw.code == 12
    if close is None:
        assert "(did you mean '/tensorflow.serving.PredictionService/" in raw.text
    elif len(path) < 100:
        known = f"Available: the methods of {', '.join(SERVICES)}; server reflection describes them"
        assert raw.text == f"{path}: there is no such method{close}. {known}"
    assert not raw.trailers
    assert raw.headers[":status"] == "200"


def test_an_unknown_method_is_answered_before_its_messages_end(calls):
    """Its client may be about to send them for long."""
    go = threading.Event()

    def messages():
        yield b"x"
        go.wait(20)
        yield b"x"

    call = calls.channel.stream_stream(f"{OIP}/ModelStreamInfer")(messages(), 20)
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    go.set()

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert raised.value.details().startswith(f"{OIP}/ModelStreamInfer: there is no such method")


def test_an_unknown_method_with_a_large_message_is_told_so(served):
    """What it sends is dropped as it comes."""
    raw = send(served.port, "/x.Y/Z", prefixed(b"x" * 2**20))

    assert raw.code == 12


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "GET"}, "gRPC: expected POST, received GET"),
        (
            {"kind": "application/grpc+json"},
            (
                "content-type: expected application/grpc or application/grpc+proto, received "
                "application/grpc+json"
            ),
        ),
    ],
)
def test_another_form_of_a_call_is_not_implemented(served, options, text):
    """A call is a POST of protobuf."""
    raw = send(served.port, f"{OIP}/ServerLive", prefixed(b""), **options)

    assert (raw.code, raw.text) == (12, text)


@pytest.mark.parametrize("kind", ["application/grpc+proto", "application/grpc; charset=utf-8"])
def test_the_content_type_may_say_more(served, kind):
    """`te: trailers` is not required either."""
    raw = send(served.port, f"{OIP}/ServerLive", prefixed(b""), kind=kind)

    assert (raw.code, raw.body) == (0, prefixed(b"\x08\x01"))


def test_grpc_web_is_another_protocol(served):
    """It is answered as any request of HTTP."""
    raw = send(served.port, f"{OIP}/ServerLive", b"x", kind="application/grpc-web")

    assert raw.headers[":status"] == "404"


def test_what_is_no_message_is_an_invalid_argument(served):
    """The message names the type that was expected."""
    raw = send(served.port, f"{OIP}/ModelReady", prefixed(b"\xff\xff"))

    text = "message: expected one of type inference.ModelReadyRequest, received bytes that are none"
    assert (raw.code, raw.text) == (3, text)


def test_a_message_about_models_is_small(served):
    """It is read in the event loop, and names no more than a model."""
    raw = send(served.port, f"{OIP}/ModelReady", prefixed(b"x" * 2**17))

    text = "message: expected at most 65536 bytes, received 131072"
    assert (raw.code, raw.text) == (8, text)
