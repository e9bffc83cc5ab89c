"""The settings of one model: a small file beside its versions, which is watched as they are.

alone = true        # each request runs by itself, whatever the graph would allow
keep = true         # the model stays loaded, whatever memory others need
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from service.errors import TricepsError, nearest
from service.host.files import read_file
from service.repository.scan import SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE = 2**16
# The number of characters of a wrong value that a message repeats.
SHOWN = 100


class ModelSettingsError(TricepsError):
    """The file of a model's settings is invalid, or cannot be read."""


@dataclass(frozen=True)
class ModelSettings:
    """The settings of one model."""

    alone: bool = False
    """True if each request runs by itself."""
    keep: bool = False
    """True if the model stays loaded, whatever memory others need."""


DEFAULTS = ModelSettings()
# The settings of a model whose file cannot be read at first: safe, and at most slower.
CAREFUL = ModelSettings(alone=True)
KEYS = tuple(field.name for field in fields(ModelSettings))


def read(file: Path) -> ModelSettings:
    """Read a model's settings.

    Raises:
        ModelSettingsError: the file cannot be read, or has an unknown key or an invalid value.
    """
    try:
        values = tomllib.loads(read_file(file, MAX_FILE).decode())
    except OSError as error:
        raise ModelSettingsError(f"{SETTINGS}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        message = f"{SETTINGS}: expected TOML like alone = true: {error}"
        raise ModelSettingsError(message) from error
    for key, value in values.items():
        if key not in KEYS:
            message = (
                f"{SETTINGS}: expected keys out of {', '.join(KEYS)}, "
                f"received {key[:SHOWN]!r}{nearest(key, KEYS)}"
            )
            raise ModelSettingsError(message)
        if not isinstance(value, bool):
            received = repr(value)[:SHOWN]
            message = f"{SETTINGS}, {key}: expected true or false, received {received}"
            raise ModelSettingsError(message)
    return ModelSettings(**values)
