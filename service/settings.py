"""The settings of the service, their defaults and their checks.

A flag of `triceps serve` takes precedence over `TRICEPS_<NAME>`, this over a variable of a platform
such as `HOST` or `PORT`, and that over the default.  Types and their messages are click's.
The file is long with the settings themselves, and is one idea: to add one is to add a field.
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
from service.http import cors, forwarded
from service.names import NAME, NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "TRICEPS_"

# Kubernetes gives every container variables about each Service in its namespace.  For a Service
# that is called triceps, they begin like the settings, and TRICEPS_PORT even is a setting: there it
# is tcp://address:port, which cannot be a port number.
_KUBERNETES = re.compile(
    r"TRICEPS_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://.*")


def _setting(kind: click.ParamType[Any], about: str, *also: str) -> dict[str, Any]:
    """Return the metadata of a setting.

    Args:
        kind: the type of its value.
        about: its help text.
        also: further variables that it is read from, which platforms set.
    """
    return {"kind": kind, "about": about, "also": also}


class Number(click.FloatRange):
    """A number in a range; NaN is refused, which comparisons alone would let pass."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self.min} to {self.max}", param, ctx)
        return number


class _Route(click.ParamType[str]):
    """A path of a URL."""

    name = "path"
    expected = "a path that begins with /"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the path."""
        # Python represents a byte that is not UTF-8 by half a surrogate pair.
        if not re.fullmatch(r"/[^<>?#\s\ud800-\udfff]*", value):
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


_ROUTE = _Route()


class _HeaderName(click.ParamType[str]):
    """The name of a header."""

    name = "header"
    expected = "the name of a header, such as X-User"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name."""
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{0,128}", value):
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


_HEADER_NAME = _HeaderName()


class _Host(click.ParamType[str]):
    """The name or address of a host."""

    name = "host"
    expected = "the name or the address of a host"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name or address."""
        try:
            value.encode("idna")
        except UnicodeError:  # a look-up of the name would raise it
            self.fail(f"expected {self.expected}", param, ctx)
        if re.search(r"[\x00-\x20\x7f]", value):  # no URL can have them
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


class _Name(click.ParamType[str]):
    """The name of a model."""

    name = "name"
    expected = NAMES

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the name."""
        if not NAME.fullmatch(value):
            self.fail(f"expected {self.expected}", param, ctx)
        return str(value)


