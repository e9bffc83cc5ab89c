"""Fast writing of answers, which gives the same bytes as the plain writer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.inference.model import Model
from service.run import Part, Run
from service.signature import Head, Signature, Tensor
from service.wire import native
from service.wire.body import Imputed, Unseen
from service.wire.native.answers import Writer
from tests.harness import small

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS = (
    Head("risk", "binary", Tensor("risk", "float32", (1,)), ("no, never", 'yes "%d"'), 0.5),
    Head("100 %b", "multiclass", Tensor("100 %b", "float32", (3,)), ("a", "],[", "ü")),
    Head("tags", "multilabel", Tensor("tags", "float64", (2,)), ("x", "y"), 0.25),
    Head("size", "regression", Tensor("size", "float16", (1,))),
    Head("count", "tensor", Tensor("count", "int64", (2,))),
    Head("is", "tensor", Tensor("is", "bool", (1,))),
    Head("picture", "tensor", Tensor("picture", "float32", (2, 2))),
    Head("free", "tensor", Tensor("free", "float32", (None,))),
    Head("word", "tensor", Tensor("word", "string", (1,))),
    Head("bare", "tensor", Tensor("bare", "float32", ())),
)
SIGNATURE = Signature(inputs={}, heads={head.name: head for head in HEADS})


def outputs_of(head: Head, rows: int) -> st.SearchStrategy[NDArray[Any]]:
    """Draw an output of a head, sometimes with NaN and infinities."""
    shape = (rows, *(2 if axis is None else axis for axis in head.tensor.shape))
    if head.tensor.dtype == "string":
        return arrays(object, shape, elements=st.sampled_from(["", "a,b", "],[", "ü"]))
    output = arrays(head.tensor.dtype, shape)
    # The output is a slice of a wider array, or an array of its own.
    return st.one_of(output, output.map(lambda a: np.stack([a, a], axis=-1)[..., 0]))


@st.composite
def cases(draw: st.DrawFn) -> tuple[native.Query, dict[str, NDArray[Any]]]:
    """Draw a request and the outputs of its run."""
    heads = draw(st.lists(st.sampled_from(HEADS), min_size=1, unique=True))
    rows = draw(st.integers(1, 7))
    imputed = [Imputed("instances[0].x", 1.5, "t.x")] * draw(st.integers(0, 2))
    names = tuple(head.name for head in heads)
    unseen = [Unseen("instances[0].y", "“Paris”", "t.y")] * draw(st.integers(0, 2))
    asked = native.Query({}, names, draw(st.booleans()), imputed, unseen)
    return asked, {head.name: draw(outputs_of(head, rows)) for head in heads}


@given(case=cases(), name=st.sampled_from(["a", 'a"b', "50%"]))
@settings(max_examples=300, deadline=None)
def test_both_write_the_same_bytes(case, name):
    """Both writers agree for all heads, names and labels, also if requests share a run."""
    asked, outputs = case

    writer = Writer(name, "3", SIGNATURE)
    rows = len(next(iter(outputs.values())))
    run = Run(rows, 0.0, 0.0, outputs)
    first = rows // 2
    for start, end in ((0, first), (first, rows)) if first else ((0, rows),):
        part = Part(run, start, end)

        quick = writer.write(asked, part)

        assert quick.content == native.encode(asked, name, "3", SIGNATURE, part.outputs())
        assert quick[1:] == ("application/json", ())


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_row_of_nan_has_no_labels(rows):
    """The label of such a row is null, for heads with one label and with several."""
    names = ("risk", "100 %b", "tags")
    outputs = {name: np.zeros((rows, SIGNATURE.heads[name].tensor.size)) for name in names}
    for output in outputs.values():
        output[-1, -1] = np.nan
    asked = native.Query({}, names, True, [], [])
    part = Part(Run(rows, 0.0, 0.0, outputs), 0, rows)

    written = Writer("a", "3", SIGNATURE).write(asked, part).content

    assert written == native.encode(asked, "a", "3", SIGNATURE, outputs)
    assert [json.loads(written)["predictions"][-1][name]["label"] for name in names] == [None] * 3


@pytest.mark.parametrize("content", small.every().values(), ids=small.every())
def test_answers_of_models_are_written_the_same(content):
    """Both writers agree on all heads of all fixtures for rows of zeros."""
    model = Model.load(content)
    signature = model.signature
    zeros = {
        t.name: np.full((3, *(axis or 1 for axis in t.shape)), "", object)
        if t.dtype == "string"
        else np.zeros((3, *(axis or 1 for axis in t.shape)), t.dtype)
        for entry in signature.inputs.values()
        for t in entry.tensors
    }
    outputs = model.predict(zeros, signature.head_names)
    asked = native.Query(zeros, signature.head_names, by_row=True, imputed=[])

    run = Run(3, 0.0, 0.0, outputs)
    written = Writer("m", "1", signature).write(asked, Part(run, 0, 3)).content

    assert written == native.encode(asked, "m", "1", signature, outputs)
