"""The summary at the end of a run: a table of the heads, and the warnings below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

from service.errors import printable
from service.insight.scores import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.fit import Fitted
    from training.run_warnings import RunWarning
    from training.spec import Spec
    from training.verify import Verified

NARROWEST = 100  # columns of a table if the width of the terminal is unknown


def show_scores(spec: Spec, fitted: Fitted, verified: Verified) -> None:
    """Print the scores of all heads, and their differences to Keras."""
    tested = ["test"] if any(score.test_rows for score in fitted.scores.values()) else []
    scores = ("training", held_out(spec), *tested, "baseline")
    columns = ("head", "rows", "metric", *scores, "Keras ↔ ONNX")
    table = table_of(*columns)
    for name, score in fitted.scores.items():
        parts = [score.rows, *(n for n in (score.held_out_rows, score.test_rows) if n)]
        table.add_row(
            name,
            " + ".join(map(str, parts)),
            score.metric,
            shown(score.train),
            shown(score.held_out),
            *([shown(score.test)] if tested else []),
            shown(score.baseline),
            f"{verified.differences[name]:.1e}",
        )
    show(table)


def held_out(spec: Spec) -> str:
    """Return what the held-out rows are called: the scores of those that chose are too good."""
    return "held out" if spec.fit.patience is None else "held out (chose epoch)"


def show_warnings(warnings: Iterable[RunWarning]) -> None:
    """Print one line for each warning."""
    for warning in warnings:
        click.echo(printable(f"warning: {warning.message} ({warning.code})"))


def table_of(*columns: str) -> Table:
    """Return an empty table with these columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("head", "metric") else "right")
    return table


def show(table: Table) -> None:
    """Print a table as wide as the terminal, or wider rather than with words that are cut."""
    console = Console()
    width = console.width if console.is_terminal else max(console.width, NARROWEST)
    Console(width=max(width, _narrowed(table, width))).print(table)


def _narrowed(table: Table, width: int) -> int:
    """Return the width of a table after columns were wrapped between words, as far as needed."""
    words = {
        id(column): [str(cell).split() for cell in (column.header, *column.cells)]
        for column in table.columns
    }

    def shortest(column: Column) -> int:
        return max(len(word) for cell in words[id(column)] for word in cell)

    def saved(column: Column) -> int:
        return max(len(" ".join(cell)) for cell in words[id(column)]) - shortest(column)

    unbounded = Console(width=10_000)
    for column in sorted(table.columns, key=saved, reverse=True):
        if Measurement.get(unbounded, unbounded.options, table).maximum <= width:
            break
        column.width = shortest(column)
    return Measurement.get(unbounded, unbounded.options, table).maximum
