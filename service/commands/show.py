"""`triceps show`: a model's signature as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service.commands import options

if TYPE_CHECKING:
    from pathlib import Path


_EXAMPLE = "\b\nExample:\n  triceps show triceps\n  triceps show my_model.onnx\n"


@click.command(short_help="Print a model's signature.", epilog=_EXAMPLE)
@click.argument("model")
@options.models
def show(model: str, models: Path | None) -> None:
    """Print the signature of MODEL: its inputs, features, heads and labels.

    MODEL is a path, or a name in the repository: triceps, triceps/2 for version 2, or
    triceps/stable for the version that the alias stable names.
    """
    from rich.console import Console

    from service.loaded.shown import write
    from service.repository.named_model import open_model

    servable = open_model(model, models)
    # Without markup, since brackets in names are plain text: `weight [kg]`.
    console = Console(markup=False, emoji=False, highlight=False)
    write(servable, console)
