"""The summary at the end of a run: a table of the heads, and the warnings below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from service.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from training.fit import Fitted
    from training.run_warnings import RunWarning
    from training.spec import Spec
    from training.verify import Verified

NARROWEST = 100  # columns of a table if the width of the terminal is unknown


def show_scores(spec: Spec, fitted: Fitted, verified: Verified) -> None:
    """Print the scores of all heads, and their differences to Keras."""
    # Scores on rows that chose the epoch are a little too good, and so are called that.
    held = "held out" if spec.fit.patience is None else "held out (chose epoch)"
    columns = ("head", "rows", "metric", "training", held, "baseline", "Keras ↔ ONNX")
    table = table_of(*columns)
    for name, score in fitted.scores.items():
        held_out = f" + {score.held_out_rows}" if score.held_out_rows else ""
        table.add_row(
            name,
            f"{score.rows}{held_out}",
            score.metric,
            f"{score.train:.4f}",
            "–" if score.held_out is None else f"{score.held_out:.4f}",  # noqa: RUF001  (a dash)
            f"{score.baseline:.4f}",
            f"{verified.differences[name]:.1e}",
        )
    show(table)


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
