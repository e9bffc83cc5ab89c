"""The address at which this machine reaches its own service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.settings import Settings

# A service that listens on all addresses is reached on the loopback address.
_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  looked up here, not listened on


def own_host(settings: Settings) -> str:
    """Return the host at which a service with these settings is reached from its own machine."""
    return _OWN.get(settings.host, settings.host)


def url(settings: Settings, host: str) -> str:
    """Return the URL of a service, without a path.

    Args:
        settings: the settings of the service, with its port and whether it is encrypted.
        host: a name or an address of its host.
    """
    bracketed = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls_certificate else "http"
    return f"{scheme}://{bracketed}:{settings.port}"
