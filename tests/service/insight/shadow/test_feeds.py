"""Tests of the inputs that a candidate gets from the arrays of a request."""

from __future__ import annotations

import numpy as np
import pytest

from service.insight.shadow.feeds import Feeds
from service.signature import Feature, Head, Input, Signature, Tensor, tabular


def table(*features: Feature, dtype: str = "float32", name: str = "in") -> Input:
    """Return a tabular input."""
    return tabular(name, features, dtype)


def picture(*shape: int | None, dtype: str = "float32") -> Input:
    """Return an input of one tensor."""
    return Input("picture", "tensor", (Tensor("picture", dtype, shape),))


def signature(*inputs: Input) -> Signature:
    """Return the signature of a model whose only head reads all inputs."""
    names = tuple(entry.name for entry in inputs)
    head = Head("out", "regression", Tensor("out", "float32", (1,)), inputs=names)
    return Signature({entry.name: entry for entry in inputs}, {"out": head})


A, B, C = Feature("a", ""), Feature("b", ""), Feature("c", "", default=7)
TEXT = Feature("t", "", default="x", vocabulary=("x", "y"))
ROWS = {
    "in": np.array([[1, 2], [3, 4]], np.float32),
    "in.t": np.array([["y"], ["z"]], object),
    "picture": np.zeros((2, 3), np.float32),
}


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        pytest.param(table(A, B), {"in": [[1, 2], [3, 4]]}, id="the same"),
        pytest.param(table(B, A), {"in": [[2, 1], [4, 3]]}, id="in another order"),
        pytest.param(table(B), {"in": [[2], [4]]}, id="fewer"),
        pytest.param(table(A, C, B), {"in": [[1, 7, 2], [3, 7, 4]]}, id="one with a default"),
        pytest.param(table(A, B, dtype="float64"), {"in": [[1, 2], [3, 4]]}, id="another dtype"),
        pytest.param(table(TEXT), {"in.t": [["y"], ["z"]]}, id="texts"),
        pytest.param(table(C, name="new"), {"new": [[7], [7]]}, id="a new input of defaults"),
        pytest.param(picture(None), {"picture": [[0, 0, 0]] * 2}, id="any length"),
    ],
)
def test_inputs_are_made_by_name(candidate, expected):
    """Features are taken by their names, and those that are new have their defaults."""
    feeds = Feeds(signature(table(A, B, TEXT), picture(3)), signature(candidate))

    assert feeds.why_not("out") == ""
    assert feeds.can("out", ROWS)
    made = feeds.of(ROWS, ("out",), 2)
    assert {name: array.tolist() for name, array in made.items()} == expected
    dtypes = {tensor.name: tensor.dtype.replace("string", "object") for tensor in candidate.tensors}
    assert {name: str(array.dtype) for name, array in made.items()} == dtypes


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        pytest.param(picture(4), "is float32[4], and float32[3] in the", id="another shape"),
        pytest.param(picture(1, 3), "is float32[1 x 3], and float32[3]", id="other axes"),
        pytest.param(picture(3, dtype="int64"), "is int64[3], and float32[3]", id="a dtype"),
        pytest.param(table(A, Feature("new", "")), "the feature 'in.new', which only it", id="new"),
        pytest.param(table(Feature("t", "")), "'in.t' is of another kind", id="a kind"),
        pytest.param(
            Input("other", "tensor", (Tensor("other", "float32", (1,)),)),
            "the input 'other', which only it has",
            id="an input",
        ),
    ],
)
def test_an_input_that_cannot_be_made_has_a_reason(candidate, reason):
    """Its heads are not compared."""
    feeds = Feeds(signature(table(A, B, TEXT), picture(3)), signature(candidate))

    assert reason in feeds.why_not("out")


def test_a_request_without_an_input_does_not_suffice():
    """A request for other heads need not have it."""
    feeds = Feeds(signature(table(A, B), picture(3)), signature(table(A), picture(3)))

    assert feeds.can("out", ["in", "picture"])
    assert not feeds.can("out", ["in"])
