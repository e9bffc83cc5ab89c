"""Flask responses made from values and from the replies of dialects."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, request

from service.http import content_encoding
from service.wire.dialect import Reply


def respond_json(value: Any, status: int = 200) -> Response:
    """Return a response with a value as JSON."""
    return respond(Reply(orjson.dumps(value)), status)


def plain_json(value: Any, status: int = 200) -> Response:
    """Return a response with a value as JSON that is never compressed."""
    return Response(orjson.dumps(value), status, content_type="application/json")


def respond(reply: Reply, status: int = 200) -> Response:
    """Return a response with a reply, compressed if the client accepts that."""
    response = Response(reply.content, status, reply.headers, content_type=reply.content_type)
    response.vary.add("Accept-Encoding")
    accepted = request.headers.get("Accept-Encoding", "")
    smaller = content_encoding.compress(reply.content, accepted)
    if smaller is not None:
        response.set_data(smaller)
        response.content_encoding = "gzip"
    return response
