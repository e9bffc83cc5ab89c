"""Counts by cell: every row has one in each quantity, and counts of parts add up to the whole."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from service.inference.model import Model
from service.insight.drift.counting import Layout, counted, expected, reference_of
from service.insight.drift.quantities import MOST_QUANTITIES, columns, quantities
from service.insight.drift.record import numbers, record, texts
from service.reference import Reference
from service.signature import Input, Tensor
from tests.harness import small, three


def _recorded(signature, arrays, missing=None):
    chosen = quantities(signature)
    rows = {"inputs": "training", "heads": "training"}
    return replace(
        signature, reference=record(chosen, columns(chosen, arrays, missing or {}), rows)
    )


@pytest.fixture(name="arrays")
def _arrays():
    """Return inputs and answers of `small.three`; every other text is one of the vocabulary."""
    inputs = three.rows(60)
    inputs["insurance.smoker"][1::4] = "no"
    return {**inputs, **three.answers(inputs)}


@pytest.fixture(name="signature")
def _signature(arrays):
    """Return the signature of `small.three` with a reference of these rows."""
    return _recorded(Model.load(small.three()).signature, arrays)


def _by_name(layout, counts):
    return {p.quantity.name: counts[p.start : p.stop].tolist() for p in layout.places}


def test_every_feature_and_head_has_a_quantity(signature):
    """A head of several labels has one for each, and an image has its summaries."""
    heads = ["risk", "size", "digits", "tags.heavy", "tags.long"]
    features = ["insurance.age", "insurance.smoker", "insurance.bmi", "fruit.weight"]
    features += ["fruit.length", "digit.mean", "digit.deviation", "digit.ink"]

    assert [q.name for q in quantities(signature)] == heads + features
    assert [p.quantity.name for p in Layout(signature).places] == heads + features


def test_rows_of_the_reference_have_its_counts(signature, arrays):
    """Every row is counted once for each quantity, in the cell that it was recorded in."""
    layout = Layout(signature)
    counts = layout.count(arrays, {})

    for place in layout.places:
        mine = counts[place.start : place.stop]
        assert mine.sum() == 60
        if place.quantity.name != "insurance.smoker":  # whose counts are of half of the rows
            assert mine.tolist() == place.expected.tolist(), place.quantity.name


def test_counts_of_parts_add_up(signature, arrays):
    """Runs, workers and pods are added; an order or a division of the rows makes no difference."""
    layout = Layout(signature)
    order = np.random.default_rng(1).permutation(60)
    parts = np.array_split(order, 7)
    added = sum(layout.count({n: a[rows] for n, a in arrays.items()}, {}) for rows in parts)

    assert added.dtype == np.int64
    assert added.tolist() == layout.count(arrays, {}).tolist()


def test_rows_outside_of_the_reference_have_cells_of_their_own(signature, arrays):
    """Missing values, numbers out of range, unseen texts and answers that are not numbers."""
    row = {name: array[:5].copy() for name, array in arrays.items()}
    row["insurance"][:, 0] = [19, 20, 79, 80, 50]
    row["insurance.smoker"][:, 0] = ["no", "yes", "never", "maybe", "no"]
    row["risk"][:, 0] = [np.nan, 0.1, 0.5, 0.6, 0.7]
    row["size"][0] = np.inf
    layout = Layout(signature)
    counts = _by_name(layout, layout.count(row, {"insurance.age": [4], "insurance.smoker": [0]}))

    below, *bins, above = counts["insurance.age"][1:]
    assert (counts["insurance.age"][0], below, sum(bins), above) == (1, 1, 2, 1)
    assert (counts["insurance.smoker"][0], counts["insurance.smoker"][-1]) == (1, 2)
    assert counts["risk"] == [1, 2, 2, 0, 0]  # missing, low, high, others, unseen
    assert counts["size"][0] == 1


def test_a_run_of_some_heads_counts_these(signature, arrays):
    """A quantity without its tensor has no rows, and not rows that miss it; nor has no row any."""
    layout = Layout(signature)
    some = {name: arrays[name] for name in ("fruit", "size")}
    counts = _by_name(layout, layout.count(some, {}))

    assert {name for name, cells in counts.items() if sum(cells)} == {
        *("size", "fruit.weight", "fruit.length")
    }
    empty = {name: array[:0] for name, array in arrays.items()}
    assert not layout.count(empty, {}).any()


def test_the_dtype_of_a_tensor_is_that_of_its_bins():
    """A float32 is in the bin that its shortest decimals name, and a large integer in its own."""
    tenth = np.float32([0.1, 0.2, 0.3] * 4)
    large = np.array([2**53 - 1, 2**53 - 2] * 3, np.float64)

    for values in (tenth, large):
        one = numbers(values)
        assert counted(one, values).tolist() == expected(one).tolist()


@pytest.mark.parametrize("dtype", ["FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "INT64", "UINT8"])
def test_numbers_of_any_dtype_are_counted(dtype):
    """A short vector has a quantity for each value, as a CSV has a column for each."""
    model = Model.load(small.same(TensorProto.DataType.Value(dtype), (2,)))
    (tensor,) = model.signature.inputs["x"].tensors
    rows = (np.arange(40).reshape(20, 2) % 2).astype(tensor.dtype)
    signature = _recorded(model.signature, {"x": rows, "y": rows})
    layout = Layout(signature)

    assert _by_name(layout, layout.count({"x": rows, "y": rows}, {})) == {
        name: [0, 0, 20, 0] for name in ("y.0", "y.1", "x.0", "x.1")
    }


def test_texts_without_a_vocabulary_are_counted():
    """Of a foreign file, a text that is not listed is one of the others: none is unseen."""
    model = Model.load(small.same(TensorProto.STRING, (1,)))
    rows = np.array([["a"], ["b"]] * 10, object)
    signature = _recorded(model.signature, {"x": rows, "y": rows})
    layout = Layout(signature)
    new = np.array([["a"], ["c"]], object)

    assert _by_name(layout, layout.count({"x": new, "y": new}, {})) == {
        name: [0, 1, 0, 1, 0] for name in ("y", "x")
    }


def test_summaries_tell_how_bright_a_picture_is():
    """Mean, standard deviation, and the share of values above the middle of the picture's range."""
    pictures = np.float32([[0, 0, 0, 8], [8, 8, 0, 8], [5, 5, 5, 5]])
    chosen = [q for q in quantities(Model.load(small.three()).signature) if q.owner == "digit"]

    mean, deviation, ink = columns(chosen, {"digit": pictures}, {})

    assert mean.tolist() == [2, 6, 5]
    assert deviation.tolist() == pytest.approx([np.sqrt(12), np.sqrt(12), 0])
    assert ink.tolist() == [0.25, 0.75, 0]


