"""Models as they are loaded, or refused."""

import numpy as np
from onnx import TensorProto, helper

from tests.harness import small

F, I64, S = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
node = helper.make_node
X = ("x", F, ["batch", 2])
Y = ("y", F, ["batch", 2])


def built(nodes, inputs=(X,), outputs=(Y,), constants=None):
    """A foreign file's bytes."""
    return small.model(nodes, inputs, outputs, constants).SerializeToString()


def floats(*rows):
    """Rows of float32."""
    return np.array(rows, np.float32)
