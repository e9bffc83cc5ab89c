"""Every setting of the service, in one place.

A flag of `triceps serve` wins over `TRICEPS_<NAME>`, that over a plain `HOST` or `PORT`, and
that over the default.  Types and their messages are click's.
"""

from __future__ import annotations

import os
import re
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.errors import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "TRICEPS_"

# Kubernetes gives every container of a namespace variables about each Service in it.  For a
# Service that is called triceps these begin like ours, and TRICEPS_PORT even is ours: it is
# tcp://address:port there, which no port number is.
_KUBERNETES = re.compile(
    r"TRICEPS_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")


def _told(kind: click.ParamType[Any], about: str, also: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "about": about, "also": also}


@dataclass(frozen=True)
class Settings:
    """What the service can be told."""

    models: Path = field(
        default=Path("models"),
        metadata=_told(
            click.Path(path_type=Path),
            "The model repository, a folder that holds a model.onnx, or such a file.",
        ),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_told(click.STRING, "The address to listen on.", also="HOST"),
    )
    port: int = field(
        default=8080,
        metadata=_told(click.IntRange(1, 65535), "The port to listen on.", also="PORT"),
    )
    default_model: str = field(
        default="",
        metadata=_told(
            click.STRING,
            "The model that /predict asks; unless given, the only one there is, else triceps.",
        ),
    )
    max_body: int = field(
        default=64 * 2**20,
        metadata=_told(
            click.IntRange(1024, 2**31 - 1),
            "The largest body taken, in bytes, as sent and once inflated.",
        ),
    )
    workers: int = field(
        default=0,
        metadata=_told(
            click.IntRange(0, 512),
            "How many processes answer; 0: one for each processor that the container may use.",
        ),
    )
    threads: int = field(
        default=4,
        metadata=_told(
            click.IntRange(1, 512), "How many requests but predictions a process answers at once."
        ),
    )
    policy: str = field(
        default="latest",
        metadata=_told(
            click.Choice(["latest", "all", "pinned"]),
            "Which versions are loaded: the latest of each model, all, or those with an alias, of "
            "which stable serves.",
        ),
    )
    watch: float = field(
        default=1,
        metadata=_told(
            click.FloatRange(0, 3600),
            "The seconds between two looks for new versions and aliases; 0: never.",
        ),
    )


def variable(entry: Field[Any]) -> str:
    """The environment variable of a setting."""
    return PREFIX + entry.name.upper()


def flag(entry: Field[Any]) -> str:
    """The flag of a setting."""
    return "--" + entry.name.replace("_", "-")


def load(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings from the environment, and over it those that were given.

    Args:
        environ: the environment; this process' own by default.
        given: by name, as flags or a test have them; `None` is not given.

    Raises:
        SettingsError: a variable is not a setting, or its value is not one that it takes.
    """
    environ = os.environ if environ is None else environ
    known = {variable(entry): entry for entry in fields(Settings)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known and not _KUBERNETES.fullmatch(name):
            # What all of them begin with would make any name look near to some of them.
            bare = [setting.removeprefix(PREFIX) for setting in known]
            close = nearest(name.removeprefix(PREFIX), bare).replace("'", f"'{PREFIX}", 1)
            message = (
                f"{name}: expected a setting, there is none of that name{close}. "
                f"Available: {', '.join(known)}"
            )
            raise SettingsError(message)
    values = {}
    for name, entry in known.items():
        # An empty value is as good as none: `make serve HOST=` gives one, and so may a manifest.
        if given.get(entry.name) not in (None, ""):
            values[entry.name] = _convert(entry, flag(entry), given[entry.name])
            continue
        for source in (name, entry.metadata["also"]):
            text = environ.get(source or "", "")
            if text and not (entry.name == "port" and _KUBERNETES_PORT.fullmatch(text)):
                values[entry.name] = _convert(entry, source, text)
                break
    return Settings(**values)


def _convert(entry: Field[Any], source: str, value: Any) -> Any:
    kind = entry.metadata["kind"]
    try:
        return kind.convert(value, None, None)
    except click.UsageError as error:
        message = (
            f"{source}: expected {_expected(kind)}, received {value!r}. Default: {entry.default}"
        )
        raise SettingsError(message) from error


def _expected(kind: Any) -> str:
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(kind.choices)}"
    whole = "whole " if isinstance(kind, click.IntRange) else ""
    return f"a {whole}number from {kind.min} to {kind.max}"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command one flag per setting."""
    for entry in reversed(fields(Settings)):
        default = entry.default if entry.default != "" else None
        about = f"{entry.metadata['about']}  [{variable(entry)}"
        about += f", {entry.metadata['also']}" if entry.metadata["also"] else ""
        about += f"; default {default}]" if default is not None else "]"
        kind = entry.metadata["kind"]
        command = click.option(flag(entry), entry.name, type=kind, help=about)(command)
    return command