def test_a_reference_of_another_kind_is_not_used(signature):
    """A feature that was a text when the reference was made, and is a number now, has none."""
    age = next(q for q in quantities(signature) if q.name == "insurance.age")
    other = Reference({"insurance": {"age": texts(np.array(["a"] * 30, object))}})

    assert reference_of(age, other) is None
    assert reference_of(age, Reference()) is None
    assert Layout(replace(signature, reference=None)).places == ()


def test_models_of_whole_tensors_have_no_quantities():
    """They have no rows that could be counted."""
    signature = Model.load(small.three()).signature

    assert quantities(replace(signature, tensor="a scalar")) == ()


def test_the_counts_of_the_widest_model_take_less_than_a_megabyte():
    """The features of a table beyond the first thousand quantities are not compared."""
    wide = Model.load(small.wide_table(3000, 0.0)).signature
    rows = np.random.default_rng(1).normal(size=(100, 3000)).astype(np.float32)
    layout = Layout(_recorded(wide, {"table": rows, "total": rows[:, :1]}))

    assert len(layout.places) == MOST_QUANTITIES
    assert layout.places[0].quantity.is_head
    assert layout.count({"table": rows}, {}).nbytes < 200_000


def test_heads_and_inputs_without_values_have_no_quantities():
    """Texts of several values, and axes of length 0, say nothing that is compared."""
    signature = Model.load(small.same(TensorProto.STRING, (2,))).signature
    empty = Input("x", "tensor", (Tensor("x", "float32", (0,)),))

    assert quantities(signature) == ()
    assert quantities(replace(signature, inputs={"x": empty})) == ()
