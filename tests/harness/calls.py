"""gRPC calls: by grpcio, and byte by byte by the h2 library for what grpcio never sends."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import h2.config
import h2.connection
import h2.events
import numpy as np

from service.wire.messages import message_class
from tests.harness import tokens
from tests.harness.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OIP = "/inference.GRPCInferenceService"
INFER = f"{OIP}/ModelInfer"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
HEALTH = "/grpc.health.v1.Health"
# A row of the model `small.three`.
ROW = {
    "insurance": np.float32([[47, 20]]),
    "insurance.smoker": np.array([["no"]], object),
    "fruit": np.float32([[1, 2.5]]),
    "digit": np.float32([[1, 2, 3, 4]]),
}
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@dataclass
class Told:
    """The end of a call: its code and message, its message if it has one, and its metadata."""

    code: str
    text: str
    answer: Any
    initial: dict[str, str]
    trailing: dict[str, Any]


class Client:
    """A client made of grpcio, with the messages of the service."""

    def __init__(self, port: int, token: str = "", **options: Any) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", **options)
        self.token = token

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def metadata(self, more: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        """Return the metadata of a call, with the token."""
        named = {key.lower(): value for key, value in tokens.header(self.token).items()}
        return [*(named if self.token else {}).items(), *(more or {}).items()]

    def ask(
        self,
        path: str,
        asked: Any,
        answer: str,
        *,
        metadata: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
        **options: Any,
    ) -> Told:
        """Make a unary call.

        Args:
            path: the method.
            asked: the message.
            answer: the full name of the class of the answer.
            metadata: more metadata.
            timeout: the deadline, in seconds from now.
            options: more options of grpcio.
        """
        made = self.channel.unary_unary(
            path, lambda m: m.SerializeToString(), message_class(answer).FromString
        )
        try:
            answered, call = made.with_call(
                asked, timeout, metadata=self.metadata(metadata), **options
            )
        except grpc.RpcError as error:
            answered, call = None, error
        return Told(
            call.code().name,
            call.details(),
            answered,
            dict(call.initial_metadata() or ()),
            dict(call.trailing_metadata() or ()),
        )

    def oip(self, method: str, **fields: Any) -> Told:
        """Call a method of the Open Inference Protocol with a message of these fields."""
        asked = message_class(f"inference.{method}Request")(**fields)
        return self.ask(f"{OIP}/{method}", asked, f"inference.{method}Response")

    def check(self, service: str = "") -> Told:
        """Check the health of a service."""
        asked = message_class("grpc.health.v1.HealthCheckRequest")(service=service)
        return self.ask(f"{HEALTH}/Check", asked, "grpc.health.v1.HealthCheckResponse")

    def watch(self, service: str = "") -> Any:
        """Watch the health of a service: return the stream of statuses."""
        asked = message_class("grpc.health.v1.HealthCheckRequest")(service=service)
        made = self.channel.unary_stream(
            f"{HEALTH}/Watch",
            lambda m: m.SerializeToString(),
            lambda content: (
                message_class("grpc.health.v1.HealthCheckResponse").FromString(content).status
            ),
        )
        return made(asked, PATIENCE, metadata=self.metadata())


@contextlib.contextmanager
def client(port: int, token: str = "", **options: Any) -> Iterator[Client]:
    """Yield a client, and close it at the end."""
    made = Client(port, token, **options)
    try:
        yield made
    finally:
        made.close()


def problems(told: Told) -> dict[str, str]:
    """Return the problems in the details of an error, by field."""
    status = message_class("google.rpc.Status").FromString(told.trailing["grpc-status-details-bin"])
    bad = message_class("google.rpc.BadRequest")()
    assert status.details[0].Unpack(bad)
    return {each.field: each.description for each in bad.field_violations}


def prefixed(content: bytes, *, flag: int = 0) -> bytes:
    """Return a message with its prefix."""
    return struct.pack(">BI", flag, len(content)) + content


@dataclass
class Raw:
    """What a server has sent on a stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    is_reset: bool = False

    @property
    def ended(self) -> dict[str, str]:
        """The trailers, or the headers of an answer that has nothing else."""
        return self.trailers or self.headers

    @property
    def code(self) -> int:
        """The gRPC status."""
        return int(self.ended["grpc-status"])

    @property
    def text(self) -> str:
        """The gRPC message."""
        return unquote(self.ended.get("grpc-message", ""))

    def details(self) -> bytes:
        """Return the details of the status."""
        encoded = self.ended["grpc-status-details-bin"]
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4))


def send(
    port: int,
    path: str,
    *pieces: bytes,
    headers: Sequence[tuple[str, str]] = (),
    kind: str = "application/grpc",
    method: str = "POST",
) -> Raw:
    """Make a call of any bytes: return what comes back until the stream, or the connection, ends.

    Args:
        port: the port.
        path: the method.
        pieces: the body, in frames; the last one ends the stream.
        headers: the metadata.
        kind: the content type.
        method: the method of HTTP.
    """
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
    head += [("content-type", kind), *headers]
    connection.send_headers(1, head, end_stream=not pieces)
    raw, unsent = Raw(), [*pieces]
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        _send_more(connection, unsent)
        sock.sendall(connection.data_to_send())
        while data := sock.recv(65536):
            if _take(connection.receive_data(data), raw):
                break
            _send_more(connection, unsent)
            sock.sendall(connection.data_to_send())
    return raw


def _send_more(connection: h2.connection.H2Connection, unsent: list[bytes]) -> None:
    """Send as much of a body as the server allows."""
    while unsent:
        size = min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)
        if not size:
            return
        piece = unsent.pop(0)
        if len(piece) > size:
            unsent.insert(0, piece[size:])
        connection.send_data(1, piece[:size], end_stream=not unsent)


def _take(events: list[h2.events.Event], raw: Raw) -> bool:
    """Add what has come to `raw`; return whether that is all."""
    for event in events:
        match event:
            case h2.events.ResponseReceived():
                raw.headers = dict(event.headers)
            case h2.events.TrailersReceived():
                raw.trailers = dict(event.headers)
            case h2.events.DataReceived():
                raw.body += event.data
            case h2.events.StreamReset():
                raw.is_reset = True
            case _:
                pass
    return any(isinstance(e, h2.events.StreamReset | h2.events.StreamEnded) for e in events)
