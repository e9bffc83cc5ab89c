"""Normalization layers in training mode, which keep nothing of one request for the next."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from service.errors import ModelRefused
from service.inference.model import Model
from tests.harness.small import F, model

X, Y = ("x", F, ["n", 4]), ("y", F, ["n", 4])
ZEROS, ONES = np.zeros(4, np.float32), np.ones(4, np.float32)
CONSTANTS = {"scale": ONES, "bias": ZEROS, "mean": ZEROS, "variance": ONES}
GIVEN = ["scale", "bias", "mean", "variance"]
ADD_MEAN = helper.make_node("Add", ["normal", "mean"], ["y"])


def training(value="x", output="normal"):
    """Return a graph that normalizes a value and returns its running statistics as well."""
    return helper.make_node(
        "BatchNormalization", [value, *GIVEN], [output, "new_mean", "new_variance"], training_mode=1
    )


def in_function():
    """Return a graph whose normalization is the body of a function."""
    own = helper.make_node("Own", ["x", *GIVEN], ["normal"], domain="mine")
    graph = model([own, ADD_MEAN], [X], [Y], CONSTANTS)
    opsets = [helper.make_opsetid("", 18)]
    body = helper.make_function("mine", "Own", ["a", *GIVEN], ["b"], [training("a", "b")], opsets)
    graph.functions.add().CopyFrom(body)
    graph.opset_import.add().CopyFrom(helper.make_opsetid("mine", 1))
    return graph


def in_branch():
    """Return a graph whose normalization is one branch of an If that the rows choose."""
    sides = {
        f"{name}_branch": helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(name, F, None)]
        )
        for name, node in (
            ("then", training(output="then")),
            ("else", helper.make_node("Neg", ["x"], ["else"])),
        )
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["yes"], to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["normal"], **sides),
        ADD_MEAN,
    ]
    return model(nodes, [X], [Y], CONSTANTS)


def of_constant_node():
    """Return a graph in which a node computes the mean."""
    node = helper.make_node("Constant", [], ["mean"], value=numpy_helper.from_array(ZEROS))
    rest = {name: value for name, value in CONSTANTS.items() if name != "mean"}
    return model([node, training(), ADD_MEAN], [X], [Y], rest)


def of_another_name():
    """Return a graph whose mean is a constant under another name."""
    node = helper.make_node("Identity", ["kept"], ["mean"])
    rest = {name: value for name, value in CONSTANTS.items() if name != "mean"}
    add = helper.make_node("Add", ["normal", "kept"], ["y"])
    return model([node, training(), add], [X], [Y], {**rest, "kept": ZEROS})


def read_in_a_branch():
    """Return a graph in which a branch reads the updated mean."""
    side = helper.make_node("Add", ["normal", "new_mean"], ["sum"])
    sides = {
        f"{name}_branch": helper.make_graph(
            [side], name, [], [helper.make_tensor_value_info("sum", F, None)]
        )
        for name in ("then", "else")
    }
    nodes = [training(), helper.make_node("If", ["yes"], ["y"], **sides)]
    return model(nodes, [X], [Y], {**CONSTANTS, "yes": np.array(True)})


REFUSED = [in_function, in_branch, of_constant_node, of_another_name, read_in_a_branch]


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_statistics_that_cannot_be_set_apart_are_refused(make):
    """Otherwise each run would change later answers, and mix the rows of clients."""
    with pytest.raises(ModelRefused, match="in training mode"):
        Model.load(make().SerializeToString())


def test_old_operator_sets_train_without_an_attribute():
    """Before the attribute existed, requesting the statistics meant training mode."""
    outputs = ["normal", "new_mean", "new_variance", "saved_mean", "saved_variance"]
    node = helper.make_node("BatchNormalization", ["x", *GIVEN], outputs)
    graph = model([node, ADD_MEAN], [X], [Y], CONSTANTS)
    graph.opset_import[0].version = 9
    loaded = Model.load(graph.SerializeToString())
    rows = {"x": np.arange(16, dtype=np.float32).reshape(4, 4)}

    first = loaded.predict(rows, ["y"])["y"]
    loaded.predict({"x": rows["x"] * 1e3}, ["y"])
    again = loaded.predict(rows, ["y"])["y"]

    assert loaded.batching.mode == "joint"
    assert again.tobytes() == first.tobytes()
