"""MLflow's `text/csv`: how lines become arrays, and how wrong lines are refused."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from service.commands.csv_rows import read_csv
from service.errors import BadRequest
from service.inference.model import Model
from service.wire import mlflow, native
from tests.harness import small
from tests.harness.decoded import same
from tests.harness.mlflow import (
    ARRAYS,
    CSV,
    PLANT,
    THREE,
    csv_text,
    problems_of,
    read_body,
    read_text,
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(CSV, id="plain"),
        pytest.param("\ufeff" + CSV, id="byte-order-mark"),
        pytest.param(CSV.replace("\n", "\r\n"), id="windows"),
        pytest.param(CSV.replace("yes", ' " yes "'), id="blanks"),
        pytest.param(
            "digit.3,digit.2,age,smoker,bmi,weight,length,digit.1,digit.0\n3,2,47,yes,20,1,2,1,0",
            id="short-names",
        ),
        pytest.param(
            'insurance,fruit,digit\n"[47, ""yes"", 20]","{""weight"": 1, ""length"": 2}",'
            '"[[0, 1], [2, 3]]"',
            id="inputs-whole",
        ),
    ],
)
def test_a_csv_is_the_same_arrays(text):
    """The header line names the columns, which may stand in any order."""
    assert same(read_text(text).arrays, ARRAYS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "", ("body", "CSV: a header line, and a line for each row", "no body"), id="empty"
        ),
        pytest.param(
            "age,bmi\n",
            ("body", "CSV: a header line, and a line for each row", "a header line alone"),
            id="no-rows",
        ),
        pytest.param(
            "age,bmi\n1,2\n1\n", ("line 3", "2 cells, as the header has", "1"), id="short-row"
        ),
        pytest.param(
            "age,bmi\n1,2\n\n3,4\n",
            ("line 3", "2 cells, as the header has", "a blank line"),
            id="blank-line",
        ),
        pytest.param(
            "\nage\n1\n",
            ("line 1", "the names of the columns", "a blank line"),
            id="blank-first-line",
        ),
        pytest.param(
            'age,bmi\n1,2\n1,"2\n', ("line 3", "CSV", "none (unexpected end of data)"), id="quoted"
        ),
        pytest.param(
            b"age,bmi\n1,\xff\n", ("body", "CSV in UTF-8", "the byte 0xff at offset 10"), id="latin"
        ),
        pytest.param(
            'bmi,digit\nold,"[0, 1, 2, 3]"\n',
            ("line 2, insurance.bmi", "a number for bmi", '"old"'),
            id="a-text",
        ),
        pytest.param(
            'bmi,digit\n1,"[0, 1,"\n',
            ("line 2, digit", "4 numbers, flat or as 2 x 2", '"[0, 1,", not in a list'),
            id="not-json-in-a-cell",
        ),
        pytest.param(
            "bmi,digit\n1,\n",
            ("line 2, digit", "4 numbers, flat or as 2 x 2", "null"),
            id="nothing-in-a-cell",
        ),
    ],
)
def test_a_csv_is_refused_by_its_lines(text, problem):
    """A message counts lines from 1, as an editor does."""
    body = text if isinstance(text, bytes) else text.encode()

    assert problems_of(read_body, body, THREE, "text/csv") == [problem]


@pytest.mark.parametrize(
    ("dtype", "cell", "value"),
    [
        pytest.param(small.F, "1.5", 1.5, id="number"),
        pytest.param(small.F, "TRUE", 1, id="yes"),
        pytest.param(small.F, "[2]", 2, id="list"),
        pytest.param(TensorProto.INT64, "9007199254740993", 9007199254740993, id="whole-number"),
        pytest.param(TensorProto.BOOL, "false", False, id="no"),
        pytest.param(TensorProto.BOOL, "1", True, id="one"),
        pytest.param(small.S, " 1 ", "1", id="text"),
    ],
)
def test_a_cell_is_what_the_graph_takes(dtype, cell, value):
    """The dtype of the graph decides whether a cell is a number, a boolean or a text."""
    signature = Model.load(small.same(dtype, (1,))).signature

    assert read_text(f"x\n{cell}\n", signature).arrays["x"].tolist() == [[value]]


@pytest.mark.parametrize(
    ("dtype", "cell", "received"),
    [
        pytest.param(small.F, "1_0", '"1_0"', id="no-number"),
        pytest.param(small.F, "NA", "null", id="missing"),
        pytest.param(TensorProto.INT64, "1.5", "1.5", id="no-whole-number"),
        pytest.param(TensorProto.BOOL, "yes", '"yes"', id="no-boolean"),
        pytest.param(small.S, "NA", "null", id="no-text"),
    ],
)
def test_a_cell_that_the_graph_does_not_take_is_shown(dtype, cell, received):
    """The message shows the cell as the type for which it was taken."""
    signature = Model.load(small.same(dtype, (1,))).signature

    assert [got for _, _, got in problems_of(read_text, f"x\n{cell}\n", signature)] == [received]


def test_a_line_is_counted_where_a_row_ends():
    """A cell may hold line breaks, and the message still names the right line."""
    text = 'smoker,bmi,digit\n"y\nes",1,"[0, 1,\n2, 3]"\nno,x,"[0, 1, 2, 3]"\n'

    assert problems_of(read_text, text) == [("line 5, insurance.bmi", "a number for bmi", '"x"')]


def test_a_cell_may_hold_a_picture():
    """A cell may be longer than 131,072 characters, the default limit of Python's CSV reader."""
    signature = Model.load(small.same(TensorProto.FLOAT, (40_000,))).signature
    values = json.dumps([0.125] * 40_000)

    assert read_text(f'x\n"{values}"\n', signature).arrays["x"].shape == (1, 40_000)


CELLS = st.sampled_from(
    ["", "NA", "nan", "NaN", "null", "0", "1", "1.5", "-2e3", "1e400", "1_0", "true", "False", "x"]
)


def _outcome(read):
    """Return the values of each tensor, or the values that were refused.

    Places are left out, since they differ between the forms.
    """
    try:
        asked = read()
    except BadRequest as error:
        return sorted(problem.received for problem in error.problems)
    return {name: array.tolist() for name, array in asked.arrays.items()}


@given(st.data())
def test_a_csv_is_read_as_predictions_of_a_file_are(data):
    """The service and `triceps predict` read the same missing cells and booleans in a CSV file."""
    dtypes = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING]
    dtype = data.draw(st.sampled_from(dtypes))
    signature = data.draw(
        st.sampled_from([PLANT, Model.load(small.same(dtype, (1,), name="x")).signature])
    )
    header = ["height", "plant", "colour"] if signature is PLANT else ["x"]
    rows = data.draw(st.lists(st.tuples(*[CELLS] * len(header)), min_size=1, max_size=3))
    text = csv_text(header, rows)

    offline = read_csv("x.csv", io.StringIO(text), signature)
    instances = [row.instance for row in offline.rows]

    assert _outcome(lambda: read_text(text, signature)) == _outcome(
        lambda: native.interpret({"instances": instances}, signature)
    )


def test_it_reads_json_and_csv():
    """Both content types count as one dialect in the metrics."""
    assert mlflow.DIALECT.name == "mlflow"
    assert mlflow.DIALECT.reads == ("application/json", "text/csv")
