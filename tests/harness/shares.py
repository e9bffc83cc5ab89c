"""The shares of a model's traffic, and versions that are worse than others, for tests."""

import itertools
import json

import numpy as np
from onnx import TensorProto, helper

from service.host.files import write_file
from tests.harness import small

F = TensorProto.FLOAT
# A place that the first version of `gathering` has, and a shorter one has not.
BEYOND = {"instances": [{"place": 5}]}
WITHIN = {"instances": [{"place": 1}]}


def share(models, name="m", shadow=None, **canary):
    """Write a file of shares: of a canary of these values, and of a shadow."""
    content = {
        **({"canary": {"version": "2", "share": 0.5, **canary}} if canary else {}),
        **({"shadow": shadow} if shadow else {}),
    }
    write_file(models / name / "traffic.json", json.dumps(content).encode())


def gathering(length):
    """Return a model that has an answer for the places below `length`: y = 10 * place."""
    return small.model(
        [helper.make_node("Gather", ["tens", "place"], ["y"])],
        [("place", TensorProto.INT64, ["n"])],
        [("y", F, ["n"])],
        {"tens": np.arange(length, dtype=np.float32) * 10},
    ).SerializeToString()


def repeating(times, width=1024):
    """Return a model that takes longer the more times it multiplies; its answer is always 0."""
    names = ["wide", *(f"step{number}" for number in range(times))]
    nodes = [helper.make_node("MatMul", ["x", "row"], ["wide"])]
    nodes += [
        helper.make_node("MatMul", [before, "square"], [after])
        for before, after in itertools.pairwise(names)
    ]
    nodes.append(helper.make_node("ReduceSum", [names[-1], "last"], ["y"], keepdims=1))
    constants = {
        "row": np.zeros((1, width), np.float32),
        "square": np.eye(width, dtype=np.float32),
        "last": np.array([1]),
    }
    shapes = [("x", F, ["n", 1])], [("y", F, ["n", 1])]
    return small.model(nodes, *shapes, constants).SerializeToString()
