"""The access log: one line of JSON for each request, without its body, its query and its token.

    {"time": "2026-01-31T12:00:00.000Z", "remote": "192.0.2.1", "request_id": "…",
     "protocol": "HTTP/1.1", "method": "POST", "path": "/predict", "status": 200,
     "model": "triceps", "version": "1", "rows": 1, "bytes_in": 120, "bytes_out": 310,
     "seconds": {"decode": 3e-05, "queue": 0.0001, "run": 0.0002, "encode": 4e-05}}

Every answer passes the connection that it is sent on, which adds the line; the pipeline leaves a
note about predictions on their requests before.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from service.errors import GONE, Unauthorized
from service.http import request_ids
from service.http.forwarded import Proxies, parse
from service.observability.line_writer import LineWriter
from service.observability.logs import hide, second
from service.observability.timing import STAGES, stage_seconds

if TYPE_CHECKING:
    from service.http.access import Access
    from service.http.request import Request
    from service.observability.metrics import Metrics
    from service.observability.timing import Times
    from service.repository.loader import Servable
    from service.settings import Settings

log = logging.getLogger(__name__)

# The characters of a path and of a method that are kept.
MAX_PATH = 1024
_MAX_METHOD = 32
# The time that a blocked reader has to take the last lines.
CLOSE_SECONDS = 0.5
GRPC = "gRPC"
# The beginning of every token.
_MARK = "triceps_"
_GRPC_CANCELLED = 1
# Bytes that a URL has to escape, and so does the log.
_NOT_OF_A_URL = re.compile(r"[^!-~]")
_REQUEST_ID = re.compile(rb"^[Xx]-[Rr]equest-[IiDd]{2}: ([^\r\n]+)", re.MULTILINE)
_ID_LINE = b"\r\nx-request-id: "
_GRPC_STATUS = re.compile(rb"^grpc-status: (\d+)", re.MULTILINE)
_LINE = b'{"time":"%b.%03dZ"%b%b%b%b,"status":%d%b%b%b,"bytes_in":%d,"bytes_out":%d%b}\n'
_STAGES = b',"seconds":{%b}' % b",".join(b'"%b":%%.6f' % stage.encode() for stage in STAGES)
# What is remembered of earlier lines: addresses, tokens, models, and methods with targets that have
# no more bytes together.
_REMEMBERED = 1024
_SHORT = 256


class AccessLog:
    """The access log of one worker; its event loop alone calls it."""

    def __init__(self, writer: LineWriter, metrics: Metrics, access: Access, proxies: str) -> None:
        """Write lines by `writer`.

        Args:
            writer: writes the lines.
            metrics: counts those that are dropped.
            access: knows the names of tokens.
            proxies: the trusted proxies, as the setting has them.
        """
        self._writer = writer
        self._metrics = metrics
        self._access = access
        self._proxies = Proxies(parse(proxies))
        self._unwritten = 0
        self._counted = 0
        metrics.count_dropped("access_log_dropped", 0)

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics, access: Access) -> AccessLog | None:
        """Return the access log on standard output; `None` if the settings have none."""
        if settings.access_log != "on":
            return None
        writer = LineWriter(sys.stdout.fileno(), "access log")
        return cls(writer, metrics, access, settings.trusted_proxies)

    def note(
        self, request: Request, servable: Servable, rows: int = 0, times: Times | None = None
    ) -> None:
        """Note what a request is for, and its rows and times if it is answered with 200."""
        request.note = servable, rows, times

    def left(self, request: Request) -> None:
        """Add a request whose client has gone, and that nothing answers."""
        self.add(request, GONE, request.received, 0, b"grpc-status: %d" % _GRPC_CANCELLED)

    def add(self, request: Request, status: int, received: int, sent: int, lines: bytes) -> None:
        """Add a request.  This raises nothing, since the request has to be answered.

        Args:
            request: the request, or as much of it as has arrived.
            status: the HTTP status that it is counted under.
            received: the bytes of its body.
            sent: the bytes of the body of its answer.
            lines: the header lines of its answer, and its trailers.
        """
        try:
            self._writer.add(self._line(request, status, received, sent, lines))
        except Exception:
            self._unwritten += 1
            if self._unwritten == 1:
                log.exception("a line of the access log could not be written")

    def flush(self) -> None:
        """Have what was added written, and count what was dropped; to be called once a second."""
        self._writer.flush()
        self._count_dropped()

    def close(self) -> None:
        """Have the last lines written, if their reader takes them."""
        self._writer.close(CLOSE_SECONDS)
        self._count_dropped()

    def _count_dropped(self) -> None:
        dropped = self._writer.dropped + self._unwritten
        if dropped != self._counted:
            self._metrics.count_dropped("access_log_dropped", dropped - self._counted)
            self._counted = dropped

    def _line(self, request: Request, status: int, received: int, sent: int, lines: bytes) -> bytes:
        # Each request waits for this, so what many lines have in common is remembered.
        seconds = time.time()
        whole = int(seconds)
        token = grpc_status = model = rows = stages = b""
        if self._access.is_on:
            token = _text(b"token", self._token(request))
        protocol, note = request.protocol, request.note
        method, target = request.method, request.target
        asked = _remembered_asked if len(method) + len(target) <= _SHORT else _asked
        if protocol == GRPC and (match := _GRPC_STATUS.search(lines)):
            grpc_status = b',"grpc_status":%d' % int(match[1])
        if note is not None:
            servable, number, times = note
            model = _model(servable.name, servable.version)
            if times is not None:
                rows = b',"rows":%d' % number
                stages = _STAGES % stage_seconds(times)
        return _LINE % (
            _second(whole),
            int(1000 * (seconds - whole)),
            _text(b"remote", self._proxies.client(request.caller.peer, request.headers)),
            _request_id(request, lines),
            token,
            asked(protocol, method, target),
            status,
            grpc_status,
            model,
            rows,
            received,
            sent,
            stages,
        )

    def _token(self, request: Request) -> str:
        """Return the name of a request's token, if it has one that the service knows."""
        authorization = request.headers.get(b"authorization")
        if authorization is None:
            return ""
        try:
            return self._access.identify(authorization.decode("latin-1")).name
        except Unauthorized:
            return ""


