"""Files of rows: the meaning of each column, and the place of each row and each error."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.commands.csv_rows import read_csv
from service.commands.json_rows import read_json
from service.commands.missing_features import check_header, required, watch
from service.commands.row_files import Row, RowsError
from service.signature import Feature, Head, Input, Signature, Tensor, tabular
from service.wire import cells
from tests.harness import small

CSV, JSON = Path("rows.csv"), Path("rows.json")
_THREE = small.three_signature()
_NEEDS = {"risk": "insurance", "size": "fruit", "digits": "digit", "tags": "fruit"}
# The inputs of a head are those that its part of the graph reads.
THREE = replace(
    _THREE,
    heads={name: replace(head, inputs=(_NEEDS[name],)) for name, head in _THREE.heads.items()},
)


def tensor(name, dtype="float32", shape=(1,)):
    """Return an input that is a tensor, as foreign files have them."""
    return Input(name, "tensor", (Tensor(name, dtype, shape),))


def signature(*entries):
    """Return the signature of a model with those inputs, all of which its one head needs."""
    head = Head("y", "tensor", Tensor("y", "float32", (1,)), inputs=tuple(e.name for e in entries))
    return Signature({entry.name: entry for entry in entries}, {"y": head})


def csv_of(text, model=THREE, needed=(), allow=()):
    """Return the other columns and the rows of a CSV, which has to have the inputs `needed`."""
    absent = required(model, tuple(model.heads), allow)
    needed = {name: features for name, features in absent.items() if name in needed}
    read = read_csv(CSV, io.StringIO(text, newline=""), model)
    check_header(CSV, read, model, needed)
    return read.others, list(read.rows)


def only(text, *entries):
    """Return the instance in the one row of a CSV, for a model with those inputs."""
    _, [row] = csv_of(text, signature(*entries))
    return row.instance


def csv_of_file(path, file):
    """Return the rows of an open CSV."""
    return read_csv(path, file, THREE).rows


def json_of(text, **pieces):
    """Return the rows of a JSON file."""
    return list(read_json(JSON, io.StringIO(text), **pieces))


def refusal(read, *args):
    """Return the reason why a file is refused."""
    with pytest.raises(RowsError) as refused:
        read(*args)
    return str(refused.value)


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────


def test_columns_are_features_places_and_others():
    """Columns have bare names, full names or numbers, in any order; others are passed through."""
    others, rows = csv_of(
        "id,age,digit.3,digit.0,insurance.smoker,digit.1,bmi,note,digit.2\n"
        'a,30,3,0,yes,1,21.5,"x, y",2\n'
    )

    assert others == ("id", "note")
    assert rows == [
        Row(
            "rows.csv, line 2",
            {
                "insurance": {"age": 30, "smoker": "yes", "bmi": 21.5},
                "digit": [0, 1, 2, 3],
            },
            ("a", "x, y"),
        )
    ]


def test_a_row_may_be_whole_in_a_cell():
    """The cell is JSON; a cell that is not JSON is kept as text, to be refused with its place."""
    _, rows = csv_of('digit\n"[0, 1, 2, 3]"\n"[[0, 1], [2, 3]]"\nwhat\n[\n')

    assert [(row.place, row.instance["digit"]) for row in rows] == [
        ("rows.csv, line 2", [0, 1, 2, 3]),
        ("rows.csv, line 3", [[0, 1], [2, 3]]),
        ("rows.csv, line 4", "what"),
        ("rows.csv, line 5", "["),
    ]


def test_the_place_of_a_row_is_its_line_in_an_editor():
    """Cells of several lines count as several lines."""
    _, rows = csv_of('note,age\n"one\ntwo",1\r\nx,2\n')

    assert [row.place for row in rows] == ["rows.csv, line 3", "rows.csv, line 4"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        pytest.param("47", 47, id="whole"),
        pytest.param(" 4.5 ", 4.5, id="blanks around it"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param("true", 1, id="true"),
        pytest.param("FALSE", 0, id="false, in any case"),
        pytest.param("", None, id="empty"),
        pytest.param("NA", None, id="NA"),
        pytest.param("nan", None, id="nan"),
        pytest.param("null", None, id="null"),
        pytest.param("1_000", "1_000", id="Python's own notation"),
        pytest.param("forty", "forty", id="text"),
        pytest.param("1,5", "1,5", id="a decimal comma"),
    ],
)
def test_a_cell_of_numbers_is_a_number_or_stays_text(cell, value):
    """Text is kept as it is, for the reader that refuses it with its place."""
    instance = only(f'x.a\n"{cell}"\n', tabular("x", [Feature("a", "")]))

    assert instance == {"x": {"a": value}}
    assert type(instance["x"]["a"]) is type(value)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        pytest.param("yes", "yes", id="word"),
        pytest.param(" yes ", "yes", id="blanks around it"),
        pytest.param("1", "1", id="digits"),
        pytest.param("true", "true", id="true"),
        pytest.param("", None, id="empty"),
        pytest.param("N/A", None, id="N/A"),
    ],
)
def test_a_cell_of_text_stays_text(cell, value):
    """Training reads a categorical column in the same way."""
    assert only(f"smoker\n{cell},\n".replace("smoker", "smoker,z"), THREE.inputs["insurance"]) == {
        "insurance": {"smoker": value}
    }


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        pytest.param("True", True, id="True"),
        pytest.param("false", False, id="false"),
        pytest.param("1", True, id="1"),
        pytest.param("0", False, id="0"),
        pytest.param("2", "2", id="2"),
        pytest.param("yes", "yes", id="yes"),
    ],
)
def test_a_cell_of_a_boolean_tensor_is_a_boolean(cell, value):
    """CSV has no booleans of its own, and 0 and 1 are widely used for them."""
    assert only(f"x\n{cell}\n", tensor("x", "bool")) == {"x": value}


@pytest.mark.parametrize(
    ("text", "entry", "value"),
    [
        pytest.param("x\n5\n", tensor("x"), 5, id="a row of one value"),
        pytest.param("x\n[5]\n", tensor("x"), [5], id="as a list"),
        pytest.param("x.0\n5\n", tensor("x"), [5], id="by its place"),
        pytest.param("x\n5\n", tensor("x", "string"), "5", id="a row of one text"),
        pytest.param("x\n5\n", tensor("x", "int64", ()), 5, id="a bare value"),
        pytest.param(
            'x\n"[[1], [2]]"\n', tensor("x", shape=(None, 1)), [[1], [2]], id="any length"
        ),
        pytest.param("x,z\n,1\n", tensor("x", shape=(2,)), None, id="an empty cell"),
        pytest.param("a:0/b\n5\n", tensor("a:0/b"), 5, id="a foreign name"),
    ],
)
def test_a_tensor_may_be_in_one_column(text, entry, value):
    """The column has the name of the tensor."""
    assert only(text, entry) == {entry.name: value}


def test_a_full_name_has_one_meaning():
    """A feature of the same name in another input makes no difference."""
    table = tabular("t", [Feature("x", "")])

    assert only("x,t.x\n1,2\n", tensor("x"), table) == {"x": 1, "t": {"x": 2}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            "age,age\n1,2\n",
            "rows.csv, line 1: expected each column once, received 'age' again",
            id="a column twice",
        ),
        pytest.param(
            "age,insurance.age\n1,2\n",
            "rows.csv, line 1: expected 'age' or 'insurance.age', which are the same, "
            "received both",
            id="a feature twice",
        ),
        pytest.param(
            "digit.0,digit\n1,[1]\n",
            "rows.csv, line 1: expected 'digit.0' or 'digit', which are the same, received both",
            id="a place, and all places",
        ),
        pytest.param(
            "digit,digit.0\n,1\n",
            "rows.csv, line 1: expected 'digit' or 'digit.0', which are the same, received both",
            id="all places, and one of them",
        ),
        pytest.param(
            "age,bmi\n1,2\n3\n",
            "rows.csv, line 3: expected 2 cells, as the header has, received 1",
            id="too few cells",
        ),
        pytest.param(
            "age,bmi\n1,2,3\n",
            "rows.csv, line 2: expected 2 cells, as the header has, received 3",
            id="too many cells",
        ),
        pytest.param(
            'age,bmi\n1,"2\n',
            "rows.csv, line 2: not CSV: unexpected end of data",
            id="a quotation that never ends",
        ),
        pytest.param(
            'age,bmi\n1,"2"3\n',
            "rows.csv, line 2: not CSV: ',' expected after '\"'",
            id="text after a quotation",
        ),
    ],
)
def test_a_csv_that_does_not_fit_the_model_is_refused(text, reason):
    """The reason has the file, the line and what was expected there."""
    assert refusal(csv_of, text) == reason


def test_a_quotation_without_end_is_refused_soon():
    """Memory stays bounded, although the cell of a large image is still allowed."""
    lines = cells.LONGEST // 2

    assert refusal(csv_of, 'age\n"' + "1\n" * 2 * lines) == (
        f"rows.csv, line {lines + 2}: not CSV: field larger than field limit ({cells.LONGEST})"
    )


def test_a_cell_may_be_long():
    """An image of 200 x 200 is longer than Python's reader allows by default."""
    pixels = list(range(40_000))

    assert only(f'x\n"{pixels}"\n', tensor("x", shape=(40_000,))) == {"x": pixels}


