"""`triceps serve`: the service with its own HTTP server, by default one process per processor."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

# A worker computes in one thread, and reading rows of JSON gives BLAS no work: its threads would
# only hold memory.  The variable is read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from service import __version__
from service import settings as all_settings
from service.errors import TricepsError, printable
from service.host import descriptors, processors
from service.http import access, tls
from service.observability import logs
from service.repository import sandbox
from service.repository.assembly import default_name, open_repository
from service.repository.scan import look

if TYPE_CHECKING:
    from service.settings import Settings


log = logging.getLogger(__name__)

_EXAMPLE = (
    "\b\nExample:\n  triceps serve --models models --port 8080\n  triceps serve my_model.onnx\n"
)


@click.command(short_help="Serve models over HTTP.", epilog=_EXAMPLE)
@click.argument("file", required=False, type=click.Path())
@all_settings.options
def serve(file: str | None, **flags: Any) -> None:
    """Serve every head of every model in a repository, or of one FILE.onnx."""
    if (system := platform.system()) != "Linux":
        # Triceps reads free memory, and limits the sandbox, in ways that only Linux offers.
        message = (
            f"operating system: expected Linux, received {system}; run the container (make image)"
        )
        raise TricepsError(message)
    if file is not None and flags["models"] is not None:
        message = "FILE and --models: expected one of them, received both"
        raise click.UsageError(message)
    settings = all_settings.load(**{**flags, "models": file or flags["models"]})
    names = look(settings.models).by_name.keys()
    from service.server.listening import listen
    from service.server.supervisor import Workers

    # Before the first fork, so that all processes log in the same way.
    logs.set_up()
    descriptors.raise_limit()
    # Read here, so that an error stops the command with one line; the workers inherit both.
    accessible = access.Access.open(settings.tokens_file)
    encrypted = tls.of(settings.tls_certificate, settings.tls_key)
    settings = replace(settings, workers=settings.workers or processors.available())
    # The keeper starts first: each model is tried in a sandbox before any process loads it.
    with sandbox.kept(settings.workers) as keeper:
        if settings.default_model and settings.default_model not in names:
            # It may be a view, of which only the file knows; a misspelled name is an error now.
            open_repository(settings.models, settings.default_model, settings.policy)
        with listen(settings) as listener:
            _greet(
                settings, default_name(settings.default_model, names) or min(names, default=None)
            )
            if (warning := access.warning(settings.host, settings.tokens_file)) is not None:
                log.warning("%s", warning)
            code = Workers(settings, listener, keeper, accessible, encrypted).run()
    if code:
        raise click.exceptions.Exit(code)


def _greet(settings: Settings, default: str | None) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "https" if settings.tls_certificate else "http"
    url = f"{scheme}://{host}:{settings.port}"
    click.echo(printable(f"Triceps {__version__} serves {settings.models} on {url}"))
    if default is not None:
        # The user's shell has to fill in the token: the service knows only its hash.
        curl = "curl -s" + (' -H "Authorization: Bearer $TOKEN"' if settings.tokens_file else "")
        click.echo("Try it:")
        click.echo(
            f"  {curl} {url}/models/{default}/example"
            f" | {curl} -H 'Content-Type: application/json' -d @- {url}/models/{default}/predict"
        )
