"""The arguments and options that several commands have, and that mean the same in each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import completion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console
    from rich.table import Table

models = click.option(
    "--models", type=click.Path(path_type=Path), help="The repository [TRICEPS_MODELS]."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
heads = click.option("--heads", help="The heads to compute, as o1,o3; all by default.")
allow_missing = click.option(
    "--allow-missing",
    "allow",
    multiple=True,
    metavar="FEATURE",
    help="A feature that the whole file may miss, and that then takes its default in every row: "
    "age, insurance.age, or insurance for all of that input; may be given several times.",
)


def model_named(name: str, metavar: str) -> Callable[[Any], Any]:
    """Return an argument that names a model, or is its path."""
    return click.argument(name, metavar=metavar, shell_complete=completion.models)


model = model_named("model", "MODEL")
model_name = click.argument("model", shell_complete=completion.names)


def chosen_heads(text: str | None, every: Sequence[str]) -> tuple[str, ...]:
    """Return the heads that `--heads` names; all by default.

    Raises:
        click.BadParameter: it names one that is not in `every`.
    """
    from service.errors import nearest
    from service.wire.body import listing

    if text is None:
        return tuple(every)
    chosen = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for head in chosen:
        if head not in every:
            message = f"expected some of {listing(every)}, received {head!r}{nearest(head, every)}"
            raise click.BadParameter(message, param_hint="--heads")
    return chosen


def print_json(facts: Any) -> None:
    """Print an object as one line of JSON on standard output; NaN and infinity become null."""
    import orjson

    click.echo(orjson.dumps(facts, option=orjson.OPT_SERIALIZE_NUMPY))


def console() -> Console:
    """Return the terminal, or what stands in for it.

    Without markup, since brackets in names are plain text: `weight [kg]`.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def print_table(table: Table) -> None:
    """Print a table without the blanks with which rich fills its lines."""
    shown = console()
    with shown.capture() as captured:
        shown.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table of texts from files, escaped so that they cannot control the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from service.errors import printable

    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        result.add_column(column, overflow="fold")
    for row in rows:
        result.add_row(*map(printable, row))
    return result