@pytest.mark.parametrize(
    ("text", "needed", "reason"),
    [
        pytest.param(
            "weight,length,pixel\n",
            ["fruit", "digit"],
            ["columns of the input 'digit', such as 'digit', received 'weight', 'length', 'pixel'"],
            id="an input without a column",
        ),
        pytest.param(
            "a,b,c\n",
            ["insurance"],
            ["columns of the input 'insurance', such as 'insurance.age', received 'a', 'b', 'c'"],
            id="a table without a column",
        ),
        pytest.param(
            "Weight,x\n",
            ["fruit"],
            [
                (
                    "columns of the input 'fruit', such as 'fruit.weight' (the file has 'Weight'),"
                    " received 'Weight', 'x'; "
                    "--allow-missing fruit scores all rows with the defaults"
                )
            ],
            id="a table of which the columns are in capitals",
        ),
        pytest.param(
            "Age,SMOKER,bmi\n",
            ["insurance"],
            [
                (
                    "a column 'age' (the file has 'Age'), received none; "
                    "--allow-missing age scores all rows with its default, 38"
                ),
                (
                    "a column 'smoker' (the file has 'SMOKER'), received none; "
                    "--allow-missing smoker scores all rows with its default, 'no'"
                ),
            ],
            id="columns in other letter case",
        ),
        pytest.param(
            "age,smoker,bim\n",
            ["insurance"],
            ["a column 'bmi' (the file has 'bim'), received none"],
            id="a feature without a default",
        ),
        pytest.param(
            "age,Insurance.Smoker,bmi,age_group\n",
            ["insurance"],
            [
                (
                    "a column 'smoker' (the file has 'Insurance.Smoker'), received none; "
                    "--allow-missing smoker scores all rows with its default, 'no'"
                )
            ],
            id="a full name in capitals",
        ),
        pytest.param(
            "",
            ["fruit"],
            [
                (
                    "columns of the input 'fruit', such as 'fruit.weight', received an empty file; "
                    "--allow-missing fruit scores all rows with the defaults"
                )
            ],
            id="an empty file",
        ),
    ],
)
def test_a_missing_column_is_refused(text, needed, reason):
    """The file is refused before any row is read, with the most similar name and a way out.

    A misspelt column would otherwise be passed through, and every row would take the default.
    """
    assert refusal(csv_of, text, THREE, needed).splitlines() == [
        f"rows.csv, line 1: expected {line}" for line in reason
    ]