class _Listed(click.ParamType[str]):
    """A list, as text that `parse` accepts."""

    def __init__(self, name: str, expected: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self.expected = expected
        self._parse = parse

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the list as text."""
        try:
            self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@dataclass(frozen=True)
class Settings:
    """The settings of the service."""

    models: Path = field(
        default=Path("models"),
        metadata=_setting(
            # Not checked here: the code that reads the repository reports errors, with the way out.
            click.Path(readable=False, path_type=Path),
            "The model repository, a folder that holds a model.onnx, or such a file; the variable "
            "may list several paths with a colon between them, and the first that exists counts.",
        ),
    )
    model_name: str = field(
        default="",
        metadata=_setting(
            _Name(),
            "The name of the model, if --models is one model and no repository; if it is not set, "
            "that of the folder or file.",
            "INFERENCE_SERVICE_NAME",
        ),
    )
    host: str = field(
        default="127.0.0.1",
        metadata=_setting(_Host(), "The address to listen on.", "HOST"),
    )
    port: int = field(
        default=8080,
        metadata=_setting(
            click.IntRange(1, 65535),
            "The port to listen on.",
            *("PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
        ),
    )
    default_model: str = field(
        default="",
        metadata=_setting(
            click.STRING,
            "The model that /predict asks; if it is not set, the one with a file default, the "
            "only one, else triceps.",
        ),
    )
    max_body: int = field(
        default=16 * 2**20,
        metadata=_setting(
            click.IntRange(1024, 2**31 - 1),
            "The largest body in bytes, as sent and after decompression.",
        ),
    )
    max_in_flight: int = field(
        default=128 * 2**20,
        metadata=_setting(
            click.IntRange(1024, 2**40),
            "How many bytes of request bodies a process holds at once, for all connections; a "
            "request beyond that is refused. Answers not read yet may take half as many "
            "again.",
        ),
    )
    queue: float = field(
        default=0.1,
        metadata=_setting(
            Number(0, 3600),
            "How many seconds a request may wait for its model, or a fifth of that while more "
            "requests keep coming than it can answer; one that would wait longer is refused.",
        ),
    )
    timeout: float = field(
        default=30,
        metadata=_setting(
            Number(0, 3600, min_open=True),
            "The seconds after which a request is no longer run, unless it sets a time of its own.",
        ),
    )
    grace: float = field(
        default=2,
        metadata=_setting(
            Number(0, 600),
            "How many seconds the service still accepts connections after SIGTERM, which makes it "
            "not ready.",
        ),
    )
    workers: int = field(
        default=0,
        metadata=_setting(
            click.IntRange(0, 512),
            "The number of worker processes; 0: one for each processor that the container may use.",
        ),
    )
    threads: int = field(
        default=4,
        metadata=_setting(
            click.IntRange(1, 512),
            "How many requests a process answers at the same time, apart from predictions.",
        ),
    )
    memory: int = field(
        default=0,
        metadata=_setting(
            click.IntRange(0, 2**50),
            "The bytes that the loaded models of all processes may take; beyond that, those that "
            "were requested least recently are unloaded, and loaded again when they are requested. "
            "0: half of the container's memory.",
        ),
    )
    policy: str = field(
        default="latest",
        metadata=_setting(
            click.Choice(["latest", "all", "pinned"]),
            "Which version of a model serves, and which are loaded: with latest and all the newest "
            "serves, with pinned the one that the alias stable names.",
        ),
    )
    provider: str = field(
        default="",
        metadata=_setting(
            click.STRING,
            "The execution provider of ONNX Runtime that runs the models whose settings name none, "
            "such as CUDAExecutionProvider; if it is not set, CPUExecutionProvider.",
        ),
    )
    watch: float = field(
        default=1,
        metadata=_setting(
            Number(0, 3600),
            "The seconds between two checks for new versions and aliases; 0: no checks.",
        ),
    )
    cache: str = field(
        default="",
        metadata=_setting(
            click.Path(),
            "The folder on a disk for prepared models, whose weights all workers share; if it is "
            "not set, a private folder of the system's temporary files; off: none.",
        ),
    )
    tokens_file: str = field(
        default="",
        metadata=_setting(
            click.Path(),
            "The tokens file, which `triceps token` writes; without one, no token is required.",
        ),
    )
    tls_certificate: str = field(
        default="",
        metadata=_setting(
            click.Path(),
            "The certificate for encrypted connections (TLS 1.2 or later), in PEM.",
        ),
    )
    tls_key: str = field(
        default="",
        metadata=_setting(
            click.Path(),
            "The key of that certificate, in PEM; if it is not set, the key is in the same file.",
        ),
    )
    protocols: str = field(
        default="http1,http2",
        metadata=_setting(
            click.Choice(["http1,http2", "http1"]),
            "The versions of HTTP that clients may speak; gRPC needs HTTP/2.",
        ),
    )
    access_log: str = field(
        default="off",
        metadata=_setting(
            click.Choice(["off", "on"]),
            "Whether each request is logged on standard output, as a line of JSON.",
        ),
    )
    sample: float = field(
        default=0,
        metadata=_setting(
            Number(0, 1),
            "The share of predictions whose rows and answers are written to files, such as 0.01.",
        ),
    )
    sample_dir: str = field(
        default="",
        metadata=_setting(click.Path(), "The folder for these files; needed for any share."),
    )
    canary_header: str = field(
        default="",
        metadata=_setting(
            _HEADER_NAME,
            "The request header that names a client, so that a canary answers all of its requests "
            "or none; if it is not set, or a request has none, its X-Request-ID.",
        ),
    )
    drift: str = field(
        default="heads",
        metadata=_setting(
            click.Choice(["off", "heads", "features"]),
            "What is compared with training while models serve: nothing, their answers, or their "
            "features too.",
        ),
    )
    trusted_proxies: str = field(
        default="",
        metadata=_setting(
            _Listed("networks", forwarded.EXPECTED, forwarded.parse),
            "The addresses and networks of proxies whose Forwarded and X-Forwarded-For headers say "
            "the address of the client in the access log, separated by commas.",
        ),
    )
    cors: str = field(
        default="",
        metadata=_setting(
            _Listed("origins", cors.EXPECTED, cors.parse),
            "The origins whose pages may read answers in a browser, separated by commas; *: all.",
        ),
    )
    console: str = field(
        default="on",
        metadata=_setting(
            click.Choice(["on", "off"]),
            "Whether /console/ is a page on which people try the models in a browser.",
        ),
    )
    predict_route: str = field(
        default="",
        metadata=_setting(
            _ROUTE,
            "One more path for predictions by the default model, in TensorFlow Serving's form, as "
            "Vertex AI names it.",
            "AIP_PREDICT_ROUTE",
        ),
    )
    health_route: str = field(
        default="",
        metadata=_setting(
            _ROUTE,
            "One more path that says whether the default model is ready, as Vertex AI names it.",
            "AIP_HEALTH_ROUTE",
        ),
    )


def variable(entry: Field[Any]) -> str:
    """Return the name of a setting's environment variable."""
    return PREFIX + entry.name.upper()


def flag(entry: Field[Any]) -> str:
    """Return the flag of a setting."""
    return "--" + entry.name.replace("_", "-")


def load(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Return the settings from the environment, and from `overrides`, which take precedence.

    Args:
        environ: the environment; by default, that of this process.
        overrides: values by the names of settings, as flags or a test set them; `None` or an empty
            string overrides nothing.

    Raises:
        SettingsError: a variable is not a setting, or its value is not a valid one.
    """
    environ = os.environ if environ is None else environ
    known = {variable(entry): entry for entry in fields(Settings)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known and not _KUBERNETES.fullmatch(name):
            # Compared without the prefix, which would make any two names similar.
            bare = [setting.removeprefix(PREFIX) for setting in known]
            close = nearest(name.removeprefix(PREFIX), bare).replace("'", f"'{PREFIX}", 1)
            message = (
                f"{name}: expected a setting, there is none of that name{close}. "
                f"Available: {', '.join(known)}"
            )
            raise SettingsError(message)
    values = {}
    for name, entry in known.items():
        # An empty value counts as none: `make serve HOST=` sets one, and so may a manifest.
        if overrides.get(entry.name) not in (None, ""):
            values[entry.name] = _convert(entry, flag(entry), overrides[entry.name])
            continue
        for source in (name, *entry.metadata["also"]):
            text = environ.get(source, "")
            if text and not (entry.name == "port" and _KUBERNETES_PORT.fullmatch(text)):
                text = _first_existing(text) if entry.name == "models" else text
                values[entry.name] = _convert(entry, source, text)
                break
    settings = Settings(**values)
    if settings.sample and not settings.sample_dir:
        message = f"{PREFIX}SAMPLE_DIR: expected a folder for what is sampled, received none"
        raise SettingsError(message)
    return settings


def _convert(entry: Field[Any], source: str, value: Any) -> Any:
    kind = entry.metadata["kind"]
    try:
        return kind.convert(value, None, None)
    except click.UsageError as error:
        message = (
            f"{source}: expected {_expected(kind)}, received {value!r}. Default: {entry.default}"
        )
        raise SettingsError(message) from error


def _first_existing(text: str) -> str:
    """Return the first path that exists, of several with a colon between them; else the first.

    So an image has one default for all the places where platforms mount models.
    """
    paths = [path for path in text.split(os.pathsep) if path]
    return next(filter(_exists, [text, *paths]), paths[0] if paths else text)


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except OSError as error:
        # A path that cannot be checked counts, and is an error later: the next has other models.
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return True


def _expected(kind: Any) -> str:
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(kind.choices)}"
    if isinstance(kind, click.IntRange | click.FloatRange):
        whole = "whole " if isinstance(kind, click.IntRange) else ""
        return f"a {whole}number from {kind.min} to {kind.max}"
    return str(kind.expected)


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
