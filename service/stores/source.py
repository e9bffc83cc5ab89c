"""The source of a model, as it is given: where it is, the model's name, and what may be shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from service.errors import MISUSED, TricepsError, nearest
from service.repository.publish import FILE, VERSION
from service.repository.scan import as_name

if TYPE_CHECKING:
    from service.stores.store import Store

_BUCKETS = ("s3", "az")
SCHEMES = (*_BUCKETS, "oci", "mlflow", "https", "file")
FORMS = ", ".join("mlflow:…" if s == "mlflow" else f"{s}://…" for s in SCHEMES)


# The tag of an image that names none, as for other programs.
_TAG = "latest"
_IMAGE = re.compile(
    r"(?P<path>[a-z0-9]+(?:(?:[./]|_{1,2}|-+)[a-z0-9]+)*)(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


class WrongSource(TricepsError):
    """The source is not one that models can be pulled from."""

    exit_code = MISUSED


@dataclass(frozen=True)
class Source:
    """A place that has a model: a file, a version, or a folder of versions."""

    url: SplitResult
    shown: str
    """The source without its secrets: passwords, and queries, which have signatures."""
    name: str
    """The name of the model, as the place has it."""
    number: str | None
    """The number of the version, if the source names one."""

    def open(self) -> Store:
        """Return the store of this source.

        Raises:
            ModuleNotFoundError: it needs a package that is not installed.
            StoreError: it cannot be opened.
        """
        if self.url.scheme == "file":
            from service.stores.local import Local

            return Local(Path(unquote(self.url.path)), self.number)
        if self.url.scheme in _BUCKETS:
            from service.stores.objects import Objects

            bucket = f"{self.url.scheme}://{self.url.netloc}"
            return Objects(bucket, self.url.path.strip("/"), self.shown, self.number)
        if self.url.scheme == "mlflow":
            from service.stores.mlflow import Mlflow

            model, which = _registered(self.url.path)
            return Mlflow(model, which, self.shown)
        if self.url.scheme == "oci":
            from service.stores.registry import Registry

            path, reference = _reference(self.url.path.strip("/"))
            return Registry(self.url.netloc, path, reference, self.shown, self.number)
        from service.stores.web import Web

        return Web(self.url.geturl(), self.shown, self.number)


def parse(text: str, *, is_pinned: bool = False) -> Source:
    """Return a source from its URL.

    Args:
        text: the URL.
        is_pinned: true if the SHA-256 of the file is known, which makes sure of its content.

    Raises:
        WrongSource: it is not the URL of a store.
    """
    try:
        url = urlsplit(text)
        url.port  # noqa: B018  it raises
    except ValueError:
        # The error may have a part of a password, which ends the name of the host by a slash.
        raise WrongSource(
            f"expected a URL like {FORMS}, received something else: the host or the port is none; "
            "a password has its special characters as %2F and the like"
        ) from None
    if url.scheme == "mlflow":
        return _of_mlflow(url)
    host = url.netloc.rpartition("@")[2]
    shown = f"{url.scheme}://{host}{url.path}" if url.scheme else url.path or "SOURCE"
    _check(url, shown, is_pinned=is_pinned)
    parts = [unquote(part) for part in url.path.split("/") if part]
    if url.scheme in _BUCKETS:
        # The folder of a model may be a whole bucket.
        parts = [host, *parts]
    name, number = _image(parts) if url.scheme == "oci" else _named(parts)
    return Source(url, shown, name, number)


def _check(url: SplitResult, shown: str, *, is_pinned: bool) -> None:
    if url.scheme == "http":
        if not is_pinned:
            raise WrongSource(
                f"{shown}: expected https, received http, by which anyone on the way may change "
                "the file: --sha256 DIGEST makes sure of its content"
            )
    elif url.scheme not in SCHEMES:
        if not url.scheme and Path(shown).exists():
            hint = f" (did you mean file://{Path(shown).resolve()}?)"
        else:
            hint = nearest(url.scheme, SCHEMES)
        received = repr(url.scheme) if url.scheme else "a path"
        raise WrongSource(f"{shown}: expected one of {FORMS}, received {received}{hint}")
    if url.scheme == "file":
        if url.netloc not in ("", "localhost"):
            raise WrongSource(f"{shown}: expected file:///… with a whole path")
    elif not url.netloc.rpartition("@")[2]:
        raise WrongSource(f"{shown}: expected the name of a host or bucket behind ://")
    if url.scheme == "oci" and not _IMAGE.fullmatch(url.path.strip("/")):
        raise WrongSource(
            f"{shown}: expected oci://registry/image:tag or oci://registry/image@sha256:digest"
        )
    if url.scheme in (*_BUCKETS, "oci") and (url.query or "@" in url.netloc):
        raise WrongSource(
            f"{shown}: expected {url.scheme}://… without a password or a query; credentials come "
            "from the environment"
        )


def _named(parts: list[str]) -> tuple[str, str | None]:
    """Return the model and the version that a path names, as in <name>/<version>/model.onnx."""
    number = None
    is_file = bool(parts) and parts[-1].endswith(".onnx")
    if is_file and parts[-1] != FILE:
        return as_name(parts[-1].removesuffix(".onnx")), None
    folders = parts[:-1] if is_file else parts
    if len(folders) > 1 and VERSION.fullmatch(folders[-1]):
        number, folders = folders[-1], folders[:-1]
    return as_name(folders[-1] if folders else "model"), number


def _image(parts: list[str]) -> tuple[str, str | None]:
    """Return the model and the version that an image names, by its last part and its tag."""
    found = _IMAGE.fullmatch("/".join(parts))
    if found is None:
        return as_name(parts[-1]), None
    tag = found["tag"] or ""
    return as_name(found["path"].rpartition("/")[2]), tag if VERSION.fullmatch(tag) else None


def _reference(path: str) -> tuple[str, str]:
    """Return the repository of an image, and its digest or its tag."""
    found = _IMAGE.fullmatch(path)
    if found is None:
        return path, _TAG
    return found["path"], found["digest"] or found["tag"] or _TAG


def _of_mlflow(url: SplitResult) -> Source:
    """Return the source of a registered model: mlflow:<model>, /<version> or /<alias>."""
    model, which = _registered(url.path)
    shown = f"mlflow:{url.path}"
    if not model or "/" in which or url.netloc or url.query:
        raise WrongSource(
            f"{shown}: expected mlflow:MODEL, mlflow:MODEL/VERSION or mlflow:MODEL/ALIAS; "
            "MLFLOW_TRACKING_URI names the server"
        )
    return Source(url, shown, as_name(model), None)


def _registered(path: str) -> tuple[str, str]:
    """Return a registered model, and the version or alias of it; MLflow writes an at sign, too."""
    model, _, which = path.replace("@", "/", 1).partition("/")
    return unquote(model), unquote(which)