def test_a_missing_column_of_a_name_that_two_inputs_have_is_refused_by_its_full_name():
    """The bare name would be ambiguous in the file and on the command line."""
    car = replace(tabular("car", [Feature("age", "", default=3)]))
    heads = {"risk": replace(THREE.heads["risk"], inputs=("car", "insurance"))}
    two = replace(THREE, inputs={**THREE.inputs, "car": car}, heads=heads)

    assert refusal(csv_of, "insurance.age,smoker,bmi\n", two, ["insurance", "car"]) == (
        "rows.csv, line 1: expected columns of the input 'car', such as 'car.age', received "
        "'insurance.age', 'smoker', 'bmi'; --allow-missing car scores all rows with its default, 3"
    )
    assert refusal(csv_of, "car.age,smoker,bmi\n", two, ["insurance", "car"]) == (
        "rows.csv, line 1: expected a column 'insurance.age', received none; "
        "--allow-missing insurance.age scores all rows with its default, 38"
    )


@pytest.mark.parametrize(
    "allow",
    [["weight", "length"], ["fruit.length", "weight"], ["fruit"]],
    ids=["bare names", "a full name", "the input"],
)
def test_a_column_that_may_be_missing_needs_none(allow):
    """The defaults are used, and reported as imputed."""
    assert csv_of("note\nx\n", THREE, ["fruit"], allow) == (
        ("note",),
        [Row("rows.csv, line 2", {}, ("x",))],
    )


