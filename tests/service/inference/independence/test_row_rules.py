"""Graphs that seem to keep rows apart and do not.

Each was once taken for proven. A test first shows with ONNX Runtime that a row depends on others.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.inference.independence.proof import NoProof, prove
from service.inference.model import Model
from tests.harness.small import F, model

X, Y = ("x", F, ["n", 4]), ("y", F, ["n", 4])
I64 = TensorProto.INT64
ONE = numpy_helper.from_array(np.float32([1]))
node = helper.make_node
COUNTED = node("Shape", ["x"], ["rows"], end=1)
MINUS, TWO, THREE = np.array([-1]), np.float32([2]), np.float32([3])


def chosen(number):
    """Return each value times 2 or 3, a factor computed from the number of rows."""
    return [
        COUNTED,
        *number,
        node("Where", ["yes", "two", "three"], ["times"]),
        node("Mul", ["x", "times"], ["y"]),
    ]


def along(axis):
    """Return each value less the largest along a transposed axis."""
    return [
        *axis,
        node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        node("ReduceMax", ["turned", "axis"], ["most"], keepdims=1),
        node("Sub", ["turned", "most"], ["less"]),
        node("Transpose", ["less"], ["y"], perm=[1, 0]),
    ]


def negative():
    """Return a graph in which a length times -1 is -1 for one row only."""
    nodes = chosen([node("Mul", ["rows", "m"], ["k"]), node("Equal", ["k", "m"], ["yes"])])
    return model(nodes, [X], [Y], {"m": MINUS, "two": TWO, "three": THREE})


def squared():
    """Return all rows times all rows, so that each row has as many values as there are rows."""
    nodes = [
        COUNTED,
        node("Mul", ["rows", "rows"], ["many"]),
        node("ConstantOfShape", ["many"], ["ones"], value=ONE),
        node("Concat", ["rows", "m"], ["square"], axis=0),
        node("Reshape", ["ones", "square"], ["squared"]),
        node("ReduceSum", ["squared", "last"], ["times"], keepdims=1),
        node("Mul", ["x", "times"], ["y"]),
    ]
    return model(nodes, [X], [Y], {"m": MINUS, "last": np.array([1])})


def branched():
    """Return the number of rows out of a branch."""
    sides = {
        f"{side}_branch": helper.make_graph(
            [node("Identity", ["rows"], [side])],
            side,
            [],
            [helper.make_tensor_value_info(side, I64, [1])],
        )
        for side in ("then", "else")
    }
    nodes = [
        COUNTED,
        node("If", ["yes"], ["count"], **sides),
        node("Cast", ["count"], ["times"], to=F),
        node("Mul", ["x", "times"], ["y"]),
    ]
    return model(nodes, [X], [Y], {"yes": np.array(True)})


def squeezed():
    """Return a Squeeze with an empty list of axes, which removes all axes of length 1.

    With one row, the batch axis is one of them.
    """
    nodes = [
        node("Squeeze", ["x", "none"], ["squeezed"]),
        node("Add", ["squeezed", "nought"], ["added"]),
        node("ReduceMax", ["added", "one"], ["most"], keepdims=1),
        node("Sub", ["added", "most"], ["less"]),
        node("Reshape", ["less", "flat"], ["y"]),
    ]
    constants = {"none": np.zeros(0, np.int64), "nought": np.zeros((1, 1, 4), np.float32)}
    more = {"one": np.array([1]), "flat": np.array([-1, 4])}
    return model(nodes, [("x", F, ["n", 1, 4])], [Y], constants | more)


def halved():
    """Return an axis that is computed as 1 / 2 * 2 in floats."""
    nodes = [
        node("Cast", ["one"], ["a"], to=F),
        node("Cast", ["two"], ["b"], to=F),
        node("Div", ["a", "b"], ["half"]),
        node("Mul", ["half", "b"], ["whole"]),
        node("Cast", ["whole"], ["axis"], to=I64),
    ]
    return model(along(nodes), [X], [Y], {"one": np.array([1]), "two": np.array([2])})


def rounded():
    """Return an axis that is computed as 0.7 * 10 - 6, which float32 rounds up."""
    nodes = [
        node("Mul", ["a", "b"], ["seven"]),
        node("Cast", ["seven"], ["whole"], to=I64),
        node("Sub", ["whole", "six"], ["axis"]),
    ]
    constants = {"a": np.float32([0.7]), "b": np.float32([10]), "six": np.array([6])}
    return model(along(nodes), [X], [Y], constants)


def cut_off():
    """Return an axis that is computed as 1 - (255 + 2) / 257, where a byte holds 1 for the sum."""
    nodes = [
        node("Add", ["a", "b"], ["byte"]),
        node("Cast", ["byte"], ["number"], to=I64),
        node("Div", ["number", "by"], ["other"]),
    ]
    nodes = [*nodes, node("Sub", ["one", "other"], ["axis"])]
    constants = {"a": np.uint8([255]), "b": np.uint8([2]), "by": np.array([257])}
    return model(along(nodes), [X], [Y], constants | {"one": np.array([1])})


def no_product():
    """Return a product over no axes, which keeps all its values."""
    nodes = [
        node("ReduceProd", ["ones"], ["kept"], noop_with_empty_axes=1),
        node("Shape", ["kept"], ["two"]),
        node("Sub", ["two", "one"], ["axis"]),
    ]
    return model(along(nodes), [X], [Y], {"ones": np.array([1, 1]), "one": np.array([1])})


def clamped():
    """Return a slice backwards from before the first value, which includes that value."""
    nodes = [
        node("Slice", ["list", "start", "end", "first", "back"], ["lead"]),
        node("Concat", ["lead", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["shaped"]),
        node("Softmax", ["shaped"], ["soft"], axis=1),
        node("Reshape", ["soft", "flat"], ["y"]),
    ]
    constants = {"list": np.array([1, 2]), "start": np.array([-100]), "end": np.array([-200])}
    more = {"first": np.array([0]), "back": MINUS, "rest": np.array([-1, 4])}
    return model(nodes, [X], [Y], constants | more | {"flat": np.array([-1, 4])})


def upright(softmax):
    """Return a softmax over transposed columns, transposed back."""
    return [
        node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        softmax,
        node("Transpose", ["soft"], ["y"], perm=[1, 0]),
    ]


def imported(*opsets):
    """Return the operator sets as a graph names them."""
    return [helper.make_opsetid(*each) for each in opsets]


def renamed():
    """Return a graph with two names and versions of one domain.

    One version's softmax is over all axes, the other's over one.
    """
    graph = model(upright(node("Softmax", ["turned"], ["soft"], axis=0)), [X], [Y])
    del graph.opset_import[:]
    graph.opset_import.extend(imported(("", 13), ("ai.onnx", 11)))
    return graph


def older():
    """Return a function of a newer operator set than the model's, which ONNX Runtime ignores."""
    graph = model(upright(node("Own", ["turned"], ["soft"], domain="mine")), [X], [Y])
    del graph.opset_import[:]
    graph.opset_import.extend(imported(("", 11), ("mine", 1)))
    body = [node("Softmax", ["a"], ["b"], axis=0)]
    graph.functions.append(
        helper.make_function("mine", "Own", ["a"], ["b"], body, imported(("", 13)))
    )
    return graph


