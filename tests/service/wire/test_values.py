"""The JSON rows of one input: which become arrays, and which are refused at which place."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.errors import BadRequest
from service.signature import DTYPES, Feature, Input, Tensor, tabular
from service.wire import values
from service.wire.body import Imputed, Notes
from service.wire.rows import MISSING, Rows

TABLE = tabular(
    "person",
    [
        Feature("age", "", default=38),
        Feature("smoker", "", default="no", vocabulary=("no", "yes")),
        Feature("bmi", ""),
        Feature("town", "", vocabulary=("Ulm",)),
    ],
)
BASE = {"bmi": 20, "town": "Ulm"}


def _tensor(shape, dtype="float32", size=None):
    """Return a signature with one input of one tensor."""
    return Input("x", "image" if size else "tensor", (Tensor("x", dtype, shape),), size=size)


def _read(entry, rows):
    """Return the arrays, and the notes of imputed values."""
    notes = Notes()
    arrays = values.read(entry, Rows(rows, lambda i: f"x[{i}]"), notes)
    return arrays, notes


def _problems(entry, rows):
    """Return the problems of rows as (at, expected, received) tuples."""
    _, notes = _read(entry, rows)
    with pytest.raises(BadRequest) as caught:
        notes.stop()
    return [(problem.at, problem.expected, problem.received) for problem in caught.value.problems]


def _same(array, expected):
    """Return whether two arrays are equal in dtype, shape and values."""
    return array.dtype == expected.dtype and np.array_equal(array, expected)


INTS = {
    dtype: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for dtype in DTYPES
    if "int" in dtype
}
FLOATS = {dtype: float(np.finfo(dtype).max) for dtype in DTYPES if "float" in dtype}
INT64 = "a whole number from -9223372036854775808 to 9223372036854775807"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *(pytest.param(d, bound, id=f"{d}-{bound}") for d in INTS for bound in INTS[d]),
        *(pytest.param(d, sign * FLOATS[d], id=f"{d}-{sign}") for d in FLOATS for sign in (-1, 1)),
        pytest.param("int64", 2.0, id="whole-float-for-int"),
        pytest.param("uint8", -0.0, id="minus-zero-for-uint8"),
        pytest.param("float32", 7, id="int-for-float"),
        pytest.param("float32", 10**38, id="huge-int-for-float32"),
        pytest.param("float64", 10**308, id="huge-int-for-float64"),
        pytest.param("float32", 1e-300, id="too-small-is-zero"),
        pytest.param("bool", True, id="bool"),
        pytest.param("string", "", id="empty-text"),
        pytest.param("string", "größe 🍎\x00", id="unicode"),
    ],
)
def test_values_within_the_dtype_are_those_of_numpy(dtype, value):
    """Every value up to the limits of the dtype is accepted."""
    assert values.fits(value, dtype)

    arrays, notes = _read(_tensor((1,), dtype), [[value]])

    assert notes.count == 0
    wanted = np.array([[value]], dtype=object if dtype == "string" else dtype)
    assert _same(arrays["x"], wanted)


@pytest.mark.parametrize(
    ("dtype", "value", "expected", "received"),
    [
        pytest.param("float32", "70", "a number", '"70"', id="text-for-float"),
        pytest.param("float32", True, "a number", "true", id="bool-for-float"),
        pytest.param("float32", None, "a number", "null", id="null-for-float"),
        pytest.param("float32", [1], "a number", "a list of 1", id="list-for-float"),
        pytest.param("float32", {}, "a number", "an empty object", id="object-for-float"),
        pytest.param("float32", math.nan, "a number", "NaN", id="NaN"),
        pytest.param(
            "float64",
            math.inf,
            "a number within ±1.79769e+308",
            "Infinity, or a number too large for any float",
            id="infinity",
        ),
        pytest.param(
            "float64",
            -math.inf,
            "a number within ±1.79769e+308",
            "-Infinity, or a number too large for any float",
            id="minus-infinity",
        ),
        pytest.param(
            "float32", 3.5e38, "a number within ±3.40282e+38", "3.5e+38", id="past-float32"
        ),
        pytest.param("float16", -65520, "a number within ±65504", "-65520", id="past-float16"),
        pytest.param(
            "float64",
            10**400,
            "a number within ±1.79769e+308",
            "1" + "0" * 38 + "…",
            id="integer-past-float64",
        ),
        pytest.param("int64", 1.7, INT64, "1.7", id="1.7-for-int"),
        pytest.param("int64", 2**63, INT64, "9223372036854775808", id="past-int64"),
        pytest.param("int64", float(2**63), INT64, "9.223372036854776e+18", id="float-past-int64"),
        pytest.param("int64", math.nan, INT64, "NaN", id="NaN-for-int"),
        pytest.param("int64", True, INT64, "true", id="bool-for-int"),
        pytest.param("int64", "1", INT64, '"1"', id="text-for-int"),
        pytest.param("uint8", 256, "a whole number from 0 to 255", "256", id="past-uint8"),
        pytest.param("uint8", -1, "a whole number from 0 to 255", "-1", id="negative-uint8"),
        pytest.param("int8", -129, "a whole number from -128 to 127", "-129", id="past-int8"),
        pytest.param(
            "uint64",
            2**64,
            "a whole number from 0 to 18446744073709551615",
            "18446744073709551616",
            id="past-uint64",
        ),
        pytest.param("bool", 1, "true or false", "1", id="number-for-bool"),
        pytest.param("bool", "true", "true or false", '"true"', id="text-for-bool"),
        pytest.param("string", 1, "text", "1", id="number-for-text"),
        pytest.param("string", None, "text", "null", id="null-for-text"),
        pytest.param("string", "a\udfff", "text", r'"a\udfff"', id="lone-surrogate"),
    ],
)
def test_values_that_the_dtype_does_not_hold_are_refused_at_their_place(
    dtype, value, expected, received
):
    """No value is converted, cut off or rounded to an integer."""
    assert not values.fits(value, dtype)

    fitting = {"bool": True, "string": "a"}.get(dtype, 1)

    assert _problems(_tensor((2,), dtype), [[fitting, fitting], [fitting, value]]) == [
        ("x[1][1]", expected, received)
    ]


@pytest.mark.parametrize(
    ("entry", "rows"),
    [
        pytest.param(_tensor((4,)), [[1, 2, 3, 4]], id="flat"),
        pytest.param(_tensor((2, 2)), [[[1, 2], [3, 4]]], id="the-graph's-own"),
        pytest.param(_tensor((2, 2)), [[1, 2, 3, 4]], id="flattened"),
        pytest.param(_tensor((4,), size=(2, 2)), [[[1, 2], [3, 4]]], id="image-nested"),
        pytest.param(_tensor((4,), size=(2, 2)), [[1, 2, 3, 4]], id="image-flat"),
        pytest.param(
            _tensor((2, 2, 1), size=(2, 2)), [[[[1], [2]], [[3], [4]]]], id="image-with-channels"
        ),
        pytest.param(_tensor((2, 2, 1), size=(2, 2)), [[[1, 2], [3, 4]]], id="image-without-them"),
        pytest.param(
            _tensor((2, 2, 1), size=(2, 2)), [[1, 2, 3, 4], [[1, 2], [3, 4]]], id="one-each-way"
        ),
    ],
)
def test_a_row_comes_flat_nested_or_as_the_graph_has_it(entry, rows):
    """The graph receives its own shape, however the row is nested."""
    arrays, notes = _read(entry, rows)

    assert notes.count == 0
    wanted = np.array([[1, 2, 3, 4]] * len(rows), np.float32)
    assert _same(arrays["x"], wanted.reshape(len(rows), *entry.tensors[0].shape))


def test_a_row_of_a_rank_one_input_is_a_bare_value():
    """A row of an input without other axes is a value without brackets."""
    arrays, notes = _read(_tensor(()), [1, 2.5])

    assert notes.count == 0
    assert _same(arrays["x"], np.array([1, 2.5], np.float32))


def test_an_axis_of_any_length_is_as_long_as_the_rows_say():
    """All rows of a request have the same length along a free axis."""
    arrays, notes = _read(_tensor((None, 2)), [[[1, 2], [3, 4], [5, 6]]])

    assert notes.count == 0
    assert _same(arrays["x"], np.array([[[1, 2], [3, 4], [5, 6]]], np.float32))


IMAGE = _tensor((4,), size=(2, 2))


@pytest.mark.parametrize(
    ("entry", "row", "expected", "received"),
    [
        pytest.param(_tensor((4,)), [1, 2, 3], "4 numbers", "3 numbers", id="too-short"),
        pytest.param(_tensor((4,)), [1, "2", 3], "4 numbers", "3 values", id="too-short-and-mixed"),
        pytest.param(_tensor((1,)), [1, 2], "1 number", "2 numbers", id="too-long"),
        pytest.param(_tensor((2,)), 5, "2 numbers", "5, not in a list", id="bare-number"),
        pytest.param(_tensor((1,)), MISSING, "1 number", "nothing", id="missing-number"),
        pytest.param(_tensor((2,)), "ab", "2 numbers", '"ab", not in a list', id="bare-text"),
        pytest.param(_tensor((2,)), None, "2 numbers", "null", id="null"),
        pytest.param(_tensor((2,)), {"a": 1}, "2 numbers", "an object with 1 key", id="object"),
        pytest.param(_tensor((2,)), [], "2 numbers", "an empty list", id="empty"),
        pytest.param(_tensor((2,)), MISSING, "2 numbers", "nothing", id="missing"),
        pytest.param(
            _tensor((2,)), [[1, 2]], "2 numbers", "a list in the shape 1 x 2", id="a-level-too-deep"
        ),
        pytest.param(_tensor((2,), "string"), ["a"], "2 texts", "1 text", id="texts"),
        pytest.param(_tensor((2,), "string"), [1], "2 texts", "1 value", id="no-texts"),
        pytest.param(_tensor((2,), "bool"), [True], "2 booleans", "1 boolean", id="booleans"),
        pytest.param(_tensor((2,), "bool"), [1], "2 booleans", "1 value", id="no-booleans"),
        pytest.param(
            IMAGE, [1, 2, 3], "4 numbers, flat or as 2 x 2", "3 numbers", id="image-too-short"
        ),
        pytest.param(
            IMAGE,
            [[1, 2], [3, 4], [5, 6]],
            "4 numbers, flat or as 2 x 2",
            "a list in the shape 3 x 2",
            id="image-too-high",
        ),
        pytest.param(
            _tensor((2, 3)),
            [[1, 2], [3, 4], [5, 6]],
            "6 numbers, flat or as 2 x 3",
            "a list in the shape 3 x 2",
            id="transposed",
        ),
        pytest.param(
            _tensor((None, 2)),
            [[1, 2, 3]],
            "numbers in the shape any x 2",
            "a list in the shape 1 x 3",
            id="dynamic",
        ),
        pytest.param(
            _tensor((None, 2)),
            [1, 2],
            "numbers in the shape any x 2",
            "2 numbers",
            id="dynamic-is-not-flat",
        ),
        pytest.param(_tensor(()), [1], "a number", "1 number", id="list-for-rank-one"),
        pytest.param(
            _tensor((), "int8"), MISSING, "a whole number from -128 to 127", "nothing", id="none"
        ),
    ],
)
def test_a_row_in_another_shape_is_refused_with_both_shapes(entry, row, expected, received):
    """The message names the expected and the received shape, in the terms of the dtype."""
    assert _problems(entry, [row]) == [("x[0]", expected, received)]


def test_the_message_for_a_deeply_nested_list_is_short():
    """The message for a deeply nested list is short."""
    row = [1]
    for _ in range(900):
        row = [row]

    assert _problems(_tensor((2,)), [row]) == [("x[0]", "2 numbers", "a list nested 901 deep")]


@pytest.mark.parametrize(
    ("entry", "row", "problems"),
    [
        pytest.param(
            _tensor((2, 2)),
            [[1, 2], [3]],
            [("x[0][1]", "a list of 2, as its neighbours are", "a list of 1")],
            id="short-line",
        ),
        pytest.param(
            _tensor((2, 2)),
            [[1, 2], 3],
            [("x[0][1]", "a list of 2, as its neighbours are", "3")],
            id="number-for-a-line",
        ),
        pytest.param(
            _tensor((2, 2, 2)),
            [[[1, 2], [3, 4]], [[5, 6], [7, 8, 9]]],
            [("x[0][1][1]", "a list of 2, as its neighbours are", "a list of 3")],
            id="two-levels-down",
        ),
        pytest.param(
            _tensor((2, 2)),
            [[1, [2]], [3, None]],
            [("x[0][0][1]", "a number", "a list of 1"), ("x[0][1][1]", "a number", "null")],
            id="list-for-a-number",
        ),
        pytest.param(
            _tensor((4,)),
            [1, [2], "3", 4],
            [("x[0][1]", "a number", "a list of 1"), ("x[0][2]", "a number", '"3"')],
            id="mixed",
        ),
    ],
)
def test_a_ragged_row_is_refused_at_its_place(entry, row, problems):
    """A ragged row is refused with each place; numpy would make an array of objects or fail."""
    assert _problems(entry, [row]) == problems


def test_rows_that_differ_in_a_free_axis_are_refused_by_place():
    """Rows of different lengths cannot share one array."""
    rows = [[[1, 2]], [[1, 2], [3, 4]], [[5, 6]], []]

    assert _problems(_tensor((None, 2)), rows) == [
        ("x[1]", "the shape of x[0], 1 x 2", "2 x 2"),
        ("x[3]", "numbers in the shape any x 2", "an empty list"),
    ]


def test_wrong_shapes_and_wrong_values_are_found_together():
    """A row of the wrong shape does not hide the problems of other rows."""
    rows = [[1, 2], [1], [3, "4"], [None, math.nan]]

    assert _problems(_tensor((2,)), rows) == [
        ("x[1]", "2 numbers", "1 number"),
        ("x[2][1]", "a number", '"4"'),
        ("x[3][0]", "a number", "null"),
        ("x[3][1]", "a number", "NaN"),
    ]


def test_very_many_wrong_values_are_counted_at_once():
    """Messages are built for the first twenty problems only."""
    started = time.perf_counter()

    _, notes = _read(_tensor((1000,)), [[True] * 1000] * 1000)

    assert notes.count == 1_000_000
    assert time.perf_counter() - started < 30


@pytest.mark.parametrize(
    ("row", "numbers", "smoker", "imputed"),
    [
        pytest.param([47, "yes", 20, "Ulm"], [47, 20], "yes", [], id="list"),
        pytest.param({**BASE, "age": 47, "smoker": "yes"}, [47, 20], "yes", [], id="object"),
        pytest.param(
            BASE,
            [38, 20],
            "no",
            [Imputed("x[0].age", 38, "person.age"), Imputed("x[0].smoker", "no", "person.smoker")],
            id="object-with-less",
        ),
        pytest.param(
            {**BASE, "age": None, "smoker": None},
            [38, 20],
            "no",
            [Imputed("x[0].age", 38, "person.age"), Imputed("x[0].smoker", "no", "person.smoker")],
            id="object-with-null",
        ),
        pytest.param(
            [None, None, 20, "Ulm"],
            [38, 20],
            "no",
            [Imputed("x[0][0]", 38, "person.age"), Imputed("x[0][1]", "no", "person.smoker")],
            id="list-with-null",
        ),
        pytest.param({**BASE, "age": 1, "smoker": "maybe"}, [1, 20], "maybe", [], id="unseen"),
    ],
)
def test_a_tabular_row_is_a_list_or_an_object(row, numbers, smoker, imputed):
    """Numbers share one array in column order, and each categorical feature has its own."""
    arrays, notes = _read(TABLE, [row])

    assert notes.count == 0
    assert notes.imputed == imputed
    assert list(arrays) == ["person", "person.smoker", "person.town"]
    assert _same(arrays["person"], np.array([numbers], np.float32))
    assert _same(arrays["person.smoker"], np.array([[smoker]], object))
    assert _same(arrays["person.town"], np.array([["Ulm"]], object))


def test_a_missing_row_takes_every_default_there_is():
    """Only features without a default are problems of a missing row."""
    assert _problems(TABLE, [MISSING]) == [
        ("x[0].bmi", "a number for bmi, which has no default", "nothing"),
        ("x[0].town", "text for town, which has no default", "nothing"),
    ]


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        pytest.param(
            [47, "yes", 20],
            [("x[0]", "4 values (age, smoker, bmi, town), as a list or an object", "3 values")],
            id="short-list",
        ),
        pytest.param(
            [],
            [("x[0]", "4 values (age, smoker, bmi, town), as a list or an object", "0 values")],
            id="empty-list",
        ),
        pytest.param(
            None,
            [("x[0]", "4 values (age, smoker, bmi, town), as a list or an object", "null")],
            id="null",
        ),
        pytest.param(
            47,
            [("x[0]", "4 values (age, smoker, bmi, town), as a list or an object", "47")],
            id="number",
        ),
        pytest.param(
            {**BASE, "bmi": None},
            [("x[0].bmi", "a number for bmi, which has no default", "null")],
            id="null-without-default",
        ),
        pytest.param(
            {**BASE, "agee": 1},
            [
                (
                    "x[0].agee",
                    "one of age, smoker, bmi, town (did you mean 'age'?)",
                    'the unknown feature "agee"',
                )
            ],
            id="unknown-feature",
        ),
        pytest.param(
            {"age": "47", "smoker": 1, "bmi": True, "town": ["Ulm"]},
            [
                ("x[0].age", "a number for age", '"47"'),
                ("x[0].smoker", "text for smoker", "1"),
                ("x[0].bmi", "a number for bmi (1 for true, 0 for false)", "true"),
                ("x[0].town", "text for town", "a list of 1"),
            ],
            id="wrong-types",
        ),
        pytest.param(
            [math.nan, "\ud800", 1e39, "Ulm"],
            [
                ("x[0][0]", "a number for age, or null where it is missing", "NaN"),
                ("x[0][1]", "text for smoker", r'"\ud800"'),
                ("x[0][2]", "a number within ±3.40282e+38 for bmi", "1e+39"),
            ],
            id="wrong-values-by-column",
        ),
    ],
)
def test_a_wrong_tabular_row_is_refused_by_feature(row, problems):
    """The place is the feature's name or its column, as the row was written."""
    assert _problems(TABLE, [row]) == problems


