"""The normal form of converted graphs, which does not depend on names that tf2onnx chose."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from training.graph import tidy

FLOAT = TensorProto.FLOAT


def _value(name, *shape):
    """Return the declaration of a tensor."""
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _constant(name, *values):
    """Return a constant with this name."""
    return numpy_helper.from_array(np.array(values, np.float32), name)


def _model(nodes, inputs, outputs, constants=()):
    """Return a model of these nodes."""
    graph = helper.make_graph(nodes, "made today", inputs, outputs, constants, doc_string="today")
    opsets = [helper.make_opsetid("ai.onnx.ml", 2), helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, producer_version="7 of today")


def _two_heads(number, *, swapped=False):
    """Return (a + c0, a * c1), with numbered names and the nodes in one order or the other."""
    nodes = [
        helper.make_node("Add", ["in0", f"c__{number}"], ["out0"], f"add__{number}"),
        helper.make_node("Mul", ["in0", f"d__{number}"], ["out1"], f"mul__{number}"),
    ]
    constants = [_constant(f"c__{number}", 1, 2), _constant(f"d__{number}", 3, 4)]
    unused = _constant(f"nobody__{number}", 5)
    turn = -1 if swapped else 1
    return _model(
        nodes[::turn],
        [_value("in0", f"unk__{number}", 2)],
        [_value("out0", f"unk__{number}1", 2), _value("out1", f"unk__{number}2", 2)][::turn],
        [*constants[::turn], unused],
    )


def test_names_and_order_follow_from_the_graph_alone():
    """Numbered names, the order of nodes and constants, and unused values leave no trace."""
    names = {"in0": "age"}, {"out1": "second", "out0": "first"}

    tidied = [
        tidy(_two_heads(7), "small", *names).SerializeToString(),
        tidy(_two_heads(99, swapped=True), "small", *names).SerializeToString(),
    ]

    assert tidied[0] == tidied[1]
    graph = onnx.load_from_string(tidied[0]).graph
    assert graph.name == "small"
    assert [value.name for value in graph.output] == ["second", "first"]
    assert [node.op_type for node in graph.node] == ["Mul", "Add"]
    assert len(graph.initializer) == 2


def test_all_edges_share_one_batch_axis():
    """The first axis of every input and output is `batch`; a later free axis has its own name."""
    model = _model(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [_value("a", "unk__1", "unk__2", 3), _value("b", "unk__3", "unk__4", 3)],
        [_value("y", "unk__5", "unk__6", 3)],
    )

    graph = tidy(model, "small", {"a": "p", "b": "q"}, {"y": "r"}).graph

    assert [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    ] == [["batch", "p_1", 3], ["batch", "q_1", 3], ["batch", "r_1", 3]]


def test_traces_of_the_conversion_are_removed():
    """Documentation strings, versions and the order of a set of domains are removed."""
    model = tidy(_two_heads(1), "small", {"in0": "a"}, {"out0": "x", "out1": "y"})

    assert (model.producer_name, model.producer_version, model.doc_string) == ("triceps", "", "")
    assert model.graph.doc_string == ""
    assert [opset.domain for opset in model.opset_import] == ["", "ai.onnx.ml"]


def test_a_name_that_is_taken_inside_gives_way():
    """An input may have the name of a value inside the graph."""
    model = _model(
        [
            helper.make_node("Neg", ["in0"], ["age"]),
            helper.make_node("Add", ["age", "age"], ["out0"]),
        ],
        [_value("in0", None, 1)],
        [_value("out0", None, 1)],
    )

    graph = tidy(model, "small", {"in0": "age"}, {"out0": "y"}).graph

    assert [(list(node.input), list(node.output)) for node in graph.node] == [
        (["age"], ["Neg_0"]),
        (["Neg_0", "Neg_0"], ["y"]),
    ]


def _conditional(number):
    """Return an If whose branches read an outer value and have names of their own."""
    inner = f"inner__{number}"
    branches = {
        name: helper.make_graph(
            [
                helper.make_node(kind, [f"half__{number}", f"k__{number}"], [inner]),
                helper.make_node("Neg", [inner], [f"{name}__{number}"]),
            ],
            f"{name} of {number}",
            [],
            [_value(f"{name}__{number}", None, 1)],
            [_constant(f"k__{number}", 2)],
        )
        for name, kind in (("then", "Add"), ("else", "Mul"))
    }
    return _model(
        [
            helper.make_node("Identity", ["in0"], [f"half__{number}"]),
            helper.make_node("ReduceMax", ["in0"], [f"top__{number}"], keepdims=0),
            helper.make_node("Cast", [f"top__{number}"], [f"is__{number}"], to=TensorProto.BOOL),
            helper.make_node(
                "If",
                [f"is__{number}"],
                ["out0"],
                then_branch=branches["then"],
                else_branch=branches["else"],
            ),
        ],
        [_value("in0", None, 1)],
        [_value("out0", None, 1)],
    )


def test_branches_are_renamed_with_the_graph():
    """Names inside the branches of an If change as well, and the graph computes the same."""
    onnxruntime = pytest.importorskip("onnxruntime")

    tidied = [
        tidy(_conditional(number), "small", {"in0": "a"}, {"out0": "y"}).SerializeToString()
        for number in (3, 44)
    ]

    assert tidied[0] == tidied[1]
    onnx.checker.check_model(onnx.load_from_string(tidied[0]))
    session = onnxruntime.InferenceSession(tidied[0], providers=["CPUExecutionProvider"])
    for value, expected in ((3.0, -5.0), (0.0, 0.0)):
        [answer] = session.run(["y"], {"a": np.array([[value]], np.float32)})
        assert answer.tolist() == [[expected]]


def test_optional_inputs_and_further_outputs_keep_their_places():
    """An omitted input stays omitted, and a second output gets a name of its own."""
    model = _model(
        [
            helper.make_node("Clip", ["in0", "", "c"], ["clipped"]),
            helper.make_node("Split", ["clipped"], ["s__1", "s__2"], axis=1, num_outputs=2),
            helper.make_node("Add", ["s__1", "s__2"], ["out0"]),
        ],
        [_value("in0", None, 2)],
        [_value("out0", None, 1)],
        [numpy_helper.from_array(np.float32(5), "c")],
    )

    nodes = tidy(model, "small", {"in0": "a"}, {"out0": "y"}).graph.node

    assert list(nodes[0].input) == ["a", "", "constant_0"]
    assert list(nodes[1].output) == ["Split_1", "Split_1_1"]


def test_a_table_of_texts_is_in_the_order_of_its_numbers():
    """The table of a look-up comes out of a hash table and is sorted."""

    def look_up(texts, numbers):
        node = helper.make_node(
            "CategoryMapper",
            ["in0"],
            ["out0"],
            domain="ai.onnx.ml",
            cats_strings=texts,
            cats_int64s=numbers,
            default_int64=0,
        )
        model = _model([node], [_value("in0", None, 1)], [_value("out0", None, 1)])
        return tidy(model, "small", {"in0": "a"}, {"out0": "y"}).SerializeToString()

    assert look_up(["b", "a", "c"], [2, 1, 3]) == look_up(["c", "b", "a"], [3, 2, 1])


def test_a_deep_graph_is_no_trouble():
    """A chain of thousands of nodes is traversed without recursion."""
    names = ["in0", *(f"v__{n}" for n in range(2999)), "out0"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    model = _model(nodes[::-1], [_value("in0", None, 1)], [_value("out0", None, 1)])

    assert len(tidy(model, "deep", {"in0": "a"}, {"out0": "y"}).graph.node) == 3000
