"""The comparison of two models' answers to the same rows."""

import functools
import itertools
import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insight import comparison
from service.insight.comparison import EDGES, Comparison
from service.signature import Head, Tensor

NAN, INF = math.nan, math.inf
LABELS = ("a", "b", "c")


def head(kind, labels=None, width=1, threshold=0.5, dtype="float32"):
    """Return a head of this kind."""
    return Head("h", kind, Tensor("h", dtype, (width,)), labels, threshold)


def compared(first, second, answers, others):
    """Return the comparison of two lists of answers."""
    dtypes = {"string": object, "float32": np.float64}  # float64, so that no number is rounded
    arrays = [
        np.array(rows, dtypes.get(entry.tensor.dtype, entry.tensor.dtype))
        for entry, rows in ((first, answers), (second, others))
    ]
    return comparison.tally(comparison.differences(first, second, *arrays))


@pytest.mark.parametrize(
    ("first", "second", "answers", "others", "expected"),
    [
        pytest.param(
            head("binary", ("no", "yes")),
            head("binary", ("no", "yes")),
            [[0.4], [0.9]],
            [[0.6], [0.8]],
            (1, 0.2, 0.15),
            id="binary",
        ),
        pytest.param(
            head("binary", ("no", "yes"), threshold=0.3),
            head("binary", ("no", "yes"), threshold=0.5),
            [[0.4], [0.9]],
            [[0.4], [0.9]],
            (1, 0, 0),
            id="another threshold",
        ),
        pytest.param(
            head("binary", ("no", "yes")),
            head("binary", ("yes", "no")),
            [[0.4], [0.9]],
            [[0.6], [0.1]],
            (0, 0, 0),
            id="binary, with its labels the other way round",
        ),
        pytest.param(
            head("multiclass", LABELS, 3),
            head("multiclass", ("c", "a", "b"), 3),
            [[0.6, 0.3, 0.1]],
            [[0.2, 0.5, 0.3]],
            (0, 0.1, 0.1),
            id="labels in another order",
        ),
        pytest.param(
            head("multiclass", ("a", "b"), 2),
            head("multiclass", ("b", "c", "a"), 3),
            [[0.6, 0.4], [0.6, 0.4]],
            [[0.3, 0.5, 0.2], [0.4, 0, 0.6]],
            (1, 0.4, 0.2),
            id="another label",
        ),
        pytest.param(
            head("multilabel", ("a", "b"), 2),
            head("multilabel", ("b", "c"), 2),
            [[0.1, 0.9], [0.1, 0.9], [0.8, 0.9]],
            [[0.9, 0.1], [0.9, 0.6], [0.9, 0.2]],
            (2, 0, 0),
            id="several labels",
        ),
        pytest.param(
            head("regression", width=2),
            head("regression", width=2),
            [[1, 2], [3, 4]],
            [[1, 5], [3, 4]],
            (None, 3, 1.5),
            id="numbers",
        ),
        pytest.param(
            head("tensor", dtype="int64"),
            head("tensor", dtype="int64"),
            [[1], [2]],
            [[1], [3]],
            (1, 1, 0.5),
            id="classes by number",
        ),
        pytest.param(
            head("tensor", dtype="string"),
            head("tensor", dtype="string"),
            [["a"], ["b"]],
            [["a"], ["c"]],
            (1, None, None),
            id="texts",
        ),
    ],
)
def test_two_heads_are_compared_by_meaning(first, second, answers, others, expected):
    """Labels are compared by name, and numbers by the label that they belong to."""
    found = compared(first, second, answers, others)

    differ, largest, mean = expected
    assert comparison.objection(first, second) == ""
    assert (found.rows, found.labels_differ) == (len(answers), differ)
    assert found.largest == pytest.approx(largest) if largest is not None else found.largest is None
    assert found.mean == pytest.approx(mean) if mean is not None else found.mean is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        pytest.param(
            head("binary"), head("regression"), "it is binary in one, and regression in the other"
        ),
        pytest.param(
            head("tensor", dtype="string"),
            head("tensor"),
            "it answers string in one, and float32 in the other",
        ),
        pytest.param(
            head("multiclass", ("a", "b"), 2),
            head("multiclass", ("c", "d"), 2),
            "no label is in both",
        ),
        pytest.param(
            head("regression", width=2),
            head("regression", width=3),
            "it answers float32[2] in one, and float32[3] in the other",
        ),
    ],
)
def test_what_has_nothing_in_common_is_not_compared(first, second, message):
    """The message says why."""
    assert comparison.objection(first, second) == message


def test_no_number_differs_from_any_number():
    """It equals itself; a row of which one answer is finite is counted, and in no other figure."""
    plain = head("regression")

    found = compared(plain, plain, [[NAN], [INF], [NAN], [INF], [1]], [[NAN], [INF], [1], [2], [3]])

    assert (found.not_finite, found.largest, found.mean) == (2, 2.0, 2 / 3)
    assert sum(found.bins) == 3
    assert found.exceeds(10)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_large_integers_that_a_float_does_not_tell_apart_differ(dtype):
    """Identifiers have as many digits; they differ by one at least."""
    entry = head("regression", dtype=dtype)
    answers, others = (np.array([[2**60 + add], [7]], dtype) for add in (0, 1))

    differences = comparison.differences(entry, entry, answers, others).numbers

    assert differences.tolist() == [1.0, 0.0]


