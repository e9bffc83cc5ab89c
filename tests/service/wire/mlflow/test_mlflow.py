"""MLflow's scoring protocol in JSON: tables and rows to arrays, and arrays to predictions."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from service.errors import BadRequest, HTTPError, NotFound, NotJSON, NotReady, TooLarge
from service.inference.model import Model
from service.signature import Feature, Head, Input, Signature, Tensor, tabular
from service.wire import mlflow, native
from service.wire.body import Imputed
from service.wire.native import examples
from tests.harness import small
from tests.harness.decoded import same
from tests.harness.mlflow import (
    ARRAYS,
    COLUMNS,
    CSV,
    PLANT,
    THREE,
    csv_text,
    problems_of,
    read_body,
    read_text,
)

IMAGE = Signature(
    {"x": Input("x", "image", (Tensor("x", "float32", (4,)),), size=(2, 2))},
    {"y": Head("y", "tensor", Tensor("y", "float32", (4,)), inputs=("x",))},
)


ROW = [47, "yes", 20, 1, 2, [0, 1, 2, 3]]
NESTED = {"insurance": [47, "yes", 20], "fruit": {"weight": 1, "length": 2}, "digit": [0, 1, 2, 3]}
FORMS = '"dataframe_split", "dataframe_records", "instances", "inputs"'
NAMES = "insurance.age, insurance.smoker, insurance.bmi, fruit.weight, fruit.length, digit"
NO_BMI = "a number for bmi, which has no default"


def _split(columns, *rows, **more):
    """Return a table in the `dataframe_split` form."""
    return {"dataframe_split": {"columns": columns, "data": rows, **more}}


SPLIT = _split(COLUMNS, ROW)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(SPLIT, id="split"),
        pytest.param(_split(COLUMNS, ROW, index=["a"]), id="split-with-an-index"),
        pytest.param(_split(COLUMNS[::-1], ROW[::-1]), id="split-in-another-order"),
        pytest.param({**SPLIT, "params": {}}, id="no-params"),
        pytest.param({**SPLIT, "params": None}, id="null-params"),
        pytest.param({"dataframe_records": [dict(zip(COLUMNS, ROW, strict=True))]}, id="records"),
        pytest.param({"dataframe_records": [NESTED]}, id="nested-records"),
        pytest.param(_split(list(NESTED), list(NESTED.values())), id="nested-split"),
        pytest.param({"instances": [dict(zip(COLUMNS, ROW, strict=True))]}, id="instances"),
        pytest.param({"instances": [NESTED]}, id="nested-instances"),
        pytest.param({"inputs": {n: [v] for n, v in NESTED.items()}}, id="nested-inputs"),
        pytest.param({"inputs": {n: [v] for n, v in zip(COLUMNS, ROW, strict=True)}}, id="inputs"),
        pytest.param({"inputs": [NESTED]}, id="inputs-by-row"),
    ],
)
def test_every_form_is_the_same_arrays(body):
    """Full column names and whole inputs give the same arrays, and all heads are requested."""
    asked = read_body(body)

    assert same(asked.arrays, ARRAYS)
    assert asked.heads == ("risk", "size", "digits", "tags")
    assert asked.imputed == []


def test_a_content_type_may_have_parameters():
    """The content type is compared without parameters and without regard to case."""
    assert same(read_body(CSV.encode(), THREE, "Text/CSV; charset=UTF-8").arrays, ARRAYS)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_split(["age", "smoker", "bmi", "weight", "length", "digit"], ROW), id="bare"),
        pytest.param(
            _split([*COLUMNS[:5], *(f"digit.{i}" for i in (1, 0, 3, 2))], [*ROW[:5], 1, 0, 3, 2]),
            id="values-by-their-places",
        ),
        pytest.param({"instances": [{**NESTED, "digit": [[0, 1], [2, 3]]}]}, id="an-image-nested"),
    ],
)
def test_columns_have_shorter_names_where_that_is_clear(body):
    """A feature that one input alone has needs no input name.

    An image may have one column per value.
    """
    assert same(read_body(body).arrays, ARRAYS)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_split(["height", "plant", "colour"], [1, 2, "red"]), id="split"),
        pytest.param(
            _split(["plant.height", "plant.plant", "plant.colour"], [1, 2, "red"]), id="full"
        ),
        pytest.param(_split(["plant"], [{"height": 1, "plant": 2, "colour": "red"}]), id="whole"),
        pytest.param({"instances": [[1, 2, "red"]]}, id="a-row-alone"),
        pytest.param({"instances": [{"height": 1, "plant": 2, "colour": "red"}]}, id="an-object"),
        pytest.param({"instances": [{"plant": [1, 2, "red"]}]}, id="instances-whole"),
        pytest.param({"inputs": {"height": [1], "plant": [2], "colour": ["red"]}}, id="inputs"),
        pytest.param({"inputs": {"plant": [[1, 2, "red"]]}}, id="inputs-whole"),
        pytest.param({"inputs": [[1, 2, "red"]]}, id="inputs-by-row"),
    ],
)
def test_a_single_input_need_not_be_named(body):
    """A single input needs no name, even if a feature has the same name.

    A feature is neither a list nor an object, so the two cannot be confused.
    """
    expected = {"plant": np.float32([[1, 2]]), "plant.colour": np.array([["red"]], object)}

    assert same(read_body(body, PLANT).arrays, expected)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"instances": [[1, 2, 3, 4]]}, id="instances"),
        pytest.param({"inputs": [[[1, 2], [3, 4]]]}, id="an-array"),
        pytest.param({"inputs": {"x": [[1, 2, 3, 4]]}}, id="inputs"),
        pytest.param(_split([0, 1, 2, 3], [1, 2, 3, 4]), id="numbered-by-pandas"),
        pytest.param({"dataframe_split": {"data": [[1, 2, 3, 4]]}}, id="no-columns"),
        pytest.param(_split(["x.3", "2", "x.1", "0"], [4, 3, 2, 1]), id="by-places"),
        pytest.param(b"0,1,2,3\n1,2,3,4\n", id="csv"),
    ],
)
def test_the_values_of_a_single_tensor_are_called_by_their_places(body):
    """The columns of a tensor without features are named 0, 1, … as pandas names them."""
    kind = "text/csv" if isinstance(body, bytes) else "application/json"

    assert same(read_body(body, IMAGE, kind).arrays, {"x": np.float32([[1, 2, 3, 4]])})


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((), [5], id="no-axis"),
        pytest.param((1,), [[5]], id="one"),
        pytest.param((1, 1), [[[5]]], id="two"),
    ],
)
@pytest.mark.parametrize("body", [_split(["x"], [5]), {"instances": [5]}, {"inputs": {"x": [5]}}])
def test_a_row_of_one_value_needs_no_brackets(shape, expected, body):
    """A column of plain numbers fits a graph that takes [rows, 1]."""
    signature = Model.load(small.same(TensorProto.FLOAT, shape)).signature

    assert same(read_body(body, signature).arrays, {"x": np.float32(expected)})
    assert same(read_text("x\n5\n", signature).arrays, {"x": np.float32(expected)})


@pytest.mark.parametrize("missing", [pytest.param(None, id="null"), pytest.param(np.nan, id="NaN")])
def test_missing_values_take_their_defaults_and_are_noted(missing):
    """A null, a NaN (which pandas writes) and an absent column all take the default."""
    asked = read_body(
        _split(["age", "bmi", "smoker", "digit"], [missing, 20, missing, [0, 1, 2, 3]])
    )

    assert asked.imputed == [
        Imputed("dataframe_split.data[0].insurance.age", 38, "insurance.age"),
        Imputed("dataframe_split.data[0].insurance.smoker", "no", "insurance.smoker"),
        Imputed("dataframe_split.data[0].fruit.weight", 1.5, "fruit.weight"),
        Imputed("dataframe_split.data[0].fruit.length", 2, "fruit.length"),
    ]
    assert asked.arrays["insurance"].tolist() == [[38, 20]]
    assert asked.arrays["insurance.smoker"].tolist() == [["no"]]
    assert asked.arrays["fruit"].tolist() == [[1.5, 2]]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_split(["plant", "colour"], [1, "red"]), id="split"),
        pytest.param({"instances": [{"plant": 1, "colour": "red"}]}, id="bare"),
        pytest.param(
            {"instances": [{"plant": {"plant": 1, "colour": "red", "height": np.nan}}]}, id="whole"
        ),
        pytest.param({"instances": [[None, 1, "red"]]}, id="list"),
        pytest.param({"inputs": [[np.nan, 1, "red"]]}, id="nan-in-a-list"),
        pytest.param(
            {"dataframe_records": [{"plant": 1, "colour": "red", "height": None}]}, id="records"
        ),
        pytest.param({"inputs": {"plant": [1], "colour": ["red"]}}, id="inputs"),
        pytest.param(b"height,plant,colour\nNA,1,red\n", id="csv"),
    ],
)
def test_every_form_notes_the_same_imputed_values(body):
    """Every form notes the same imputed values.

    They are counted, and the answer does not list them.
    """
    kind = "text/csv" if isinstance(body, bytes) else "application/json"
    asked = read_body(body, PLANT, kind)

    assert [(entry.feature, entry.value) for entry in asked.imputed] == [("plant.height", 10)]
    assert asked.arrays["plant"].tolist() == [[10, 1]]


def test_a_nan_changes_nothing_else():
    """A body with NaN is otherwise checked like any other."""
    assert problems_of(read_body, {"inputs": [[np.nan, 1, "red"], 5]}, PLANT) == [
        ("inputs[1]", "3 values (height, plant, colour), as a list or an object", "5")
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(
            {"instances": [{**NESTED, "digit": [0, np.nan, 0, 0]}]},
            ("instances[0].digit[1]", "a number", "NaN"),
            id="nan-in-a-tensor",
        ),
        pytest.param(
            _split(COLUMNS, [-np.inf, *ROW[1:]]),
            (
                "dataframe_split.data[0].insurance.age",
                "a number within ±3.40282e+38 for age",
                "-Infinity, or a number too large for any float",
            ),
            id="infinity-in-a-table",
        ),
        pytest.param(
            {"instances": [{**NESTED, "insurance": [47, "yes", np.nan]}]},
            ("instances[0].insurance[2]", NO_BMI, "null"),
            id="nan-without-a-default",
        ),
    ],
)
def test_nan_elsewhere_and_infinity_are_refused(body, problem):
    """A tensor has no missing values, and no default stands in for an infinity."""
    assert problems_of(read_body, body) == [problem]


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        pytest.param(b" ", [("body", f"a JSON object with exactly one of {FORMS}", "no body")]),
        pytest.param([], [("body", f"an object with exactly one of {FORMS}", "an empty list")]),
        pytest.param({}, [("body", f"exactly one of {FORMS}", "none of them")]),
        pytest.param(
            {**SPLIT, "instances": [NESTED]},
            [("body", f"exactly one of {FORMS}", '"dataframe_split" and "instances"')],
        ),
        pytest.param(
            {"dataframe_splits": {}},
            [
                (
                    "dataframe_splits",
                    (
                        "one of dataframe_split, dataframe_records, instances, inputs, params"
                        " (did you mean 'dataframe_split'?)"
                    ),
                    'the unknown key "dataframe_splits"',
                ),
                ("body", f"exactly one of {FORMS}", "none of them"),
            ],
        ),
        pytest.param({**SPLIT, "params": []}, [("params", "an object", "an empty list")]),
        pytest.param(
            {**SPLIT, "params": {"temperature": 0.5, "k": 1}},
            [
                ("params.temperature", "no parameters, since no model here takes any", "0.5"),
                ("params.k", "no parameters, since no model here takes any", "1"),
            ],
        ),
        pytest.param(
            {"dataframe_split": []},
            [("dataframe_split", 'an object with "columns" and "data"', "an empty list")],
        ),
        pytest.param(
            {"dataframe_split": {"columns": COLUMNS}},
            [("dataframe_split.data", "a list of at least one row", "nothing")],
        ),
        pytest.param(
            _split(COLUMNS),
            [("dataframe_split.data", "a list of at least one row", "an empty list")],
        ),
        pytest.param(
            {"dataframe_split": {"data": [1]}},
            [("dataframe_split.columns", "a list of names", "null")],
        ),
        pytest.param(
            _split([], []), [("dataframe_split.columns", "a list of names", "an empty list")]
        ),
        pytest.param(
            {**_split(["a", None, True], [1, 2], 3, [1, 2, 3], index=[1], colums=1)},
            [
                (
                    "dataframe_split.colums",
                    "one of columns, data, index (did you mean 'columns'?)",
                    'the unknown key "colums"',
                ),
                ("dataframe_split.index", "a list of 3, one for each row", "a list of 1"),
                ("dataframe_split.columns[1]", "a name", "null"),
                ("dataframe_split.columns[2]", "a name", "true"),
                (
                    "dataframe_split.data[0]",
                    "a list of 3 values, one for each column",
                    "2 values",
                ),
                ("dataframe_split.data[1]", "a list of 3 values, one for each column", "3"),
            ],
        ),
        pytest.param(
            {"dataframe_records": {}},
            [("dataframe_records", "a list of at least one row", "an empty object")],
        ),
        pytest.param(
            {"instances": []}, [("instances", "a list of at least one row", "an empty list")]
        ),
        pytest.param(
            {"instances": [NESTED, [1]]},
            [("instances[1]", f"an object of {NAMES}", "a list of 1")],
        ),
        pytest.param(
            {"inputs": 5},
            [("inputs", "a list of at least one row, or an object of columns", "5")],
        ),
        pytest.param({"inputs": {}}, [("inputs", f"an object of {NAMES}", "an empty object")]),
        pytest.param(
            {"inputs": {"bmi": [20], "digit": [[0, 1, 2, 3]] * 2, "age": 5}},
            [
                ("inputs.age", "a list of at least one row", "5"),
                ("inputs.digit", "1 row, as inputs.bmi has", "2 rows"),
            ],
        ),
    ],
)
def test_a_body_of_no_form_is_refused(body, problems):
    """The error names every problem with its place."""
    assert problems_of(read_body, body) == problems


@pytest.mark.parametrize(
    ("columns", "problems"),
    [
        pytest.param(
            {"bmy": 1, "bmi": 20, "digit": [0, 1, 2, 3]},
            [("[0]", ".bmy", f"one of {NAMES} (did you mean 'bmi'?)", 'the unknown column "bmy"')],
            id="unknown",
        ),
        pytest.param(
            {"bmi": 20, "digit.4": 0, "digit.01": 0, ".1": 0, "digit": [0, 1, 2, 3]},
            [
                (
                    f"[{position}]",
                    step,
                    f"one of {NAMES}{close}",
                    f"the unknown column {json.dumps(name)}",
                )
                for position, step, name, close in [
                    (1, '["digit.4"]', "digit.4", " (did you mean 'digit'?)"),
                    (2, '["digit.01"]', "digit.01", " (did you mean 'digit'?)"),
                    (3, '[".1"]', ".1", ""),
                ]
            ],
            id="past-the-end-of-a-row",
        ),
        pytest.param(
            {"insurance.bmi": 20, "bmi": 20, "digit": [0, 1, 2, 3]},
            [
                (
                    "[1]",
                    ".bmi",
                    'either that or "insurance.bmi", since they hold the same',
                    '"bmi"',
                )
            ],
            id="twice",
        ),
        pytest.param(
            {"bmi": 20, "digit.0": 1, "digit": [0, 1, 2, 3]},
            [("[2]", ".digit", 'either that or "digit.0", since they hold the same', '"digit"')],
            id="a-part-and-the-whole",
        ),
        pytest.param(
            {"insurance": [1, "no", 2], "bmi": 20, "digit": [0, 1, 2, 3]},
            [("[1]", ".bmi", 'either that or "insurance", since they hold the same', '"bmi"')],
            id="the-whole-and-a-part",
        ),
        pytest.param(
            {"bmi": 20, "digit.3": 0, "digit.1": 1, "digit.0": 0},
            [
                (
                    "[1]",
                    '["digit.3"]',
                    "4 columns, digit.0 to digit.3",
                    '3, without "digit.2"',
                )
            ],
            id="a-value-short",
        ),
    ],
)
def test_names_are_refused_at_their_places(columns, problems):
    """A header's names are refused once for all rows, a row's names by their keys."""
    assert problems_of(read_body, _split(list(columns), list(columns.values()))) == [
        (f"dataframe_split.columns{place}", expected, received)
        for place, _, expected, received in problems
    ]
    assert problems_of(read_body, {"instances": [columns]}) == [
        (f"instances[0]{place}", expected, received) for _, place, expected, received in problems
    ]
    assert problems_of(read_body, {"inputs": {n: [value] for n, value in columns.items()}}) == [
        (f"inputs{place}", expected, received) for _, place, expected, received in problems
    ]
    assert problems_of(read_text, csv_text(list(columns), [columns.values()])) == [
        ("line 1, the header", expected, received) for _, _, expected, received in problems
    ]


def test_a_column_may_appear_once():
    """A CSV header and a split table may not repeat a column, nor an object a key."""
    problem = ("each name once", '"bmi"')

    assert problems_of(read_text, 'bmi,bmi,digit\n1,2,"[0, 1, 2, 3]"') == [
        ("line 1, the header", *problem)
    ]
    assert problems_of(read_body, _split(["bmi", "bmi", "digit"], [1, 2, [0, 1, 2, 3]])) == [
        ("dataframe_split.columns[1]", *problem)
    ]
    assert problems_of(read_body, b'{"inputs": {"bmi": [1], "bmi": [2]}}') == [
        ("body", "each key of an object once", '"bmi" twice')
    ]


def test_long_names_of_columns_are_not_taken_for_one():
    """Two long names are two columns, although a message shows only their common beginning."""
    columns = {"x" * 300 + end: [1] for end in "ab"}

    assert [at for at, *_ in problems_of(read_body, {"inputs": columns}, IMAGE)] == [
        *["inputs." + "x" * 199 + "…"] * 2,
        "inputs",
    ]


def test_a_feature_of_two_inputs_needs_its_full_name():
    """A feature of two inputs needs its full name."""
    inputs = {name: tabular(name, [Feature("age", "")]) for name in ("dog", "owner")}
    heads = {"y": Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=("dog", "owner"))}
    signature = Signature(inputs, heads)

    assert problems_of(read_body, _split(["age"], [1]), signature) == [
        (
            "dataframe_split.columns[0]",
            '"dog.age" or "owner.age"',
            '"age", which several inputs have',
        )
    ]
    asked = read_body(_split(["owner.age", "dog.age"], [1, 2]), signature)
    assert same(asked.arrays, {"dog": np.float32([[2]]), "owner": np.float32([[1]])})


@pytest.mark.parametrize(
    ("body", "place"),
    [
        pytest.param(_split(["age", "fruit"], [1, [1, 2]]), "dataframe_split.columns", id="split"),
        pytest.param({"inputs": {"age": [1], "fruit": [[1, 2]]}}, "inputs", id="inputs"),
        pytest.param(b"age,weight,length\n1,1,2", "line 1, the header", id="csv"),
    ],
)
def test_missing_columns_are_named_once(body, place):
    """A missing column is one problem, not one for each row."""
    kind = "text/csv" if isinstance(body, bytes) else "application/json"

    assert problems_of(read_body, body, THREE, kind) == [
        (place, '"insurance.bmi", which has no default', "no such column"),
        (place, '"digit", or digit.0 to digit.3', "no such column"),
    ]


def test_a_missing_column_of_a_single_input_is_named_as_it_would_be():
    """The message names a missing column of a single input without the input.

    A tensor of any length has no columns that are named by their places.
    """
    ragged = Model.load(small.ragged()).signature

    assert problems_of(read_body, _split(["height", "colour"], [1, "red"]), PLANT) == [
        ("dataframe_split.columns", '"plant", which has no default', "no such column")
    ]
    assert problems_of(read_body, _split(["0"], [1]), ragged) == [
        ("dataframe_split.columns[0]", "one of x", 'the unknown column "0"'),
        ("dataframe_split.columns", '"x"', "no such column"),
    ]


@pytest.mark.parametrize("form", ["instances", "dataframe_records", "inputs"])
def test_missing_keys_are_problems_of_their_row(form):
    """Rows need not have the same keys, so a missing key is a problem of its row."""
    rows = [{"digit": [0, 1, 2, 3], "bmi": 20}, {"bmi": "x"}, {"insurance": {"bmi": 20}}, {}]

    assert problems_of(read_body, {form: rows}) == [
        (f"{form}[1].insurance.bmi", "a number for bmi", '"x"'),
        (f"{form}[3].insurance.bmi", NO_BMI, "nothing"),
        (f"{form}[1].digit", "4 numbers, flat or as 2 x 2", "nothing"),
        (f"{form}[2].digit", "4 numbers, flat or as 2 x 2", "nothing"),
        (f"{form}[3].digit", "4 numbers, flat or as 2 x 2", "nothing"),
    ]


def test_an_empty_row_of_a_single_input_lacks_everything():
    """An empty row lacks every feature of the input, or its value."""
    assert problems_of(read_body, {"instances": [{}]}, PLANT) == [
        ("instances[0].plant", "a number for plant, which has no default", "nothing"),
        ("instances[0].colour", "text for colour, which has no default", "nothing"),
    ]
    assert problems_of(read_body, {"instances": [{}]}, IMAGE) == [
        ("instances[0].x", "4 numbers, flat or as 2 x 2", "nothing")
    ]


def test_values_are_taken_as_they_are():
    """A text does not become a number, nor true a 1; each problem names its row and column."""
    columns = ["age", "bmi", "smoker", "digit.0", "digit.1", "digit.2", "digit.3"]
    whole = {"inputs": {"bmi": [20], "digit": [[0, 1, 2, True]]}}

    assert problems_of(read_body, _split(columns, ["47", True, 1, 0, 1, 2, "3"])) == [
        ("dataframe_split.data[0].insurance.age", "a number for age", '"47"'),
        ("dataframe_split.data[0].insurance.smoker", "text for smoker", "1"),
        (
            "dataframe_split.data[0].insurance.bmi",
            "a number for bmi (1 for true, 0 for false)",
            "true",
        ),
        ("dataframe_split.data[0].digit[3]", "a number", '"3"'),
    ]
    assert problems_of(read_body, whole) == [("inputs.digit[0][3]", "a number", "true")]


def test_very_many_unknown_columns_are_counted():
    """The message names the first unknown columns and counts the others."""
    with pytest.raises(BadRequest) as caught:
        read_body({"instances": [{f"column {i}": i for i in range(1000)}]})

    # The body-mass index and the picture are left out.
    assert (len(caught.value.problems), caught.value.count) == (20, 1002)


def test_an_input_that_no_head_needs_may_be_absent_and_is_checked():
    """An input that no head needs is checked, but does not reach the model.

    Its defaults do not count as imputed.
    """
    signature = Model.load(small.idle()).signature
    unread = Signature(
        {**PLANT.inputs, "x": IMAGE.inputs["x"]},
        {"y": Head("y", "tensor", Tensor("y", "float32", (4,)), inputs=("x",))},
    )
    asked = read_body({"instances": [{"x": [1, 2, 3, 4], "plant": [None, 1, "red"]}]}, unread)

    assert same(read_body(_split(["x"], [1]), signature).arrays, {"x": np.float32([[1]])})
    assert same(
        read_body(_split(["x", "idle"], [1, 2]), signature).arrays, {"x": np.float32([[1]])}
    )
    assert problems_of(read_body, _split(["x", "idle"], [1, "2"]), signature) == [
        ("dataframe_split.data[0].idle", "a number", '"2"')
    ]
    assert list(asked.arrays) == ["x"]
    assert asked.imputed == []


NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)
AGE = st.none() | NUMBER
ROWS = st.lists(
    st.tuples(
        *(AGE, st.none() | st.text(), NUMBER, AGE, AGE),
        st.lists(NUMBER, min_size=4, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@given(ROWS, st.permutations(range(6)))
def test_all_forms_are_one(rows, order):
    """Every form of a table gives the arrays and the imputed values of the native format."""
    columns = [COLUMNS[i] for i in order]
    cells = [[row[i] for i in order] for row in rows]
    records = [dict(zip(columns, row, strict=True)) for row in cells]
    instances = [
        {
            "insurance": dict(zip(("age", "smoker", "bmi"), row[:3], strict=True)),
            "fruit": list(row[3:5]),
            "digit": row[5],
        }
        for row in rows
    ]
    expected = native.interpret({"instances": instances}, THREE)

    for body in (
        _split(columns, *cells),
        {"dataframe_records": records},
        {"instances": instances},
        {"inputs": {n: [row[n] for row in records] for n in columns}},
        {"inputs": {n: [row[n] for row in instances] for n in instances[0]}},
    ):
        asked = read_body(body)

        assert same(asked.arrays, expected.arrays)
        assert [(entry.feature, entry.value) for entry in asked.imputed] == [
            (entry.feature, entry.value) for entry in expected.imputed
        ]


@pytest.mark.parametrize("name", small.every())
def test_any_models_example_is_a_body_here_too(name):
    """The native example of any model is a valid body by row, by column and as a table."""
    signature = Model.load(small.every()[name]).signature
    request = examples.example(signature)
    [row] = request["instances"]
    expected = native.interpret(request, signature).arrays

    for body in (
        request,
        {"inputs": {n: [v] for n, v in row.items()}},
        _split(list(row), [*row.values()]),
    ):
        assert same(read_body(body, signature).arrays, expected)


LEAVES = st.sampled_from([None, True, 0, 1.5, "", "yes", np.nan, np.inf, -1, "1"])
KEYS = st.sampled_from(
    [
        "columns",
        "data",
        "index",
        "plant",
        "height",
        "plant.height",
        "colour",
        "0",
        "x",
        "x.0",
        "x.9",
    ]
)


VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from(mlflow.FORMS), VALUES, st.sampled_from([PLANT, IMAGE, THREE]))
def test_whatever_comes_is_read_or_refused(form, value, signature):
    """Any JSON value, however nested, is either read or refused with a `BadRequest`."""
    with contextlib.suppress(BadRequest):
        [height] = {len(array) for array in read_body({form: value}, signature).arrays.values()}
        assert height > 0


@given(st.sampled_from([PLANT, IMAGE]), st.text('012,"\n x.[]aheightplantcolour', max_size=60))
def test_whatever_text_comes_is_read_or_refused(signature, text):
    """Any text is either read as CSV or refused with a `BadRequest`."""
    with contextlib.suppress(BadRequest):
        assert read_text(text, signature).arrays


def _encode(signature, outputs):
    """Return the answer for some arrays as JSON."""
    asked = mlflow.Query({}, tuple(outputs), [])
    reply = mlflow.DIALECT.encode(asked, "three", "1", signature, outputs)
    assert reply.content_type == "application/json"
    return reply.content.decode()


def test_several_heads_are_a_record_a_row():
    """An answer has one object per row, with the values in the graph's own shapes."""
    outputs = {"risk": np.float32([[0.93], [0.08]]), "digits": np.float32([[0, 1, 0], [3, 2, 1]])}

    assert _encode(THREE, outputs) == (
        '{"predictions":[{"risk":[0.93],"digits":[0.0,1.0,0.0]},'
        '{"risk":[0.08],"digits":[3.0,2.0,1.0]}]}'
    )


