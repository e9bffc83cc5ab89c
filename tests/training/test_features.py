"""The preparation of features: columns to tensors, vocabularies, defaults and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from service.signature import Feature, Statistics, Tensor
from tests.training.csv_data import AGES, head, load, refused, source
from training.errors import DataError, SpecError
from training.rows import divide, split
from training.spec import FitSpec

if TYPE_CHECKING:
    from pathlib import Path

    from training.head_spec import HeadSpec


def test_numbers_of_every_spelling_share_one_tensor(tmp_path: Path) -> None:
    """Integers, floats and booleans are numbers; the default is the median, of the same type."""
    text = "n,x,smoker,y\n1,1.5,true,0\n 2 ,-2e1,False,1\n4,.25,TRUE,1\n8,+3.,false,0\n"

    loaded = source(tmp_path, text)

    assert loaded.arrays["a"].tolist() == [[1, 1.5, 1], [2, -20, 0], [4, 0.25, 1], [8, 3, 0]]
    assert np.float32 == loaded.arrays["a"].dtype
    assert (Tensor("a", "float32", (3,)),) == loaded.inputs["a"].tensors
    assert [(feature.name, feature.default) for feature in loaded.inputs["a"].features] == [
        ("n", 2),
        ("x", 0.875),
        ("smoker", 0),
    ]
    assert [int, float, int] == [type(f.default) for f in loaded.inputs["a"].features]
    assert (
        Statistics(1, 8, 3.75, pytest.approx(2.68095)) == loaded.inputs["a"].features[0].statistics
    )


def test_a_text_column_is_a_string_tensor_of_its_own(tmp_path: Path) -> None:
    """A category has its sorted values as vocabulary and the most common one as default."""
    loaded = source(tmp_path, "region,age,y\nwest,1,0\neast,2,1\neast,3,1\nwest,4,0\n")

    entry = loaded.inputs["a"]
    assert (Tensor("a", "float32", (1,)), Tensor("a.region", "string", (1,))) == entry.tensors
    assert Feature("region", "a.region", 0, "east", ("east", "west")) == entry.features[0]
    assert loaded.arrays["a.region"].tolist() == [["west"], ["east"], ["east"], ["west"]]
    assert object == loaded.arrays["a.region"].dtype


def test_an_input_may_refuse_unseen_texts(tmp_path: Path) -> None:
    """All its categorical features do, and its numbers are as ever."""
    loaded = source(tmp_path, "region,age,y\nwest,1,0\neast,2,1\n", unseen="refuse")

    assert [feature.unseen for feature in loaded.inputs["a"].features] == ["refuse", "answer"]


def test_an_input_without_texts_cannot_refuse_unseen_ones(tmp_path: Path) -> None:
    """The message names the key and the file."""
    with refused(SpecError, "inputs.a.unseen: no column of", "a.csv' is a text; remove it"):
        load(tmp_path, AGES, unseen="refuse")


def test_missing_cells_take_the_default_with_a_note(tmp_path: Path) -> None:
    """Every spelling of a missing value is replaced by the default of the signature."""
    text = "age,region,y\n20,west,0\n,NA,1\nnull,east,1\n40,N/A,0\nNaN,west,0\n30,west,1\n"

    loaded = load(tmp_path, text)

    assert loaded.notes == (
        "a.csv: column 'age': 3 of 6 cells are missing and take the median of the training rows",
        (
            "a.csv: column 'region': 2 of 6 cells are missing and take the commonest text of the"
            " training rows"
        ),
    )
    assert loaded.sources["a.csv"].arrays["a"].ravel().tolist() == [20, 30, 30, 40, 30, 30]
    regions = loaded.sources["a.csv"].arrays["a.region"].ravel().tolist()
    assert regions == ["west", "west", "east", "west", "west", "west"]


def test_missing_cells_are_known_on_both_sides_of_a_split(tmp_path: Path) -> None:
    """A feature without missing cells takes no memory for it."""
    lines = [f"{'' if row % 4 == 0 else row},7,{row % 2}" for row in range(40)]
    loaded = load(tmp_path, "\n".join(["age,size,bought", *lines]) + "\n")

    kept, held_out = split(loaded, 0.25, 0)

    masks = [side.sources["a.csv"].missing for side in (kept, held_out)]
    assert [list(mask) for mask in masks] == [["a.age"], ["a.age"]]
    assert [len(mask["a.age"]) for mask in masks] == [30, 10]
    assert sum(mask["a.age"].sum() for mask in masks) == 10


def test_missing_cells_take_the_default_of_the_training_rows(tmp_path: Path) -> None:
    """Rows that are held out have no part in what the fit sees."""
    rng = np.random.default_rng(0)
    cells = [("" if row % 3 == 0 else int(row**2), "abcdefgh"[row % 8]) for row in range(48)]
    lines = [f"{n},{t if n else ''},{rng.integers(2)}" for n, t in cells]
    loaded = load(tmp_path, "\n".join(["age,plan,bought", *lines]) + "\n")

    for seed in range(20):
        fit = FitSpec(validation_split=0.3, test_split=0.3, seed=seed)
        kept, held_out, test = divide(loaded, fit)

        assert held_out is not None
        assert test is not None
        age, plan = kept.inputs["a"].features
        [source] = kept.sources.values()
        known = ~source.missing["a.age"]
        assert age.default == np.sort(source.arrays["a"][known, 0])[(known.sum() - 1) // 2]
        assert isinstance(age.default, int)
        plans = source.arrays["a.plan"][~source.missing["a.plan"], 0].tolist()
        assert plans.count(plan.default) == max(map(plans.count, plans))
        assert plan.default in (plan.vocabulary or ())
        for side in (kept, held_out, test):
            [source] = side.sources.values()
            assert set(source.arrays["a"][source.missing["a.age"], 0]) == {age.default}
            assert set(source.arrays["a.plan"][source.missing["a.plan"], 0]) == {plan.default}


def test_the_default_of_a_text_is_one_that_training_sees(tmp_path: Path) -> None:
    """Without missing cells too: of equally common texts, the first may be held out."""
    loaded = load(tmp_path, "plan,bought\na,0\nb,1\nc,0\nd,1\n")

    for seed in range(8):
        kept, _ = split(loaded, 0.5, seed)

        [plan] = kept.inputs["a"].features
        assert plan.default in (plan.vocabulary or ())


def test_the_note_of_one_missing_cell_is_in_the_singular(tmp_path: Path) -> None:
    """The note uses the singular for one cell."""
    loaded = load(tmp_path, "age,y\n20,0\n,1\n41,0\n")

    assert loaded.notes == (
        "a.csv: column 'age': 1 of 3 cells is missing and takes the median of the training rows",
    )


def test_numbers_too_long_for_float32_are_noted(tmp_path: Path) -> None:
    """Integers that lose digits lead to a note, not to an error."""
    loaded = load(tmp_path, "id,y\n16777217,0\n5,1\n")

    [note] = loaded.notes
    assert note.startswith("a.csv: column 'id': whole numbers over 16,777,216 lose their last")


def test_the_largest_float32_is_read_as_it_is_printed(tmp_path: Path) -> None:
    """The shortest text of the largest float32 is accepted, although it is slightly above it.

    The next number is refused.
    """
    largest = float(np.finfo(np.float32).max)

    loaded = source(tmp_path, "age,y\n3.4028235e+38,0\n-3.4028235e+38,1\n1,0\n")

    assert loaded.arrays["a"].tolist() == [[largest], [-largest], [1]]
    assert loaded.inputs["a"].features[0].statistics.max == pytest.approx(largest, rel=1e-7)
    with refused(DataError, "are too large for a float32, first '3.4028236e+38'"):
        source(tmp_path, "age,y\n3.4028236e+38,0\n1,1\n")


def test_columns_choose_features_and_their_order(tmp_path: Path) -> None:
    """`columns` selects the features in its order."""
    loaded = source(tmp_path, "p,q,r,y\n1,2,3,0\n4,5,6,1\n", columns=("r", "p"))

    assert loaded.arrays["a"].tolist() == [[3, 1], [6, 4]]


def test_categorical_makes_a_text_of_numbers(tmp_path: Path) -> None:
    """A column in `categorical` keeps the spelling of its cells."""
    loaded = source(tmp_path, "zip,y\n01,0\n1,1\n", categorical=("zip",))

    assert {"a.zip"} == set(loaded.arrays)
    assert loaded.arrays["a.zip"].tolist() == [["01"], ["1"]]


def test_no_target_of_any_head_is_a_feature(tmp_path: Path) -> None:
    """The targets of two heads of one file are left out of its input."""
    heads = (head("binary", "p", name="o"), head("regression", "r", name="q"))

    loaded = source(tmp_path, "p,q,r\n0,5,7\n1,6,8.5\n", *heads)

    assert [feature.name for feature in loaded.inputs["a"].features] == ["q"]
    assert loaded.targets["q"].tolist() == [[7], [8.5]]
    assert None is loaded.labels["q"]


def test_an_image_is_its_pixels_without_a_header(tmp_path: Path) -> None:
    """A file without a header numbers its columns, and `target` is one of them."""
    loaded = source(
        tmp_path,
        "7,0,255,1,2\n8,3,4,5,6\n",
        head("multiclass"),
        header=False,
        target=0,
        image=(2, 2),
    )

    assert loaded.arrays["a"].tolist() == [[0, 255, 1, 2], [3, 4, 5, 6]]
    assert loaded.inputs["a"].size == (2, 2)
    assert (Tensor("a", "float32", (4,)),) == loaded.inputs["a"].tensors
    assert loaded.inputs["a"].statistics.max == 255
    assert loaded.targets["o"].tolist() == [0, 1]
    assert loaded.labels["o"] == ("7", "8")


def test_pixels_that_are_truth_values_are_numbers_too(tmp_path: Path) -> None:
    """The fast reader of pixels leaves booleans to the general one."""
    loaded = source(tmp_path, "true,0,0\nFalse,1,1\n", header=False, image=(1, 2))

    assert loaded.arrays["a"].tolist() == [[1, 0], [0, 1]]


def test_names_are_a_category_if_the_spec_lists_them(tmp_path: Path) -> None:
    """`categorical` accepts names and dates, as the error message for them suggests."""
    text = "who,when,y\n" + "".join(f"name {n},2020-01-{n + 1:02},{n % 2}\n" for n in range(30))

    loaded = source(tmp_path, text, categorical=("who", "when"))

    assert len(loaded.inputs["a"].features[0].vocabulary) == 30


@pytest.mark.parametrize(
    ("names", "rows", "accepted"),
    [
        pytest.param(14, 14, False, id="a name for each row"),
        pytest.param(9, 10, False, id="nine of ten"),
        pytest.param(8, 10, True, id="eight of ten"),
        pytest.param(7, 7, True, id="too few to tell"),
        pytest.param(8, 8, False, id="just enough to tell"),
    ],
)
def test_a_text_with_nearly_as_many_values_as_rows_is_no_category(
    names: int,
    rows: int,
    accepted: bool,
    tmp_path: Path,
) -> None:
    """Names are refused for any number of rows, unless they are listed in `categorical`."""
    text = "who,x,y\n" + "".join(f"name {n % names},{n},{n % 2}\n" for n in range(rows))
    if accepted:
        assert load(tmp_path, text).sources["a.csv"].rows == rows
        return
    message = f"column 'who': text with {names} different values in {rows} rows ('name 0', "
    with refused(DataError, message, "inputs.a.categorical"):
        load(tmp_path, text)
    assert load(tmp_path, text, categorical=("who",)).sources["a.csv"].rows == rows


@pytest.mark.parametrize(
    ("learner", "more", "parts"),
    [
        pytest.param(
            head(), {"target": "boght"},
            ("spec.toml: inputs.a.target: no column 'boght' in", "(did you mean 'bought'?)"),
            id="input target",
        ),
        pytest.param(
            head("binary", "zzz"), {},
            ("heads.o.target: no column 'zzz' in", "a.csv'; columns: age, bought"),
            id="head target",
        ),
        pytest.param(
            head(), {"columns": ("agee",)},
            ("inputs.a.columns: no column 'agee' in", "(did you mean 'age'?)"), id="columns",
        ),
        pytest.param(
            head(), {"columns": ("age", "bought")},
            ("inputs.a.columns: 'bought' is a target, which no input may contain; remove it",),
            id="target as a feature",
        ),
        pytest.param(
            head(), {"categorical": ("ages",)},
            ("inputs.a.categorical: no column 'ages' in", "(did you mean 'age'?)"),
            id="categorical",
        ),
        pytest.param(
            head(), {"categorical": ("bought",)},
            ("inputs.a.categorical: 'bought' is no feature of this input; they are age",),
            id="categorical target",
        ),
        pytest.param(
            head("multilabel", "age", "bought"), {},
            ("inputs.a: no column of", "is left to be a feature; it has age, bought"),
            id="nothing left",
        ),
    ],
)  # fmt: skip
def test_a_missing_column_is_an_error_of_the_spec(
    learner: HeadSpec, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """The message names the spec's key, the file and the nearest column."""
    with refused(SpecError, *parts):
        load(tmp_path, AGES, learner, **more)


