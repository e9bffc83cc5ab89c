"""The heads that a user asks for."""

import re

import pytest

from tests.training.init.tables import profiled, rows
from training.errors import SpecError
from training.init.heads import choose, find


def _head(folder, cells, kind=""):
    """Return the head `y` for a column of these cells."""
    columns = profiled(folder, rows("n,y", [f"{n},{cell}" for n, cell in enumerate(cells)]))
    return choose(find(f"y{kind}", {"a": columns}), [columns["y"]], "y")


@pytest.mark.parametrize(
    ("cells", "kind", "labels", "reason"),
    [
        (["yes", "no"] * 9, "binary", ("no", "yes"), "two values, 'no' and 'yes'"),
        ([1, 0, ""] * 9, "binary", ("0", "1"), "two values, '0' and '1'"),
        (["true", "false"] * 9, "binary", ("false", "true"), "two values, 'false' and 'true'"),
        (["a", "b", "c"] * 9, "multiclass", ("a", "b", "c"), "3 different texts"),
        (
            [0, 1, 2] * 10,
            "multiclass",
            ("0", "1", "2"),
            "whole numbers, each from 0 to 2; an amount is --head y:regression",
        ),
        ([0, 1, 2] * 9, "regression", (), "numbers"),
        ([3, 4, 5] * 30, "regression", (), "numbers"),
        ([0.5, 1.5] * 9, "regression", (), "numbers"),
        (range(90), "regression", (), "numbers"),
    ],
)
def test_the_cells_say_the_kind(tmp_path, cells, kind, labels, reason):
    """Without a kind, a head has that of what its column holds, with the reason."""
    head = _head(tmp_path, cells)

    assert (head.kind, head.labels, head.reason) == (kind, labels, reason)


def test_a_kind_may_be_named(tmp_path):
    """Whole numbers may be classes or amounts."""
    assert _head(tmp_path, [0, 1, 2] * 10, ":regression").kind == "regression"
    assert _head(tmp_path, [3, 4, 5] * 10, ":multiclass").labels == ("3", "4", "5")
    assert _head(tmp_path, [0, 1] * 10, ":multilabel").reason == "as --head says"


def test_classes_far_from_even_have_weights(tmp_path):
    """A rare class weighs more, by the root of how rare it is."""
    assert _head(tmp_path, ["a"] * 90 + ["b"] * 10).weights == {}
    assert _head(tmp_path, ["a"] * 96 + ["b"] * 4).weights == {"a": 0.722, "b": 3.54}


def test_rows_without_a_target_are_counted(tmp_path):
    """They are left to the other heads."""
    assert _head(tmp_path, ["a", "b", ""] * 9).missing == 9


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (["a"] * 9, "", "--head y: the column is 'a' in every row; there is nothing to learn"),
        ([""] * 9, "", "--head y: the column is empty; there is nothing to learn"),
        ([""] * 9, ":binary", "--head y:binary: column 'y' is empty; there is nothing to learn"),
        (
            [f"name{n}" for n in range(30)],
            "",
            "--head y: 30 different texts in 30 rows ('name0', 'name1', 'name2', …) are no classes",
        ),
        (
            ["1", "2", "many"] * 9,
            ":regression",
            "--head y:regression: column 'y': a regression head needs numbers, received 'many'",
        ),
        (
            [1, 2] * 9,
            ":multilabel",
            (
                "--head y:multilabel: column 'y': a multilabel head needs 0 and 1, received other"
                " numbers"
            ),
        ),
        (
            ["a", "b", "c"] * 9,
            ":binary",
            (
                "--head y:binary: column 'y': a binary head needs 2 different values, received 3"
                " ('a', 'b', 'c')"
            ),
        ),
        (
            [0.5, 1.5] * 9,
            ":binary",
            (
                "--head y:binary: column 'y': a binary head needs texts or whole numbers; it has"
                " fractions or infinities"
            ),
        ),
        (
            [f"2024-01-0{n % 9 + 1}" for n in range(90)],
            "",
            (
                "--head y: dates ('2024-01-01', '2024-01-02', '2024-01-03', …) are no amounts; add"
                " columns of numbers with what matters about them, such as year, month, weekday"
                " (0 to 6) or days since another date"
            ),
        ),
        (
            [1, "inf", 2.5] * 9,
            "",
            "--head y: column 'y': a regression head needs numbers of a float32, received 'inf'",
        ),
        (
            [1, 2, "-1e300"] * 9,
            ":regression",
            (
                "--head y:regression: column 'y': a regression head needs numbers of a float32,"
                " received '-1e300'"
            ),
        ),
        (
            [1, "1e400"] * 9,
            ":binary",
            (
                "--head y:binary: column 'y': a binary head needs texts or whole numbers; it has"
                " fractions or infinities"
            ),
        ),
        (
            ["TRUE", "true", "1", "0"] * 9,
            "",
            (
                "--head y: column 'y': a binary head needs 2 different values, received 4 ('TRUE',"
                " 'true', '1', …); write each value in one way"
            ),
        ),
        (
            [1, 2] * 9,
            ":regresion",
            (
                "--head y:regresion: expected y:KIND with one of binary, multiclass, multilabel,"
                " regression, received 'regresion' (did you mean 'regression'?)"
            ),
        ),
    ],
)
def test_a_column_that_cannot_be_learned_is_refused(tmp_path, cells, kind, message):
    """The message has the option as it was given."""
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        _head(tmp_path, cells, kind)


TABLES = {"a": {"id": 0, "x": 0, "y:z": 0, "b.x": 0, "t1": 0, "colour": 0}, "b": {"id": 0, "x": 0}}


@pytest.mark.parametrize(
    ("text", "owner", "columns", "kind"),
    [
        ("t1", "a", ("t1",), None),
        ("y:z", "a", ("y:z",), None),
        ("y:z:binary", "a", ("y:z",), "binary"),
        ("a.x", "a", ("x",), None),
        ("b.id:regression", "b", ("id",), "regression"),
        ("t1, colour:multilabel", "a", ("t1", "colour"), "multilabel"),
    ],
)
def test_a_head_names_its_column(text, owner, columns, kind):
    """A column may have a colon or a dot in its name, and is then found as it is."""
    wanted = find(text, TABLES)

    assert (wanted.owner, wanted.columns, wanted.kind) == (owner, columns, kind)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "--head x: 'x' could be a.x and b.x; name one of them so"),
        ("b.x", "--head b.x: 'b.x' could be a.b.x and b.x; name one of them so"),
        ("color", "--head color: no column 'color' (did you mean 'colour'?)"),
        ("color:binary", "--head color:binary: no column 'color' (did you mean 'colour'?)"),
        ("t1,q:multilabel", "--head t1,q:multilabel: no column 'q'; columns: id, x"),
        ("t1,id:binary", "--head t1,id:binary: no column 't1,id'"),
        ("a.x,b.x:multilabel", "could be"),
        ("t1,b.id:multilabel", "expected columns of one file, received columns of several"),
        ("", "--head : no column ''"),
    ],
)
def test_an_unknown_or_ambiguous_column_is_refused(text, message):
    """An ambiguous column is an error that names both."""
    with pytest.raises(SpecError, match=re.escape(message)):
        find(text, TABLES)
