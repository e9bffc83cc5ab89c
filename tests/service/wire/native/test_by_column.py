"""Tables by column: the rules for rows hold, and the answers are those to the same rows."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import BadRequest
from service.inference.model import Model
from service.signature import Feature, Head, Signature, Tensor, tabular
from service.wire import native
from service.wire.body import MOST_IMPUTED, MOST_ROWS, Imputed
from service.wire.native import fast
from tests.harness import fast_way, small
from tests.harness.decoded import problems, same

THREE = Model.load(small.three()).signature
PLANT = Model.load(small.plant()).signature
COUNTED = Model.load(small.counted()).signature
DIGITS = [[0, 1, 2, 3]] * 2
INSURANCE = {"age": [47, 30], "smoker": ["yes", "no"], "bmi": [20, 31.5]}
FRUIT = {"weight": [1, 2], "length": [3, 4]}
COLUMNS = {"insurance": INSURANCE, "fruit": FRUIT, "digit": DIGITS}
A_COLUMN = "a list with one value for each row"

_PATHS = {"plain": native.decode, "fast": fast_way.decode}
_path = {}


@pytest.fixture(autouse=True, scope="module", params=_PATHS)
def _either_path(request):
    """Decode with the fast reader and with the reference reader."""
    _path["decode"] = _PATHS[request.param]


def _decode(inputs, signature=THREE, **parts):
    """Decode a body by column."""
    return _path["decode"](json.dumps({"inputs": inputs, **parts}).encode(), signature)


def _problems(inputs, signature=THREE, **parts):
    """Return the problems of a body by column as (at, expected, received) tuples."""
    return problems(lambda: _decode(inputs, signature, **parts))


def test_a_table_may_be_an_object_of_columns():
    """The columns of a table, which pandas' `to_dict("list")` returns, are its rows."""
    request = _decode(COLUMNS)

    assert same(
        request.arrays,
        {
            "insurance": np.float32([[47, 20], [30, 31.5]]),
            "insurance.smoker": np.array([["yes"], ["no"]], object),
            "fruit": np.float32([[1, 3], [2, 4]]),
            "digit": np.float32(DIGITS),
        },
    )
    assert not request.by_row
    assert request.imputed == []


@pytest.mark.parametrize(
    ("inputs", "signature", "some"),
    [
        pytest.param(COLUMNS, THREE, {}, id="tables and an image"),
        pytest.param({**COLUMNS, "fruit": [[1, 2], [3, 4]]}, THREE, {}, id="a table by row"),
        pytest.param({"fruit": FRUIT}, THREE, {"heads": ["size"]}, id="some heads"),
        pytest.param({"fruit": {"length": [1], "weight": [2]}}, THREE, {"heads": ["size"]}, id="1"),
        pytest.param(COLUMNS, THREE, {"heads": ["size"]}, id="an input that is only checked"),
        pytest.param({"down": [1], "up": [2]}, COUNTED, {}, id="without the input"),
        pytest.param({"counts": {"up": [1, 2], "down": [-1, 5]}}, COUNTED, {}, id="whole numbers"),
    ],
)
def test_columns_take_the_fast_path(inputs, signature, some, monkeypatch):
    """Regular columns do not fall back to the reference reader."""
    body = json.dumps({"inputs": inputs, **some}).encode()
    expected = native.decode(body, signature)
    monkeypatch.setattr(fast.reference, "decode", lambda *_: pytest.fail("it fell back"))

    assert same(fast_way.decode(body, signature).arrays, expected.arrays)


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param({"height": [1, 2], "plant": [3, 4], "colour": ["red", "x"]}, id="bare"),
        pytest.param(
            {"plant": {"height": [1, 2], "plant": [3, 4], "colour": ["red", "x"]}}, id="by name"
        ),
    ],
)
def test_a_single_table_may_be_without_its_name(inputs):
    """As by row, the name of the only input may be left out, even if a feature has that name."""
    assert same(
        _decode(inputs, PLANT).arrays,
        {
            "plant": np.float32([[1, 3], [2, 4]]),
            "plant.colour": np.array([["red"], ["x"]], object),
        },
    )


