"""The models of the attacks, and requests for them on every kind of path.

The well-behaved client uses `three`.  The other models are for attacks: they have a wide head, a
slow one, many heads, heads that mix rows, and a head with a wrong declared width.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from service.inference.model import Model  # first, since it turns off ONNX Runtime's telemetry
from tests.harness import forms, protobuf, small

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

import onnxruntime

MAIN = "three"
WIDTH = 2000
HEADS = 12
SLOW, DEPTH = 1400, 120
F = TensorProto.FLOAT
node = helper.make_node


def _foreign(
    nodes: Sequence[Any],
    heads: Mapping[str, Sequence[int | str]],
    width: int,
    constants: dict[str, Any] | None = None,
) -> bytes:
    """Return a file without a signature, from `x`, [rows, width], to some heads."""
    made = small.model(
        nodes,
        [("x", F, ["batch", width])],
        [(name, F, list(shape)) for name, shape in heads.items()],
        constants,
    )
    return made.SerializeToString()


def wide() -> bytes:
    """Return a model whose head has 2,000 numbers for one number of input."""
    ones = np.ones((1, WIDTH), np.float32)
    return _foreign(
        [node("MatMul", ["x", "ones"], ["y"])], {"y": ("batch", WIDTH)}, 1, {"ones": ones}
    )


def slow() -> bytes:
    """Return a model of one wide, repeated layer: some milliseconds for any number of rows."""
    weights = np.random.default_rng(0).normal(0, SLOW**-0.5, (SLOW, SLOW)).astype(np.float32)
    nodes, last = [], "x0"
    nodes.append(node("MatMul", ["x", "first"], [last]))
    for depth in range(DEPTH):
        nodes.append(node("MatMul", [last, "weights"], [f"sum{depth}"]))
        nodes.append(node("Tanh", [f"sum{depth}"], [f"deep{depth}"]))
        last = f"deep{depth}"
    nodes.append(node("ReduceMean", [last, "axis"], ["y"], keepdims=1))
    constants = {
        "weights": weights,
        "first": np.ones((1, SLOW), np.float32),
        "axis": np.array([1]),
    }
    return _foreign(nodes, {"y": ("batch", 1)}, 1, constants)


def many() -> bytes:
    """Return a model with twelve heads, and so with 4,095 sets of heads."""
    names = [f"h{number}" for number in range(HEADS)]
    nodes = [node("Mul", ["x", f"c{n}"], [name]) for n, name in enumerate(names)]
    constants = {f"c{n}": np.float32(n + 1) for n in range(HEADS)}
    return _foreign(nodes, dict.fromkeys(names, ("batch", 2)), 2, constants)


def liar() -> bytes:
    """Return a model that declares two numbers a row, and can be made to return six."""
    nodes = [
        node("ReduceMax", ["x"], ["most"], keepdims=0),
        node("Clip", ["most", "two", "six"], ["bounded"]),
        node("Cast", ["bounded"], ["width"], to=TensorProto.INT64),
        node("Reshape", ["width", "column"], ["end"]),
        node("Concat", ["x", "x", "x"], ["widest"], axis=1),
        node("Slice", ["widest", "start", "end", "column"], ["y"]),
    ]
    constants = {
        "two": np.float32(2),
        "six": np.float32(6),
        "start": np.array([0]),
        "column": np.array([1]),
    }
    return _foreign(nodes, {"y": ("batch", 2)}, 2, constants)


# The models whose answers to a row depend on other rows, by name.
JOINT = ("softmax", "centred", "quantized", "scaled")


def joint(name: str) -> bytes:
    """Return a model of four numbers a row that mixes the rows of a batch."""
    nodes: list[Any] = []
    constants: dict[str, Any] = {}
    if name == "softmax":
        nodes = [node("Softmax", ["x"], ["y"], axis=0)]
    elif name == "centred":
        nodes = [
            node("ReduceMean", ["x", "rows"], ["mean"], keepdims=1),
            node("Sub", ["x", "mean"], ["y"]),
        ]
        constants = {"rows": np.array([0])}
    elif name == "quantized":
        # As ONNX Runtime's own quantize_dynamic writes a layer.
        nodes = [
            node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
            node("MatMulInteger", ["q", "weights", "zero", "none"], ["product"]),
            node("Cast", ["product"], ["exact"], to=F),
            node("Mul", ["exact", "scale"], ["y"]),
        ]
        constants = {"weights": np.eye(4, dtype=np.int8), "none": np.int8(0)}
    else:
        nodes = [
            node("Abs", ["x"], ["size"]),
            node("ReduceMax", ["size"], ["most"], keepdims=0),
            node("Add", ["most", "one"], ["divisor"]),
            node("Div", ["x", "divisor"], ["y"]),
        ]
        constants = {"one": np.float32(1)}
    return _foreign(nodes, {"y": ("batch", 4)}, 4, constants)


@lru_cache
def contents() -> dict[str, bytes]:
    """Return all files by the name of their model."""
    return {
        MAIN: small.three(),
        "wide": wide(),
        "slow": slow(),
        "many": many(),
        "liar": liar(),
        **{name: joint(name) for name in JOINT},
    }


def publish(models: Path) -> None:
    """Write the repository: each model twice, so that version 1 is only loaded on demand."""
    for name, content in contents().items():
        for version in (1, 2):
            small.put(models, name, version, content)


def expected(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return ONNX Runtime's own answers in a run of only these rows."""
    session = _session(name)
    heads = [output.name for output in session.get_outputs()]
    return dict(zip(heads, session.run(heads, dict(arrays)), strict=True))


