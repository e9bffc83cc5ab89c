"""`triceps pull`: models from where they are: a store, a web server, a folder.

SOURCE ─ source.parse ─▶ source ─ open ─▶ store ─ pulling.pull ─▶ outcome ─▶ a line, or JSON
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from service import settings as all_settings
from service.commands import options
from service.errors import TricepsError, printable

if TYPE_CHECKING:
    from types import FrameType

    from service.stores.pulling import Pulled, Wanted

# After failures, a watching pull waits longer and longer, up to this time.
_LONGEST_SECONDS = 300
_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps pull file:///mnt/share/churn --into models\n"
    "  triceps pull https://models.example/churn/model.onnx --into models\n"
    "  triceps pull s3://models/churn --into models --watch 30\n"
)


@click.command(short_help="Fetch a model from a store.", epilog=_EXAMPLE)
@click.argument("source")
@click.option("--into", type=click.Path(path_type=Path), help="The repository [TRICEPS_MODELS].")
@click.option("--name", help="The name of the model; by default, that in SOURCE.")
@click.option("--sha256", metavar="DIGEST", help="The SHA-256 that model.onnx has to have.")
@click.option("--max-bytes", type=click.IntRange(1), help="The most bytes of a version.")
@click.option(
    "--watch",
    type=all_settings.Number(1, 86400),
    metavar="SECONDS",
    help="Look again and again, so many seconds after each look.",
)
@options.as_json
def pull(  # noqa: PLR0913  (click passes each option by its name)
    source: str,
    *,
    into: Path | None,
    name: str | None,
    sha256: str | None,
    max_bytes: int | None,
    watch: float | None,
    as_json: bool,
) -> None:
    """Download the model that SOURCE has, check it as `triceps check` does, and publish it.

    SOURCE is a file, a folder with a model.onnx, or a folder of versions like models/NAME, of which
    the newest is pulled under its own number: file:///…, https://… (a file), s3://BUCKET/…,
    az://CONTAINER/…; or an image or artifact of a registry, oci://REGISTRY/NAME:TAG; or a
    registered model of MLflow, mlflow:MODEL, mlflow:MODEL/VERSION or mlflow:MODEL/ALIAS.

    Nothing happens if its content is in the repository already, or if its number is lower than the
    highest there.  A download that was interrupted goes on where it was.  The exit code is 0 if the
    repository has what SOURCE has; else it is 1, and the repository is as it was.
    """
    import logging

    from service.repository.publish import check_name
    from service.repository.scan import is_one_file
    from service.stores import source as sources
    from service.stores.pulling import Wanted
    from service.stores.store import as_sha256

    logging.getLogger("service").addHandler(logging.NullHandler())
    digest = None if sha256 is None else as_sha256(sha256)
    if sha256 is not None and digest is None:
        message = f"expected a SHA-256 of 64 digits, received {sha256[:80]!r}"
        raise click.BadParameter(message, param_hint="--sha256")
    parsed = sources.parse(source, is_pinned=digest is not None)
    wanted = Wanted(parsed, name or parsed.name, digest, max_bytes)
    check_name(wanted.name)
    settings = all_settings.load(models=into)
    if is_one_file(settings.models):
        message = f"expected a folder of models, received one model: {settings.models}"
        raise click.BadParameter(message, param_hint="--into")
    # The first process of a container ignores this signal unless it asks for it.
    signal.signal(signal.SIGTERM, _ended_watching if watch else _ended)
    if watch is None:
        pulled = _pull(wanted, settings, None)
        _report(wanted, pulled, settings.models, as_json=as_json)
        return
    _watch(wanted, settings, watch, as_json=as_json)


def _pull(wanted: Wanted, settings: Any, seen: Any) -> Any:
    from service.stores.backoff import Backoff
    from service.stores.pulling import pull as pull_once

    # Opened for each look, so that credentials that were replaced are found.
    return pull_once(wanted, wanted.source.open(), settings, Backoff(_tell), seen)


def _watch(wanted: Wanted, settings: Any, seconds: float, *, as_json: bool) -> NoReturn:
    """Pull again and again; an error is printed, and what is in the repository stays."""
    seen, failures = None, 0
    while True:
        try:
            pulled = _pull(wanted, settings, seen)
            failures = 0
            if pulled is not None:
                _report(wanted, pulled, settings.models, as_json=as_json)
                seen = pulled.offer
        except TricepsError as error:
            failures += 1
            _tell(str(error))
        # Replicas that were started together should not come at one moment.
        pause = min(seconds * 2 ** min(failures, 10), max(seconds, _LONGEST_SECONDS))
        time.sleep(pause * random.uniform(0.9, 1.1))  # noqa: S311  it spreads clients


def _report(wanted: Wanted, pulled: Pulled, models: Path, *, as_json: bool) -> None:
    """Print the outcome of a pull on standard output, and what is to be known beside it."""
    from dataclasses import asdict

    from service.repository.publish import FILE

    file = models / wanted.name / pulled.version / FILE
    if as_json:
        facts = {
            "outcome": pulled.outcome,
            "name": wanted.name,
            "version": pulled.version,
            "file": printable(str(file)) if file.is_file() else None,
            "source": printable(wanted.source.shown),
            "files": {name: asdict(stored) for name, stored in pulled.files.items()},
        }
        options.print_json(facts)
    elif pulled.outcome == "published":
        click.echo(printable(f"published {wanted.name}, version {pulled.version}: {file}"))
    elif pulled.outcome == "unchanged":
        click.echo(printable(f"unchanged: {wanted.name}, version {pulled.version}: {file}"))
    else:
        content = "" if pulled.offer.number else "the content of "
        has = f"{wanted.source.shown} has {content}version {pulled.version}"
        click.echo(printable(f"nothing newer: {has}"))
    if pulled.outcome == "older":
        _tell(
            f"note: {wanted.name} has a newer version than {wanted.source.shown}, and keeps it: to "
            f"go back, name the older one: triceps alias {wanted.name} stable VERSION"
        )
    unproven = sorted(name for name, s in pulled.files.items() if s.verified != "sha256")
    if pulled.outcome == "published" and unproven:
        _tell(
            f"note: {wanted.source.shown} states no SHA-256 of {', '.join(unproven[:5])}, so only "
            "the size was compared: --sha256, or a file like model.onnx.sha256 beside it"
        )


def _tell(message: str) -> None:
    click.echo(printable(f"triceps: {message}"), err=True)


def _ended_watching(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def _ended(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