def test_a_table_of_integers_takes_no_other_numbers():
    """A table of integers refuses other numbers, since its dtype is the graph's."""
    entry = tabular("x", [Feature("a", "", default=2.0), Feature("b", "")], "int64")
    arrays, notes = _read(entry, [[1, 2.0], [None, 2**63 - 1]])

    assert notes.count == 0
    assert _same(arrays["x"], np.array([[1, 2], [2, 2**63 - 1]], np.int64))
    assert _problems(entry, [[1.7, 2]]) == [("x[0][0]", f"{INT64} for a", "1.7")]


def test_wide_rows_with_very_many_problems_are_counted_at_once():
    """Problems of a thousand features in every row are counted quickly."""
    entry = tabular("x", [Feature(f"f{i}", "") for i in range(1000)])
    rows = [{f"f{i}": "a" for i in range(1000)} | {"g": 1}] * 200
    started = time.perf_counter()

    _, notes = _read(entry, rows)

    assert notes.count == 200_200
    assert time.perf_counter() - started < 30


def _json_numbers(dtype):
    """Draw JSON numbers that the dtype takes."""
    if dtype in FLOATS:
        largest = FLOATS[dtype]
        floats = st.floats(-largest, largest, allow_nan=False)
        return floats | st.integers(-int(largest), int(largest))
    lowest, highest = INTS[dtype]
    # 2.0 is 2, but from 2**53 on a float may differ from the integer that was meant.
    exact = st.integers(max(lowest, 1 - 2**53), min(highest, 2**53 - 1)).map(float)
    return st.integers(lowest, highest) | exact


