"""`triceps init`: a spec for tables, written to a file that a person can edit and train."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from service.errors import printable
from training.cells import listed
from training.errors import SpecError
from training.init.plan import Plan, Request, model_name, plan, read_tables
from training.init.text import spec_text

_EXAMPLE = "\b\nExample:\n  triceps init penguins.csv --head species --head body_mass_g\n"

tables = click.argument(
    "tables", nargs=-1, required=True, metavar="TABLE.csv...", type=click.Path(path_type=Path)
)
heads = click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="COLUMN[:KIND]",
    help="A column to learn, once for each head.  KIND is binary, multiclass, multilabel or "
    "regression; by default what the column holds says it.",
)
key = click.option("--key", metavar="COLUMN", help="The column that joins several tables.")
name = click.option("--name", help="The name of the model; by default that of the first table.")


@click.command(short_help="Write a spec for CSV files.", epilog=_EXAMPLE)
@tables
@heads
@key
@name
@click.option("--out", type=click.Path(path_type=Path), help="The spec; by default NAME.toml.")
@click.option("--force", is_flag=True, help="Overwrite a spec that is there.")
def init(out: Path | None, *, force: bool, **wanted: Any) -> None:
    """Read TABLEs and write a spec that `triceps train` trains as it is.

    Each choice has its reason in a comment.  Every column that is no head and says something goes
    in; those that are left out are named.
    """
    request = request_of(**wanted)
    path = out or Path(f"{model_name(request)}.toml")
    written = plan(request, path.parent)
    for table in request.files:
        if path.exists() and table.exists() and path.samefile(table):
            raise SpecError(f"--out {path}: is the table {table}; name another file for the spec")
    save(path, spec_text(written, request.heads), force=force)
    tell(written, path)


def request_of(tables: tuple[Path, ...], heads: tuple[str, ...], **rest: Any) -> Request:
    """Return what the arguments of the command line ask for."""
    return Request(tables, heads or ask(tables), **rest)


def save(path: Path, text: str, *, force: bool) -> None:
    """Write the text of a spec.

    Raises:
        SpecError: the file is there and `force` is not set, or it cannot be written.
    """
    try:
        with path.open("wb" if force else "xb") as file:
            file.write(text.encode())
    except FileExistsError as error:
        text = "is there already; --force overwrites it, --out names another file"
        raise SpecError(f"{path}: {text}") from error
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from error


def ask(tables: tuple[Path, ...]) -> tuple[str, ...]:
    """Return the heads that a person at a terminal names.

    Raises:
        SpecError: nobody is there to be asked.
    """
    _, columns = read_tables(tables)
    names = [column for table in columns.values() for column in table]
    if not at_terminal():
        raise SpecError(f"--head: missing; expected one or more of {listed(names)}")
    click.echo(printable(f"columns: {listed(names)}"), err=True)
    answer = click.prompt("Which should it learn (several with commas)?", err=True)
    return tuple(part.strip() for part in answer.split(",") if part.strip())


def at_terminal() -> bool:
    """Return whether a person can be asked."""
    return sys.stdin.isatty()


def tell(written: Plan, path: Path) -> None:
    """Say on standard error what was left out, and on standard output what comes next."""
    for group in written.groups:
        for entry in group.inputs:
            for choice in entry.left_out:
                text = f"left out {choice.column!r} of {entry.csv}: {choice.reason}"
                click.echo(printable(text), err=True)
        for head in group.heads:
            text = f"head {head.name}: {head.kind} ({head.reason})"
            click.echo(printable(text), err=True)
    click.echo(printable(f"wrote {path}; next: triceps train {shlex.quote(str(path))}"))
