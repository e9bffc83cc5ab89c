"""The options that several commands have, and that mean the same in each."""

from __future__ import annotations

from pathlib import Path

import click

models = click.option(
    "--models", type=click.Path(path_type=Path), help="The repository [TRICEPS_MODELS]."
)
