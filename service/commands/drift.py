"""`triceps drift`: how far the rows of a file differ from those that a model was trained on.

    rows.csv ─ row_runs ─▶ arrays, answers ─ Layout.count ─▶ counts ─ findings ─▶ verdicts

Only a few hundred rows are in memory at a time, however long the file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import missing_features, options, row_runs
from service.commands.opened_rows import opened
from service.errors import TricepsError, printable
from service.host import progress
from service.insight.drift.counting import Layout
from service.insight.drift.findings import findings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from service.repository.loader import Servable

_EXAMPLE = "\b\nExample:\n  triceps drift customers --in march.csv\n"


class NoReferenceError(TricepsError):
    """The model's signature has no reference."""


@click.command(short_help="Compare a file's rows with training.", epilog=_EXAMPLE)
@options.model
@click.option(
    "--in",
    "file",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="The rows: a .csv with a header, a .json of instances, or a folder of samples.",
)
@options.allow_missing
@options.as_json
@options.models
def drift(
    model: str, file: Path, models: Path | None, *, allow: tuple[str, ...], as_json: bool
) -> None:
    """Compare the rows of FILE, and the answers of MODEL to them, with those of its training.

    Each feature and each head has a verdict, the worst first. "drift" is a change that is large
    enough to matter, and larger than chance explains: with rows like those of training, one run of
    a hundred says it of any feature or head. "too few rows" says how many it takes for
    "no drift". docs/monitoring.md explains the numbers.
    """
    servable = row_runs.open_rows_model(model, models)
    layout = _layout(model, servable)
    heads = tuple(servable.signature.heads)
    needed = missing_features.required(servable.signature, heads, allow)
    counts = layout.count({}, {})
    total, notes = 0, row_runs.Counts()
    with opened(file, servable.signature, needed) as read, progress.shown(f"{file}", read.file):
        for run in row_runs.runs(read.rows, servable, heads, notes):
            total += len(run.rows)
            counts += layout.count({**run.arrays, **run.outputs}, run.missing)
    found = findings(layout, counts)
    if as_json:
        # Of a file, all rows are counted, and the command does not know of which time they are.
        options.print_json({"since": None, "rows": total, "share": 1.0, **found})
    else:
        _print(found)
    row_runs.tell(total, servable, notes, read.notes)
    click.echo(printable(_against(servable)), err=True)


def _layout(model: str, servable: Servable) -> Layout:
    layout = Layout(servable.signature)
    if not layout.places:
        raise NoReferenceError(
            f"{model}: expected a model whose signature has a reference, received one without: "
            "training records it, and triceps sign FILE.onnx --reference ROWS.csv adds it"
        )
    return layout


def _against(servable: Servable) -> str:
    """Say which rows the reference is of."""
    rows = servable.signature.reference.rows if servable.signature.reference else {}
    inputs, heads = (f"{rows.get(side, 'unknown')} rows" for side in ("inputs", "heads"))
    return f"features are compared with those of {inputs}, and answers with those to {heads}"


def _print(found: Mapping[str, Any]) -> None:
    for title, what in (("features", "feature"), ("heads", "head")):
        if found[title]:
            options.print_table(_table(what, found[title]))


def _table(what: str, listed: list[dict[str, Any]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column(what)
    table.add_column("verdict")
    for column in ("PSI", "by chance", "JS"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("rows that are")
    for one in listed:
        numbers = (one[key] for key in ("psi", "bound", "jensen_shannon"))
        table.add_row(
            printable(one[what]),
            one["verdict"],
            *("" if number is None else f"{number:.3f}" for number in numbers),
            ", ".join(
                f"{key.replace('_', ' ')}: {one[key]:.1%}"
                for key in ("missing", "unseen", "out_of_range")
                if one[key]
            ),
        )
    return table
