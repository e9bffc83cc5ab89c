"""`triceps alias`: names for versions; a running service notices a change within a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from service import settings as all_settings
from service.commands import options
from service.errors import ModelRefused, TricepsError, nearest
from service.host import progress
from service.names import NAME, NAMES
from service.repository import aliases
from service.repository.publish import FILE, versions
from service.repository.scan import ALIASES, TRAFFIC
from service.repository.traffic import TrafficError, read_if_there
from service.wire.body import listing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from service.signature import Signature


class CannotAliasError(TricepsError):
    """The alias cannot be changed: its model or version does not exist, or cannot serve."""


_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps alias triceps stable 3\n"
    "  triceps alias triceps canary --remove\n"
    "  triceps alias triceps\n"
)


@click.command(short_help="Name versions: stable, canary, …", epilog=_EXAMPLE)
@options.model_name
@click.argument("name", required=False)
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias NAME.")
@options.as_json
@options.models
def alias(  # noqa: PLR0913  (click passes each option by its name)
    model: str,
    name: str | None,
    version: str | None,
    models: Path | None,
    *,
    remove: bool,
    as_json: bool,
) -> None:
    """Point the alias NAME of MODEL to VERSION, which then answers at /models/MODEL/aliases/NAME.

    Without NAME, list the aliases of MODEL.  A version that does not reproduce its own golden rows
    is refused.  If the service runs with the policy pinned, the version that the alias stable names
    serves as MODEL: to roll back, point stable to an older version.
    """
    settings = all_settings.load(models=models)
    folder = open_folder(settings.models, model)
    if name is None:
        _list(model, aliases.read(folder / ALIASES), as_json=as_json)
        return
    if remove == (version is not None):
        raise click.UsageError("expected a VERSION for NAME, or --remove, and not both")
    if not aliases.is_alias(name):
        message = f"expected {NAMES}, and not digits alone, received {name!r}"
        raise click.BadParameter(message, param_hint="NAME")
    if version is not None:
        prove(folder, version)
    with aliases.changing(folder) as named:
        before = named.pop(name, None)
        if version is not None:
            named[name] = version
        elif before is None:
            message = f"{model} has no alias {name!r}{nearest(name, named)}. Available: "
            raise CannotAliasError(message + (", ".join(sorted(named)) or "none"))
        after = dict(named)
    if as_json:
        _list(model, after, as_json=True)
    else:
        click.echo(f"{model}, {name}: {_describe(before)} → {_describe(version)}")
    note = _effect(model, name, version, settings.policy)
    if name == aliases.STABLE and (folder / TRAFFIC).exists():
        note = _effect_on_shares(folder, version)
    click.echo(f"note: {note}", err=True)


def _list(model: str, named: Mapping[str, str], *, as_json: bool) -> None:
    """Print the aliases of a model, by name."""
    known = dict(sorted(named.items()))
    if as_json:
        options.print_json({"model": model, "aliases": known})
        return
    for label, which in known.items():
        click.echo(f"{label} {which}")
    if not known:
        click.echo(f"{model} has no aliases", err=True)


def open_folder(models: Path, model: str) -> Path:
    """Return the folder of a model in a repository.

    Raises:
        CannotAliasError: there is no model of that name.
    """
    folder = models / model
    if not NAME.fullmatch(model) or not versions(folder):
        there = models.iterdir() if models.is_dir() else ()
        known = sorted(e.name for e in there if NAME.fullmatch(e.name) and versions(e))
        message = f"{models}: there is no model {model!r}{nearest(model, known)}. Available: "
        raise CannotAliasError(message + (listing(known) or "none"))
    return folder


def prove(folder: Path, version: str) -> Signature:
    """Return the signature of a version, which has to exist and to be able to serve.

    Raises:
        CannotAliasError: it does not exist, or cannot serve.
    """
    there = [str(number) for number in versions(folder)]
    if version not in there:
        message = f"{folder.name} has no version {version!r}. Available: {', '.join(there)}"
        raise CannotAliasError(message)
    from service.inference.model import Model

    with progress.shown(f"loading {folder.name}, version {version}"):
        try:
            return Model.load(folder / version / FILE).signature
        except ModelRefused as error:
            message = f"{folder.name}, version {version}: refused, {error}"
            raise CannotAliasError(message) from error


def why_refused(folder: Path) -> str | None:
    """Return the reason why the version in a folder cannot serve; `None` if it can."""
    from service.inference.model import Model

    try:
        Model.load(folder / FILE)
    except ModelRefused as error:
        return str(error)
    return None


def _effect(model: str, name: str, version: str | None, policy: str) -> str:
    """Return what clients get from now on, under the policy of this command and under others.

    The policy is a setting of the service, which may run elsewhere and with other settings.
    """
    answers = "nothing answers" if version is None else f"version {version} answers"
    alias = f"{answers} at /models/{model}/aliases/{name}/predict"
    if name != aliases.STABLE:
        return f"{alias}; /models/{model}/predict does not change"
    if policy == "pinned":
        effect = (
            f"under the policy pinned, {answers} at /models/{model}/predict; under latest, the "
            "default, the newest version does"
        )
    else:
        effect = (
            f"under the policy {policy}, /models/{model}/predict does not change, and the newest "
            f"version answers there; under pinned (triceps serve --policy pinned), {answers} there"
        )
    return f"{alias}; {effect}. /models says the policy of a running service"


def _effect_on_shares(folder: Path, version: str | None) -> str:
    """Return what clients get of a model with shares once its stable version is another."""
    model = folder.name
    if version is None:
        return (
            f"{TRAFFIC} has no effect any more, and {model} is served by the policy of the service"
        )
    rest = "all requests"
    try:
        traffic = read_if_there(folder)
    except TrafficError:
        # The service says so, and goes on with the former shares.
        traffic = None
    named = {} if traffic is None else traffic.versions()
    if others := [v for role, v in named.items() if role == "canary" and v != version]:
        rest = f"all requests but for the share of version {others[0]}"
    effect = (
        f"version {version} answers {rest} at /models/{model}/predict, whatever the policy of the "
        f"service is, since there is a file {TRAFFIC}"
    )
    if version in named.values():
        effect += f"; its own share has no effect any more: triceps traffic {model} --off"
    return effect


def _describe(version: str | None) -> str:
    return "none" if version is None else f"version {version}"
