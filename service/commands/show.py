"""`triceps show`: a model's signature as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.commands import options
from service.host import progress

if TYPE_CHECKING:
    from pathlib import Path


_EXAMPLE = "\b\nExample:\n  triceps show triceps@1\n  triceps show my_model.onnx\n"


@click.command(short_help="Print a model's signature.", epilog=_EXAMPLE)
@options.model
@options.as_json
@options.models
def show(model: str, models: Path | None, *, as_json: bool) -> None:
    """Print the signature of MODEL: its inputs, features, heads and labels.

    MODEL is a path, or a name in the repository: triceps, triceps@2 for version 2, or
    triceps@stable for the version that the alias stable names.
    """
    from service.repository.named_model import open_model

    with progress.shown(f"loading {model}"):
        servable = open_model(model, models)
    if as_json:
        from service.api.descriptions import describe, in_force

        options.print_json({**describe(servable), **in_force(servable)})
    else:
        from service.loaded.signature_tables import write

        write(servable, options.console())
