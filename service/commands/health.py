"""`triceps health`: whether the service on this machine is ready, for a container's probe.

Imports nothing that serves: a probe comes every few seconds, and pays for its start each time.
"""

from __future__ import annotations

import json
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING

import click

from service import settings as all_settings
from service.errors import TricepsError

if TYPE_CHECKING:
    from service.settings import Settings

PATH = "/readyz"
READY = 200
# A service that takes longer for so little has no time for predictions either.
SECONDS = 3
# To listen on every address is to listen on this machine's own one too.
_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where from, not where to listen


class NotHealthy(TricepsError):
    """The service does not answer, or says itself that it is not ready."""


_EXAMPLE = "\b\nExample:\n  triceps health && echo it may be asked\n  PORT=9000 triceps health\n"


@click.command(short_help="Ask the service whether it is ready.", epilog=_EXAMPLE)
def health() -> None:
    """Ask the service that runs with these settings whether it is ready.

    HOST and PORT say where, as they say it to `triceps serve`.  Ends with 0 if it is ready, and
    with 1 and the reason if not.
    """
    _ask(all_settings.load())
    click.echo("ready")


def _ask(settings: Settings) -> None:
    """Return if the service is ready.

    Raises:
        NotHealthy: it is not, or nothing answers there.
    """
    host = _OWN.get(settings.host, settings.host)
    connection = _connect(host, settings)
    bracketed = f"[{host}]" if ":" in host else host
    scheme = "https" if settings.tls_certificate else "http"
    where = f"{scheme}://{bracketed}:{settings.port}{PATH}"
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except TimeoutError as error:
        raise NotHealthy(f"{where}: no answer within {SECONDS} s") from error
    except ConnectionRefusedError as error:
        raise NotHealthy(
            f"{where}: nobody listens there; start `triceps serve` with the same HOST and PORT"
        ) from error
    except OSError as error:
        raise NotHealthy(f"{where}: no answer: {error}") from error
    except HTTPException as error:
        raise NotHealthy(f"{where}: expected HTTP, received {str(error)!r}") from error
    finally:
        connection.close()
    if status != READY:
        raise NotHealthy(f"{where}: {_reason(status, body)}")


def _connect(host: str, settings: Settings) -> HTTPConnection:
    if not settings.tls_certificate:
        return HTTPConnection(host, settings.port, timeout=SECONDS)
    # Its certificate is for the name that others call it by; it is asked on its own machine.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, settings.port, timeout=SECONDS, context=context)


def _reason(status: int, body: bytes) -> str:
    """What the service says is in the way."""
    try:
        said = json.loads(body)
        return f"{said['status']}: {said['reason']}"
    except (ValueError, KeyError, TypeError):
        return f"expected the page of `triceps serve`, received one with status {status}"
