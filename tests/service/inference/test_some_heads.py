"""Requests for some heads, which run only their sub-graph and get the same bits."""

import threading
import time

import numpy as np
import pytest
from onnx import helper, numpy_helper

from service.errors import CannotRun
from service.inference.model import Model
from service.inference.subgraphs import MOST
from tests.harness import small
from tests.harness.loading import I64, F, X, Y, built, floats, node


@pytest.fixture(scope="module")
def three():
    """Return the model of three inputs and four heads."""
    return Model.load(small.three())


@pytest.mark.parametrize(
    "heads",
    [
        pytest.param(["risk"], id="one"),
        pytest.param(["digits", "risk"], id="two, in another order"),
        pytest.param(["tags", "digits", "size", "risk"], id="all, in another order"),
    ],
)
def test_some_heads_are_bit_equal_to_all(three, rows, heads):
    """The outputs equal those of a run of all heads, in the requested order."""
    every = three.predict(rows, ["risk", "size", "digits", "tags"])

    some = three.predict(rows, heads)

    assert list(some) == heads
    assert all(some[head].tobytes() == every[head].tobytes() for head in heads)


def test_the_inputs_of_other_heads_may_be_absent(three, rows):
    """A head needs only the inputs of its sub-graph."""
    assert three.predict({"fruit": rows["fruit"]}, ["size"])["size"].tolist() == [[3], [7]]


def _two_branches(constants, *nodes, x=X):
    """Return a graph with a head `y` of `x`, and a head `other` of `z` by `nodes`."""
    return built(
        [node("Relu", ["x"], ["y"]), *nodes],
        (x, ("z", I64, ["batch", 1])),
        (Y, ("other", F, ["batch", 1])),
        constants,
    )


def test_a_branch_of_another_head_does_not_run():
    """A part of the graph that would fail, with an index out of range, does not run."""
    model = Model.load(
        _two_branches({"table": np.float32([7, 8])}, node("Gather", ["table", "z"], ["other"]))
    )
    arrays = {"x": floats([1, -1]), "z": np.array([[5]])}

    with pytest.raises(Exception, match="indices element out of data bounds"):
        model.predict(arrays, ["y", "other"])
    assert model.predict(arrays, ["y"])["y"].tolist() == [[1, 0]]
    assert model.predict({"z": np.array([[1]])}, ["other"])["other"].tolist() == [[8]]


def test_a_cheap_head_does_not_pay_for_a_dear_one():
    """A cheap head takes less than a tenth of the time of one with a hundred matrix products."""
    size = 256
    chain = [node("MatMul", [f"m{i}" if i else "wide", "w"], [f"m{i + 1}"]) for i in range(100)]
    model = Model.load(
        built(
            [
                node("MatMul", ["x", "spread"], ["wide"]),
                *chain,
                node("Relu", ["m100"], ["dear"]),
                node("Relu", ["x"], ["y"]),
            ],
            outputs=(Y, ("dear", F, ["batch", size])),
            constants={
                "spread": np.ones((2, size), np.float32),
                "w": np.eye(size, dtype=np.float32),
            },
        )
    )
    arrays = {"x": np.ones((64, 2), np.float32)}

    def seconds(heads):
        model.predict(arrays, heads)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            model.predict(arrays, heads)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds(["y"]) < 0.1 * seconds(["y", "dear"])


def test_an_input_that_is_left_out_of_a_node_joins_nothing():
    """Omitted inputs and outputs all have the empty name, and are unrelated."""
    model = Model.load(
        built(
            [
                node("Transpose", ["series"], ["steps"], perm=[1, 0, 2]),
                node("LSTM", ["steps", "W", "R"], ["", "last"], hidden_size=1),
                node("Squeeze", ["last", "first"], ["h"]),
                node("Clip", ["x", "", "most"], ["y"]),
            ],
            (X, ("series", F, ["batch", 3, 2])),
            (Y, ("h", F, ["batch", 1])),
            {
                "W": np.ones((1, 4, 2), np.float32),
                "R": np.ones((1, 4, 1), np.float32),
                "first": np.array([0]),
                "most": np.float32(1),
            },
        )
    )

    assert {head.name: head.inputs for head in model.signature.heads.values()} == {
        "y": ("x",),
        "h": ("series",),
    }
    assert model.predict({"x": floats([3, -3])}, ["y"])["y"].tolist() == [[1, -3]]