@pytest.mark.parametrize(
    ("allow", "words"),
    [
        pytest.param("wieght", "expected a feature (did you mean 'weight'?)", id="misspelt"),
        pytest.param("bmi", "insurance.bmi has no default, so no row may miss it", id="no default"),
        pytest.param("insurance", "insurance.bmi has no default", id="one has no default"),
        pytest.param("digit.0", "expected a feature, received 'digit.0'", id="a value"),
        pytest.param("digit", "the input 'digit' has no default", id="an input without features"),
        pytest.param("", "expected a feature, received ''", id="nothing"),
    ],
)
def test_only_a_feature_with_a_default_may_be_missing(allow, words):
    """The option is wrong, and says in what way."""
    with pytest.raises(click.BadParameter, match=re.escape(words)):
        required(THREE, ("size",), [allow])


@pytest.mark.parametrize(
    ("text", "absent"),
    [
        pytest.param('[{"fruit": {"weight": 1}}, {"fruit": {"length": 2}}]', [], id="in some row"),
        pytest.param('[{"fruit": [1, 2]}]', [], id="in a list"),
        pytest.param('[{"fruit": {"weight": 1, "length": null}}]', [], id="null"),
        pytest.param('[{"fruit": {"weight": 1}}, {"fruit": {}}]', ["length"], id="in no row"),
        pytest.param('[{"digit": [0, 0, 0, 0]}]', ["weight", "length"], id="no input"),
        pytest.param("[]", [], id="no rows"),
        pytest.param("[5, null]", ["weight", "length"], id="what is no row, and is refused later"),
    ],
)
def test_a_feature_that_no_row_of_json_has_is_refused(text, absent):
    """The error comes after the last row, since rows are read one at a time."""
    needed = required(THREE, ("size",), [])
    rows = watch(JSON, json_of(text), THREE, needed)

    if not absent:
        assert list(rows) == json_of(text)
        return
    assert refusal(list, rows).splitlines() == [
        f"rows.json: expected fruit.{name} in some row, received none; --allow-missing "
        f"fruit.{name} scores all rows with its default, {default}"
        for name, default in (("weight", 1.5), ("length", 2))
        if name in absent
    ]


def test_a_row_of_the_only_input_need_not_name_it():
    """Such a row is an object of features, or a list of their values."""
    one = signature(tabular("x", [Feature(name, "", default=1) for name in ("a", "b")]))
    needed = required(one, ("y",), [])

    assert len(list(watch(JSON, json_of('[{"a": 1}, {"b": 2}]'), one, needed))) == 2
    assert len(list(watch(JSON, json_of("[[1, 2]]"), one, needed))) == 1
    assert "expected x.b in some row" in refusal(
        list, watch(JSON, json_of('{"a": 1}'), one, needed)
    )


def test_an_input_that_is_not_needed_needs_no_column():
    """A request need not have that input either."""
    assert csv_of("age\n", THREE, []) == ((), [])


def test_a_feature_of_two_inputs_needs_its_full_name():
    """The reason names both full names."""
    two = replace(THREE, inputs={**THREE.inputs, "car": tabular("car", [Feature("age", "")])})

    assert refusal(csv_of, "age\n1\n", two) == (
        "rows.csv, line 1: expected 'insurance.age' or 'car.age', "
        "received 'age', a feature of several inputs"
    )
    assert csv_of("car.age\n1\n", two)[1][0].instance == {"car": {"age": 1}}


