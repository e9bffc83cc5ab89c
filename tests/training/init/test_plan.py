"""A plan for several tables, and the spec that it becomes."""

import re

import numpy as np
import pytest

from tests.training.init.tables import penguins, rows, spec
from training import data
from training.errors import DataError, SpecError
from training.rows import divide, known_targets

PEOPLE = rows(
    "id,age,plan,left", [f"p{n},{20 + n * 7 % 31}.5,{'AB'[n % 2]},{n % 3 // 2}" for n in range(40)]
)
CALLS = rows("id,calls", [f"p{n},{n * 3 % 11}" for n in reversed(range(38))])


def test_a_spec_of_penguins(tmp_path):
    """One table becomes an input, a trunk, three heads of three kinds, and a fit."""
    loaded, text = spec(tmp_path, "species", "body_mass_g", "sex", penguins=penguins())

    assert loaded.name == "penguins"
    assert loaded.inputs["penguins"].columns == ("island", "bill_length_mm")
    assert {name: head.kind for name, head in loaded.heads.items()} == {
        "species": "multiclass",
        "body_mass_g": "regression",
        "sex": "binary",
    }
    assert [head.missing for head in loaded.heads.values()] == [None, None, "skip"]
    assert loaded.heads["body_mass_g"].standardize
    assert [layer.kind for layer in loaded.layers.values()] == [
        *("Normalization", "PiecewiseLinear"),
        *("Dense", "Dropout", "Dense", "Dropout"),
    ]
    assert (loaded.fit.validation_split, loaded.fit.stratify) == (0.15, "species")
    assert (loaded.fit.test_split, loaded.fit.patience, loaded.fit.epochs) == (0, None, 60)
    assert '"island",          # category, 3 values' in text
    assert text.startswith(
        "# Written by: triceps init penguins.csv --head species --head body_mass_g --head sex\n"
    )
    assert data.load(loaded).notes[0].startswith("penguins.csv: 3 of 60 rows lack the target")


@pytest.mark.parametrize(
    ("count", "rare", "splits"),
    [
        pytest.param(120, 60, (0.17, 0), id="few"),
        pytest.param(120, 20, (0.15, 0), id="few, and too few of a class for any part"),
        pytest.param(300, 150, (0.1, 0.1), id="enough"),
        pytest.param(300, 80, (0.13, 0.13), id="enough, of a rare class too"),
        pytest.param(300, 20, (0.1, 0.1), id="enough, but not of a class"),
    ],
)
def test_rows_are_held_out_twice_where_there_are_enough(tmp_path, count, rare, splits):
    """The epoch is chosen by other rows than the score, and ten of each class are scored."""
    lines = [f"{n * 37 % 101}.5,{'yes' if n < rare else 'no'}" for n in range(count)]
    loaded, _ = spec(tmp_path, "t", table=rows("x,t", lines))

    assert (loaded.fit.validation_split, loaded.fit.test_split) == splits
    assert (loaded.fit.patience is not None) == bool(splits[1])
    _, held_out, test = divide(data.load(loaded), loaded.fit)
    scored = known_targets(test or held_out, "t")
    assert min(np.bincount(scored.astype(int).ravel())) >= min(10, int(rare * max(splits)))


def test_rows_without_any_target_do_not_count(tmp_path):
    """Training leaves them out, so that the fit is that of the others."""
    lines = [f"{n * 7919 % 997},{('ab'[n % 2] if n < 60 else '')}" for n in range(900)]

    some, text = spec(tmp_path, "y", some=rows("x,y", lines))
    few, _ = spec(tmp_path, "y", few=rows("x,y", lines[:60]))

    assert some.fit == few.fit
    assert some.layers["hidden1"].arguments == few.layers["hidden1"].arguments
    assert "# 900 rows" in text


def test_nothing_is_held_out_of_a_handful_of_rows(tmp_path):
    """Twelve rows cannot spare any."""
    loaded, _ = spec(tmp_path, "species", birds=penguins(12))

    assert (loaded.fit.validation_split, loaded.fit.patience, loaded.fit.stratify) == (
        0,
        None,
        None,
    )


