"""The opening of a connection, which tells HTTP/2 from HTTP/1.1.

TLS that has agreed on "h2" ─────────┬─▶ HTTP/2
the preface of HTTP/2 (RFC 9113, 3.4) ┘
anything else ────────────────────────▶ HTTP/1.1
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from service.http.connection import Connection
from service.http.http2.connection import Http2Connection
from service.http.http2.frames import PREFACE
from service.http.tls import HTTP1

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.http.connections import Connections
    from service.http.http2.connection import StreamHandler

# The value of the setting that offers HTTP/2 too.
BOTH = "http1,http2"
# The name of HTTP/2 among the protocols that TLS agrees on.
_ALPN = "h2"


def offered(protocols: str) -> tuple[str, ...]:
    """Return the protocols to offer in TLS, for a value of the setting."""
    return (_ALPN, *HTTP1) if protocols == BOTH else HTTP1


def accept(
    protocols: str, connections: Connections, handler: StreamHandler, on_closed: Callable[[], None]
) -> asyncio.Protocol:
    """Return the asyncio protocol of a new connection.

    Args:
        protocols: a value of the setting.
        connections: the state that it shares with the other connections of its worker.
        handler: answers its requests.
        on_closed: called once the connection is closed.
    """
    http1 = Connection(connections, handler, on_closed)
    if protocols != BOTH:
        return http1
    return Opening(http1, lambda: Http2Connection(connections, handler, on_closed))


class Opening(asyncio.Protocol):
    """The asyncio protocol of a connection until its own protocol is known."""

    def __init__(self, http1: Connection, http2: Callable[[], Http2Connection]) -> None:
        """Wait for the first bytes.

        Args:
            http1: the connection if it is HTTP/1.1; until that is known, its timeouts apply.
            http2: makes the connection if it is HTTP/2.
        """
        self._http1 = http1
        self._http2 = http2
        self._begun = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Choose by what TLS has agreed on, if it has."""
        self._transport = cast("asyncio.Transport", transport)
        encrypted = transport.get_extra_info("ssl_object")
        if encrypted is not None and encrypted.selected_alpn_protocol() == _ALPN:
            self._become_http2()
        else:
            self._http1.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Choose by the first bytes, once there are enough."""
        begun = self._begun = self._begun + data if self._begun else data
        if begun.startswith(PREFACE):
            self._http1.leave()
            self._become_http2().data_received(begun)
        elif not PREFACE.startswith(begun):
            self._become_http1()
            self._http1.data_received(begun)

    def eof_received(self) -> bool:
        """Leave what has come to HTTP/1.1."""
        self._become_http1()
        if self._begun:
            self._http1.data_received(self._begun)
        return self._http1.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._http1.connection_lost(exc)

    def _become_http1(self) -> None:
        self._transport.set_protocol(self._http1)

    def _become_http2(self) -> Http2Connection:
        http2 = self._http2()
        self._transport.set_protocol(http2)
        http2.connection_made(self._transport)
        return http2