@pytest.mark.parametrize(
    ("output", "written"),
    [
        pytest.param(np.float32([[0.93], [0.08]]), "[[0.93],[0.08]]", id="one-value"),
        pytest.param(np.asfortranarray(np.float32([[1, 2], [3, 4]])), "[[1.0,2.0],[3.0,4.0]]"),
        pytest.param(np.array([["a"], ["ü"]], object), '[["a"],["ü"]]', id="texts"),
        pytest.param(np.array([1, 2]), "[1,2]", id="no-axis"),
        pytest.param(np.array([[True]]), "[[true]]", id="boolean"),
    ],
)
def test_a_single_head_is_its_values(output, written):
    """The answer of a model with one head has no head name, as in MLflow."""
    assert _encode(THREE, {"y": output}) == f'{{"predictions":{written}}}'


def test_nan_and_infinity_are_written_as_mlflow_does():
    """NaN and infinity are written as MLflow writes them, although JSON has no such numbers.

    The values beside them are written as usual and read back the same.
    """
    outputs = {
        "many": np.float32([[0.93, np.nan], [np.inf, -np.inf]]),
        "half": np.float16([0.5, np.nan]),
        "whole": np.int64([[2], [3]]),
        "text": np.array([["ü"], ["b"]], object),
    }

    assert _encode(THREE, outputs) == (
        '{"predictions":[{"many":[0.93,NaN],"half":0.5,"whole":[2],"text":["ü"]},'
        '{"many":[Infinity,-Infinity],"half":NaN,"whole":[3],"text":["b"]}]}'
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(NotFound("no model"), "RESOURCE_DOES_NOT_EXIST", id="404"),
        pytest.param(HTTPError(405, "no model"), "BAD_REQUEST", id="405"),
        pytest.param(TooLarge("no model"), "BAD_REQUEST", id="413"),
        pytest.param(NotJSON("no model"), "BAD_REQUEST", id="415"),
        pytest.param(HTTPError(500, "no model"), "INTERNAL_ERROR", id="500"),
        pytest.param(NotReady("no model"), "TEMPORARILY_UNAVAILABLE", id="503"),
    ],
)
def test_an_error_has_mlflows_name(error, code):
    """The error code is one that MLflow's clients know."""
    reply = mlflow.DIALECT.encode_error(error)

    assert reply.content_type == "application/json"
    assert json.loads(reply.content) == {"error_code": code, "message": "no model"}