def test_a_key_is_no_feature_by_name_either(tmp_path: Path) -> None:
    """`columns` cannot name the key."""
    with refused(SpecError, "inputs.a.columns: 'age' is the key; remove it"):
        load(tmp_path, AGES, columns=("age",), key="age")


@pytest.mark.parametrize(
    ("text", "more", "parts"),
    [
        pytest.param(
            ",age,y\n0,20,0\n1,30,1\n", {},
            ("a.csv: column 1 has no name in the header; name it", "inputs.a.columns"),
            id="no name",
        ),
        pytest.param(
            "age,y\n20,0\nabc,1\n31,1\nx,0\n22,1\n", {},
            ("a.csv: line 3, column 'age': 2 of 5 rows are not a number, first 'abc'",),
            id="not a number",
        ),
        pytest.param(
            "age,y\n20,0\n0x10,1\n1_0,0\n30,1\n", {},
            ("line 3, column 'age': 2 of 4 rows are not a number, first '0x10'",),
            id="a programmer's number",
        ),
        pytest.param(
            "age,y\n20,0\n-inf,1\nInfinity,0\n", {},
            ("line 3, column 'age': 2 of 3 rows are infinite, first '-inf'",), id="infinite",
        ),
        pytest.param(
            "age,y\n20,0\n1e39,1\n1e999,0\n", {},
            ("line 3, column 'age': 2 of 3 rows are too large for a float32, first '1e39'",),
            id="too large",
        ),
        pytest.param(
            "age,x,y\n,1,0\nNA,2,1\n", {},
            ("a.csv: column 'age': all 2 cells are empty; fill them", "inputs.a.columns"),
            id="all missing",
        ),
        pytest.param(
            "when,y\n2020-01-31,0\n2020-02-01 10:30,1\n,0\n", {},
            (("a.csv: column 'when': dates ('2020-01-31', '2020-02-01 10:30'), which are no"
             " amounts; add columns of numbers"), "inputs.a.categorical"),
            id="ISO dates",
        ),
        pytest.param(
            'when,y\n1/2/2020,0\n31.12.99,1\n3-Jan-2020,0\n"January 5, 2020",1\n', {},
            ("column 'when': dates (",), id="other dates",
        ),
        pytest.param(
            "who,y\n" + "".join(f"name {n},{n % 2}\n" for n in range(40)), {},
            (("a.csv: column 'who': text with 40 different values in 40 rows ('name 0', 'name 1',"
             " 'name 2', 'name 3', 'name 4', …) is no category"), "inputs.a.categorical"),
            id="names",
        ),
        pytest.param(
            "1,2,0\n3,4,1\n", {"header": False, "image": (2, 2, 1)},
            ("a.csv: 2 columns of pixels; inputs.a.image = [2, 2, 1] needs 2 x 2 x 1 = 4",),
            id="image size",
        ),
        pytest.param(
            "1,2,0\n3,,1\n", {"header": False, "image": (1, 2)},
            ("line 2, column '1': 1 of 2 rows have no value; a pixel has no default",),
            id="no pixel",
        ),
        pytest.param(
            "1,2,0\n3,x,1\n", {"header": False, "image": (1, 2)},
            ("a.csv: line 2, column '1': 1 of 2 rows are not a number, first 'x'",),
            id="not a pixel",
        ),
        pytest.param(
            "1,2,0\n3,1e39,1\n", {"header": False, "image": (1, 2)},
            ("line 2, column '1': 1 of 2 rows are too large for a float32, first '1e39'",),
            id="pixel too large",
        ),
        pytest.param(
            "p,q,y\n3,4,1\n5,6,0\n", {"header": False, "image": (1, 2)},
            (("line 1, column '0': 1 of 3 rows are not a number, first 'p'; if line 1 names the"
             " columns, leave header = false out"),),
            id="a header after all",
        ),
    ],
)  # fmt: skip
def test_bad_cells_stop_with_file_place_and_count(
    text: str, more: dict[str, Any], parts: tuple[str, ...], tmp_path: Path
) -> None:
    """No cell is dropped or coerced; the message has the mistake and the number of rows."""
    with refused(DataError, *parts):
        load(tmp_path, text, **more)
