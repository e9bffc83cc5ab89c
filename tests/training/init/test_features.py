"""The use of a column as a feature, by its cells alone."""

import numpy as np
import pytest

from tests.training.init.tables import choice, column, profiled, rows
from training.init import leaks
from training.init.features import (
    EMBEDDING,
    LEFT_OUT,
    LOG,
    NUMBER,
    ONE_HOT,
    choose,
    without_sums,
)
from training.init.leaks import sums
from training.table import NAMELESS

MIXED = [n * 7919 % 997 / 10 for n in range(100)]  # no order, all different
CITIES = [f"city{n % 40}" for n in range(200)]


@pytest.mark.parametrize(
    ("cells", "use", "reason"),
    [
        pytest.param(MIXED, NUMBER, "number, 0 to 99.6", id="decimals"),
        pytest.param([2007, 2008, 2009] * 9, NUMBER, "number, 2007 to 2009, 3 different", id="few"),
        pytest.param([0, 1] * 9, NUMBER, "number, 0 or 1", id="flag"),
        pytest.param(["true", "false"] * 9, NUMBER, "number, 0 or 1", id="truth values"),
        pytest.param(
            [3, "", 5, "NA"] * 9, NUMBER, "number, 3 or 5; 18 cells are empty", id="missing"
        ),
        pytest.param(["a", "b", "c"] * 9, ONE_HOT, "category, 3 values", id="texts"),
        pytest.param(CITIES, EMBEDDING, "category, 40 values", id="many texts"),
        pytest.param(
            ["01067", "10115", "04109"] * 9,
            ONE_HOT,
            "category, 3 values: numbers with leading zeros are codes, not amounts",
            id="postcodes",
        ),
        pytest.param(["1", "2", "many"] * 9, ONE_HOT, "category, 3 values", id="numbers and texts"),
        pytest.param([""] * 9, LEFT_OUT, "all 9 cells are empty", id="empty"),
        pytest.param(["x", ""] * 9, LEFT_OUT, "'x' in every row", id="constant"),
        pytest.param(
            ["1e39", "2"] * 9, LEFT_OUT, "numbers too large for a float32", id="too large"
        ),
        pytest.param(["inf", "2"] * 9, LEFT_OUT, "numbers too large for a float32", id="infinite"),
        pytest.param(
            range(5, 105), LEFT_OUT, "row numbers: each from 5 to 104 once", id="row numbers"
        ),
        pytest.param(
            [n for n in range(5, 105) if n % 3],
            LEFT_OUT,
            "row numbers of a larger table: from 5 to 104, larger in each row",
            id="some row numbers",
        ),
        pytest.param(range(0, 300, 3), NUMBER, "number, 0 to 297", id="sorted amounts"),
        pytest.param(
            [10**8 + 7919 * n for n in range(20)],
            LEFT_OUT,
            "an identifier: other whole numbers in every row, and some over 16,777,216",
            id="large whole numbers",
        ),
        pytest.param(
            ["2024-01-05", "2024-02-05", ""] * 9,
            LEFT_OUT,
            "dates ('2024-01-05', '2024-02-05'), which are no amounts: add columns of numbers with"
            " what matters about them, such as year, month, weekday (0 to 6) or days since another"
            " date",
            id="dates",
        ),
        pytest.param(
            [f"name {n}" for n in range(20)],
            LEFT_OUT,
            "text with 20 different values in 20 rows ('name 0', 'name 1', 'name 2', …)",
            id="names",
        ),
        pytest.param(
            [f"${n},{n}00.50".replace(",", "'") for n in range(1, 21)],
            LEFT_OUT,
            'text with 20 different values in 20 rows ("$1\'100.50", "$2\'200.50", "$3\'300.50",'
            " …): if they are numbers, write them plainly, as 1234.5",
            id="dressed numbers",
        ),
        pytest.param(
            [*range(30), "unknown", 7] * 2,
            LEFT_OUT,
            "numbers, but 2 cells are not, first 'unknown': empty or correct them",
            id="numbers with a text",
        ),
    ],
)
def test_a_column_is_used_by_its_cells(tmp_path, cells, use, reason):
    """Each rule has its reason in the words of the comment."""
    chosen = choice(tmp_path, cells)

    assert (chosen.use, chosen.reason) == (use, reason)


@pytest.mark.parametrize("name", ["id", "customer_id", "customerId", "row.names-key", "Index"])
def test_an_identifier_is_known_by_its_name(tmp_path, name):
    """Whole numbers that differ in every row are an identifier under such a name alone."""
    cells = [n * n for n in range(20)]

    assert choice(tmp_path, cells, name).use == LEFT_OUT
    assert choice(tmp_path, cells, "paid").use == NUMBER
    assert choice(tmp_path, [*cells[:-1], cells[0]], name).use == NUMBER


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([1e38, -1e38, 1], "numbers from -1e+38 to 1e+38: give them in a larger unit"),
        ([1e300, 1, 2], "numbers too large for a float32"),
        (["inf", "1", "2.5"], "numbers too large for a float32"),
        (
            [1e-42, 2e-42, 3e-42],
            "numbers so close together that float32 cannot scale them: give them in another unit",
        ),
    ],
)
def test_numbers_that_float32_cannot_scale_are_left_out(tmp_path, cells, reason):
    """A Normalization would make 0 of each of them, and pieces would divide by 0."""
    chosen = choice(tmp_path, cells * 9)

    assert (chosen.use, chosen.reason) == (LEFT_OUT, reason)


