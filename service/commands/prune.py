"""`triceps prune`: the removal of old versions of a model, except those that are named.

<models>/<name>/<version> ─ rename ─▶ <models>/<name>/.old-… ─▶ removed, where no reader looks
"""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING

import click

from service import settings as all_settings
from service.commands import options
from service.commands.alias import open_folder, why_refused
from service.errors import TricepsError, printable
from service.host import progress
from service.host.files import leftovers as leftover_files
from service.repository.publish import leftovers, versions
from service.repository.scan import TRAFFIC
from service.repository.traffic import Traffic, locked_with_aliases

if TYPE_CHECKING:
    from pathlib import Path


class PruneError(TricepsError):
    """A version cannot be removed."""


_EXAMPLE = (
    "\b\nExample:\n  triceps prune triceps --keep 3\n  triceps prune triceps --keep 1 --dry-run\n"
)


@click.command(short_help="Remove old versions of a model.", epilog=_EXAMPLE)
@options.model_name
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="The number of newest versions to keep.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@options.as_json
@options.models
def prune(model: str, keep: int, models: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Remove all versions of MODEL, except the newest ones and those that an alias names.

    Those that get a share of the traffic (triceps traffic) stay too.  The newest version that
    reproduces its own golden rows always stays, even if it is not among the newest.  Files that an
    interrupted command left behind are removed too, once they are an hour old.
    """
    repository = all_settings.load(models=models).models
    folder = open_folder(repository, model)

    def tell(what: str) -> None:
        if not as_json:
            click.echo(printable(f"{'would remove' if dry_run else 'removed'} {what}"))

    # Locked, so that no alias or share can name a version that is about to be removed.
    with locked_with_aliases(folder) as (named, traffic):
        there = [str(number) for number in versions(folder)]
        serves = (version for version in reversed(there) if why_refused(folder / version) is None)
        with progress.shown(f"loading the newest version of {model}"):
            newest, serving = there[-keep:], next(serves, None)
        shared = (traffic or Traffic()).versions()
        stay = {*newest, *named.values(), *shared.values(), serving}
        old = [version for version in there if version not in stay]
        for version in old:
            if not dry_run:
                _remove(folder / version)
            tell(f"{model}, version {version}")
    left = [*leftovers(repository), *leftovers(folder), *leftover_files(folder)]
    for leftover in left:
        if not dry_run:
            _clear(leftover)
        tell(f"{leftover.name}, left by a command that was interrupted")
    reasons = {serving: "the newest that can serve"}
    reasons |= {version: f"{role} in {TRAFFIC}" for role, version in shared.items()}
    for version in named.values():
        having = sorted(alias for alias, aliased in named.items() if aliased == version)
        reasons[version] = f"alias {', '.join(having)}"
    kept = {
        version: "" if version in newest else reasons[version]
        for version in there
        if version in stay
    }
    if as_json:
        facts = {
            "model": model,
            "dry_run": dry_run,
            "removed": old,
            "leftovers": [leftover.name for leftover in left],
            "kept": {version: reason or "one of the newest" for version, reason in kept.items()},
        }
        options.print_json(facts)
    else:
        listed = (f"{v} ({reason})" if reason else v for v, reason in kept.items())
        click.echo(f"{model} keeps {', '.join(listed)}")


def _clear(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover, ignore_errors=True)
    else:
        leftover.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """Remove a version; until it is gone for readers, it is complete.

    Raises:
        PruneError: the system does not permit the removal.
    """
    hidden = folder.with_name(f".old-{uuid.uuid4().hex}")
    try:
        folder.rename(hidden)
        if hidden.is_symlink():
            hidden.unlink()
        else:
            shutil.rmtree(hidden)
    except OSError as error:
        raise PruneError(f"{folder}: cannot be removed: {error.strerror or error}") from error