def test_a_column_in_every_file_joins_them(tmp_path):
    """A column with another value in every row is the key, and no feature."""
    loaded, text = spec(tmp_path, "left", people=PEOPLE, calls=CALLS)

    assert loaded.align == "key"
    assert [entry.key for entry in loaded.inputs.values()] == ["id", "id"]
    assert [entry.columns for entry in loaded.inputs.values()] == [("age", "plan"), ("calls",)]
    assert "# 'id' is in every file, with another value in each row" in text
    assert loaded.heads["left"].after == (
        *("dropout2", "scaled_people", "pieces_people", "scaled_calls", "pieces_calls"),
    )
    assert len(data.load(loaded).notes) == 1


def test_a_key_may_be_named(tmp_path):
    """The key is checked before anything is written."""
    loaded, _ = spec(tmp_path, "left", key="id", people=PEOPLE, calls=CALLS)
    assert loaded.align == "key"

    for key, message in [
        ("ide", "--key: no column 'ide' in "),
        ("plan", "in '.*people.csv' it has 'A' in 20 rows; a key is another in every row"),
    ]:
        with pytest.raises(SpecError, match=message):
            spec(tmp_path, "left", key=key, people=PEOPLE)
    with pytest.raises(SpecError, match="--key id: joins several files, and there is one"):
        spec(tmp_path, "left", key="id", people=PEOPLE)


def test_files_of_equal_length_belong_together_by_position(tmp_path):
    """Without a column that joins them, row i belongs to row i, and a comment says so."""
    fruit = rows("weight,fruit", [f"{n * 7 % 13},{'ab'[n % 2]}" for n in range(40)])
    loaded, text = spec(tmp_path, "left", "fruit", people=PEOPLE, fruits=fruit)

    assert loaded.align == "position"
    assert "# no column joins the files, and they have equally many rows" in text


def test_unrelated_files_have_a_trunk_each(tmp_path):
    """A head of one file learns from that file alone."""
    fruit = rows("weight,fruit", [f"{n * 7 % 13},{'ab'[n % 2]}" for n in range(90)])
    loaded, _ = spec(tmp_path, "left", "fruit", people=PEOPLE, fruits=fruit)

    assert loaded.align == "sample"
    assert loaded.heads["left"].after == ("dropout2_people", "scaled_people", "pieces_people")
    assert loaded.heads["fruit"].after == ("dropout2_fruits", "scaled_fruits", "pieces_fruits")
    assert data.load(loaded).sources["fruits.csv"].rows == 90
    with pytest.raises(SpecError, match=r"fruits.csv: no column joins the files, .* no --head"):
        spec(tmp_path, "left", people=PEOPLE, fruits=fruit)


def test_a_head_keeps_the_name_of_its_column(tmp_path):
    """An input or layer of the same name gives way."""
    text = rows("scaled,x,price", [f"{'ab'[n % 2]},{n * 7 % 31},{n % 9}.5" for n in range(40)])
    loaded, _ = spec(tmp_path, "price", "scaled", price=text)

    assert list(loaded.heads) == ["price", "scaled"]
    assert list(loaded.inputs) == ["price_2"]
    assert "scaled_2" in loaded.layers


def test_columns_may_have_any_name(tmp_path):
    """Quotes, dots, line breaks and other alphabets are in the spec as they are in the file."""
    names = [
        'say "x"',
        "a.b",
        "two\nlines",
        "a,b",
        "tab\there",
        "back\\slash",
        "年齢",
        "# no",
        "\x7f",
    ]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in [*names, "body mass (g)"])
    lines = [",".join(f"{(n * 31 + m * 17) % 97}.5" for m in range(10)) for n in range(40)]
    loaded, text = spec(tmp_path, "body mass (g)", **{"odd names": rows(header, lines)})

    assert loaded.inputs["odd_names"].columns == tuple(names)
    assert loaded.heads["body_mass_g"].targets == (("odd_names", "body mass (g)"),)
    assert 'target = "odd_names.body mass (g)"' in text
    assert data.load(loaded).inputs["odd_names"].feature_names == tuple(names)


