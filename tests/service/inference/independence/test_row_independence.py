"""The batch axis, followed through whole graphs: branches, functions and computed shapes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from service.inference.independence import trial
from service.inference.independence.proof import NoProof, prove
from service.inference.model import Model
from tests.harness import small
from tests.harness.small import F, model

X, Y = ("x", F, ["n", 4]), ("y", F, ["n", 4])
MINE = helper.make_opsetid("mine", 1)


def branch(name, op, **attributes):
    """Return one branch of an If, over the tensors around it."""
    node = helper.make_node(op, ["x"], [name], **attributes)
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, F, None)])


def chosen(condition, other="Tanh", **attributes):
    """Return an If that chooses between two operators."""
    branches = {
        "then_branch": branch("one", "Relu"),
        "else_branch": branch("two", other, **attributes),
    }
    return helper.make_node("If", [condition], ["y"], **branches)


def with_function(*nodes):
    """Return a graph of one function, made of `nodes` from a to b."""
    graph = model([helper.make_node("Own", ["x"], ["y"], domain="mine")], [X], [Y])
    opsets = [helper.make_opsetid("", 18)]
    graph.functions.add().CopyFrom(helper.make_function("mine", "Own", ["a"], ["b"], nodes, opsets))
    graph.opset_import.add().CopyFrom(MINE)
    return graph


def refusal(graph):
    """Return the reason why there is no proof, and whether rows are known to mix."""
    with pytest.raises(NoProof) as raised:
        prove(graph)
    return str(raised.value), raised.value.mixes


def test_branches_are_followed_where_no_row_chooses():
    """A constant may choose a branch; a row may not, since it would choose for all rows."""
    constant = model([chosen("yes")], [X], [Y], {"yes": np.array(True)})
    most = helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0)
    truth = helper.make_node("Cast", ["most"], ["yes"], to=onnx.TensorProto.BOOL)
    by_rows = model([most, truth, chosen("yes")], [X], [Y])
    mixed = model([chosen("yes", "Softmax", axis=0)], [X], [Y], {"yes": np.array(True)})

    assert prove(constant) == 3
    assert refusal(by_rows)[1]
    assert refusal(mixed) == ("Softmax 'two' works along axis 0, the batch axis", True)


def test_functions_of_the_model_are_followed():
    """A function is judged by its nodes, not by its name."""
    good = with_function(helper.make_node("Relu", ["a"], ["b"]))
    mixed = with_function(helper.make_node("Softmax", ["a"], ["b"], axis=0))

    assert prove(good) == 2
    assert refusal(mixed) == ("Softmax 'b' works along axis 0, the batch axis", True)


def test_an_axis_of_the_same_name_as_the_batch_is_as_long():
    """A tensor of rows by rows cannot be cut into rows."""
    square = model([helper.make_node("Relu", ["x"], ["y"])], [("x", F, ["n", "n"])], [Y])

    assert refusal(square) == ("axis 1 of input 'x' is as long as the batch", True)


def test_a_lower_rank_meets_the_batch_with_another_axis():
    """In [n] + [n, 4], each row adds the first values of other rows."""
    inputs = [X, ("z", F, ["n"])]
    graph = model([helper.make_node("Add", ["x", "z"], ["y"])], inputs, [Y])

    assert refusal(graph)[1]


@pytest.mark.parametrize("op", ["RandomNormalLike", "RandomUniformLike", "Bernoulli"])
def test_a_graph_with_random_numbers_runs_alone(op):
    """A graph with random numbers runs alone, since its outputs cannot be compared."""
    batching = Model.load(
        model([helper.make_node(op, ["x"], ["y"])], [X], [Y]).SerializeToString()
    ).batching

    assert (batching.mode, batching.evidence) == ("joint", "operators")
    assert batching.reason == f"{op} 'y' draws at random"


def test_the_number_of_rows_is_no_number_to_compute_with():
    """A value that is divided by the number of rows depends on the other rows."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["count"], to=F),
        helper.make_node("Div", ["x", "count"], ["y"]),
    ]

    reason, mixes = refusal(model(nodes, [X], [Y], {"zero": np.array(0)}))

    assert (reason, mixes) == ("Div 'y' computes with the number of rows", True)


@pytest.mark.parametrize(
    ("end", "whole"),
    [(2**63 - 1, True), (2**31 - 1, True), (10**9, True), (10**9 - 1, False), (2, False)],
)
def test_an_end_past_every_batch_takes_all_rows(end, whole):
    """A slice may end at 10^9, which tf2onnx writes on every axis for an absent end."""
    constants = {
        "starts": np.array([0, 1]),
        "ends": np.array([end, 3]),
        "axes": np.array([0, 1]),
    }
    nodes = [helper.make_node("Slice", ["x", "starts", "ends", "axes"], ["y"])]
    graph = model(nodes, [X], [("y", F, ["n", 2])], constants)

    if whole:
        assert prove(graph) == 1
    else:
        assert refusal(graph) == ("Slice 'y' takes only some of the rows", True)


def test_a_cut_that_answers_otherwise_than_its_trial_is_not_used(monkeypatch):
    """The whole graph runs instead of a sub-graph whose outputs differ."""
    monkeypatch.setattr("service.inference.independence.proof.prove", _no_proof)
    model_ = Model.load(small.three())
    assert (model_.batching.mode, model_.batching.evidence) == ("rows", "trial")
    rows = {"fruit": np.float32([[1, 2], [3, 4]])}

    trusted = model_.predict(rows, ["size"])
    monkeypatch.setattr(trial, "differs", lambda *_: "tags")
    distrusted = model_.predict(rows, ["tags"])

    assert trusted["size"].ravel().tolist() == [3.0, 7.0]
    assert distrusted["tags"].shape == (2, 2)
    assert frozenset({"size"}) in model_.subgraphs.kept
    assert frozenset({"tags"}) not in model_.subgraphs.kept


def _no_proof(graph):
    raise NoProof("nothing is known", mixes=False)


def test_statistics_that_training_overwrites_are_no_heads():
    """The head is refused, since every run would change the next one's answer."""
    node = helper.make_node(
        "BatchNormalization", ["x", "s", "s", "m", "v"], ["a", "mean", "b"], training_mode=1
    )
    graph = model(
        [node, helper.make_node("Sub", ["x", "mean"], ["y"])],
        [X],
        [Y],
        {name: np.ones(4, np.float32) for name in "smv"},
    )

    with pytest.raises(Exception, match="running statistics 'mean' are used"):
        Model.load(graph.SerializeToString())