def test_missing_values_take_defaults_at_their_places():
    """A null and an absent column take the defaults, and each value is listed by column and row."""
    inputs = {"insurance": {"age": [None, 30], "bmi": [20, 31]}, "fruit": {}, "digit": DIGITS}

    request = _decode(inputs)

    assert request.arrays["insurance"].tolist() == [[38, 20], [30, 31]]
    assert request.arrays["fruit"].tolist() == [[1.5, 2], [1.5, 2]]
    assert request.imputed == [
        Imputed("inputs.insurance.age[0]", 38, "insurance.age"),
        Imputed("inputs.insurance.smoker[0]", "no", "insurance.smoker"),
        Imputed("inputs.insurance.smoker[1]", "no", "insurance.smoker"),
        Imputed("inputs.fruit.weight[0]", 1.5, "fruit.weight"),
        Imputed("inputs.fruit.weight[1]", 1.5, "fruit.weight"),
        Imputed("inputs.fruit.length[0]", 2, "fruit.length"),
        Imputed("inputs.fruit.length[1]", 2, "fruit.length"),
    ]


def test_an_input_that_no_head_needs_imputes_nothing():
    """The columns of an input that is only checked are checked, and their defaults not listed."""
    inputs = {"fruit": FRUIT, "insurance": {"bmi": [1, 2]}}

    assert _decode(inputs, heads=["size"]).imputed == []
    assert _problems({**inputs, "insurance": {"bmi": [1, "x"]}}, heads=["size"]) == [
        ("inputs.insurance.bmi[1]", "a number for bmi", '"x"')
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param(
            {"insurance": {**INSURANCE, "smoker": ["yes"]}},
            [("inputs.insurance.smoker", "2 rows, as inputs.insurance.age has", "1 row")],
            id="columns of unequal lengths",
        ),
        pytest.param(
            {"insurance": {"age": [1] * 3, "bmi": [1] * 3}},
            [
                ("inputs.fruit.weight", "3 rows, as inputs.insurance.age has", "2 rows"),
                ("inputs.fruit.length", "3 rows, as inputs.insurance.age has", "2 rows"),
                ("inputs.digit", "3 rows, as inputs.insurance.age has", "2 rows"),
            ],
            id="inputs of unequal lengths",
        ),
        pytest.param(
            {"insurance": {"age": [1, 2]}},
            [("inputs.insurance.bmi", "2 rows, since it has no default", "nothing")],
            id="an absent column",
        ),
        pytest.param(
            {"insurance": {**INSURANCE, "bmi": [None, 1]}},
            [
                (
                    "inputs.insurance.bmi[0]",
                    "a number for bmi, which has no default",
                    "null",
                )
            ],
            id="a null without a default",
        ),
        pytest.param(
            {"insurance": {**INSURANCE, "smokes": ["yes", "no"]}},
            [
                (
                    "inputs.insurance.smokes",
                    "one of age, smoker, bmi (did you mean 'smoker'?)",
                    'the unknown feature "smokes"',
                )
            ],
            id="an unknown feature",
        ),
        pytest.param(
            {"insurance": {"age": [True, "1"], "smoker": "no", "bmi": [[20], {"a": 1}]}},
            [
                ("inputs.insurance.smoker", A_COLUMN, '"no"'),
                ("inputs.insurance.age[0]", "a number for age (1 for true, 0 for false)", "true"),
                ("inputs.insurance.age[1]", "a number for age", '"1"'),
                ("inputs.insurance.bmi[0]", "a number for bmi", "a list of 1"),
                ("inputs.insurance.bmi[1]", "a number for bmi", "an object with 1 key"),
            ],
            id="values that do not fit, and a text for a column",
        ),
        pytest.param(
            {"insurance": {"age": 47, "smoker": None, "bmi": {"0": 20, "1": 31}}},
            [
                ("inputs.insurance.age", A_COLUMN, "47"),
                ("inputs.insurance.smoker", A_COLUMN, "null"),
                ("inputs.insurance.bmi", A_COLUMN, "an object with 2 keys"),
            ],
            id="one row, or what pandas' to_dict() gives, for the columns",
        ),
        pytest.param(
            {"insurance": {**INSURANCE, "age": []}},
            [("inputs.insurance.age", A_COLUMN, "an empty list")],
            id="an empty column",
        ),
        pytest.param(
            {"digit": {"0": [0, 1], "1": [2, 3]}},
            [("inputs.digit", "a list of at least one row", "an object with 2 keys")],
            id="an image has no columns",
        ),
    ],
)
def test_each_problem_is_named_by_column_and_row(parts, expected):
    """Each problem names its place, and all of them are found."""
    assert _problems({**COLUMNS, **parts}) == expected


@pytest.mark.parametrize(
    "smoker",
    [
        pytest.param("[x", id="a text of as many letters as rows"),
        pytest.param({"[": 1, "b": 2}, id="an object of as many keys as rows"),
    ],
)
def test_a_column_is_a_list(smoker):
    """Neither letters nor keys are values, although a bracket among them makes the count right."""
    received = '"[x"' if isinstance(smoker, str) else "an object with 2 keys"

    assert _problems({**COLUMNS, "insurance": {**INSURANCE, "smoker": smoker}}) == [
        ("inputs.insurance.smoker", A_COLUMN, received)
    ]


