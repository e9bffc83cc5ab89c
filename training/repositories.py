"""The model repository that training publishes into: its option, its folder, and its files."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from service import settings as all_settings
from service.metadata import METADATA_KEY
from service.settings import Settings
from training.errors import SpecError

_setting = next(entry for entry in fields(Settings) if entry.name == "models")
models = click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    help=(
        "The model repository to publish into.  "
        f"[{all_settings.variable(_setting)}; default {_setting.default}]"
    ),
)


def folder(option: Path | None) -> Path:
    """Return the model repository: the option's, or else that of the settings."""
    chosen = all_settings.load(models=option).models
    if chosen.is_file():
        variable = all_settings.variable(_setting)
        raise SpecError(f"{variable}: expected a folder to publish into, received {str(chosen)!r}")
    return chosen


def signature_of(file: Path) -> dict[str, Any]:
    """Return the JSON of a model's signature; empty if the file cannot be read or has none."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(file, load_external_data=False)
        notes = {entry.key: entry.value for entry in graph.metadata_props}
        return dict(json.loads(notes[METADATA_KEY]))
    except (OSError, DecodeError, ValueError, KeyError, TypeError):
        return {}  # the service reports what is wrong with that file