@lru_cache(1)
def _second(seconds: int) -> bytes:
    return second(seconds).encode()


@lru_cache(_REMEMBERED)
def _text(key: bytes, value: str) -> bytes:
    """Return an item of a line; nothing for an empty value."""
    return b',"%b":%b' % (key, json.dumps(value).encode()) if value else b""


@lru_cache(_REMEMBERED)
def _model(name: str, version: str) -> bytes:
    return _text(b"model", name) + _text(b"version", version)


def _asked(protocol: str, method: bytes, target: bytes) -> bytes:
    """Return the items that say what is asked."""
    items = b',"protocol":"%b"' % protocol.encode()
    if method:
        items += b',"method":%b' % orjson.dumps(_escaped(method[:_MAX_METHOD]))
    return items + b',"path":%b' % orjson.dumps(_path(target)) if target else items


_remembered_asked = lru_cache(_REMEMBERED)(_asked)


def _request_id(request: Request, lines: bytes) -> bytes:
    """Return the item for the request ID that an answer has, or else the request."""
    # Most answers have it so; a search takes several times as long.
    _, is_there, rest = lines.partition(_ID_LINE)
    if is_there:
        request_id = rest.partition(b"\r\n")[0]
    elif match := _REQUEST_ID.search(lines):
        request_id = match[1]
    elif b"x-request-id" in request.headers or b"traceparent" in request.headers:
        request_id = request_ids.of(request.headers).encode()
    else:
        return b""
    # Most are in hexadecimal, made here.
    if request_id.isalnum():
        return b',"request_id":"%b"' % request_id
    return b',"request_id":%b' % orjson.dumps(_hidden(request_id.decode("latin-1")))


def _path(target: bytes) -> str:
    """Return the path of a target as it was sent, without its query, and not longer than allowed.

    The absolute form, as clients send it to a proxy, may have a password before its path.
    """
    path = target.partition(b"?")[0].partition(b"#")[0]
    if not path.startswith(b"/"):
        scheme, _, rest = path.partition(b"://")
        path = b"/" + rest.partition(b"/")[2] if rest else scheme.rpartition(b"@")[2]
    # Before it is cut: a part of a token would not be found.
    path = _hidden(path.decode("latin-1")).encode("latin-1")
    text = _escaped(path[: MAX_PATH + 1])
    return text if len(text) <= MAX_PATH else f"{text[: MAX_PATH - 3]}..."


def _hidden(text: str) -> str:
    """Return a text without tokens, which clients may put where they do not belong."""
    return hide(text) if _MARK in text else text


def _escaped(text: bytes) -> str:
    """Return bytes as ASCII that needs no escapes in JSON but those of quotes and backslashes."""
    return _NOT_OF_A_URL.sub(lambda match: f"%{ord(match[0]):02X}", text.decode("latin-1"))
