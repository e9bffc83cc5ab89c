"""TLS: the service's certificate and key, reloaded when their files change.

A new connection uses the new pair; open connections keep the one that they began with.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, NoReturn

from service.errors import SettingsError
from service.host.files import read_file
from service.host.watched import Watched, stamp, warn_of_readers

log = logging.getLogger(__name__)

# The time that a client may take for the TLS handshake, and to confirm that TLS has ended.
HANDSHAKE_SECONDS = 10
SHUTDOWN_SECONDS = 1
# Room for some hundreds of certificates; a larger file is something else.
MAX_FILE = 2**20

# The name of HTTP/1.1 among the protocols that TLS agrees on (RFC 7301).
HTTP1 = ("http/1.1",)

CERTIFICATE = "TRICEPS_TLS_CERTIFICATE"
KEY = "TRICEPS_TLS_KEY"


class Tls:
    """A certificate and its key, which may be replaced while they are used."""

    def __init__(self, certificate: Path, key: Path, protocols: tuple[str, ...] = HTTP1) -> None:
        """Load both.

        Args:
            certificate: the path of the certificate.
            key: the path of its key.
            protocols: the protocols to offer to clients (ALPN), the preferred one first.

        Raises:
            SettingsError: a file cannot be read, or they are not a pair.
        """
        self._files = Watched(
            lambda: _look_at(certificate, key),
            # Into a new context, not the one in use: if only one of the files has been replaced so
            # far, that one would be left with half a pair.
            lambda: context(certificate, key, protocols),
            lambda _: log.info("%s: has changed, and is used from now on", certificate),
            lambda error: log.error("%s; the previous certificate stays in use", error),
        )
        self.handshake_seconds: float = HANDSHAKE_SECONDS
        """The time that a client may take for the handshake."""
        warn_of_readers(key, log)

    def options(self) -> dict[str, Any]:
        """Return the event loop's arguments for a new connection."""
        return {
            "ssl": self.context(),
            "ssl_handshake_timeout": self.handshake_seconds,
            "ssl_shutdown_timeout": SHUTDOWN_SECONDS,
        }

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for a new connection."""
        return self._files.current()

    def look_again(self) -> None:
        """Have the files checked for changes before the next connection."""
        self._files.look_again()


def of(certificate: str, key: str, protocols: tuple[str, ...] = HTTP1) -> Tls | None:
    """Return the TLS of two settings, or `None` if neither is set.

    Args:
        certificate: the path of the certificate; empty if it is not set.
        key: the path of the key; empty if it is not set, and the certificate's file has the key.
        protocols: the protocols to offer to clients, the preferred one first.

    Raises:
        SettingsError: the key is set without a certificate, a file cannot be read, or they are not
            a pair.
    """
    if certificate:
        return Tls(Path(certificate), Path(key or certificate), protocols)
    if key:
        raise SettingsError(f"{KEY}: expected {CERTIFICATE} beside it, received none")
    return None


def context(certificate: Path, key: Path, protocols: tuple[str, ...] = HTTP1) -> ssl.SSLContext:
    """Return a TLS context with a certificate.

    Args:
        certificate: a PEM file with the certificate, followed by its chain to a known authority.
        key: a PEM file with the certificate's key; it may be the same file.
        protocols: the protocols to offer to clients, the preferred one first.

    Raises:
        SettingsError: a file cannot be read, or they are not a pair.
    """
    tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls_context.minimum_version = ssl.TLSVersion.TLSv1_2
    tls_context.set_alpn_protocols(list(protocols))
    _read(certificate, CERTIFICATE)
    if b"PRIVATE KEY-----" not in _read(key, KEY):
        raise SettingsError(f"{KEY}: expected a key in PEM, received a file without one: {key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError as error:
        message = f"{CERTIFICATE}: expected a certificate in PEM, received something else: "
        raise SettingsError(f"{message}{certificate}") from error
    try:
        # Without this callback, OpenSSL would ask for the passphrase at the terminal.
        tls_context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except _Locked as error:
        raise SettingsError(f"{KEY}: expected a key without a passphrase: {key}") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{KEY}: expected the key of {certificate}, received another's: {key}"
        else:
            message = f"{KEY}: expected the key of {certificate}, received something else: {key}"
        raise SettingsError(message) from error
    return tls_context


class _Locked(Exception):
    """An error that says that a key has a passphrase."""


def _refuse_to_ask() -> NoReturn:
    raise _Locked


def _read(path: Path, setting: str) -> bytes:
    try:
        return read_file(path, MAX_FILE)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from error


def _look_at(certificate: Path, key: Path) -> tuple[tuple[int, ...], ...]:
    return tuple(
        _stamp(path, setting) for path, setting in ((certificate, CERTIFICATE), (key, KEY))
    )


def _stamp(path: Path, setting: str) -> tuple[int, ...]:
    try:
        return stamp(path)
    except OSError as error:
        raise SettingsError(f"{setting}: {path} cannot be read: {error.strerror}") from error