def test_a_bad_request_lists_all_its_problems():
    """The message holds the first problem, and a list beside it holds all of them."""
    with pytest.raises(BadRequest) as caught:
        read_body({"instances": [{**NESTED, "digit": 5, "fruit": ["x", 1]}]})

    first = {"at": "instances[0].fruit[0]", "expected": "a number for weight", "received": '"x"'}
    second = {
        "at": "instances[0].digit",
        "expected": "4 numbers, flat or as 2 x 2",
        "received": "5, not in a list",
    }
    assert json.loads(mlflow.DIALECT.encode_error(caught.value).content) == {
        "error_code": "BAD_REQUEST",
        "message": (
            'instances[0].fruit[0]: expected a number for weight, received "x" (and 1 more)'
        ),
        "problems": [first, second],
        "count": 2,
    }


def test_names_that_look_like_others_go_to_the_right_input():
    """An input may be named like the place of a value or like a full feature name."""
    model = small.model(
        [helper.make_node("Concat", ["x", "x.1", "x.y"], ["y"], axis=1)],
        [("x", small.F, ["n", 2]), ("x.1", small.F, ["n", 1]), ("x.y", small.F, ["n", 1])],
        [("y", small.F, ["n", 4])],
    )
    signature = Model.load(model.SerializeToString()).signature
    asked = read_body({"instances": [{"x.0": 1, "x.1": 2, "x.1.0": 3, "x.y": 4}]}, signature)

    assert {name: array.tolist() for name, array in asked.arrays.items()} == {
        "x": [[1, 2]],
        "x.1": [[3]],
        "x.y": [[4]],
    }