def test_free_axes_of_different_lengths_differ_in_every_row():
    """No value of one answer then belongs to a value of the other."""
    free = Head("h", "tensor", Tensor("h", "float32", (None,)))

    found = comparison.tally(comparison.differences(free, free, np.ones((2, 3)), np.ones((2, 4))))

    assert (found.rows, found.not_finite, found.labels_differ) == (2, 2, None)


def test_a_tolerance_is_exceeded_by_a_label_or_a_number():
    """A label has no tolerance."""
    assert not Comparison(9, 0, 0.1, 0.1).exceeds(0.1)
    assert Comparison(9, 0, 0.2, 0.2).exceeds(0.1)
    assert Comparison(9, 1, 0.0, 0.0).exceeds(0.1)
    assert not Comparison(9, 0, None, None).exceeds(0.0)


number = st.one_of(st.floats(-10, 10), st.sampled_from([0.0, 0.5, 1.0, NAN, INF, -INF, 1e-12, 1e9]))


@st.composite
def _cases(draw):
    """Return two heads, their answers and where they are cut into batches."""
    kind = draw(st.sampled_from(["binary", "multiclass", "multilabel", "regression"]))
    width = 1 if kind == "binary" else draw(st.integers(1, 3))
    names = st.permutations(["a", "b", "c", "d"])
    sides = []
    is_named = kind in ("multiclass", "multilabel", "binary") and draw(st.booleans())
    for _ in range(2):
        count = 2 if kind == "binary" else width
        labels = tuple(draw(names)[:count]) if is_named else None
        sides.append(head(kind, labels, width, draw(st.sampled_from([0.3, 0.5]))))
    rows = draw(st.integers(1, 8))
    row = st.lists(number, min_size=width, max_size=width)
    answers = [draw(st.lists(row, min_size=rows, max_size=rows)) for _ in range(2)]
    return *sides, *answers, draw(st.lists(st.integers(0, rows), max_size=3))


def _label(entry, row):
    """Return the label or labels of a row, computed one value at a time."""
    if any(math.isnan(value) for value in row):
        return None
    if entry.kind == "binary":
        place = int(row[0] > entry.cutoff)
        return entry.labels[place] if entry.labels else place
    if entry.kind == "multilabel":
        chosen = [place for place, value in enumerate(row) if value > entry.cutoff]
        return {entry.labels[place] if entry.labels else place for place in chosen}
    place = row.index(max(row))
    return entry.labels[place] if entry.labels else place


def _values(entry, row, other):
    """Return the values of a row by what they mean."""
    if entry.kind == "binary" and entry.labels and entry.labels == other.labels[::-1]:
        first = min(entry.labels)
        return {first: row[0] if entry.labels[1] == first else 1 - row[0]}
    if entry.kind in ("multiclass", "multilabel") and entry.labels:
        return dict(zip(entry.labels, row, strict=True))
    return dict(enumerate(row))


def _difference(mine, yours):
    if mine == yours or (math.isnan(mine) and math.isnan(yours)):
        return 0.0
    apart = abs(mine - yours)
    return INF if math.isnan(apart) else apart


@given(_cases())
def test_the_comparison_is_that_of_one_value_after_the_other(case):
    """However the rows are cut into batches, the sums are those of a naive computation."""
    first, second, answers, others, cuts = case
    if comparison.objection(first, second):
        return
    differ, sizes = 0, []
    for row, other in zip(answers, others, strict=True):
        differ += _label(first, row) != _label(second, other)
        mine, yours = _values(first, row, second), _values(second, other, first)
        sizes.append(max(_difference(mine[key], yours[key]) for key in mine.keys() & yours.keys()))
    finite = [size for size in sizes if math.isfinite(size)]
    bounds = sorted({0, *cuts, len(answers)})

    parts = [
        compared(first, second, answers[start:end], others[start:end])
        for start, end in itertools.pairwise(bounds)
    ]
    found = functools.reduce(operator.add, parts)

    assert found.rows == len(answers)
    assert found.labels_differ == (None if first.kind == "regression" else differ)
    assert found.not_finite == len(sizes) - len(finite)
    assert found.largest == pytest.approx(max(finite, default=0.0))
    assert found.total == pytest.approx(sum(finite))
    assert sum(found.bins) == len(finite)
    edges = [-1.0, *EDGES, INF]
    for count, low, high in zip(found.bins, edges, edges[1:], strict=False):
        # A difference right at a bound may be rounded to either side.
        sure = sum(low * 1.000001 < size < high * 0.999999 for size in finite)
        assert count >= sure


def test_a_bin_has_its_upper_bound():
    """As a bucket of Prometheus does, so that the same counts can be both."""
    plain = head("regression")

    found = compared(plain, plain, [[0], [0], [0]], [[1], [1.5], [0.5]])

    assert found.bins[EDGES.index(1.0)] == 2
    assert found.bins[EDGES.index(1.0) + 1] == 1