def test_an_identifier_may_have_more_digits_than_a_float(tmp_path):
    """As float64, half of these are the same number."""
    cells = [9_007_199_254_740_993 + 3 * n * n for n in range(20)]

    assert choice(tmp_path, cells, "id").use == LEFT_OUT
    assert choice(tmp_path, cells, "account").use == LEFT_OUT


def test_a_heavily_skewed_number_takes_a_log_scale(tmp_path):
    """Incomes do; numbers that are even, negative or few do not."""
    incomes = [round(20000 * 1.15**n, 2) for n in range(60)]

    assert choice(tmp_path, incomes).use == LOG
    assert choice(tmp_path, [income / 1e9 for income in incomes]).use == LOG
    assert choice(tmp_path, [0, *incomes]).use == LOG
    assert choice(tmp_path, [-1, *incomes]).use == NUMBER
    assert choice(tmp_path, MIXED).use == NUMBER
    assert choice(tmp_path, [1, 2, 3, 1000] * 9).use == NUMBER


def test_a_category_that_looks_like_something_else_is_named(tmp_path):
    """Training would take codes for numbers, and refuse numbers with texts."""
    assert choice(tmp_path, ["01", "02"] * 9).named
    assert choice(tmp_path, ["1", "2", "many"] * 9).named
    assert not choice(tmp_path, ["a", "b"] * 9).named


def test_a_column_without_a_name_is_left_out(tmp_path):
    """Other programs write row numbers into such a column."""
    [nameless, _] = profiled(tmp_path, ",x\n" + "5,1\n5.5,2\n" * 9).values()

    assert nameless.name.endswith(NAMELESS)
    assert (choose(nameless, []).use, choose(nameless, []).column) == (LEFT_OUT, "column 1")


