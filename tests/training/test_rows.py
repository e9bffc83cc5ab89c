"""Rows, which are split once and paired in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.training.csv_data import AGES, head, load, refused, two
from training import rows
from training.errors import DataError
from training.spec import FitSpec

if TYPE_CHECKING:
    from pathlib import Path


def sampled(folder: Path) -> rows.Data:
    """Load two independent files of 3 and 10 rows, whose targets identify the rows."""
    short = "x,y\n" + "".join(f"{10 * n},{n % 2}\n" for n in range(3))
    long = "z,v\n" + "".join(f"{10 * n},{n}\n" for n in range(10))
    return two(folder, short, long, "sample")


def test_sample_pairs_every_row_of_the_longest_once(tmp_path: Path) -> None:
    """Rows of a shorter file are used equally often, to within one, and rows stay whole."""
    x, y = rows.pairs(sampled(tmp_path), np.random.default_rng(0))

    assert list(range(10)) == sorted(y["p"].ravel())
    assert sorted(np.unique(x["a"], return_counts=True)[1]) == [3, 3, 4]
    assert (x["b"] == 10 * y["p"]).all()
    assert (x["a"].ravel() / 10 % 2 == y["o"].ravel()).all()


def test_sample_pairs_differ_with_every_call(tmp_path: Path) -> None:
    """Each call pairs unrelated rows anew, and a seed repeats the pairs."""
    loaded = sampled(tmp_path)
    rng = np.random.default_rng(0)

    first, again = rows.pairs(loaded, rng)[0], rows.pairs(loaded, rng)[0]
    same = rows.pairs(loaded, np.random.default_rng(0))[0]

    assert (first["a"] != again["a"]).any()
    assert (first["a"] == same["a"]).all()
    assert (first["b"] == same["b"]).all()


def test_aligned_rows_are_paired_as_they_are(tmp_path: Path) -> None:
    """Row i of every file belongs to row i."""
    loaded = two(tmp_path, "x,y\n1,0\n2,1\n", "z,v\n7,1\n8,2\n", "position")

    x, y = rows.pairs(loaded, np.random.default_rng(0))

    assert x["a"].tolist() == [[1], [2]]
    assert y["p"].tolist() == [[1], [2]]


def test_rows_keep_their_lines_in_the_file(tmp_path: Path) -> None:
    """Rows are found in their files after a split and after they are paired."""
    loaded = sampled(tmp_path)

    kept, held = rows.split(loaded, 0.3, 0)

    assert held is not None
    for part in (loaded, kept, held):
        for source in rows.paired(part, np.random.default_rng(0)):
            [values] = source.arrays.values()
            assert (source.lines == values.ravel() / 10 + 2).all()


def test_a_text_only_in_rows_held_out_is_unseen(tmp_path: Path) -> None:
    """The vocabulary has the texts that training sees, in their order, and numbers stay as ever."""
    text = "city,age,y\n" + "".join(f"{city},{n},{n % 2}\n" for n, city in enumerate("abab" * 4))
    loaded = load(tmp_path, text + "z,1,0\n")

    by_seed = [rows.split(loaded, 0.25, seed) for seed in range(8)]

    vocabularies = []
    for kept, held in by_seed:
        [source] = kept.sources.values()
        city, age = kept.inputs["a"].features
        assert city.vocabulary == tuple(sorted({*source.arrays["a.city"].ravel()}))
        assert age == loaded.inputs["a"].features[1]
        assert held is not None
        vocabularies.append(city.vocabulary)
    assert {*vocabularies} == {("a", "b"), ("a", "b", "z")}


@pytest.mark.parametrize("align", ["position", "sample"])
def test_a_split_holds_out_rows_by_seed(align: str, tmp_path: Path) -> None:
    """Every row is on one side; aligned files lose the same rows, independent ones their own."""
    text = "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(100))
    loaded = two(tmp_path, text, text, align)

    kept, held = rows.split(loaded, 0.2, 7)
    again, _ = rows.split(loaded, 0.2, 7)
    other, _ = rows.split(loaded, 0.2, 8)

    assert held is not None
    values = {side: [s.arrays[csv[0]].ravel().tolist() for csv, s in part.sources.items()]
              for side, part in (("kept", kept), ("held", held))}  # fmt: skip
    assert list(range(100)) == sorted(values["kept"][0] + values["held"][0])
    assert [s.rows for s in held.sources.values()] == [20, 20]
    assert (align == "position") == (values["held"][0] == values["held"][1])
    assert (kept.sources["a.csv"].arrays["a"] == again.sources["a.csv"].arrays["a"]).all()
    assert (kept.sources["a.csv"].arrays["a"] != other.sources["a.csv"].arrays["a"]).any()
    assert [s.targets["p"].shape for s in held.sources.values() if "p" in s.targets] == [(20, 1)]


def test_a_split_of_nothing_holds_out_nothing(tmp_path: Path) -> None:
    """Without a fraction, all rows are training rows."""
    loaded = load(tmp_path, AGES)

    assert (loaded, None) == rows.split(loaded, 0, 1)


def test_a_split_leaves_a_row_on_either_side(tmp_path: Path) -> None:
    """No fraction leaves a side empty, and one row cannot be split."""
    loaded = load(tmp_path, AGES)
    sizes = [
        [side.sources["a.csv"].rows for side in rows.split(loaded, fraction, 0)]
        for fraction in (0.01, 0.99)
    ]

    assert sizes == [[2, 1], [1, 2]]
    alone = load(tmp_path, "age,y\n1,0\n", head(labels=("no", "yes")))
    with refused(DataError, "a.csv: 1 row; fit.validation_split = 0.2 needs 2 or more"):
        rows.split(alone, 0.2, 0)


@pytest.mark.parametrize(
    ("known", "parts"),
    [
        pytest.param({0}, "none of the 2 held-out rows", id="held out"),
        pytest.param({4, 6}, "none of the 8 training rows", id="training"),
    ],
)
def test_a_split_that_leaves_a_head_without_targets_is_refused(
    known: set[int], parts: str, tmp_path: Path
) -> None:
    """A head needs rows to learn, and rows to be scored on; seed 0 holds out rows 4 and 6."""
    text = "x,y,z\n" + "".join(f"{n},{n if n in known else ''},{n}\n" for n in range(10))
    heads = [head("regression", "y", missing="skip"), head("regression", "z", name="all")]
    loaded = load(tmp_path, text, *heads)

    with refused(DataError, f"head 'o': {len(known)} of all rows have its target, but", parts):
        rows.split(loaded, 0.2, 0)


def test_a_stratified_split_takes_its_part_of_every_class(tmp_path: Path) -> None:
    """A rare class is held out as often as a common one, and never wholly."""
    cells = ["a"] * 40 + ["b"] * 8 + ["c"]
    text = "x,t\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
    loaded = load(tmp_path, text, head("multiclass", "t"))

    kept, held = rows.split(loaded, 0.25, 0, "o")

    assert held is not None
    assert np.bincount(rows.target(held, "o")).tolist() == [10, 2]
    assert np.bincount(rows.target(kept, "o")).tolist() == [30, 6, 1]


@pytest.mark.parametrize(
    ("counts", "fraction", "shares"),
    [
        pytest.param([4] * 20, 0.15, 12, id="each rounded up would be 20"),
        pytest.param([3] * 20, 0.15, 9, id="each rounded down would be none"),
        pytest.param([60, 2, 2, 2, 2], 0.25, 17, id="common and rare"),
    ],
)
def test_a_stratified_split_holds_out_as_many_rows_as_a_plain_one(
    counts: list[int], fraction: float, shares: int, tmp_path: Path
) -> None:
    """Each class gives its part to within one row, and all together give theirs."""
    cells = [f"c{place:02}" for place, count in enumerate(counts) for _ in range(count)]
    text = "x,t\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
    labels = tuple(dict.fromkeys(cells))
    loaded = load(tmp_path, text, head("multiclass", "t", labels=labels))

    kept, held = rows.split(loaded, fraction, 0, "o")

    assert held is not None
    found = np.bincount(rows.target(held, "o"), minlength=len(counts))
    assert found.sum() == shares == len(rows.target(rows.split(loaded, fraction, 0)[1], "o"))
    assert (np.abs(found - np.array(counts) * fraction) <= 1).all()
    assert np.bincount(rows.target(kept, "o"), minlength=len(counts)).min() >= 1


def test_a_stratified_split_draws_the_same_rows_of_aligned_files(tmp_path: Path) -> None:
    """The classes of one file decide about the rows of all of them; independent files differ."""
    text = "x,y\n" + "".join(f"{n},{n % 2}\n" for n in range(100))

    sides = {}
    for align in ("position", "sample"):
        _, held = rows.split(two(tmp_path, text, text, align), 0.2, 7, "o")
        assert held is not None
        sides[align] = [source.arrays[csv[0]].ravel() for csv, source in held.sources.items()]
        assert np.bincount(rows.target(held, "o").astype(int).ravel()).tolist() == [10, 10]

    assert (sides["position"][0] == sides["position"][1]).all()
    assert len(sides["sample"][1]) == 20
    assert (sides["sample"][0] != sides["sample"][1]).any()


def test_a_stratified_split_of_few_rows_still_holds_one_out(tmp_path: Path) -> None:
    """Where no class has a row to spare, a row is drawn from all."""
    loaded = load(tmp_path, "x,t\n1,a\n2,b\n3,c\n", head("multiclass", "t"))

    kept, held = rows.split(loaded, 0.2, 0, "o")

    assert held is not None
    assert [kept.sources["a.csv"].rows, held.sources["a.csv"].rows] == [2, 1]


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_rows_without_the_class_are_stratified_too(kind: str, tmp_path: Path) -> None:
    """Rows that lack the target of the head are held out like those of a class."""
    cells = ["a"] * 20 + ["b"] * 20 + [""] * 20
    text = "x,t,z\n" + "".join(f"{n},{cell},{n}\n" for n, cell in enumerate(cells))
    heads = [head(kind, "t", missing="skip"), head("regression", "z", name="all")]
    loaded = load(tmp_path, text, *heads)

    kept, held = rows.split(loaded, 0.25, 0, "o")

    assert held is not None
    assert [len(rows.target(side, "all")) for side in (kept, held)] == [45, 15]
    assert [len(rows.known_targets(side, "o")) for side in (kept, held)] == [30, 10]


@pytest.mark.parametrize("align", ["position", "sample"])
def test_test_rows_are_drawn_before_the_others_and_shared_with_none(tmp_path, align):
    """Each row is on one of three sides, whose sizes are parts of all rows."""
    text = "p,t\n" + "".join(f"{n},{n % 2}\n" for n in range(40))
    loaded = two(tmp_path, text, text, align)

    sides = rows.divide(loaded, FitSpec(validation_split=0.2, test_split=0.1, seed=5))

    for csv in ("a.csv", "b.csv"):
        parts = [side.sources[csv].arrays[csv[0]].reshape(-1).tolist() for side in sides]
        assert [len(part) for part in parts] == [28, 8, 4]
        assert sorted(value for part in parts for value in part) == list(range(40))


def test_without_test_rows_the_split_is_the_same_as_ever(tmp_path):
    """The same rows are held out as by `split`, whose seeds older specs rely on."""
    loaded = load(tmp_path, "p,t\n" + "".join(f"{n},{n % 2}\n" for n in range(40)))

    kept, held, test = rows.divide(loaded, FitSpec(validation_split=0.3, seed=9))

    [expected] = rows.split(loaded, 0.3, 9)[1].sources.values()
    [found] = held.sources.values()
    assert np.array_equal(found.arrays["a"], expected.arrays["a"])
    assert (kept.sources["a.csv"].rows, test) == (28, None)
    with pytest.raises(DataError, match=r"fit\.test_split = 0\.5 needs 2 or more"):
        rows.divide(load(tmp_path, "p,t\n1,0\n", head("regression")), FitSpec(test_split=0.5))


def test_what_the_fit_sees_does_not_depend_on_test_rows(tmp_path):
    """With other cells in the test rows, training and held-out rows are the same, defaults too."""
    fit = FitSpec(validation_split=0.2, test_split=0.5, seed=3)
    lines = [
        f"{'' if n % 4 == 0 else n},{'' if n % 5 == 0 else 'abc'[n % 3]},{n % 2}" for n in range(60)
    ]
    header = "age,plan,bought"
    first = rows.divide(load(tmp_path, "\n".join([header, *lines]) + "\n"), fit)
    for line in first[2].sources["a.csv"].lines:
        lines[line - 2] = f"{1000 + line},d,{lines[line - 2][-1]}"

    second = rows.divide(load(tmp_path, "\n".join([header, *lines]) + "\n"), fit)

    for one, other in zip(first[:2], second[:2], strict=True):
        arrays, others = (side.sources["a.csv"].arrays for side in (one, other))
        assert all((arrays[name] == others[name]).all() for name in arrays)
        features, same = (side.inputs["a"].features for side in (first[0], second[0]))
        assert [f.default for f in features] == [f.default for f in same]
        assert [f.vocabulary for f in features] == [f.vocabulary for f in same]
