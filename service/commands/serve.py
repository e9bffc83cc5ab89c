"""`triceps serve`: the service with its own HTTP server, by default one process per processor."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shlex
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

# A worker computes in one thread, and reading rows of JSON gives BLAS no work: its threads would
# only hold memory.  The variable is read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from service import __version__
from service import settings as all_settings
from service.commands import address, other_files
from service.errors import ModelRefused, Shortage, TricepsError, printable
from service.host import descriptors, memory, processors
from service.http import access, tls
from service.http.http2 import opening
from service.observability import logs
from service.repository.scan import is_one_file, look

if TYPE_CHECKING:
    from service.inference.execution import Execution
    from service.repository.repository import Repository
    from service.repository.scan import Version
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
    # Imported late, as those below: help and completion need no ONNX Runtime.
    from service.observability import samples

    samples.check(settings)
    scan = look(settings.models, settings.model_name)
    other_files.check(settings.models, scan)
    from service.repository import sandbox
    from service.repository.assembly import open_repository
    from service.repository.model_settings import DEFAULTS
    from service.server.listening import listen
    from service.server.supervisor import Workers

    # Before the first fork, so that all processes log in the same way.
    logs.set_up()
    descriptors.raise_limit()
    # Read here, so that an error stops the command with one line; the workers inherit both.
    accessible = access.Access.open(settings.tokens_file)
    offered = opening.offered(settings.protocols)
    encrypted = tls.of(settings.tls_certificate, settings.tls_key, offered)
    settings = replace(
        settings,
        workers=settings.workers or processors.available(),
        memory=settings.memory or memory.limit() // 2,
    )
    # The keeper starts first: each model is tried in a sandbox before any process loads it.
    with sandbox.kept(settings.workers, settings.cache) as keeper:
        if settings.default_model and settings.default_model not in scan.by_name:
            # It may be a view, of which only the file knows; a misspelled name is an error now.
            open_repository(settings.models, settings.default_model, settings.policy)
        with listen(settings) as listener:
            if is_one_file(settings.models):
                _try(scan.versions[0], DEFAULTS.execution(settings.provider))
            if (warning := access.warning(settings.host, settings.tokens_file)) is not None:
                log.warning("%s", warning)
            workers = Workers(settings, listener, keeper, accessible, encrypted)
            code = workers.run(greet=partial(_greet, settings))
    if code:
        raise click.exceptions.Exit(code)


def _try(found: Version, execution: Execution) -> None:
    """Try the only file that is to be served, in the sandbox; the workers rely on the verdict.

    Raises:
        ModelRefused: the file cannot be served.
    """
    from service.repository.loader import try_out
    from service.repository.reasons import plain

    try:
        # If the machine is short of something, the workers try again, and the greeting says why.
        with contextlib.suppress(Shortage):
            try_out(found, execution)
    except ModelRefused as error:
        raise ModelRefused(f"{found.path}: refused, {plain(str(error))}") from error


def _greet(settings: Settings, repository: Repository) -> None:
    """Print what is served and where, or why nothing is served yet.

    Args:
        settings: the settings of the service.
        repository: what all workers serve now.
    """
    url = address.url(settings, settings.host)
    # A worker prints this, which has to serve even if nobody can read it.
    with contextlib.suppress(OSError, UnicodeError):
        # Standard output has the lines of the access log alone, if there is one.
        echo = log.info if settings.access_log == "on" else click.echo
        if (reason := repository.reason_not_ready()) is not None:
            waits = f"Triceps {__version__} waits on {url}, and serves nothing yet: {reason}"
            echo(printable(waits))
            if not repository.names() and not repository.refused:
                models = shlex.quote(str(settings.models))
                echo("Make one, from a table or a spec:")
                echo("  triceps init TABLE.csv --head COLUMN")
                echo(printable(f"  triceps train SPEC.toml --models {models}"))
            return
        echo(printable(f"Triceps {__version__} serves {settings.models} on {url}"))
        own = address.url(settings, address.own_host(settings))
        page = f"Try it at {own}/console/ in a browser" if settings.console == "on" else ""
        if (model := _to_try(repository)) is not None:
            echo(printable(f"{page}, or in a shell:" if page else "Try it:"))
            echo(printable(f"  {_command(settings, model, own)}"))
        elif page:
            echo(printable(f"{page}."))


def _command(settings: Settings, model: str, url: str) -> str:
    """Return a line for the user's shell that asks a model for its example and posts it back."""
    curl = "curl -sS"
    if settings.tls_certificate:
        # The certificate itself is trusted, since few that are tried first have a known authority.
        curl += f" --cacert {shlex.quote(settings.tls_certificate)}"
    if settings.tokens_file:
        # The shell has to fill in the token: the service knows only its hash.
        curl += ' -H "Authorization: Bearer $TOKEN"'
    models = f"{url}/models/{model}"
    # Quoted where it matters: zsh would take the brackets of an IPv6 address for a pattern.
    example, predict = shlex.quote(f"{models}/example"), shlex.quote(f"{models}/predict")
    json = "-H 'Content-Type: application/json' -d @-"
    return f"{curl} {example} | {curl} {json} {predict}"


def _to_try(repository: Repository) -> str | None:
    """Return a model that serves and has an example, preferably the default model."""
    names = sorted(repository.serving, key=lambda name: (name != repository.default, name))
    with_example = (name for name in names if not repository.serving[name].proof.no_example)
    return next(with_example, None)