@pytest.mark.parametrize("read", [read_json, csv_of_file])
def test_an_encoding_other_than_utf_8_is_refused(read):
    """The reason has the first wrong byte, and says what to do."""
    file = io.TextIOWrapper(io.BytesIO("age,näme\n1,2\n".encode("latin-1")), encoding="utf-8")

    assert refusal(lambda: list(read(CSV, file))) == (
        "rows.csv: expected UTF-8, received the byte 0xe4: save it as UTF-8"
    )


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param(
            '{"a": 1}\n{"a": 2}\n',
            [("line 1", {"a": 1}), ("line 2", {"a": 2})],
            id="one a line",
        ),
        pytest.param(
            '\n\n{"a":\n1}\r\n\r\n {"a": 2} {"a": 3}',
            [("line 3", {"a": 1}), ("line 6", {"a": 2}), ("line 6", {"a": 3})],
            id="one after another",
        ),
        pytest.param(
            '[{"a": 1},\n {"a": 2}\n]\n', [("row 1", {"a": 1}), ("row 2", {"a": 2})], id="a list"
        ),
        pytest.param("[[1, 2], [3]]", [("row 1", [1, 2]), ("row 2", [3])], id="bare rows"),
        pytest.param(
            '{"instances": [{"a": 1}, {"a": 2}]}',
            [("instances[0]", {"a": 1}), ("instances[1]", {"a": 2})],
            id="a request's body",
        ),
        pytest.param("[]", [], id="an empty list"),
        pytest.param(" \n", [], id="nothing"),
        pytest.param("1 23 4", [("line 1", 1), ("line 1", 23), ("line 1", 4)], id="numbers"),
    ],
)
def test_json_has_three_forms(text, rows):
    """Each row has its place in the file."""
    assert json_of(text) == [Row(f"rows.json, {place}", value) for place, value in rows]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("{'a': 1}", "line 1: not JSON: expecting property name enc", id="quotes"),
        pytest.param('{"a": 1}\n{"a": }\n', "line 2: not JSON: expecting value", id="no value"),
        pytest.param(
            '{"a": 1}\n\n{"a": [1,\n2', "line 4: not JSON: expecting ',' delimiter", id="cut"
        ),
        pytest.param('{"a": 1}\n{"a": "xy\n', "line 2: not JSON: ", id="text that never ends"),
        pytest.param(
            '[{"a": 1}\n{"a": 2}]',
            "line 2: not JSON: expected ',' or the end of the list",
            id="no comma",
        ),
        pytest.param("[1, 2", "line 1: not JSON: expected ',' or the end of the list", id="no end"),
        pytest.param("[1,]", "line 1: not JSON: expecting value", id="a comma too many"),
        pytest.param(
            "[1]\n[2]", "line 2: not JSON: something follows the list of rows", id="two lists"
        ),
        pytest.param(
            "[" * 200_000, "line 1: not JSON: brackets are nested too deeply", id="nested"
        ),
        pytest.param(
            "9" * 5000, "line 1: not JSON: a number has more than 4,300 digits", id="digits"
        ),
        pytest.param(
            '\n{"a": 1, "a": 2}',
            'line 2: body: expected each key of an object once, received "a" twice',
            id="a key twice",
        ),
        pytest.param(
            '{"instances": [1], "heads": ["o1"]}',
            "line 1: expected 'instances' alone, received 'heads' too: say --heads",
            id="a request for some heads",
        ),
        pytest.param(
            '{"instances": [1], "inputs": {}}',
            "line 1: expected 'instances' alone, received 'inputs' too",
            id="a request of two forms",
        ),
    ],
)
def test_text_that_is_not_json_is_refused_with_its_line(text, reason):
    """The error is never an exception of a library."""
    assert refusal(json_of, text).startswith(f"rows.json, {reason}")


def test_the_error_for_a_csv_of_another_name_says_how_to_name_it():
    """The name decides how a file is read, which a user may not know."""
    assert refusal(lambda: list(read_json(Path("rows.txt"), io.StringIO("age\n1\n")))) == (
        "rows.txt, line 1: not JSON: expecting value "
        "(rows that are a CSV come in a file whose name ends in .csv)"
    )


class _Counted(io.StringIO):
    """A file that counts the characters that were read."""

    taken = 0

    def read(self, size=-1):
        """Read a piece and count it."""
        piece = super().read(size)
        self.taken += len(piece)
        return piece


@pytest.mark.parametrize(
    "text",
    [pytest.param('{"a": oops}\n', id="a row"), pytest.param('[{"a": 1}, oops', id="a list")],
)
def test_an_early_error_is_found_early(text):
    """The rest of a large file is not read into memory in search of a better end."""
    file = _Counted(text + "1" * 10_000)

    with pytest.raises(RowsError, match="line 1: not JSON: expecting value"):
        list(read_json(JSON, file, piece=100))
    assert file.taken <= 200


@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ).filter(lambda value: not isinstance(value, dict) or "instances" not in value),
        max_size=5,
    ),
    st.integers(1, 9),
    st.sampled_from(["list", "lines", "ascii"]),
)
def test_rows_are_the_same_wherever_a_piece_ends(values, piece, form):
    """A piece may end in a number, an escape or a text."""
    text = json.dumps(values, ensure_ascii=form == "ascii")
    if form == "lines":
        # A list on the first line would be all rows, so the first line is a number.
        values = [0, *values]
        text = "\n".join(json.dumps(value) for value in values)
    assert [row.instance for row in json_of(text, piece=piece)] == values


@pytest.mark.parametrize("piece", range(1, 9))
def test_a_number_is_not_cut_where_a_piece_ends(piece):
    """The beginning 1 of 1.5e+3 is a number too."""
    rows = json_of("[1.5e+3, 12e-1, 3]", piece=piece)

    assert [row.instance for row in rows] == [1500, 1.2, 3]
