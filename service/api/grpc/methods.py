"""The table of the methods of gRPC, by their paths, such as /grpc.health.v1.Health/Check.

All methods of the interface definitions are served, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.message import DecodeError

from service.errors import nearest
from service.http.grpc.status import UNIMPLEMENTED, BadCall
from service.wire.body import wrong
from service.wire.messages import POOL, SERVICES, message_class
from service.wire.oip import grpc as oip
from service.wire.tfserving import grpc as tfserving

if TYPE_CHECKING:
    from service.http.grpc.call import ReadAddress
    from service.wire.dialect import Dialect

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
REFLECT_ALPHA = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

PREDICTIONS: dict[str, Dialect] = {MODEL_INFER: oip.GRPC, PREDICT: tfserving.GRPC}
"""The dialects of the methods that predict."""
ADDRESSES: dict[str, tuple[ReadAddress, str]] = {
    MODEL_INFER: (oip.address, "model_name"),
    PREDICT: (tfserving.address, "model_spec.name"),
}
"""For each of them, how a message is read for its address, and the field with the name."""
# Health checks need no token, as in HTTP; those about a model check it themselves.
OPEN = frozenset(
    path.encode()
    for path in (
        CHECK,
        LIST,
        WATCH,
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    )
)
"""The paths of methods whose messages are read without a token."""
STREAMED = frozenset((REFLECT.encode(), REFLECT_ALPHA.encode()))
"""The paths of methods whose messages are answered while more of them come."""


class Method(NamedTuple):
    """A method: its path, and the classes of its messages."""

    path: str
    request: type[Any]
    response: type[Any]


def _methods() -> dict[bytes, Method]:
    methods = {}
    for name in SERVICES:
        for method in POOL.FindServiceByName(name).methods:
            path = f"/{name}/{method.name}"
            request, response = method.input_type.full_name, method.output_type.full_name
            methods[path.encode()] = Method(path, message_class(request), message_class(response))
    return methods


METHODS = _methods()


def parse(kind: type[Any], content: bytes) -> Any:
    """Return the message of a class in some bytes.

    Raises:
        BadRequest: they are none.
    """
    try:
        return kind.FromString(content)
    except DecodeError as error:
        expected = f"one of type {kind.DESCRIPTOR.full_name}"
        raise wrong("message", expected, "bytes that are none") from error


def unknown(path: bytes) -> BadCall:
    """Return the error for a path of no method, which takes a millisecond to find the nearest."""
    text = path.decode("latin-1")
    close = nearest(text, (known.path for known in METHODS.values()))
    services = ", ".join(SERVICES)
    known = f"Available: the methods of {services}; server reflection describes them"
    return BadCall(UNIMPLEMENTED, 404, f"{text}: there is no such method{close}. {known}")
