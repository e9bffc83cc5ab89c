"""`triceps serve`: the service on its own HTTP front, a process for each processor."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

# A worker computes in one thread, and rows of JSON are no work for BLAS: its threads would only
# hold memory.  Read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from service import __version__, cpus, trial
from service import settings as all_settings
from service.repository import default_name, open_repository
from service.scan import look

if TYPE_CHECKING:
    from service.settings import Settings


_EXAMPLE = (
    "\b\nExample:\n  triceps serve --models models --port 8080\n  triceps serve my_model.onnx\n"
)


@click.command(short_help="Serve models over HTTP.", epilog=_EXAMPLE)
@click.argument("file", required=False, type=click.Path())
@all_settings.options
def serve(file: str | None, **flags: Any) -> None:
    """Serve every head of every model in a repository, or of one FILE.onnx."""
    if file is not None and flags["models"] is not None:
        message = "FILE and --models: expected one of them, received both"
        raise click.UsageError(message)
    settings = all_settings.load(**{**flags, "models": file or flags["models"]})
    names = look(settings.models).by_name.keys()
    from service.workers import Workers, listen

    settings = replace(settings, workers=settings.workers or cpus.available())
    # No process loads a model that has not been tried in another.
    with trial.kept(settings.workers):
        if settings.default_model and settings.default_model not in names:
            # A view, perhaps, which only its file knows of; or a slip, which is better said now.
            open_repository(settings.models, settings.default_model, settings.policy)
        with listen(settings) as listener:
            _greet(
                settings, default_name(settings.default_model, names) or min(names, default=None)
            )
            logging.basicConfig(
                level=logging.INFO, format="%(levelname)s %(process)d %(name)s: %(message)s"
            )
            code = Workers(settings, listener).run()
    if code:
        raise click.exceptions.Exit(code)


def _greet(settings: Settings, default: str | None) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{settings.port}"
    click.echo(f"Triceps {__version__} serves {settings.models} on {url}")
    if default is not None:
        click.echo("Try it:")
        click.echo(
            f"  curl -s {url}/models/{default}/example"
            f" | curl -s -H 'Content-Type: application/json' -d @- {url}/models/{default}/predict"
        )