def test_tables_without_any_column_have_no_rows():
    """Without any column, nobody knows how many rows there are."""
    expected = "a list of at least one row, or an object with a list for each feature"

    assert _problems({"fruit": {}}, heads=["size"]) == [
        ("inputs.fruit", expected, "an empty object")
    ]


def test_the_number_of_rows_is_limited():
    """A column may have as many rows as a request may."""
    received = _problems({"fruit": {"weight": [1] * (MOST_ROWS + 1)}}, heads=["size"])

    assert received == [
        (
            "inputs.fruit.weight",
            f"at most {MOST_ROWS} rows in one request",
            f"{MOST_ROWS + 1} rows",
        )
    ]


def test_missing_columns_cost_no_more_than_the_limit_of_missing_values():
    """A thousand absent columns of many rows stop at the limit, and are not built first."""
    features = [Feature(f"f{i}", "", default=0) for i in range(1000)]
    head = Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=("x",))
    wide = Signature({"x": tabular("x", features)}, {"y": head})

    with pytest.raises(BadRequest, match=rf"inputs\.x\.f3\[\d+\]: expected at most {MOST_IMPUTED}"):
        _decode({"x": {"f0": [1] * (MOST_ROWS - 1)}}, wide)


def test_odd_names_stand_in_brackets():
    """The place of a value can be parsed, whatever the name of its feature."""
    head = Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=("x",))
    signature = Signature({"x": tabular("x", [Feature("größe in m", "")])}, {"y": head})

    assert _problems({"x": {"größe in m": ["1"]}}, signature) == [
        ('inputs.x["größe in m"][0]', "a number for größe in m", '"1"')
    ]


numbers = st.integers(-(2**66), 2**66) | st.floats() | st.sampled_from([1, 2.5, 3e38, 1e39, -0.0])
values = st.one_of(
    numbers, numbers, st.sampled_from(["yes", "no", "["]), st.none(), st.booleans(), st.just([1])
)


@st.composite
def tables(draw) -> tuple[str, Signature, dict[str, list[Any]]]:
    """Return a tabular input, and columns of it that line up; some features are absent."""
    signature = draw(st.sampled_from([THREE, PLANT, COUNTED]))
    entry = draw(st.sampled_from([e for e in signature.inputs.values() if e.features]))
    rows = draw(st.integers(1, 3))
    columns = {}
    for feature in entry.features:
        right = numbers if feature.vocabulary is None else st.sampled_from(["yes", "no", "red", ""])
        column = st.lists(
            draw(st.sampled_from([right, right, values])), min_size=rows, max_size=rows
        )
        if draw(st.integers(0, 4)):
            columns[feature.name] = draw(column)
    return entry.name, signature, columns


def outcome(body: Any, signature: Signature) -> tuple[Any, ...]:
    """Return arrays and imputed values, or problems; each by feature and row."""
    try:
        request = _path["decode"](json.dumps(body).encode(), signature)
    except BadRequest as error:
        return False, {(_place(p.at), p.expected, p.received) for p in error.problems}
    arrays = {name: array.tolist() for name, array in request.arrays.items()}
    return True, arrays, {(_place(i.at), i.value, i.feature) for i in request.imputed}


def _place(at: str) -> tuple[str, ...]:
    """Return the parts of a path in an order that both forms share."""
    return tuple(sorted(re.findall(r"\w+", at.removeprefix("instances").removeprefix("inputs"))))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_columns_are_answered_as_the_same_rows_are(table):
    """By column and by row, the same values give the same arrays, defaults and problems."""
    name, signature, columns = table
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    heads = [h for h, head in signature.heads.items() if not head.inputs or name in head.inputs]
    heads = [h for h in heads if signature.needed((h,)) == (name,)]
    if not rows or not heads:
        return

    by_row = outcome({"instances": [{name: row} for row in rows], "heads": heads}, signature)
    by_column = outcome({"inputs": {name: columns}, "heads": heads}, signature)

    if not by_row[0]:
        # An absent column is one problem, and by row one problem for each row.
        entry = signature.inputs[name]
        absent = {f.name for f in entry.features if f.default is None} - columns.keys()
        whole = {(tuple(sorted((name, f))), _lacking(len(rows)), "nothing") for f in absent}
        by_row = False, {p for p in by_row[1] if p[2] != "nothing"} | whole
    assert by_column == by_row


def _lacking(rows: int) -> str:
    return f"{rows} row{'s' * (rows > 1)}, since it has no default"
