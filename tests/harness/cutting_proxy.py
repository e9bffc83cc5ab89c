"""A proxy for tests, in front of a real server: it cuts answers, and gives some itself."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """A server in front of another; `troubles` are those of the next requests, by their path."""

    def __init__(self, port):
        """Listen on 127.0.0.1."""
        self._behind = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.troubles = {}
        self.seen = 0
        self.ranges = []
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        """Stop listening."""
        self._listener.close()

    def _run(self):
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(ours,), daemon=True).start()

    def _pass(self, ours):
        with ours, socket.create_connection(("127.0.0.1", self._behind)) as theirs:
            ours.settimeout(30)
            theirs.settimeout(30)
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    part = ours.recv(65536)
                    if not part:
                        return
                    request += part
                self.seen += 1
                lines = request.decode("latin-1").split("\r\n")
                self.ranges += [line for line in lines if line.lower().startswith("range:")]
                path = request.split(b" ", 2)[1].decode()
                waiting = [t for part, t in self.troubles.items() if part in path and t]
                trouble = waiting[0].pop(0) if waiting else None
                if isinstance(trouble, bytes):
                    ours.sendall(trouble)
                    return
                theirs.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                left = trouble
                while part := theirs.recv(65536):
                    ours.sendall(part if left is None else part[:left])
                    if left is not None:
                        left -= len(part)
                        if left <= 0:
                            return
            except OSError:
                return


def answer(status):
    """Return a whole answer without a body, after which the connection is closed."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
