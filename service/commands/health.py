"""`triceps health`: the readiness of the service on this machine, for a container's probe.

The module imports nothing of the server, since a probe starts this program every few seconds.
"""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from typing import TYPE_CHECKING

import click

from service import settings as all_settings
from service.commands import address, options
from service.errors import TricepsError

if TYPE_CHECKING:
    from service.settings import Settings

PATH = "/readyz"
READY = 200
TLS = "TRICEPS_TLS_CERTIFICATE"
# A service that needs longer than this for such a small page has no time for predictions either.
SECONDS = 3
# Bytes of its page that are read.
_MOST = 2**16


class NotHealthy(TricepsError):
    """The service does not answer, or answers that it is not ready."""


_EXAMPLE = "\b\nExample:\n  triceps health && echo ready\n  triceps health --port 9000\n"


@click.command(short_help="Ask the service whether it is ready.", epilog=_EXAMPLE)
@click.option("--host", help="The host that the service listens on [TRICEPS_HOST, HOST].")
@click.option("--port", help="Its port [TRICEPS_PORT, PORT].")
@options.as_json
def health(host: str | None, port: str | None, *, as_json: bool) -> None:
    """Ask the service that runs with these settings whether it is ready.

    The environment variables HOST and PORT say where, as for `triceps serve`, and with
    TRICEPS_TLS_CERTIFICATE the service is asked over TLS.  The exit code is 0
    if the service is ready; else it is 1, and the reason is printed.
    """
    url = _ask(all_settings.load(host=host, port=port))
    if as_json:
        options.print_json({"ready": True, "url": url})
    else:
        click.echo("ready")


def _ask(settings: Settings) -> str:
    """Return the URL that was asked, if the service is ready.

    Raises:
        NotHealthy: the service is not ready, or does not answer.
    """
    host = address.own_host(settings)
    connection = _connect(host, settings)
    where = f"{address.url(settings, host)}{PATH}"
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_MOST)
    except TimeoutError as error:
        raise NotHealthy(f"{where}: no answer within {SECONDS} s") from error
    except ConnectionRefusedError as error:
        raise NotHealthy(
            f"{where}: nothing listens there; start `triceps serve` with the same HOST and PORT"
        ) from error
    except ssl.SSLError as error:
        message = f"expected TLS, received something else: is {TLS} meant to be set here?"
        raise NotHealthy(f"{where}: {message}") from error
    except (RemoteDisconnected, ConnectionResetError) as error:
        message = "the connection was closed without an answer"
        if not settings.tls_certificate:
            message += f"; if the service is encrypted, set {TLS} here as for `triceps serve`"
        raise NotHealthy(f"{where}: {message}") from error
    except OSError as error:
        raise NotHealthy(f"{where}: no answer: {error}") from error
    except HTTPException as error:
        raise NotHealthy(f"{where}: expected HTTP, received {str(error)!r}") from error
    finally:
        connection.close()
    if status != READY:
        raise NotHealthy(f"{where}: {_reason(status, body)}")
    return where


def _connect(host: str, settings: Settings) -> HTTPConnection:
    if not settings.tls_certificate:
        return HTTPConnection(host, settings.port, timeout=SECONDS)
    # The certificate is for the host's public name, but the check uses the machine's own address.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, settings.port, timeout=SECONDS, context=context)


def _reason(status: int, body: bytes) -> str:
    """Return the reason that the service gives for not being ready."""
    try:
        page = json.loads(body)
        return f"{page['status']}: {page['reason']}"
    except (ValueError, KeyError, TypeError):
        return f"expected the page of `triceps serve`, received one with status {status}"