def shadowed():
    """Return a function with the name of an operator, which runs instead of it."""
    graph = model([node("Softmax", ["x"], ["y"], axis=0)], [X], [Y])
    body = [node("Identity", ["a"], ["b"])]
    opsets = imported(("", 18))
    graph.functions.append(helper.make_function("", "Softmax", ["a"], ["b"], body, opsets))
    return graph


def interpolated(mode, wide):
    """Return pictures without channels, whose rows are a height or depth that is scaled by 1."""
    scales = np.float32([1] * len(wide) + [2])
    shape = ["n", *wide]
    doubled = [*shape[:-1], 2 * wide[-1]]
    nodes = [node("Resize", ["x", "", "scales"], ["y"], mode=mode)]
    return model(nodes, [("x", F, shape)], [("y", F, doubled)], {"scales": scales})


GRAPHS = [
    *(negative, squared, branched, squeezed, halved, rounded, cut_off, no_product, clamped),
    *(renamed, older, shadowed),
    *(pytest.param(lambda: interpolated("linear", [4]), id="a height"),),
    *(pytest.param(lambda: interpolated("cubic", [4]), id="a cubic height"),),
    *(pytest.param(lambda: interpolated("linear", [3, 4]), id="a depth"),),
]


@pytest.mark.parametrize("make", GRAPHS)
def test_a_model_whose_rows_mix_joins_no_requests(make):
    """The row has another answer alone, so requests to its model are not joined."""
    model = make().SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shape = [3, *session.get_inputs()[0].shape[1:]]
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    beside = np.where(np.arange(3).reshape(3, *(1 for _ in shape[1:])) == 1, np.nan, rows)

    [alone] = session.run(None, {"x": rows[:1]})
    together = [session.run(None, {"x": each})[0] for each in (rows, beside.astype(np.float32))]

    assert not all(np.allclose(alone[0], each[0]) for each in together)
    assert Model.load(model).batching.mode == "joint"