def _exactly(number, dtype):
    """Return the number as a value of the dtype."""
    return number if dtype in FLOATS else int(number)


@given(st.data())
def test_any_tensor_of_fitting_values_is_what_numpy_makes_of_it(data):
    """Flat and nested rows of every dtype give the array that numpy gives."""
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = tuple(data.draw(st.lists(st.integers(1, 3), max_size=3)))
    one = {"bool": st.booleans(), "string": st.text(st.characters(codec="utf-8"), max_size=5)}
    elements = one[dtype] if dtype in one else _json_numbers(dtype)
    drawn = hnp.arrays(object, (data.draw(st.integers(1, 3)), *shape), elements=elements)
    nested = data.draw(drawn).tolist()
    array = np.array(nested, dtype=object)
    exact = np.frompyfunc(lambda v: v if dtype in one else _exactly(v, dtype), 1, 1)(array)
    wanted = exact.astype(object if dtype == "string" else dtype).reshape(array.shape)

    for rows in (nested, array.reshape(len(array), -1).tolist() if shape else nested):
        arrays, notes = _read(_tensor(shape, dtype), rows)

        assert notes.count == 0
        assert _same(arrays["x"], wanted)


@given(
    st.lists(
        st.tuples(
            _json_numbers("float32") | st.none(),
            st.text(st.characters(codec="utf-8"), max_size=5) | st.none(),
            _json_numbers("float32"),
            st.text(st.characters(codec="utf-8"), max_size=5),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_fitting_table_is_what_numpy_makes_of_it(rows):
    """Lists and objects give the array that numpy gives, with defaults for missing values."""
    names = [feature.name for feature in TABLE.features]
    filled = [(38 if a is None else a, "no" if s is None else s, b, t) for a, s, b, t in rows]

    for written in ([list(row) for row in rows], [dict(zip(names, r, strict=True)) for r in rows]):
        arrays, notes = _read(TABLE, written)

        assert notes.count == 0
        assert _same(arrays["person"], np.array([[a, b] for a, _, b, _ in filled], np.float32))
        assert _same(arrays["person.smoker"], np.array([[s] for _, s, _, _ in filled], object))
        assert _same(arrays["person.town"], np.array([[t] for _, _, _, t in filled], object))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(
        [TABLE, IMAGE, _tensor(()), _tensor((None, 2)), _tensor((2, 1), "int8")]
        + [_tensor((2,), dtype) for dtype in DTYPES]
    ),
    st.lists(
        JSON | st.lists(st.floats() | st.integers() | JSON, max_size=5), min_size=1, max_size=3
    ),
)
def test_any_json_is_an_array_or_a_problem(entry, rows):
    """The reader raises nothing else, and no value that it accepts is infinite or NaN."""
    arrays, notes = _read(entry, rows)

    if notes.count:
        with pytest.raises(BadRequest):
            notes.stop()
        return
    for tensor in entry.tensors:
        array = arrays[tensor.name]
        assert array.dtype == (object if tensor.dtype == "string" else tensor.dtype)
        assert len(array) == len(rows)
        assert array.dtype == object or np.isfinite(array).all()