@pytest.mark.parametrize(
    ("feature", "target", "reason"),
    [
        pytest.param(
            lambda n: "AB"[n % 2],
            lambda n: n % 2,
            "says the same as 't', value by value",
            id="name",
        ),
        pytest.param(
            lambda n: n * 37 % 101 * 1.8 + 32,
            lambda n: n * 37 % 101,
            "is 't' in another unit",
            id="unit",
        ),
        pytest.param(
            lambda n: (n * 37 % 101) ** 3,
            lambda n: n * 37 % 101,
            "has the order of 't' in every row",
            id="order",
        ),
        pytest.param(lambda n: "AB"[n % 2], lambda n: n % 3, "", id="another thing"),
        pytest.param(lambda n: f"{n // 4}", lambda n: n // 50, "", id="finer classes"),
        pytest.param(lambda n: n * 37 % 101 + n % 9, lambda n: n * 37 % 101, "", id="near"),
        pytest.param(lambda n: n / 7, lambda n: n % 2, "", id="other numbers in every row"),
    ],
)
def test_a_target_in_other_words_is_left_out(tmp_path, feature, target, reason):
    """A model would learn nothing but such a column."""
    lines = [f"{feature(n)},{target(n)}" for n in range(100)]
    columns = profiled(tmp_path, rows("f,t", lines))

    chosen = choose(columns["f"], [columns["t"]])

    assert (chosen.use == LEFT_OUT, chosen.reason if reason else "") == (bool(reason), reason)


@pytest.mark.parametrize(
    ("cell", "left_out"),
    [
        pytest.param(lambda n: "" if n % 3 else "AB"[n % 2], True, id="once it is known"),
        pytest.param(lambda n: "" if n % 4 else "AB"[n // 4 % 2], False, id="by chance"),
    ],
)
def test_a_column_that_is_filled_in_for_one_answer_is_left_out(tmp_path, cell, left_out):
    """A cause of death is known once somebody has died."""
    lines = [f"{cell(n)},{'no' if n % 3 else 'yes'}" for n in range(150)]
    columns = profiled(tmp_path, rows("cause,died", lines))

    chosen = choose(columns["cause"], [columns["died"]])

    assert (chosen.use == LEFT_OUT) == left_out
    if left_out:
        assert chosen.reason == "is filled in only where 'died' is 'yes'"


def _whole(folder, whole, feature=""):
    """Return the facts of two parts, a whole made of them, and perhaps a feature beside them."""
    lines = []
    for n in range(100):
        a, b = n * 37 % 101, n * 53 % 89
        lines.append(f"{a},{b},{whole(a, b)}" + (f",{n * 29 % 97}" if feature else ""))
    return profiled(folder, rows("a,b,whole" + (f",{feature}" if feature else ""), lines))


@pytest.mark.parametrize(
    ("whole", "target", "left_out", "reason"),
    [
        (lambda a, b: a + b, "whole", {"a", "b"}, "'whole' is 'a' + 'b' in every row"),
        (lambda a, b: a + b, "a", {"b", "whole"}, "'a' is 'whole' - 'b' in every row"),
        (lambda a, b: 3 * a + b, "whole", {"a", "b"}, "'whole' is 3 'a' + 'b' in every row"),
        (
            lambda a, b: round(1.19 * a + 4.5 * b, 2),
            "whole",
            {"a", "b"},
            "'whole' is 1.19 'a' + 4.5 'b' in every row",
        ),
        (
            lambda a, b: (a + b) / 1000,
            "whole",
            {"a", "b"},
            "'whole' is 0.001 'a' + 0.001 'b' in every row",
        ),
        (lambda a, b: a * b, "whole", set(), None),
        (lambda a, b: a + b, "other", set(), None),
    ],
)
def test_columns_whose_sum_is_a_target_are_left_out(tmp_path, whole, target, left_out, reason):
    """Each of them alone is no leak, and together they are nothing else."""
    columns = _whole(tmp_path, whole, "other")
    wanted = [columns[target]]
    choices = [choose(column, wanted) for name, column in columns.items() if name != target]

    chosen = without_sums(choices, columns, wanted)

    left = [choice for choice in chosen if choice.use == LEFT_OUT]
    assert {choice.column for choice in left} == left_out
    assert {choice.reason for choice in left} == ({reason} if reason else set())


def test_many_values_are_paired_without_looking_at_each_pair_for_each_value():
    """A table of half a million rows would take hours."""
    rng = np.random.default_rng(0)
    mine, theirs = (
        np.unique(rng.integers(0, 150_000, 500_000), return_inverse=True)[1] for _ in range(2)
    )

    assert leaks._one_to_one(mine, mine[::-1].max() - mine)
    assert not leaks._one_to_one(np.maximum(mine, theirs), np.maximum(theirs, mine[::-1]))


def test_all_features_are_not_left_out_for_their_sum(tmp_path):
    """A table made by a formula is one, and the reason says so."""
    columns = _whole(tmp_path, lambda a, b: a + b)
    choices = [choose(columns[name], [columns["whole"]]) for name in ("a", "b")]

    chosen = without_sums(choices, columns, [columns["whole"]])

    assert [choice.use for choice in chosen] == [NUMBER, NUMBER]
    assert chosen[0].reason.endswith("; 'whole' is 'a' + 'b' in every row")


@pytest.mark.parametrize("noise", [0.5, 0.05])
def test_numbers_that_nearly_add_up_are_features(tmp_path, noise):
    """What is measured is never exact, however well a line fits it."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(200, 30))
    target = table @ rng.integers(0, 3, 30) + noise * rng.normal(size=200)
    lines = [",".join(f"{x:.4f}" for x in (*row, y)) for row, y in zip(table, target, strict=True)]
    columns = profiled(tmp_path, rows(",".join([*(f"x{n}" for n in range(30)), "y"]), lines))

    assert sums([column for name, column in columns.items() if name != "y"], [columns["y"]]) == {}


def test_few_rows_prove_no_leak(tmp_path):
    """Two columns of a dozen rows agree by chance."""
    columns = profiled(tmp_path, rows("f,t", [f"{'AB'[n % 2]},{n % 2}" for n in range(12)]))

    assert choose(columns["f"], [columns["t"]]).use == ONE_HOT


def test_facts_do_not_count_missing_cells(tmp_path):
    """A missing cell has no text, no count and no number."""
    facts = column(tmp_path, ["1", "", "2.5", "NA", "1"])

    assert (facts.rows, facts.cells, facts.missing) == (5, 3, 2)
    assert facts.texts == ("1", "2.5")
    assert facts.counts.tolist() == [2, 1]
    assert facts.codes.tolist() == [0, -1, 1, -1, 0]
    assert facts.cell_values().tolist() == [1, 2.5, 1]


@pytest.mark.parametrize(
    ("wage", "left_out"),
    [
        pytest.param(lambda n: 0 if n % 3 else n, True, id="of those with work"),
        pytest.param(lambda n: 0 if n % 6 else n, False, id="of some of them"),
        pytest.param(lambda n: 0 if n < 5 else n, False, id="hardly ever 0"),
    ],
)
def test_a_number_that_is_0_for_one_answer_alone_is_left_out(tmp_path, wage, left_out):
    """Nobody knows a wage before it is known who works."""
    lines = [f"{wage(n)},{'no' if n % 3 else 'yes'}" for n in range(1, 151)]
    columns = profiled(tmp_path, rows("wage,works", lines))

    chosen = choose(columns["wage"], [columns["works"]])

    assert (chosen.use == LEFT_OUT) == left_out
    if left_out:
        assert chosen.reason == "is 0 in the rows where 'works' is 'no', and in no others"