def test_initialisers_that_are_inputs_too_are_no_inputs():
    """Old exporters list every weight among the inputs."""
    model = Model.load(
        built(
            [node("Mul", ["x", "w"], ["y"]), node("Add", ["x", "w"], ["z"])],
            (X, ("w", F, [2])),
            (Y, ("z", F, ["batch", 2])),
            {"w": np.float32([2, 3])},
        )
    )

    assert list(model.signature.inputs) == ["x"]
    assert model.predict({"x": floats([1, 1])}, ["z"])["z"].tolist() == [[3, 4]]


def _branch(name, value):
    """Return a branch of an If that multiplies the outer `x` by `value`."""
    return helper.make_graph(
        [
            node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32(value))),
            node("Mul", ["x", "c"], ["taken"]),
        ],
        name,
        [],
        [helper.make_tensor_value_info("taken", F, ["batch", 2])],
    )


def test_a_graph_with_an_if_is_not_cut():
    """Branches use outer values by name, so all inputs are needed."""
    model = Model.load(
        built(
            [
                node("Relu", ["x"], ["y"]),
                node("ReduceSum", ["z", "all"], ["sum"], keepdims=0),
                node("Greater", ["sum", "zero"], ["any"]),
                node(
                    "If",
                    ["any"],
                    ["other"],
                    then_branch=_branch("then", 10),
                    else_branch=_branch("else", -1),
                ),
            ],
            (X, ("z", I64, ["batch", 1])),
            (Y, ("other", F, ["batch", 2])),
            {"zero": np.array(0), "all": np.array([0, 1])},
        )
    )
    arrays = {"x": floats([1, -2]), "z": np.array([[3]])}

    assert [head.inputs for head in model.signature.heads.values()] == [("x", "z"), ("x", "z")]
    assert model.predict(arrays, ["other"])["other"].tolist() == [[10, -20]]
    assert model.predict(arrays, ["y"])["y"].tolist() == [[1, 0]]


def _with_functions(overload=""):
    """Return a graph whose two heads use functions of the model, one of them a nested one."""
    opset = [helper.make_opsetid("", 18)]
    double = helper.make_function(
        "own", "Double", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opset
    )
    quadruple = helper.make_function(
        "own",
        "Quadruple",
        ["a"],
        ["b"],
        [node("Double", ["a"], ["c"], domain="own"), node("Double", ["c"], ["b"], domain="own")],
        [*opset, helper.make_opsetid("own", 1)],
    )
    model = small.model(
        [
            node("Double", ["x"], ["y"], domain="own"),
            node("Quadruple", ["x"], ["z"], domain="own"),
        ],
        [X],
        [Y, ("z", F, ["batch", 2])],
    )
    model.functions.extend([double, quadruple])
    model.opset_import.append(helper.make_opsetid("own", 1))
    if overload:
        model.ir_version = 10
        model.functions[1].overload = overload
        model.graph.node[1].overload = overload
    return model.SerializeToString()


@pytest.mark.parametrize(
    "overload", [pytest.param("", id="plain"), pytest.param("v2", id="overloaded")]
)
def test_functions_of_the_models_own_are_cut_along(overload):
    """A sub-graph keeps the functions that it uses, and those that they use."""
    model = Model.load(_with_functions(overload))

    answers = [model.predict({"x": floats([1, 2])}, [head])[head].tolist() for head in "yz"]

    assert answers == [[[2, 4]], [[4, 8]]]


def test_a_graph_with_sparse_initialisers_is_not_cut():
    """A graph that the cutting tool does not support is served whole."""
    graph = small.model(
        [node("MatMul", ["x", "w"], ["y"]), node("Relu", ["x"], ["z"])],
        [X],
        [Y, ("z", F, ["batch", 2])],
    )
    graph.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("w", F, [1], [3.0]), helper.make_tensor("at", I64, [1], [0]), [2, 2]
        )
    )
    model = Model.load(graph.SerializeToString())

    assert model.predict({"x": floats([1, -1])}, ["y"])["y"].tolist() == [[3, 0]]
    assert model.predict({"x": floats([1, -1])}, ["z"])["z"].tolist() == [[1, 0]]


