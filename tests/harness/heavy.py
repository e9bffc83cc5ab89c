"""Models with enough weights to be prepared, and a service that prepares models of that size."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.harness import small

F = TensorProto.FLOAT
FEATURES = 16
WIDTH = 64
# In bytes: below the weights of these models.
LEAST = 2**14
# A service that prepares them.
PROGRAM = (
    "from service.repository import preparation; "
    f"preparation.LEAST_BYTES = {LEAST}; "
    "from service.commands.main import main; main()"
)


def graph(seed: int = 0, heads: int = 1, width: int = WIDTH) -> onnx.ModelProto:
    """Return a model of dense layers that takes x [rows, 16] and has heads y0, y1, … [rows, 4]."""
    generator = np.random.default_rng(seed)
    constants, nodes, last, size = {}, [], "x", FEATURES
    for layer in range(3):
        constants[f"w{layer}"] = generator.standard_normal((size, width)).astype("f4")
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"]))
        last, size = f"r{layer}", width
    for head in range(heads):
        constants[f"h{head}"] = generator.standard_normal((size, 4)).astype("f4")
        nodes.append(helper.make_node("MatMul", [last, f"h{head}"], [f"y{head}"]))
    outputs = [(f"y{head}", F, ["rows", 4]) for head in range(heads)]
    return small.model(nodes, [("x", F, ["rows", FEATURES])], outputs, constants)


def dense(seed: int = 0, heads: int = 1, width: int = WIDTH) -> bytes:
    """Return the bytes of `graph`."""
    return graph(seed, heads, width).SerializeToString()


def picture(channels: int = 32) -> bytes:
    """Return a model of convolutions, which ONNX Runtime fuses and rearranges."""
    generator = np.random.default_rng(0)
    constants, nodes, last = {}, [], "x"
    for layer, before in enumerate((3, channels, channels)):
        constants[f"w{layer}"] = generator.standard_normal((channels, before, 3, 3)).astype("f4")
        statistics = {
            f"{name}{layer}": generator.random(channels).astype("f4") + 0.5
            for name in ("scale", "bias", "mean", "variance")
        }
        constants |= statistics
        nodes += [
            helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{layer}", *statistics], [f"n{layer}"]),
            helper.make_node("Relu", [f"n{layer}"], [f"r{layer}"]),
        ]
        last = f"r{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["y"]))
    return small.model(
        nodes, [("x", F, ["rows", 3, 8, 8])], [("y", F, ["rows", channels])], constants
    ).SerializeToString()


def training() -> bytes:
    """Return a model with a normalization in training mode, which is rewritten at the load."""
    made = graph()
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    for name, value in (("scale", ones), ("bias", zeros), ("mean", zeros), ("variance", ones)):
        made.graph.initializer.append(numpy_helper.from_array(value, name))
    made.graph.node[-1].output[0] = "before"
    made.graph.node.append(
        helper.make_node(
            "BatchNormalization",
            ["before", "scale", "bias", "mean", "variance"],
            ["y0", "running_mean", "running_variance"],
            training_mode=1,
        )
    )
    return made.SerializeToString()


def dividing() -> bytes:
    """Return a model with a division of integers, which is rewritten at the load."""
    made = graph()
    made.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, ["rows", 1]))
    made.graph.initializer.append(numpy_helper.from_array(np.array([[1]]), "one"))
    made.graph.output.append(helper.make_tensor_value_info("q", TensorProto.INT64, ["rows", 1]))
    made.graph.node.append(helper.make_node("Add", ["n", "one"], ["by"]))
    made.graph.node.append(helper.make_node("Div", ["n", "by"], ["q"]))
    return made.SerializeToString()


def constants() -> bytes:
    """Return a model whose weights are constants, which are nodes and no initializers."""
    made = graph()
    for weights in made.graph.initializer:
        made.graph.node.insert(0, helper.make_node("Constant", [], [weights.name], value=weights))
    del made.graph.initializer[:]
    return made.SerializeToString()


def half() -> bytes:
    """Return a model of float16 weights, which are multiplied as float32."""
    made = graph(width=2 * WIDTH)
    for weights in made.graph.initializer:
        narrow = numpy_helper.to_array(weights).astype(np.float16)
        weights.CopyFrom(numpy_helper.from_array(narrow, weights.name))
    nodes = [helper.make_node("Cast", ["x"], ["narrow"], to=TensorProto.FLOAT16)]
    made.graph.node[0].input[0] = "narrow"
    made.graph.node.insert(0, nodes[0])
    made.graph.node[-1].output[0] = "before"
    made.graph.node.append(helper.make_node("Cast", ["before"], ["y0"], to=F))
    return made.SerializeToString()


def idle() -> bytes:
    """Return a model with an input that no head needs."""
    made = graph()
    made.graph.input.append(helper.make_tensor_value_info("unused", F, ["rows", 1]))
    return made.SerializeToString()


def put_external(folder, seed: int = 0) -> None:
    """Write a model whose weights are in the file `values` beside it."""
    folder.mkdir(parents=True)
    onnx.save(
        graph(seed),
        folder / "model.onnx",
        save_as_external_data=True,
        location="values",
        size_threshold=0,
    )
