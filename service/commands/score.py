"""`triceps score`: metrics of a model on a labelled file, by the code that training scores with.

    rows.csv ── labelled_rows ─▶ targets, answers by head ── insight.scores ─▶ a metric by head

Only a few hundred rows are in memory at a time, however long the file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from service.commands import labelled_rows, options, row_runs, target_columns
from service.errors import printable
from service.insight.scores import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps score customers held_out.csv\n"
    "  triceps score customers held_out.csv --target leaves=left --json\n"
)


@click.command(short_help="Score a model on a labelled CSV.", epilog=_EXAMPLE)
@options.model
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@target_columns.option
@options.allow_missing
@options.as_json
@options.models
def score(  # noqa: PLR0913  (click passes each option by its name)
    model: str,
    file: Path,
    targets: dict[str, str],
    models: Path | None,
    *,
    allow: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare the answers of MODEL with the targets in FILE, a CSV, and print a metric by head.

    The metric is the accuracy, or for a regression the mean absolute error (mae).  The baseline is
    the score of the best answer that ignores the inputs.  A row that misses the target of a head is
    left out of that head.
    """
    servable = row_runs.open_rows_model(model, models)
    with labelled_rows.opened(file, servable, targets, allow) as labelled:
        for _ in labelled.run():
            pass
    scored = labelled.scored()
    if as_json:
        options.print_json({"rows": labelled.rows, "heads": scored})
    else:
        _print(scored)
    labelled.tell()


def _print(scored: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in ("head", "rows", "metric", "score", "baseline"):
        table.add_column(column, justify="left" if column in ("head", "metric") else "right")
    for name, entry in scored.items():
        numbers = shown(entry["value"]), shown(entry["baseline"])
        table.add_row(printable(name), str(entry["rows"]), entry["metric"], *numbers)
    options.print_table(table)
