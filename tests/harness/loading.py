"""Models to load, and their rows."""

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node
X = ("x", F, ["batch", 2])
Y = ("y", F, ["batch", 2])


def built(nodes, inputs=(X,), outputs=(Y,), constants=None):
    """Return the bytes of a file without a signature."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


def floats(*rows):
    """Return rows as a float32 array."""
    return np.array(rows, np.float32)