def test_a_zero_point_for_each_column_is_none_for_each_row():
    """With rows as columns, the number of rows would have to be that of the zero points."""
    nodes = [
        node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        node("MatMulInteger", ["w", "turned", "zero", "points"], ["z"]),
        node("Transpose", ["z"], ["y"], perm=[1, 0]),
    ]
    constants = {
        "w": np.ones((2, 4), np.uint8),
        "zero": np.uint8(0),
        "points": np.uint8([0, 1, 2, 3]),
    }
    inputs, outputs = [("x", TensorProto.UINT8, ["n", 4])], [("y", TensorProto.INT32, ["n", 2])]

    graph = model(nodes, inputs, outputs, constants)

    assert Model.load(graph.SerializeToString()).batching.mode == "joint"


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_pictures_of_channels_are_interpolated_row_by_row(mode):
    """Pictures with channels keep rows apart, as in every object detector."""
    scales = {"scales": np.float32([1, 1, 2, 2])}
    nodes = [node("Resize", ["x", "", "scales"], ["y"], mode=mode)]
    graph = model(nodes, [("x", F, ["n", 2, 4, 4])], [("y", F, ["n", 2, 8, 8])], scales)

    batching = Model.load(graph.SerializeToString()).batching

    assert (batching.mode, batching.evidence) == ("rows", "operators")


@pytest.mark.parametrize(("op", "number"), [("Equal", 0), ("Max", 1)])
def test_an_axis_that_may_be_empty_proves_no_choice(op, number):
    """A free axis may have length 0, whereas there is at least one row."""

    def chosen_by(length):
        looked = {
            "Equal": [node("Equal", ["k", "number"], ["yes"])],
            "Max": [
                node("Max", ["k", "number"], ["longer"]),
                node("Equal", ["k", "longer"], ["yes"]),
            ],
        }[op]
        nodes = [length, *looked, node("Where", ["yes", "one", "zero"], ["axis"]), *along([])]
        constants = {"number": np.array([number]), "zero": np.array([0]), "one": np.array([1])}
        return model(nodes, [X, ("free", F, ["n", "k"])], [Y], constants)

    with pytest.raises(NoProof):
        prove(chosen_by(node("Shape", ["free"], ["k"], start=1)))
    if op == "Equal":
        assert prove(chosen_by(node("Shape", ["free"], ["k"], end=1)))
