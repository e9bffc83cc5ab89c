"""A server on 127.0.0.1 that says whatever a test wants, so that clients meet hostile ones."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Said(NamedTuple):
    """An answer; a content that is no bytes is JSON."""

    content: Any = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class _Handler(BaseHTTPRequestHandler):
    server: Saying

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        said = self.server.say(self.path)
        content = said.content
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        with contextlib.suppress(OSError):
            self.send_response(said.status)
            for name, value in (("Content-Length", str(len(content))), *said.headers):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


class Saying(ThreadingHTTPServer):
    """The server, and what it was asked for: paths, each with the credentials."""

    daemon_threads = True
    say: Callable[[str], Said]
    asked: list[tuple[str, str | None]]

    @property
    def host(self) -> str:
        """Return its address, with its port."""
        return f"127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def saying(say: Callable[[str], Said]) -> Iterator[Saying]:
    """Yield a server whose answers to paths are those of a function."""
    server = Saying(("127.0.0.1", 0), _Handler)
    server.say, server.asked = say, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
