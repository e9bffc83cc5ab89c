"""`triceps score`: metrics of a model on a labelled file, by the code that training scores with.

    rows.csv ─▶ rows ─ row_runs ─▶ outputs by head ─ insight.scores ─▶ a metric for each head
        └────▶ targets by head ────────────────────┘

Only a few hundred rows are in memory at a time, however long the file is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from service.commands import missing_features, options, row_runs, target_columns
from service.commands.csv_rows import read_csv
from service.errors import printable
from service.insight import scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.commands.row_runs import Run
    from service.commands.target_columns import Targets
    from service.insight.scores import Tally
    from service.signature import Head

_EXAMPLE = (
    "\b\n"
    "Example:\n"
    "  triceps score customers held_out.csv\n"
    "  triceps score customers held_out.csv --target leaves=left --json\n"
)


def _by_head(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Parse the values of an option HEAD=COLUMN."""
    del option
    pairs: dict[str, str] = {}
    for text in values:
        head, _equals, column = text.partition("=")
        if not (head and column):
            raise click.BadParameter(f"expected HEAD=COLUMN, received {text!r}")
        if head in pairs:
            raise click.BadParameter(f"expected each head once, received {head!r} again")
        pairs[head] = column
    return pairs


@click.command(short_help="Score a model on a labelled CSV.", epilog=_EXAMPLE)
@click.argument("model")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    target_columns.FLAG,
    "targets",
    multiple=True,
    callback=_by_head,
    metavar="HEAD=COLUMN",
    help="The column with the targets of a head, or several with commas between them; by default "
    "the one that training learned, or that has the head's name; may be given several times.",
)
@missing_features.option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    signature = servable.signature
    counts = row_runs.Counts()
    # utf-8-sig, since spreadsheets write a byte order mark first.
    with file.open(encoding="utf-8-sig", newline="") as opened:
        read = read_csv(file, opened, signature, keep=True)
        found = target_columns.find(f"{file}, line 1", read.header, signature, targets)
        heads = tuple(entry.head.name for entry in found)
        needed = missing_features.required(signature, heads, allow)
        missing_features.check_header(file, read, signature, needed)
        rows, tallies = _tally(row_runs.runs(read.rows, servable, heads, counts), found)
    scored = {entry.head.name: _scored(entry.head, tallies.get(entry.head.name)) for entry in found}
    if as_json:
        click.echo(orjson.dumps({"rows": rows, "heads": scored}))
    else:
        _print(scored)
    row_runs.tell(rows, servable, counts)
    for name in signature.heads:
        if name not in scored:
            near = target_columns.near(signature.heads[name], read.header, signature)
            message = f"{name}: not scored, since the file has no column with its targets{near}"
            click.echo(printable(message), err=True)


def _tally(runs: Iterator[Run], found: Sequence[Targets]) -> tuple[int, dict[str, Tally]]:
    """Return the number of rows, and the sums over those that have targets, by head."""
    rows = 0
    tallies: dict[str, Tally] = {}
    for run in runs:
        rows += len(run.rows)
        for entry in found:
            mask, targets = entry.read(run.rows)
            if not mask.any():
                continue
            head = entry.head
            answers = run.outputs[head.name][mask]
            part = scores.tally(head.kind, targets, answers, head.cutoff, head.constant)
            tallies[head.name] = tallies[head.name] + part if head.name in tallies else part
    return rows, tallies


def _scored(head: Head, summed: Tally | None) -> dict[str, Any]:
    """Return the score of a head for JSON; a number that no row gives is `None`."""
    value = baseline = None
    if summed is not None:
        value = summed.total / summed.rows
        baseline = scores.baseline_score(head.kind, summed, head.constant)
    metric = scores.METRICS[head.kind]
    rows = 0 if summed is None else summed.rows
    return {"metric": metric, "value": value, "baseline": baseline, "rows": rows}


def _print(scored: Mapping[str, Mapping[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for column in ("head", "rows", "metric", "score", "baseline"):
        table.add_column(column, justify="left" if column in ("head", "metric") else "right")
    for name, entry in scored.items():
        numbers = ["–" if (v := entry[k]) is None else f"{v:.4f}" for k in ("value", "baseline")]  # noqa: RUF001  (a dash)
        table.add_row(printable(name), str(entry["rows"]), entry["metric"], *numbers)
    Console(markup=False, emoji=False, highlight=False).print(table)
