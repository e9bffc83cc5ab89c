"""The features of explanations: which values of a row go together, and their reference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.insight.explanations.features import MOST_BLOCKS, MOST_PATCHES, features_of
from service.signature import Feature, Input, Signature, Statistics, Tensor, tabular


def features(entry, rows=None):
    """Return the features of one input."""
    arrays = {
        tensor.name: np.zeros((2, *tensor.fixed), "O" if tensor.dtype == "string" else tensor.dtype)
        for tensor in entry.tensors
    }
    return features_of(Signature({entry.name: entry}, {}), [entry.name], rows or arrays)


def image(size, shape=None, dtype="float32", statistics=None):
    """Return an input of images."""
    tensor = Tensor("x", dtype, (math.prod(size),) if shape is None else shape)
    return Input("x", "image", (tensor,), size=size, statistics=statistics)


def tensor(*shape, dtype="float32"):
    """Return an input that is a single tensor."""
    return Input("x", "tensor", (Tensor("x", dtype, shape),))


def test_the_features_of_a_table_are_its_columns():
    """A categorical one has a tensor of its own; the reference is the default, or else the mean."""
    known = Statistics(0, 9, 2.6, 1)
    entry = tabular(
        "t",
        [
            Feature("a", "", default=38, statistics=known),
            Feature("b", "", default="no", vocabulary=("no", "yes")),
            Feature("c", "", statistics=known),
        ],
        "int64",
    )

    found = features(entry)

    assert found.names == ("t.a", "t.b", "t.c")
    assert found.inputs == ("t", "t", "t")
    assert {name: owner.tolist() for name, owner in found.owners.items()} == {
        "t": [0, 2],
        "t.b": [1],
    }
    # A whole number has to be one.
    assert found.references["t"].tolist() == [38, 3]
    assert found.references["t"].dtype == np.int64
    assert found.references["t.b"].tolist() == ["no"]


def test_a_patch_has_all_channels_of_its_pixels():
    """Patches at the edge are smaller."""
    found = features(image((6, 5, 3)))
    owners = found.owners["x"].reshape(6, 5, 3)

    assert found.names == ("x[0:4,0:4]", "x[0:4,4:5]", "x[4:6,0:4]", "x[4:6,4:5]")
    for i, places in enumerate([np.s_[:4, :4], np.s_[:4, 4:], np.s_[4:, :4], np.s_[4:, 4:]]):
        assert (owners[places] == i).all()


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_picture_of_any_size_has_a_bounded_number_of_patches(height, width):
    """They are squares of a multiple of 4 pixels, and cover each pixel once."""
    found = features(image((height, width)))
    owners = found.owners["x"]

    assert len(found.names) <= MOST_PATCHES
    assert len(set(found.names)) == len(found.names) == owners.max() + 1
    assert len(owners) == height * width
    if math.ceil(height / 4) * math.ceil(width / 4) <= MOST_PATCHES:
        assert np.bincount(owners).max() <= 16


@given(st.lists(st.integers(0, 20), max_size=5))
def test_a_tensor_of_any_shape_has_a_bounded_number_of_features(shape):
    """A small one has one for each value; every value is in one."""
    size = math.prod(shape)
    found = features(tensor(*shape))
    owners = found.owners["x"]

    assert len(owners) == size
    assert len(set(found.names)) == len(found.names) <= MOST_BLOCKS
    assert set(owners.tolist()) == set(range(len(found.names)))
    assert (len(found.names) == size) == (size <= MOST_BLOCKS)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        pytest.param((), ("x",), id="a value"),
        pytest.param((1,), ("x",), id="a list of one"),
        pytest.param((2,), ("x[0]", "x[1]"), id="a list"),
        pytest.param((1, 2), ("x[0,0]", "x[0,1]"), id="a list of lists"),
        pytest.param((100,), (*(f"x[{i}:{i + 2}]" for i in range(0, 100, 2)),), id="blocks"),
    ],
)
def test_values_and_blocks_have_names_of_their_own(shape, names):
    """They are the places in the tensor; the end of a range is not in it."""
    assert features(tensor(*shape)).names == names


@pytest.mark.parametrize(
    ("entry", "reference"),
    [
        pytest.param(tensor(1), 0.0, id="a tensor"),
        pytest.param(tensor(1, dtype="bool"), False, id="a tensor of booleans"),
        pytest.param(tensor(1, dtype="string"), "", id="a tensor of texts"),
        pytest.param(image((1, 1)), 0.0, id="a picture without statistics"),
        pytest.param(image((1, 1), statistics=Statistics(0, 255, 33.5, 79)), 0.0, id="on black"),
        pytest.param(image((1, 1), statistics=Statistics(0, 255, 240, 41)), 255.0, id="on white"),
        pytest.param(image((1, 1), statistics=Statistics(0, 255, 120.5, 60)), 120.5, id="a photo"),
        pytest.param(
            image((1, 1), dtype="uint8", statistics=Statistics(0, 255, 120.4, 60)), 120, id="bytes"
        ),
        pytest.param(
            image((1, 1), dtype="bool", statistics=Statistics(0, 1, 0.5, 0.5)), True, id="bits"
        ),
    ],
)
def test_the_reference_of_an_input_without_features(entry, reference):
    """It is nothing, or a background, in the dtype of the tensor."""
    [value] = features(entry).references["x"].tolist()

    assert (value, type(value)) == (reference, type(reference))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_no_picture_has_both_ends_for_its_background(values):
    """The mean is less than a standard deviation from one end at most."""
    low, high = min(values), max(values)
    mean, std = float(np.mean(values)), float(np.std(values))

    assert not (mean - low < std * (1 - 1e-9) and high - mean < std * (1 - 1e-9))


@pytest.mark.parametrize(
    ("dtype", "reference"),
    [("uint8", 255), ("int8", 127), ("int64", 2**63 - 1), ("bool", True), ("float16", 65504)],
)
def test_a_mean_beyond_the_range_of_a_dtype_is_its_end(dtype, reference):
    """A file may have recorded one; it is no error, and no infinite number."""
    beyond = Statistics(0, 2e30, 1e30, 1)
    table = tabular("t", [Feature("a", "", statistics=beyond)], dtype)
    picture = image((1, 1), dtype=dtype, statistics=beyond)

    assert features(table).references["t"].tolist() == [reference]
    assert features(picture).references["x"].tolist() == [reference]


def test_features_of_the_same_name_are_refused():
    """One of them would be lost in the answer."""
    tables = [
        tabular("a", [Feature("b.c", "", default=1)]),
        tabular("a.b", [Feature("c", "", default=1)]),
    ]
    signature = Signature({entry.name: entry for entry in tables}, {})
    arrays = {"a": np.zeros((1, 1), "f"), "a.b": np.zeros((1, 1), "f")}

    with pytest.raises(BadRequest, match=r"two named a\.b\.c"):
        features_of(signature, ["a", "a.b"], arrays)
