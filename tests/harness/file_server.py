"""A web server of files for tests, which cuts, throttles and replaces as it is told to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Answering:
    """One answer, which a trouble may change before it is sent."""

    content: bytes
    start: int
    status: int
    headers: dict[str, str]
    sent: int | None = None
    """The bytes of the body after which the connection is cut."""
    endless: bool = False


@dataclass
class Files:
    """What the server has, what it does next, and what it was asked for."""

    content: dict[str, bytes] = field(default_factory=dict)
    troubles: list[Callable[[Answering], None]] = field(default_factory=list)
    """What is done to the next answers, one for each; then all is well."""
    has_ranges: bool = True
    has_tags: bool = True
    has_digests: bool = False
    account: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


def status(code: int, **headers: str) -> Callable[[Answering], None]:
    """Return a trouble: an answer of another status."""

    def change(answer: Answering) -> None:
        answer.status, answer.content = code, b"no"
        answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return change


def cut(after: int) -> Callable[[Answering], None]:
    """Return a trouble: the connection is cut after so many bytes of the body."""

    def change(answer: Answering) -> None:
        answer.sent = after

    return change


def fine(_answer: Answering) -> None:
    """Do nothing, so that a later answer has the trouble."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        files = self.server.files
        path = self.path.partition("?")[0]
        files.requests.append({"path": self.path, **dict(self.headers)})
        content = files.content.get(path)
        answer = Answering(content or b"", 0, 200 if content is not None else 404, {})
        if content is not None:
            self._headers(answer, files)
        if files.account is not None:
            expected = base64.b64encode(files.account.encode()).decode()
            if self.headers.get("Authorization") != f"Basic {expected}":
                answer.status, answer.content = 401, b""
        if files.troubles:
            files.troubles.pop(0)(answer)
        self._send(answer)

    def _headers(self, answer: Answering, files: Files) -> None:
        digest = hashlib.sha256(answer.content)
        tag = f'"{digest.hexdigest()[:16]}"'
        if files.has_tags:
            answer.headers["ETag"] = tag
        if files.has_digests:
            stated = base64.b64encode(digest.digest()).decode()
            answer.headers["Repr-Digest"] = f"sha-256=:{stated}:"
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked and files.has_ranges and condition in (None, tag):
            start, size = int(asked[1]), len(answer.content)
            end = min(int(asked[2] or size - 1), size - 1)
            if start >= size:
                answer.status, answer.content = 416, b""
                answer.headers["Content-Range"] = f"bytes */{size}"
                return
            answer.status = 206
            answer.headers["Content-Range"] = f"bytes {start}-{end}/{size}"
            answer.content = answer.content[start : end + 1]

    def _send(self, answer: Answering) -> None:
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            if not answer.endless:
                answer.headers.setdefault("Content-Length", str(len(answer.content)))
            else:
                answer.headers["Transfer-Encoding"] = "chunked"
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.endless:
                # Bounded all the same, since a test may fail.
                for _ in range(10_000):
                    self.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            self.wfile.write(answer.content[: answer.sent])
        self.close_connection = True

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    files: Files

    def handle_error(self, *_arguments: object) -> None:
        """Print nothing: clients cut connections, too."""


@contextlib.contextmanager
def served(*, encrypted: bool = True) -> Iterator[Files]:
    """Yield the files of a server, which listens on 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = Files()
    if encrypted:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            pair = Path(folder) / "pair.pem"
            pair.write_text(certificates.A + certificates.A_KEY)
            context.load_cert_chain(pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.files.url = f"http{'s' * encrypted}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
