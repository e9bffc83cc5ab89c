"""TLS: the service's certificate and key, as they are on disk now.

A new pair of files is noticed at the next connection; those that are open stay as they are.
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

# How long a client may take to begin, and to say that it has heard of the end.
HANDSHAKE_SECONDS = 10
SHUTDOWN_SECONDS = 1
# Some hundreds of certificates; a file of another size is something else.
MAX_FILE = 2**20

CERTIFICATE = "TRICEPS_TLS_CERTIFICATE"
KEY = "TRICEPS_TLS_KEY"


class Tls:
    """A certificate and its key, which may be replaced while they are used."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Load both.

        Raises:
            SettingsError: one cannot be read, or they are no pair.
        """
        self._files = Watched(
            lambda: _look_at(certificate, key),
            # Not into the context that is in use: where only one of the files has been replaced so
            # far, that would be left with half a pair.
            lambda: context(certificate, key),
            lambda _: log.info("%s: has changed, and is used from now on", certificate),
            lambda error: log.error("%s; the certificate of before is used", error),
        )
        warn_of_readers(key, log)

    def options(self) -> dict[str, Any]:
        """What an event loop has to be told of a connection that comes now."""
        return {
            "ssl": self.context(),
            "ssl_handshake_timeout": HANDSHAKE_SECONDS,
            "ssl_shutdown_timeout": SHUTDOWN_SECONDS,
        }

    def context(self) -> ssl.SSLContext:
        """What a connection that comes now is to be greeted with."""
        return self._files.current()

    def look_again(self) -> None:
        """Look at the files before the next connection is greeted."""
        self._files.look_again()


def of(certificate: str, key: str) -> Tls | None:
    """That of two settings, each empty if it is not set; `None` where there is to be none.

    Raises:
        SettingsError: there is a key alone, or as for `Tls`.
    """
    if certificate:
        return Tls(Path(certificate), Path(key or certificate))
    if key:
        raise SettingsError(f"{KEY}: expected {CERTIFICATE} beside it, received none")
    return None


def context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What greets connections with a certificate.

    Args:
        certificate: a file in PEM: its certificate, and then those that lead up to a known one.
        key: a file in PEM with the certificate's key, which may be the same file.

    Raises:
        SettingsError: one cannot be read, or they are no pair.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # So that a client that also speaks HTTP/2 does not.
    made.set_alpn_protocols(["http/1.1"])
    _read(certificate, CERTIFICATE)
    if b"PRIVATE KEY-----" not in _read(key, KEY):
        raise SettingsError(f"{KEY}: expected a key in PEM, received a file without one: {key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError as error:
        message = f"{CERTIFICATE}: expected a certificate in PEM, received something else: "
        raise SettingsError(f"{message}{certificate}") from error
    try:
        # Without one, OpenSSL would ask at the terminal for the passphrase.
        made.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except _Locked as error:
        raise SettingsError(f"{KEY}: expected a key without a passphrase: {key}") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{KEY}: expected the key of {certificate}, received another's: {key}"
        else:
            message = f"{KEY}: expected the key of {certificate}, received something else: {key}"
        raise SettingsError(message) from error
    return made


class _Locked(Exception):
    """A key has a passphrase."""


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
