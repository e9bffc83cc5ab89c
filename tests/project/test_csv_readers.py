"""The readers of CSV, of `triceps predict`, MLflow and training, which agree on all cells."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.commands import missing_features
from service.commands.csv_rows import read_csv
from service.commands.row_files import RowsError
from service.errors import BadRequest
from service.signature import Feature, Head, Signature, Tensor, tabular
from service.wire import cells, mlflow
from training import cells as training_cells
from training import data, table
from training.errors import DataError
from training.head_spec import HeadSpec
from training.input_spec import InputSpec
from training.spec import FitSpec, Spec

if TYPE_CHECKING:
    from collections.abc import Sequence


def _signature(columns: Sequence[str]) -> Signature:
    """Return a table with these columns, each of which may be missing."""
    entry = tabular("x", [Feature(name, "", default=0) for name in columns])
    head = Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=("x",))
    return Signature({"x": entry}, {"y": head})


def _predicted(text: str, columns: Sequence[str], folder: Path) -> list[list[object]] | None:
    """Return the rows that `triceps predict` reads, or `None` if it refuses the file."""
    del folder
    file = io.StringIO(text, newline="")
    with contextlib.suppress(RowsError):
        signature = _signature(columns)
        read = read_csv(Path("a.csv"), file, signature)
        needed = {"x": signature.inputs["x"].features}
        missing_features.check_header(Path("a.csv"), read, signature, needed)
        return [list(row.instance["x"].values()) for row in read.rows]
    return None


def _served(text: str, columns: Sequence[str], folder: Path) -> list[list[object]] | None:
    """Return the rows of a request in MLflow's form, in which a body without rows is an error."""
    del folder
    read = mlflow.DIALECT.reader(_signature(columns))
    try:
        asked = read(text.encode(), lambda name: "text/csv" if name == "Content-Type" else "")
    except BadRequest as error:
        return [] if "a header line alone" in str(error) else None
    return asked.arrays["x"].tolist()  # type: ignore[no-any-return]


def _trained(text: str, columns: Sequence[str], folder: Path) -> list[list[object]] | None:
    """Return the rows of a file of training data."""
    path = folder / "rows.csv"
    path.write_bytes(text.encode())
    try:
        read = table.read(path)
    except DataError as error:
        return [] if "no rows below the header" in str(error) else None
    assert read.columns == list(columns)
    return [
        [read.column(name).texts[read.column(name).codes[row]] for name in columns]
        for row in range(len(read.frame))
    ]


CELLS = st.sampled_from(["", "", " ", '""', '" "', "1", " 2 ", '"3"', "-4.5"])


@st.composite
def _files(draw: st.DrawFn) -> tuple[str, tuple[str, ...]]:
    """Draw a CSV of one or two columns, with some blank lines, and its columns."""
    columns = draw(st.sampled_from([("a",), ("a", "b")]))
    lines = draw(
        st.lists(
            st.one_of(
                st.sampled_from(["", "", " "]),
                st.lists(CELLS, min_size=len(columns), max_size=len(columns)).map(",".join),
            ),
            max_size=6,
        )
    )
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    last = draw(st.sampled_from(["", end]))
    return end.join([",".join(columns), *lines]) + last, columns


