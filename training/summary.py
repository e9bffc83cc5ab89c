"""The summary at the end of a run: a table of the heads, and the warnings below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

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
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column in ("head", "metric") else "right")
    return table


def show(table: Any) -> None:
    """Print a table as wide as the terminal."""
    console = Console()
    width = console.width if console.is_terminal else max(console.width, NARROWEST)
    Console(width=width).print(table)
