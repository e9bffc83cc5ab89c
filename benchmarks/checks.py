"""The checks of an answer: it must equal that of ONNX Runtime."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from benchmarks import models, servers
from benchmarks.servers import ASK_SECONDS, HOST, NotReadyError
from tests.harness import protobuf

if TYPE_CHECKING:
    from benchmarks.servers import Running

TOLERANCE = 1e-4


def check_answer(running: Running, *, body: str, expected: dict[str, list[list[float]]]) -> None:
    """Check that an answer equals that of ONNX Runtime.

    Raises:
        NotReadyError: the answer differs, or there is none.
    """
    content = servers.ask(running.url("/predict"), (models.FOLDER / f"{body}.json").read_bytes())
    predictions = json.loads(content)["predictions"]
    for head, rows in expected.items():
        received = [row[head]["value"] for row in predictions]
        wanted = rows if models.HEADS[head] > 1 else [row[0] for row in rows]
        labels = [row[head]["label"] for row in predictions]
        if not set(labels) <= set(models.LABELS[head]):
            raise NotReadyError(f"{body}: {head}: unexpected labels: {labels[:2]}")
        _compare(f"{body}: {head}", received, wanted)


def check_call(running: Running, *, body: str, expected: dict[str, list[list[float]]]) -> None:
    """Check that an answer by gRPC equals that of ONNX Runtime.

    Raises:
        NotReadyError: the answer differs, or there is none.
    """
    content = call(running, (models.FOLDER / f"{body}.grpc").read_bytes())
    outputs = protobuf.infer_response(content)
    for head, rows in expected.items():
        _compare(f"{body}: {head}", outputs[head].tolist(), rows)


def _compare(where: str, received: list[Any], wanted: list[Any]) -> None:
    if not _close(received, wanted):
        raise NotReadyError(f"{where}: expected {wanted[:2]}, received {received[:2]}")


def _close(received: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return len(received) == len(wanted) and all(map(_close, received, wanted))
    return math.isclose(received, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def call(running: Running, framed: bytes) -> bytes:
    """Call by gRPC, and return the message of the answer.

    Raises:
        NotReadyError: the call fails, or there is no answer.
    """
    # Here, since the other programs that measure need no grpcio.
    import grpc

    # A connection of its own, so that a server that was not there is asked anew at once.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{HOST}:{running.port}", options) as channel:
        message = protobuf.unframed(framed)[2]
        try:
            content: Any = channel.unary_unary(protobuf.INFER)(message, timeout=ASK_SECONDS)
        except grpc.RpcError as error:
            raise NotReadyError(f"{protobuf.INFER}: {error.code()}: {error.details()}") from error
    return bytes(content)
