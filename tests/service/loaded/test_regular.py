"""Arrays are read without Python objects, with the same outcome as their lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from service.errors import BadRequest
from service.inference.model import Model
from service.loaded import regular
from service.loaded.arguments import by_column, known_heads, take
from service.wire import native
from tests.harness import graphs, small

KINDS = [*"?bBhHiIlLqQefd", "U2", "O", "M8[s]", "c8", "g"]
WHOLE = {
    "voice": graphs.voice(),
    "detector": graphs.detector(),
    **{name: graphs.typed(TensorProto.DataType.Value(name)) for name in ("FLOAT", "INT64", "BOOL")},
}
SIGNATURES = {
    name: Model.load(content).signature for name, content in {**small.every(), **WHOLE}.items()
}
EDGES = [0, 1, -1, 127, 255, 65504, 65520, 2**24 + 1, 2**31, 2**53 + 1, 2**63, 2**64 - 1]
VALUES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(EDGES),
    st.floats(-1e3, 1e3, width=16),
    st.sampled_from([0.1, 3.4028235e38, 3.4028236e38, 1e300, np.inf, np.nan, -0.0, 2.0]),
)


@st.composite
def arrays(draw: Any, shape: tuple[int, ...], entry: Any) -> Any:
    """Return an array of any dtype, in the shape of rows or nearly so, in any order of memory."""
    options = [shape, shape, shape, (*shape, 1), shape[:1]]
    if len(shape) > 1:
        options += [(shape[0], int(np.prod(shape[1:]))), (shape[0], 1)]
    if entry.size is not None:
        options.append((shape[0], *entry.size))
    shape = draw(st.sampled_from(options))
    size = int(np.prod(shape))
    listed = draw(st.lists(VALUES, min_size=size, max_size=size))
    try:
        with np.errstate(all="ignore"):
            array = np.array(listed, draw(st.sampled_from(KINDS))).reshape(shape)
    except (OverflowError, ValueError, TypeError):
        assume(False)
    way = draw(st.sampled_from(["as it is", "strided", "reversed", "Fortran", "masked"]))
    if way == "strided":
        array = np.repeat(array[..., None], 2, axis=-1)[..., 0]
    elif way == "reversed":
        array = np.flip(array)
    elif way == "Fortran":
        array = np.asfortranarray(array)
    elif way == "masked":
        array = np.ma.masked_array(array, draw(st.booleans()))
    return array


@st.composite
def columns(draw: Any, signature: Any) -> Any:
    """Return arrays by input: of features for a table, and of rows for any other input."""
    height = draw(st.sampled_from([0, 1, 2, 3]))
    rows = {}
    for name, entry in signature.inputs.items():
        if entry.features:
            rows[name] = {
                feature: draw(arrays((height,), entry))
                for feature in entry.feature_names
                if draw(st.integers(0, 4))
            }
        else:
            shape = tuple(2 if axis is None else axis for axis in entry.tensors[0].shape)
            shape = shape if signature.tensor else (height, *shape)
            rows[name] = draw(arrays(shape, entry))
        if not draw(st.integers(0, 9)):
            del rows[name]
    return rows


def outcome(read: Any) -> Any:
    """Return what a reader has read, in a form that can be compared."""
    try:
        query = read()
    except BadRequest as error:
        return error.problems, error.count
    return {
        name: (
            array.dtype,
            array.shape,
            array.tolist() if array.dtype == object else array.tobytes(),
        )
        for name, array in query.arrays.items()
    }, [(n.at, n.feature) for n in (*query.imputed, *query.unseen)]


@pytest.mark.parametrize("name", SIGNATURES)
@settings(
    max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(data=st.data())
def test_arrays_are_read_as_their_lists(name, data):
    """The fast reader has the same outcome as the reference, or leaves the values to it."""
    signature = SIGNATURES[name]
    names = st.sampled_from(signature.head_names)
    heads = data.draw(st.none() | st.lists(names, min_size=1, unique=True))
    values = take(None, data.draw(columns(signature)), heads, signature)

    query = regular.read(
        by_column(values, signature), signature, known_heads(values.heads, signature)
    )

    if query is not None:
        assert outcome(lambda: query) == outcome(
            lambda: native.interpret(values.body(signature), signature)
        )


def test_a_number_past_float16_is_left_to_the_reference():
    """65520 would be infinity, as would be a float of that size."""
    signature = SIGNATURES["float16"]

    for dtype in ("uint16", "float32"):
        assert regular.read({"x": np.array([[65519, 1]], dtype)}, signature, ("y",)) is not None
        assert regular.read({"x": np.array([[65520, 1]], dtype)}, signature, ("y",)) is None


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(3, 2, 2), (3, 4)])
def test_arrays_of_images_are_regular(dtype, shape):
    """Pictures of any usual dtype become no Python objects, flat or not."""
    signature = SIGNATURES["three"]
    pictures = np.arange(12).reshape(shape).astype(dtype)

    query = regular.read({"digit": pictures}, signature, ("digits",))

    assert query is not None
    assert query.arrays["digit"].dtype == np.float32
    assert query.arrays["digit"].tolist() == np.arange(12).reshape(3, 4).tolist()