def test_a_graph_with_quantisation_notes_is_not_cut():
    """Quantisation annotations belong to the whole graph."""
    graph = small.model(
        [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["z"])],
        [X],
        [Y, ("z", F, ["batch", 2])],
    )
    graph.graph.quantization_annotation.add(tensor_name="y")
    model = Model.load(graph.SerializeToString())

    assert model.predict({"x": floats([1, -1])}, ["z"])["z"].tolist() == [[-1, 1]]


def test_the_cuts_that_are_kept_are_bounded():
    """The number of sub-graphs is bounded: each holds weights, and there are 2^n sets of heads."""
    heads = [f"h{i}" for i in range(6)]
    model = Model.load(
        built(
            [node("Relu", ["x"], [head]) for head in heads],
            outputs=[(head, F, ["batch", 2]) for head in heads],
        )
    )

    for bits in range(1, 2 ** len(heads)):
        asked = [head for i, head in enumerate(heads) if bits >> i & 1]
        answers = model.predict({"x": floats([1, -2])}, asked)
        assert list(answers) == asked
        assert all(answer.tolist() == [[1, 0]] for answer in answers.values())

    assert len(model.subgraphs.kept) == MOST


def test_a_cut_is_made_once_whatever_the_order(rows):
    """The same heads in another order use the same sub-graph."""
    three = Model.load(small.three())
    before = three.subgraphs.kept

    three.predict(rows, ["digits", "tags"])
    three.predict(rows, ["tags", "digits"])

    assert three.subgraphs.kept - before == {frozenset({"digits", "tags"})}


def test_without_a_cut_the_whole_graph_answers(rows, monkeypatch):
    """The whole graph runs with zeros for absent inputs, on which no requested head depends."""
    three = Model.load(small.three())
    expected = three.predict({"fruit": rows["fruit"]}, ["size"])["size"]
    monkeypatch.setattr(three.subgraphs, "find", lambda _: None)

    outputs = three.predict({"fruit": rows["fruit"]}, ["size"])["size"]

    assert outputs.tobytes() == expected.tobytes()
    with pytest.raises(KeyError):
        # An input on which a requested head depends is never filled in.
        three.predict({"digit": rows["digit"]}, ["size"])


def test_a_graph_that_has_no_answer_to_zeros_is_cut_after_all(monkeypatch):
    """If the whole graph fails on zeros, a sub-graph answers the requested heads."""
    model = Model.load(
        built(
            [
                node("Relu", ["x"], ["y"]),
                node("Sub", ["place", "ten"], ["near"]),
                node("Gather", ["table", "near"], ["z"]),
            ],
            inputs=[X, ("place", I64, ["batch", 1])],
            outputs=[Y, ("z", F, ["batch", 1])],
            constants={"ten": np.int64([10]), "table": floats(1, 2, 3)},
        )
    )
    monkeypatch.setattr(model.subgraphs, "find", lambda _: None)

    before = model.subgraphs.kept
    for _ in range(3):
        assert model.predict({"x": floats([1, -2])}, ["y"])["y"].tolist() == [[1, 0]]
    assert len(model.subgraphs.kept | before) <= 2
    assert model.predict({"place": np.int64([[11]])}, ["z"])["z"].tolist() == [[2]]
    with pytest.raises(CannotRun):
        model.predict({"place": np.int64([[20]])}, ["z"])


def test_threads_get_the_answers_to_their_own_rows():
    """Eight threads use one new model at once, whole and in sub-graphs."""
    model = Model.load(small.three())
    wrong = []
    barrier = threading.Barrier(8)

    def ask(thread):
        barrier.wait()
        for turn in range(50):
            fruit = floats([thread, turn])
            heads = [["size"], ["size", "tags"]][turn % 2]
            size = model.predict({"fruit": fruit}, heads)["size"]
            if size.tolist() != [[thread + turn]]:
                wrong.append((thread, turn, size))

    threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
