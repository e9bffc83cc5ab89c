"""Every setting of the service, in one place.

A flag of `triceps serve` wins over `TRICEPS_<NAME>`, that over a plain `HOST` or `PORT`, and
that over the default.  Types and their messages are click's.  The file is long with the settings
themselves, and is one idea: to add one is to add a field.
"""

from __future__ import annotations

import errno
import math
import os
import re
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.errors import SettingsError, nearest
from service.http import cors

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


def _told(kind: click.ParamType[Any], about: str, *also: str) -> dict[str, Any]:
    """A setting's type, what it is, and variables that platforms set and it takes as well."""
    return {"kind": kind, "about": about, "also": also}


class _Number(click.FloatRange):
    """A number in a range; NaN, which no comparison finds outside of one, is in none."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self.min} to {self.max}", param, ctx)
        return number


class _Route(click.ParamType[str]):
    """A path of a URL."""

    name = "path"
    expected = "a path that begins with /"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The path."""
        # Half a surrogate pair is how Python has a byte that is no UTF-8.
        if not re.fullmatch(r"/[^<>?#\s\ud800-\udfff]*", value):
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


_ROUTE = _Route()


class _Host(click.ParamType[str]):
    """A host's name or address."""

    name = "host"
    expected = "the name or the address of a host"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The name."""
        try:
            value.encode("idna")
        except UnicodeError:  # what the look-up of a name would end with
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


class _Origins(click.ParamType[str]):
    """A list of origins."""

    name = "origins"
    expected = cors.EXPECTED

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The list, as text."""
        try:
            cors.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@dataclass(frozen=True)
class Settings:
    """What the service can be told."""

    models: Path = field(
        default=Path("models"),
        metadata=_told(
            # Whether it can be read is seen, and said with the way out, by who reads it.
            click.Path(readable=False, path_type=Path),
            "The model repository, a folder that holds a model.onnx, or such a file; the variable "
            "may have several, with a colon between, and the first that there is counts.",
        ),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_told(_Host(), "The address to listen on.", "HOST"),
    )
    port: int = field(
        default=8080,
        metadata=_told(
            click.IntRange(1, 65535),
            "The port to listen on.",
            *("PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
        ),
    )
    default_model: str = field(
        default="",
        metadata=_told(
            click.STRING,
            "The model that /predict asks; unless given, the only one there is, else triceps.",
        ),
    )
    max_body: int = field(
        default=16 * 2**20,
        metadata=_told(
            click.IntRange(1024, 2**31 - 1),
            "The largest body taken, in bytes, as sent and once inflated.",
        ),
    )
    max_in_flight: int = field(
        default=128 * 2**20,
        metadata=_told(
            click.IntRange(1024, 2**40),
            "The bytes of all bodies that a process holds at once, shared out between connections; "
            "who brings more is refused. Answers that wait to be read may take half as many again.",
        ),
    )
    queue: float = field(
        default=0.1,
        metadata=_told(
            _Number(0, 3600),
            "The longest queue of a model, in seconds of its work, and a fifth of it while too "
            "much keeps coming; who would wait longer is refused.",
        ),
    )
    timeout: float = field(
        default=30,
        metadata=_told(
            _Number(0, 3600, min_open=True),
            "The seconds after which a request is not run any more, unless it says so itself.",
        ),
    )
    grace: float = field(
        default=2,
        metadata=_told(
            _Number(0, 600),
            "The seconds between SIGTERM, from when it is not ready, and the end of listening.",
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
            _Number(0, 3600),
            "The seconds between two looks for new versions and aliases; 0: never.",
        ),
    )
    tokens_file: str = field(
        default="",
        metadata=_told(
            click.Path(),
            "The file of the tokens without which nobody is answered; `triceps token` writes it.",
        ),
    )
    tls_certificate: str = field(
        default="",
        metadata=_told(
            click.Path(),
            "The certificate by which connections are encrypted (TLS 1.2 or later), in PEM.",
        ),
    )
    tls_key: str = field(
        default="",
        metadata=_told(
            click.Path(),
            "The key of that certificate, in PEM; unless given, it is in the same file.",
        ),
    )
    cors: str = field(
        default="",
        metadata=_told(
            _Origins(),
            "The origins whose pages may read answers in a browser, with commas in between; *: "
            "all.",
        ),
    )
    predict_route: str = field(
        default="",
        metadata=_told(
            _ROUTE,
            "One more path that predicts by the default model, in TensorFlow Serving's form, as "
            "Vertex AI names it.",
            "AIP_PREDICT_ROUTE",
        ),
    )
    health_route: str = field(
        default="",
        metadata=_told(
            _ROUTE,
            "One more path that says whether the default model is ready, as Vertex AI names it.",
            "AIP_HEALTH_ROUTE",
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
        for source in (name, *entry.metadata["also"]):
            text = environ.get(source, "")
            if text and not (entry.name == "port" and _KUBERNETES_PORT.fullmatch(text)):
                text = _first_there(text) if entry.name == "models" else text
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


def _first_there(text: str) -> str:
    """Of several paths with a colon between, the first that there is; else the first.

    An image has one default for all the places where platforms mount models.
    """
    paths = [path for path in text.split(os.pathsep) if path]
    return next(filter(_is_there, [text, *paths]), paths[0] if paths else text)


def _is_there(path: str) -> bool:
    try:
        Path(path).stat()
    except OSError as error:
        # What may not be looked at is there, and an error: the next place has other models.
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def _expected(kind: Any) -> str:
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(kind.choices)}"
    if isinstance(kind, _Route | _Host | _Origins):
        return kind.expected
    whole = "whole " if isinstance(kind, click.IntRange) else ""
    return f"a {whole}number from {kind.min} to {kind.max}"


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command one flag per setting."""
    for entry in reversed(fields(Settings)):
        default = entry.default if entry.default != "" else None
        about = f"{entry.metadata['about']}  [{variable(entry)}"
        about += "".join(f", {name}" for name in entry.metadata["also"])
        about += f"; default {default}]" if default is not None else "]"
        kind = entry.metadata["kind"]
        command = click.option(flag(entry), entry.name, type=kind, help=about)(command)
    return command
