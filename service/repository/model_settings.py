"""The settings of one model: a small file beside its versions, which is watched as they are.

alone = true        # each request runs by itself, whatever the graph would allow
keep = true         # the model stays loaded, whatever memory others need
threads = 2         # the threads that compute one run, or "auto"
rows = 16           # the most rows of a run
queue = 0.5         # the seconds of work that may wait, in place of TRICEPS_QUEUE
timeout = 5         # the seconds after which a request is no longer run, or TRICEPS_TIMEOUT
provider = "CUDAExecutionProvider"          # runs the model, in place of TRICEPS_PROVIDER
provider_options = { device_id = "0" }      # the options of that provider
private = ["insurance.age", "digit"]        # inputs and features that are never sampled
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from service.errors import TricepsError, nearest
from service.host.files import read_file
from service.inference.execution import CPU, Execution
from service.inference.runner import MOST_ROWS
from service.repository.scan import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MAX_FILE = 2**16
# The number of characters of a wrong value that a message repeats.
SHOWN = 100
MOST_THREADS = 512
AUTO = "auto"
# Among the private inputs: all of them.
EVERYTHING = "*"
# The longest time in seconds, as in the settings of the service.
LONGEST = 3600


class ModelSettingsError(TricepsError):
    """The file of a model's settings is invalid, or cannot be read."""


@dataclass(frozen=True)
class ModelSettings:
    """The settings of one model."""

    alone: bool = False
    """True if each request runs by itself."""
    keep: bool = False
    """True if the model stays loaded, whatever memory others need."""
    threads: int | str = 1
    """The threads that compute one run; "auto" for all processors where a long run is alone."""
    rows: int = 0
    """The most rows of a run; 0 for as many as usual."""
    queue: float | None = None
    """The seconds of work that may wait; `None` for those of the service."""
    timeout: float | None = None
    """The seconds after which a request is no longer run; `None` for those of the service."""

    provider: str = ""
    """The execution provider; empty for that of the service."""
    provider_options: Mapping[str, str] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    """The inputs and features that are never sampled; `EVERYTHING` for all."""

    def execution(self, provider: str) -> Execution:
        """Return the settings that the sessions of the model are made with.

        Args:
            provider: the execution provider of the service; empty for that of the CPU.
        """
        options = tuple(sorted(self.provider_options.items()))
        threads = 1 if isinstance(self.threads, str) else self.threads
        is_auto = self.threads == AUTO
        return Execution(threads, is_auto, self.provider or provider or CPU, options)

    def as_json(self) -> dict[str, Any]:
        """Return what is set, as `/models/<name>` shows it."""
        return {key: value for key, value in vars(self).items() if value != getattr(DEFAULTS, key)}


DEFAULTS = ModelSettings()
# The settings of a model whose file cannot be read at first: safe, and at most slower.  It may
# call anything private.
CAREFUL = ModelSettings(alone=True, private=(EVERYTHING,))
KEYS = tuple(field.name for field in fields(ModelSettings))


def _is_whole(least: int, most: int) -> tuple[str, Callable[[Any], bool]]:
    def check(value: Any) -> bool:
        # In Python, a boolean is a whole number.
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return f"a whole number from {least} to {most}", check


def _is_seconds(value: Any) -> bool:
    # NaN is in no range.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= LONGEST


_FLAG = "true or false", lambda value: isinstance(value, bool)
# By key, the expected value for a message, and its check.
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "alone": _FLAG,
    "keep": _FLAG,
    "threads": (
        f'{_is_whole(1, MOST_THREADS)[0]}, or "{AUTO}"',
        lambda value: value == AUTO or _is_whole(1, MOST_THREADS)[1](value),
    ),
    "rows": _is_whole(1, MOST_ROWS),
    "queue": (f"seconds from 0 to {LONGEST}", _is_seconds),
    "timeout": (
        f"seconds above 0, up to {LONGEST}",
        lambda value: _is_seconds(value) and value > 0,
    ),
    "private": (
        f'names of inputs and features, such as ["insurance.age"], or ["{EVERYTHING}"] for all',
        lambda value: isinstance(value, list) and all(isinstance(v, str) and v for v in value),
    ),
    "provider": (
        f'the name of an execution provider, such as "{CPU}"',
        lambda value: isinstance(value, str) and bool(value),
    ),
    "provider_options": (
        'texts by name, such as { device_id = "0" }',
        lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    ),
}


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
        expected, is_right = _CHECKS[key]
        if not is_right(value):
            message = f"{SETTINGS}, {key}: expected {expected}, received {_shown(value)}"
            raise ModelSettingsError(message)
    if "provider_options" in values and "provider" not in values:
        message = f"{SETTINGS}, provider_options: expected a provider beside them, received none"
        raise ModelSettingsError(message)
    for name, value in values.get("provider_options", {}).items():
        # Some name a library that is loaded, or a file that is written.  The writers of the
        # repository need not have the rights of the service.
        if "/" in value:
            message = (
                f"{SETTINGS}, provider_options.{name[:SHOWN]}: expected no path to another folder, "
                f"received {_shown(value)}"
            )
            raise ModelSettingsError(message)
    if "private" in values:
        values["private"] = tuple(values["private"])
    return ModelSettings(**values)


def _shown(value: Any) -> str:
    """Return a wrong value as TOML writes it, cut at `SHOWN`."""
    return (str(value).lower() if isinstance(value, bool) else repr(value))[:SHOWN]
