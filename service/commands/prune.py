"""`triceps prune`: the removal of old versions of a model, except those that an alias names.

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
from service.host.files import leftovers as leftover_files
from service.repository import aliases
from service.repository.publish import leftovers, versions

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
@options.models
def prune(model: str, keep: int, models: Path | None, *, dry_run: bool) -> None:
    """Remove all versions of MODEL, except the newest ones and those that an alias names.

    The newest version that reproduces its own golden rows always stays, even if it is not among
    the newest.  Files that an interrupted command left behind are removed too, once they are an
    hour old.
    """
    repository = all_settings.load(models=models).models
    folder = open_folder(repository, model)
    remove = "would remove" if dry_run else "removed"
    # Locked, so that no alias can be pointed to a version that is about to be removed.
    with aliases.locked(folder) as named:
        there = [str(number) for number in versions(folder)]
        serves = (version for version in reversed(there) if why_refused(folder / version) is None)
        newest, serving = there[-keep:], next(serves, None)
        stay = {*newest, *named.values(), serving}
        old = [version for version in there if version not in stay]
        for version in old:
            if not dry_run:
                _remove(folder / version)
            click.echo(f"{remove} {model}, version {version}")
    for leftover in [*leftovers(repository), *leftovers(folder)]:
        if not dry_run:
            shutil.rmtree(leftover, ignore_errors=True)
        click.echo(printable(f"{remove} {leftover.name}, left by a command that was interrupted"))
    for file in leftover_files(folder):
        if not dry_run:
            file.unlink(missing_ok=True)
        click.echo(f"{remove} {file.name}, left by a command that was interrupted")
    reasons = {serving: "the newest that can serve"}
    for version in named.values():
        having = sorted(alias for alias, aliased in named.items() if aliased == version)
        reasons[version] = f"alias {', '.join(having)}"
    kept = (
        version if version in newest else f"{version} ({reasons[version]})"
        for version in there
        if version in stay
    )
    click.echo(f"{model} keeps {', '.join(kept)}")


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
