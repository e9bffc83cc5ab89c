"""The WSGI adapter between the front and the Flask app: a request to an environ, an answer back."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from service.http.request import Request


class Answer(NamedTuple):
    """The arguments of `Request.respond`."""

    status: int
    content: bytes
    lines: bytes
    length: int


def call(app: Callable[..., Iterable[bytes]], request: Request) -> Answer:
    """Answer a request by `app`."""
    chunks, status, headers = run_wsgi_app(app, _environ(request), buffered=True)
    content = b"".join(chunks)
    lines = "".join(
        f"{name}: {value}\r\n"
        for name, value in headers.items()
        if name.lower() not in ("content-length", "date", "connection")
    )
    length = int(headers.get("Content-Length", len(content)))
    return Answer(int(status.split()[0]), content, lines.encode("latin-1"), length)


def split(target: bytes) -> tuple[bytes, bytes]:
    """Return the path of a request target, percent-decoded once, and its query as it came."""
    if not target.startswith(b"/"):
        # The absolute form, as clients send it to a proxy; only its path matters here.
        target = target[target.find(b"/", target.find(b"://") + 3) :]
    path, _, query = target.partition(b"?")
    return unquote_to_bytes(path), query


def _environ(request: Request) -> dict[str, Any]:
    """Return the WSGI environ of a request (PEP 3333)."""
    path, query = split(request.target)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode("latin-1"),
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.decode("latin-1").upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            environ[key] = value.decode("latin-1")
        # The body is complete by now, whichever of these headers gave its length.
        elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING") and b"_" not in name:
            environ[f"HTTP_{key}"] = value.decode("latin-1")
    return environ