def test_many_columns_are_side_by_side(tmp_path):
    """A wide table has no line for each of its columns, and no more pieces than it can bear."""
    names = [f"pixel{n}" for n in range(700)]
    rng = np.random.default_rng(0)
    lines = [",".join(map(str, rng.integers(0, 97, 701))) for _ in range(40)]
    loaded, text = spec(tmp_path, "y", digits=rows(",".join([*names, "y"]), lines))

    assert loaded.inputs["digits"].columns == tuple(names)
    assert len(text.splitlines()) < 140
    assert max(map(len, text.splitlines())) <= 120
    assert loaded.layers["pieces"].arguments == {"pieces": 2}


def test_many_categories_share_an_embedding_and_skewed_numbers_a_log(tmp_path):
    """Both take their columns by name, so that nothing may be left of the input as a whole."""
    lines = [f"city {n % 50},{round(1.05**n, 3)},{n % 2}" for n in range(200)]
    loaded, _ = spec(tmp_path, "y", homes=rows("city,income,y", lines))

    assert loaded.layers["log"].after == ("homes.income",)
    assert loaded.layers["scaled"].after == ("log",)
    assert loaded.layers["city_index"].after == ("homes.city",)
    assert loaded.layers["city_vector"].arguments == {"input_dim": 51, "output_dim": 7}


def test_a_table_of_nothing_but_a_target_is_refused(tmp_path):
    """The message has the reason for every column."""
    text = rows("n,when,y", [f"{n},2024-01-0{n % 9 + 1},{n % 2}" for n in range(40)])

    message = r"only.csv: no column is left to be a feature\n  'n': row numbers.*\n  'when': dates"
    with pytest.raises(DataError, match=message):
        spec(tmp_path, "y", only=text)


def test_the_only_feature_may_say_the_target(tmp_path):
    """A first table is often a formula, and the comment says what it is."""
    lines = [f"{celsius / 4},7,{celsius * 9 / 20 + 32}" for celsius in range(90)]

    loaded, text = spec(tmp_path, "fahrenheit", rooms=rows("celsius,floor,fahrenheit", lines))

    assert loaded.inputs["rooms"].columns == ("celsius",)
    assert "# number, 0 to 22.25; is 'fahrenheit' in another unit" in text
    assert "\"floor\": '7' in every row" in text


def test_a_column_is_one_head_at_most(tmp_path):
    """A column that two heads have is refused."""
    with pytest.raises(
        SpecError, match="--head left:regression: --head left has the column 'left'"
    ):
        spec(tmp_path, "left", "left:regression", people=PEOPLE)


def test_a_model_may_have_another_name(tmp_path):
    """The name follows the rule for names of models."""
    loaded, _ = spec(tmp_path, "left", name="churn.1", people=PEOPLE)
    assert loaded.name == "churn.1"

    with pytest.raises(SpecError, match=re.escape("--name: expected at most 128 letters")):
        spec(tmp_path, "left", name="a b", people=PEOPLE)


def test_a_multilabel_head_has_several_columns(tmp_path):
    """Its name is made of theirs."""
    text = rows("x,red,big", [f"{n * 7 % 31},{n % 2},{n % 3 // 2}" for n in range(40)])
    loaded, _ = spec(tmp_path, "red,big:multilabel", things=text)

    assert loaded.heads["red_big"].targets == (("things", "red"), ("things", "big"))


def test_a_table_without_names_says_what_to_do(tmp_path):
    """There is no spec yet that could say that line 1 is data."""
    message = "if line 1 is data, put a line with the names of the columns above it"
    with pytest.raises(DataError, match=message):
        spec(tmp_path, "3", iris=rows("5.1,3.5,setosa", ["4.9,3,setosa"] * 9))
