"""The access log: one line of JSON for each request, without its body, its query and its token.

    {"time": "2026-01-31T12:00:00.000Z", "remote": "192.0.2.1", "request_id": "…",
     "protocol": "HTTP/1.1", "method": "POST", "path": "/predict", "status": 200,
     "model": "triceps", "version": "1", "rows": 1, "bytes_in": 120, "bytes_out": 310,
     "seconds": {"decode": 3e-05, "queue": 0.0001, "run": 0.0002, "encode": 4e-05}}

Every answer passes the connection that it is sent on, which adds the line; the pipeline leaves a
note about predictions on their requests before.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from service.errors import GONE, Unauthorized
from service.http import request_ids
from service.http.forwarded import Proxies, parse
from service.observability.line_writer import LineWriter
from service.observability.logs import hide, moment
from service.observability.timing import STAGES, moments

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
_GRPC_STATUS = re.compile(rb"^grpc-status: (\d+)", re.MULTILINE)


class Note(NamedTuple):
    """The version of a model that a prediction is for, and what is known about its answer."""

    name: str
    version: str
    rows: int = 0
    times: Times | None = None


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
        request.note = Note(servable.name, servable.version, rows, times)

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
        entry: dict[str, Any] = {"time": moment(time.time())}
        remote = self._proxies.client(request.caller.peer, request.headers)
        if remote:
            entry["remote"] = remote
        request_id = _request_id(request, lines)
        if request_id:
            entry["request_id"] = request_id
        if self._access.is_on and (token := self._token(request)):
            entry["token"] = token
        protocol = entry["protocol"] = request.protocol
        if request.method:
            entry["method"] = _escaped(request.method[:_MAX_METHOD])
        if request.target:
            entry["path"] = _path(request.target)
        entry["status"] = status
        if protocol == GRPC and (match := _GRPC_STATUS.search(lines)):
            entry["grpc_status"] = int(match[1])
        note = request.note
        if isinstance(note, Note):
            entry["model"], entry["version"] = note.name, note.version
            if note.rows:
                entry["rows"] = note.rows
        entry["bytes_in"] = received
        entry["bytes_out"] = sent
        if isinstance(note, Note) and note.times is not None:
            at = moments(note.times)
            entry["seconds"] = {
                stage: round(at[end] - at[start], 6) for stage, (start, end) in STAGES.items()
            }
        return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)

    def _token(self, request: Request) -> str:
        """Return the name of a request's token, if it has one that the service knows."""
        authorization = request.headers.get(b"authorization")
        if authorization is None:
            return ""
        try:
            return self._access.identify(authorization.decode("latin-1")).name
        except Unauthorized:
            return ""


def _request_id(request: Request, lines: bytes) -> str:
    """Return the request ID that an answer has, or else the request."""
    match = _REQUEST_ID.search(lines)
    if match is not None:
        request_id = match[1].decode("latin-1")
    elif b"x-request-id" in request.headers or b"traceparent" in request.headers:
        request_id = request_ids.of(request.headers)
    else:
        return ""
    return _hidden(request_id)


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
