"""The listening socket of a service."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from service.errors import TricepsError

if TYPE_CHECKING:
    from service.settings import Settings

BACKLOG = 2048


class CannotListenError(TricepsError):
    """The address is in use, or this process may not listen on it."""


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket.

    Raises:
        CannotListenError: the port is in use, or the address is not one of this machine.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CannotListenError(
            f"cannot listen on {where}: {error.strerror}; choose another with --port or --host"
        ) from error
    listener.setblocking(False)
    return listener