@lru_cache
def _session(name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(contents()[name], providers=["CPUExecutionProvider"])


# ── requests ─────────────────────────────────────────────────────────────────────────────────────

# The path to a model for each kind of path.
PATHS = {
    "fast": "/models/{}/predict",
    "query": "/models/{}/predict?x=1",
    "version": "/models/{}/versions/1/predict",
    "oip": "/v2/models/{}/infer",
    "binary": "/v2/models/{}/infer",
    "tfserving": "/v1/models/{}:predict",
    "page": "/models/{}/example",
}
PREDICTING = tuple(kind for kind in PATHS if kind != "page")
# The kind of a call by gRPC, which has a path for all models.
CALL = "grpc"
KINDS = (*PATHS, CALL)


def rows_for(name: str, count: int = 1, scale: float = 1.0) -> dict[str, NDArray[Any]]:
    """Return known rows for a model."""
    if name == MAIN:
        return forms.rows_of(7, count)
    width = {"many": 2, "wide": 1, "slow": 1, "liar": 2}.get(name, 4)
    values = np.random.default_rng(count).normal(0, scale, (count, width))
    return {"x": values.astype(np.float32)}


def encode(kind: str, name: str, arrays: Arrays) -> tuple[str, forms.Sent]:
    """Return the method and the request that send rows to a model on a kind of path."""
    path = PATHS[kind].format(name)
    given = dict(arrays)
    if kind == "page":
        return "GET", forms.Sent(path, b"", {})
    if kind == "oip":
        sent = forms.oip_flat(given)
    elif kind == "binary":
        sent = forms.oip_binary(given)
    elif kind == "tfserving":
        sent = forms.tfserving_columns(given)
    elif name == MAIN:
        sent = forms.native_columns(given)
    else:
        body = json.dumps({"inputs": {key: array.tolist() for key, array in given.items()}})
        sent = forms.Sent(path, body.encode(), {"Content-Type": "application/json"})
    return "POST", forms.Sent(path, sent.body, sent.headers)


def call(name: str, arrays: Arrays) -> bytes:
    """Return the body that sends rows to a model by gRPC."""
    return protobuf.framed(protobuf.infer_request(name, arrays))


def load(name: str) -> Model:
    """Return a model as the service loads it."""
    return Model.load(contents()[name])