@given(file=_files())
@example(file=("a\n1\n\n3\n", ("a",)))
@example(file=("a\n1\n\n3", ("a",)))
@example(file=('a\n""\n', ("a",)))
@example(file=("a,b\n1,2\n\n3,4\n", ("a", "b")))
@example(file=("\na\n1\n", ("a",)))
@example(file=("a\n1\n\n", ("a",)))
def test_all_readers_see_the_same_rows(
    file: tuple[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All readers return the same rows or refuse the file.

    One row more or less would shift all that follow.
    """
    text, columns = file

    counts = {
        read.__name__: None if rows is None else len(rows)
        for read in (_predicted, _served, _trained)
        for rows in [read(text, columns, tmp_path_factory.getbasetemp())]
    }

    assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("a\n1\n\n3\n", [1, None, 3], id="blank line"),
        pytest.param("a\r\n1\r\n \r\n3\r\n", [1, None, 3], id="a line of spaces"),
        pytest.param('a\n1\n""\n3\n', [1, None, 3], id="quoted"),
        pytest.param("a\n\n2\n", [None, 2], id="the first"),
        pytest.param("a\n1\n\n", [1, None], id="the last"),
        pytest.param("a\n1\n", [1], id="a line end at the end is not a line"),
        pytest.param("a\n1", [1], id="nor is its absence"),
    ],
)
def test_a_blank_line_in_a_file_of_one_column_is_a_missing_cell(
    text: str, rows: list[int | None], tmp_path: Path
) -> None:
    """Every reader takes the blank line as a missing cell at its place."""
    assert _predicted(text, ["a"], tmp_path) == [[value] for value in rows]
    assert _served(text, ["a"], tmp_path) == [[value or 0] for value in rows]
    assert _trained(text, ["a"], tmp_path) == [[str(value or "")] for value in rows]


def test_rows_that_are_aligned_by_position_stay_so(tmp_path: Path) -> None:
    """A blank line in one file does not pair its next row with the previous target."""
    (tmp_path / "x.csv").write_text("a,x\n1,0\n2,0\n3,0\n4,0\n")
    (tmp_path / "y.csv").write_text("b\n10\n\n30\n40\n")
    entries = [InputSpec("p", "x.csv", columns=("a",)), InputSpec("q", "y.csv", columns=("b",))]
    spec = Spec(
        path=tmp_path / "spec.toml",
        digest="",
        name="m",
        inputs={entry.name: entry for entry in entries},
        layers={},
        heads={"o": HeadSpec("o", ("p", "q"), "regression", (("p", "x"),))},
        align="position",
        fit=FitSpec(),
    )

    loaded = data.load(spec)

    assert loaded.sources["x.csv"].arrays["p"].tolist() == [[1], [2], [3], [4]]
    assert loaded.sources["y.csv"].arrays["q"].tolist() == [[10], [30], [30], [40]]


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────

LARGEST = float(np.finfo(np.float32).max)
# Characters of numbers, and those that Python or Unicode take for them: digits of other scripts,
# a dotless i, unusual spaces, and Python's own notations.
PIECES = [
    *("0", "1", "23", "9" * 40, "0" * 400, ".", "-", "+", "e", "E", "e5", "inf", "nan", "infinity"),
    *("true", "False", "NA", "null", "_", ",", "x", "j", "0x", "1d", " ", "\t", "\u00a0", "\u2003"),
    *("\uff11", "\u0663", "\u00b2", "\u2460", "\u0131nf", "\u0130NF", "\u212a", "\u2212", "\uff0e"),
]


def _in_training(text: str) -> float | None:
    """Return the finite number that training reads in a cell, or `None`."""
    value = training_cells.number(text)
    return value if abs(value) <= LARGEST else None


def _in_a_request(text: str) -> float | None:
    """Return the finite number that the wire reads in a cell, or `None` if it refuses the cell."""
    value = cells.value(text, "float32")
    is_number = isinstance(value, int | float) and abs(value) <= LARGEST
    return float(value) if is_number else None


@given(text=st.lists(st.sampled_from(PIECES), max_size=4).map(lambda value: "".join(value).strip()))
@example(text="\uff11")
@example(text="\u0131nf")
@example(text="1_0")
@example(text="9" * 5000)
@example(text="0" * 5000)
@example(text="9" * 40)
@example(text="nAn")
def test_a_cell_is_the_same_number_in_training_and_in_a_request(text: str) -> None:
    """A cell is the same number to both or to neither, so that training and serving agree."""
    assert _in_training(text) == _in_a_request(text)
    assert training_cells.is_missing(text) == (cells.value(text, "float32") is None)
    if training_cells.is_whole(text):
        assert float(training_cells.whole(text)) == float(text)
