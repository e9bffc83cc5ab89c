"""The table at the end of a run, in terminals of any width."""

import click
import pytest
from rich.console import Console

from training import summary

HEADS = ("head", "rows", "metric", "training", "held out (chose epoch)", "test", "Keras ↔ ONNX")
ROWS = [
    ("sales", "240 + 30 + 30", "mae", "215,042.1", "108,998.9", "239,308.4", "3.4e-07"),
    ("body_mass_g", "240 + 30 + 30", "accuracy", "0.9998", "0.8890", "0.8889", "1.1e-07"),
]


def _lines(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(Console, "is_terminal", True)
    table = summary.table_of(*HEADS)
    for row in ROWS:
        table.add_row(*row)
    summary.show(table)
    return click.unstyle(capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_no_word_of_the_table_is_cut(monkeypatch, capsys, columns):
    """A score without its last digits is another score; words go to lines of their own."""
    text = "\n".join(_lines(monkeypatch, capsys, columns))

    assert "…" not in text
    words = {word for row in (HEADS, *ROWS) for cell in row for word in cell.split()}
    assert words <= set(text.split())


def test_the_table_fits_a_terminal_of_80_columns(monkeypatch, capsys):
    """Most terminals are as wide."""
    assert max(map(len, _lines(monkeypatch, capsys, 80))) <= 80


def test_a_wide_terminal_has_a_line_for_each_head(monkeypatch, capsys):
    """Nothing is wrapped without need: the heading, a rule and two heads."""
    assert len(_lines(monkeypatch, capsys, 200)) == 2 + len(ROWS)
