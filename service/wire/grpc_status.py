"""An error as the status of a gRPC call: a code, a message, and every problem of the message.

A call that fails has no message in its answer, only these headers.  All of them together have to
stay below 8 kB, the most that gRPC's own clients take.

Source: grpc/grpc doc/PROTOCOL-HTTP2.md, and googleapis/googleapis google/rpc.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

from service.errors import BadRequest
from service.wire.dialect import Reply
from service.wire.messages import message_class

if TYPE_CHECKING:
    from service.errors import Problem, RequestError

CONTENT_TYPE = "application/grpc"
INVALID_ARGUMENT = 3
_INTERNAL = 13
# The code for each HTTP status; others of 4xx are INVALID_ARGUMENT, and of 5xx INTERNAL.
CODES = {
    200: 0,  # OK
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    404: 5,  # NOT_FOUND
    405: 12,  # UNIMPLEMENTED
    408: 4,  # DEADLINE_EXCEEDED
    409: 10,  # ABORTED
    413: 8,  # RESOURCE_EXHAUSTED
    415: 12,  # UNIMPLEMENTED: an encoding that is not known
    429: 8,  # RESOURCE_EXHAUSTED
    431: 8,  # RESOURCE_EXHAUSTED
    499: 1,  # CANCELLED
    501: 12,  # UNIMPLEMENTED
    503: 14,  # UNAVAILABLE
    504: 4,  # DEADLINE_EXCEEDED
}
_FIRST_OF_SERVER = 500
# The characters of printable ASCII stay as they are, except for the percent sign.
_PLAIN = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
# Bytes of the message, as written, and of the details before they are base64.
_LONGEST_MESSAGE = 1536
_MOST_DETAILS = 3840
_LONGEST_DESCRIPTION = 800
_LONGEST_PATH = 200


def code_of(status: int) -> int:
    """Return the gRPC code for an HTTP status."""
    return CODES.get(status, INVALID_ARGUMENT if status < _FIRST_OF_SERVER else _INTERNAL)


def encode_error(error: RequestError) -> Reply:
    """Return the headers of an answer to a call that failed; for a bad message, all its problems.

    Problems that do not fit into the headers are left out, and their number is in the message.
    """
    code, text = code_of(error.status), _fitting(str(error))
    headers = [("grpc-status", str(code)), ("grpc-message", written(text))]
    if isinstance(error, BadRequest):
        details = base64.b64encode(_details(code, text, error.problems)).rstrip(b"=")
        headers.append(("grpc-status-details-bin", details.decode()))
    return Reply(b"", CONTENT_TYPE, tuple(headers))


def written(text: str) -> str:
    """Return a message as the header grpc-message has it."""
    return quote(text, safe=_PLAIN, errors="replace")


def _fitting(text: str) -> str:
    """Return a message that is short enough as a header."""
    if len(text) * 3 <= _LONGEST_MESSAGE or len(written(text)) <= _LONGEST_MESSAGE:
        return text
    text = text[:_LONGEST_MESSAGE]
    while len(written(text)) > _LONGEST_MESSAGE - len(written("…")):
        text = text[: len(text) * 9 // 10]
    return f"{text}…"


def _details(code: int, text: str, problems: tuple[Problem, ...]) -> bytes:
    """Return the google.rpc.Status with as many of the problems as fit."""
    status = message_class("google.rpc.Status")(code=code, message=text.encode(errors="replace"))
    bad = message_class("google.rpc.BadRequest")()
    left = _MOST_DETAILS - status.ByteSize()
    for problem in problems:
        violation = message_class("google.rpc.BadRequest.FieldViolation")(
            field=_cut(problem.at, _LONGEST_PATH),
            description=_cut(
                f"expected {problem.expected}, received {problem.received}", _LONGEST_DESCRIPTION
            ),
        )
        left -= violation.ByteSize() + 4
        if left < 0:
            break
        bad.field_violations.append(violation)
    status.details.add().Pack(bad)
    content: bytes = status.SerializeToString()
    return content


def _cut(text: str, longest: int) -> str:
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.encode(errors="replace").decode()
