"""DataFrames: columns named as in a CSV, dtypes as pandas has them, and answers as another one."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import service
from service.commands.main import main
from service.errors import BadRequest
from tests.harness import small

FULL = {"age": [47, 30], "smoker": ["yes", "no"], "bmi": [20.0, 31.0]}
RISK = [{"insurance": {"age": 47, "smoker": "yes", "bmi": 20}}]
RISK += [{"insurance": {"age": 30, "smoker": "no", "bmi": 31}}]


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in (
        "three",
        "per_column",
        "bool",
        "int64",
        "float",
        "plant",
        "string",
        "ragged",
        "deep",
        "scalar",
        "alone_ragged",
    ):
        small.put(folder, name, 1, small.every()[name])
    return folder


@pytest.fixture(scope="module", name="model")
def _model(folder):
    return service.load("three", folder)


def refusal(ask):
    """Return the problems of a call as text."""
    with pytest.raises(BadRequest) as caught:
        ask()
    return [f"{p.at}: expected {p.expected}, received {p.received}" for p in caught.value.problems]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["age", "smoker", "bmi"], id="bare"),
        pytest.param(["insurance.age", "insurance.smoker", "bmi"], id="full"),
        pytest.param(
            pd.MultiIndex.from_product([["insurance"], ["age", "smoker", "bmi"]]), id="two levels"
        ),
    ],
)
def test_columns_have_the_names_of_a_csv(model, names):
    """A column is a feature by its bare or its full name; other columns are not looked at."""
    frame = pd.DataFrame(FULL).set_axis(names, axis=1)
    others = pd.DataFrame({7: ["other"] * 2, "risk": None})
    frame = pd.concat([frame, others], axis=1)

    answers = model.predict(frame, "risk")

    assert answers["risk"].value.tobytes() == model.predict(RISK, "risk")["risk"].value.tobytes()


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        pytest.param(np.int8([47, 30]), [47, 30], id="integers"),
        pytest.param(np.float16([47, 30]), [47, 30], id="float16"),
        pytest.param([47.5, np.nan], [47.5, None], id="NaN"),
        pytest.param([47, None], [47, None], id="None"),
        pytest.param(pd.array([47, None], dtype="Int64"), [47, None], id="NA"),
        pytest.param(pd.array([47, None], dtype="Float32"), [47, None], id="NA of a float"),
        pytest.param([True, False], [1, 0], id="booleans"),
        pytest.param(pd.array([True, None], dtype="boolean"), [1, None], id="booleans with NA"),
        pytest.param(pd.Categorical([47, 30]), [47, 30], id="categories of numbers"),
        pytest.param([None, None], [None, None], id="all missing"),
        pytest.param(pd.array([47, pd.NA], dtype=object), [47, None], id="objects"),
    ],
)
def test_a_column_of_numbers_may_have_any_dtype(model, column, meant):
    """Missing values take the default; booleans are numbers, as in a CSV."""
    rows = [
        {"insurance": {**row["insurance"], "age": v}} for row, v in zip(RISK, meant, strict=True)
    ]
    expected = model.predict(rows, "risk")

    answers = model.predict(pd.DataFrame({**FULL, "age": column}), "risk")

    assert answers["risk"].value.tobytes() == expected["risk"].value.tobytes()
    assert str(answers.imputed) == str(expected.imputed)


@pytest.mark.parametrize(
    "dtype", [object, "str", "string", pd.CategoricalDtype(["yes", "no", "other"])]
)
def test_a_column_of_texts_may_have_any_dtype(model, dtype):
    """Texts are objects, strings or categories, and may be missing in each."""
    frame = pd.DataFrame({**FULL, "smoker": pd.Series(["yes", None]).astype(dtype)})

    answers = model.predict(frame, "risk")

    assert answers["risk"].value.tolist() == model.predict(RISK, "risk")["risk"].value.tolist()
    assert answers.imputed["insurance.smoker"].tolist() == [1]


@pytest.mark.parametrize(
    ("column", "received"),
    [
        pytest.param(["47", "30"], '"47"', id="texts"),
        pytest.param(pd.to_datetime(["2020-01-01"] * 2), "np.datetime64('2020-01-01", id="dates"),
        pytest.param(
            pd.to_datetime(["2020-01-01"] * 2).tz_localize("UTC"), "Timestamp('2020", id="zones"
        ),
        pytest.param(pd.to_timedelta([1, 2], "s"), "np.timedelta64(1", id="durations"),
        pytest.param([1j, 2], "np.complex128(1j)", id="complex numbers"),
        pytest.param([np.inf, 1], "Infinity", id="infinity"),
        pytest.param([[47], [30]], "a list of 1", id="lists"),
    ],
)
def test_what_is_no_number_is_refused_at_its_place(model, column, received):
    """No value is converted to a number."""
    frame = pd.DataFrame({**FULL, "age": column})

    first = refusal(lambda: model.predict(frame, "risk"))[0]

    assert first.startswith("inputs.insurance.age[0]: expected a number")
    assert received in first


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        pytest.param(
            ["Age", "smoker", "bmi"],
            "expected a column 'age' (the table has 'Age'), or 'age' as None for its default, 38, "
            "in all rows, received 'Age', 'smoker', 'bmi'",
            id="another case",
        ),
        pytest.param(
            ["age", "smoker", "bim"],
            "expected a column 'bmi' (the table has 'bim'), received 'age', 'smoker', 'bim'",
            id="a typing mistake",
        ),
        pytest.param(
            ["a", 2, None],
            "expected columns of the input 'insurance', such as 'insurance.age', "
            "received 'a', 2, None",
            id="no column",
        ),
        pytest.param(
            ["age", "age", "bmi"], "expected each column once, received 'age' again", id="twice"
        ),
        pytest.param(
            ["age", "insurance.age", "bmi"],
            "expected 'age' or 'insurance.age', which are the same, received both",
            id="two names",
        ),
    ],
)
def test_a_column_that_is_missing_or_there_twice_is_refused(model, names, problem):
    """No feature takes its default in all rows because of a typing mistake."""
    frame = pd.DataFrame(FULL).set_axis(names, axis=1)

    assert refusal(lambda: model.predict(frame, "risk")) == [f"columns: {problem}"]


def test_a_column_without_values_takes_the_default(model):
    """That is the way out which the message names."""
    frame = pd.DataFrame(FULL).drop(columns="age").assign(age=None)

    assert model.predict(frame, "risk").imputed["insurance.age"].tolist() == [0, 1]


def test_columns_of_one_name_that_are_not_the_models_do_not_matter(model):
    """Joined tables often have them."""
    frame = pd.concat(
        [pd.DataFrame(FULL), pd.DataFrame([[1, 2], [3, 4]], columns=["id", "id"])], axis=1
    )

    assert len(model.predict(frame, "risk")["risk"].value) == 2


def test_columns_may_be_the_values_of_an_image_in_any_order(model):
    """`digit.0` to `digit.3` are a row of the input `digit`; a column `digit` has whole rows."""
    pixels = pd.DataFrame({f"digit.{i}": [i, 10 * i] for i in (3, 1, 0, 2)})
    whole = pd.DataFrame({"digit": [np.arange(4).reshape(2, 2), [0, 10, 20, 30]]})

    for frame in (pixels, whole):
        answers = model.predict(frame, "digits")
        assert answers["digits"].value.tolist() == [[0, 1, 2], [0, 10, 20]]
    assert refusal(lambda: model.predict(pixels.drop(columns="digit.1"), "digits")) == [
        f"inputs.digit[{i}]: expected 4 numbers, flat or as 2 x 2, received 3 numbers"
        for i in (0, 1)
    ]


def test_a_frame_may_be_one_of_several_inputs(model):
    """In `inputs`, each table is a DataFrame of its own columns."""
    inputs = {
        "insurance": pd.DataFrame(FULL),
        "fruit": pd.DataFrame({"weight": [1, 2], "length": [2, 3], "colour": "red"}),
        "digit": pd.DataFrame(np.arange(8).reshape(2, 4)),
    }

    answers = model.predict(inputs=inputs)

    assert answers["size"].value.tolist() == [3, 5]
    assert answers["digits"].value.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert refusal(lambda: model.predict(inputs={"fruit": inputs["insurance"]}, heads="size"))
    assert model.predict(inputs={"fruit": {**inputs["fruit"][["weight", "length"]]}}, heads="size")


def test_a_dict_of_frames_is_no_row(model):
    """The message names the argument for it."""
    with pytest.raises(TypeError, match="expected a dict of tables as inputs"):
        model.predict({"insurance": pd.DataFrame(FULL)}, "risk")


def test_a_series_is_a_row(model):
    """A row of a DataFrame, whose dtypes pandas has made objects."""
    answers = model.predict(pd.DataFrame(FULL).iloc[1], "risk")

    assert answers["risk"].value.tolist() == model.predict(RISK, "risk")["risk"].value.tolist()[1:]


def test_columns_of_a_file_without_features_are_its_inputs(folder):
    """A column is an input of one value; whole numbers may be floats, as after a missing value."""
    frame = pd.DataFrame({"age": [1.5, 2], "visits": [1.0, 2.0], "city": ["a", "b"]})

    answers = service.load("per_column", folder).predict(frame)

    assert answers["total"].value.tolist() == [2.5, 4]
    assert answers["place"].value.tolist() == ["a", "b"]


def test_booleans_may_be_numbers_in_a_table(folder):
    """As in a CSV, where many programs write 0 and 1; nothing else is a boolean."""
    model = service.load("bool", folder)

    answers = model.predict(pd.DataFrame({"x.0": [1, 0], "x.1": [True, False]}))

    assert answers["y"].value.tolist() == [[True, True], [False, False]]
    assert refusal(lambda: model.predict(pd.DataFrame({"x.0": [2], "x.1": [True]})))


def test_an_empty_frame_is_refused(model):
    """As a request without rows is."""
    assert refusal(lambda: model.predict(pd.DataFrame(FULL).iloc[:0], "risk"))[0].endswith(
        "expected a list with one value for each row, received an empty list"
    )


# --- the answers as a table --------------------------------------------------------------------


def test_answers_are_a_table_with_the_index_of_the_rows(model):
    """So they can be joined to the table that was given."""
    frame = pd.DataFrame(FULL, index=["a", "b"])

    joined = frame.join(model.predict(frame, "risk").frame())

    assert joined.columns.tolist() == [*FULL, "risk", "risk.label"]
    assert joined.loc["a", "risk.label"] == "high"


def test_a_table_of_answers_has_the_columns_of_the_command(folder, tmp_path):
    """`triceps predict` writes the same columns and values."""
    rows = [
        {"insurance": {"bmi": 20 + i}, "fruit": [i, 1], "digit": [i, 1, 2, 3]} for i in range(3)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    out = tmp_path / "answers.csv"

    command = ["predict", "three", str(tmp_path / "rows.json"), "--out", str(out)]
    allow = ["--allow-missing", "age", "--allow-missing", "smoker"]
    result = CliRunner().invoke(main, [*command, "--models", str(folder), *allow])
    assert result.exit_code == 0, result.output
    written = pd.read_csv(out, dtype={"risk": "float32", "size": "float32"})
    table = service.load("three", folder).predict(rows).frame()

    assert written.columns.tolist() == table.columns.tolist()
    table["tags.label"] = table["tags.label"].map("|".join)
    for name in table:
        values = written[name].fillna("") if "label" in name else written[name].astype("float32")
        assert values.tolist() == table[name].tolist(), name


@pytest.mark.parametrize(
    ("name", "row", "columns"),
    [
        pytest.param("ragged", [[1, 2], [3, 4]], ["y.0", "y.1"], id="a vector"),
        pytest.param("deep", np.arange(6), [f"y.{i}" for i in range(6)], id="several axes"),
        pytest.param("string", ["a", "b"], ["y.0", "y.1"], id="texts"),
        pytest.param("scalar", 1, ["y"], id="a number"),
        pytest.param("alone_ragged", [[1, 2], [3, 4]], ["y"], id="an axis of any length"),
    ],
)
def test_every_kind_of_head_fits_into_a_table(folder, name, row, columns):
    """Heads of several values have a column for each; those of any number of them, arrays."""
    answers = service.load(name, folder).predict([row])
    table = answers.frame()

    assert table.columns.tolist() == columns
    cells = table.iloc[0].tolist() if len(columns) > 1 else table.loc[0, "y"]
    assert np.array_equal(np.ravel(cells), np.ravel(answers["y"].value))


LONG = 2**53 + 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([1.0, 2.0], id="floats"),
        pytest.param(np.array([1, 2], "uint64"), id="another dtype of whole numbers"),
        pytest.param([True, False], id="booleans"),
    ],
)
@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_long_whole_numbers_are_exact_beside_other_columns(folder, other, form):
    """One dtype for all columns would be one of floats, which round them."""
    frame = pd.DataFrame({"x.0": [LONG, -LONG], "x.1": other})
    given = frame if form == "instances" else {"x": frame}
    answers = service.load("int64", folder).predict(**{form: given})

    assert answers["y"].value.tolist() == [[LONG, int(other[0])], [-LONG, int(other[1])]]


def test_long_whole_numbers_are_exact_where_one_is_missing(folder):
    """As pandas has them, with its NA; as numpy has them, they would be floats."""
    frame = pd.DataFrame({"age": [1.0, 2.0], "city": ["a", "b"]})
    frame["visits"] = pd.array([LONG, LONG + 2], dtype="Int64")
    model = service.load("per_column", folder)
    assert model.predict(frame)["total"].value.tolist() == [np.float32(LONG), np.float32(LONG)]

    frame["visits"] = pd.array([LONG, pd.NA], dtype="Int64")
    assert [text.partition(":")[0] for text in refusal(lambda: model.predict(frame))] == [
        "inputs.visits[1]"
    ]


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_dates_beside_numbers_are_a_mistake(folder, form):
    """They have no dtype in common."""
    frame = pd.DataFrame({"x.0": pd.to_datetime(["2020-01-01"]), "x.1": [1]})
    given = frame if form == "instances" else {"x": frame}
    model = service.load("float", folder)

    [problem] = refusal(lambda: model.predict(**{form: given}))
    assert problem.startswith("inputs.x[0][0]: expected a number, received")
