"""The models and the requests of the benchmark, which are made anew each time and always equal.

    python -m benchmarks.models [FOLDER]    writes them, and prints the cost of a run of each model

All models take insurance [1], fruit [3] and digit [784], and answer o1 (a sigmoid), o2 (a
sigmoid) and o3 (a softmax over ten).  They differ in the layers between.
"""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from onnx import TensorProto, helper, numpy_helper

from service import metadata
from service.inference.model import Model
from service.insight.drift.quantities import columns, quantities
from service.insight.drift.record import record
from service.signature import Feature, Golden, Head, Input, Signature, Tensor, tabular
from tests.harness import protobuf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.float32]]

FOLDER = Path("build/bench/models")
FILE = "model.onnx"

INPUTS = {"insurance": 1, "fruit": 3, "digit": 784}
HEADS = {"o1": 1, "o2": 1, "o3": 10}
LABELS = {"o1": ("no", "yes"), "o2": ("Apple", "Banana"), "o3": tuple("0123456789")}

# The rows of each body.
BODIES = {"W1": 1, "W2": 32, "W3": 512}

JOINED = "joined"
WIDTH = sum(INPUTS.values())

_SIDE = 28
_REFERENCE_ROWS = 500
# The first kernels divide the inputs by these to about 1, so that no head saturates.
_SCALES = np.repeat([1 / 50, 1 / 3, 1 / 255], list(INPUTS.values()))


class _Graph:
    """A graph that grows layer by layer; the name of a layer is the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def node(self, kind: str, sources: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node."""
        self._nodes.append(helper.make_node(kind, list(sources), [name], **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant."""
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def weights(self, name: str, *shape: int, scale: Any) -> str:
        """Add weights that depend only on the name, so that a part of a graph equals the whole."""
        random = np.random.default_rng(zlib.crc32(name.encode()))
        return self.constant(name, (random.normal(size=shape) * scale).astype(np.float32))

    def dense(
        self, source: str, name: str, units: tuple[int, int], activation: str = "Relu"
    ) -> str:
        """Add a Dense layer of `units` (in, out)."""
        scale = (2 / units[0]) ** 0.5 * (_SCALES[: units[0], None] if source == JOINED else 1)
        kernel = self.weights(f"{name}.kernel", *units, scale=scale)
        bias = self.constant(f"{name}.bias", np.zeros(units[1], np.float32))
        self.node("Gemm", [source, kernel, bias], f"{name}.sum")
        return self.node(activation, [f"{name}.sum"], name)

    def convolution(self, source: str, name: str, channels: tuple[int, int]) -> str:
        """Add a 3 x 3 Conv2D of `channels` (in, out) that keeps height and width."""
        scale = (2 / 9 / channels[0]) ** 0.5 * (_SCALES[-1] if channels[0] == 1 else 1)
        kernel = self.weights(f"{name}.kernel", *channels[::-1], 3, 3, scale=scale)
        self.node("Conv", [source, kernel], f"{name}.sum", pads=[1, 1, 1, 1])
        return self.node("Relu", [f"{name}.sum"], name)

    def model(self, heads: Sequence[str]) -> bytes:
        """Return the graph as a signed file, with a few golden rows."""

        def edge(name: str, size: int) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

        graph = helper.make_graph(
            self._nodes,
            "bench",
            [edge(name, size) for name, size in INPUTS.items()],
            [edge(name, HEADS[name]) for name in heads],
            self._weights,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        model = Model.load(made.SerializeToString())
        rows = arrays(3)
        golden = Golden(_lists(rows), _lists(model.predict(rows, heads)))
        signature = _with_reference(_signature(heads, golden), model)
        made.metadata_props.add(key=metadata.METADATA_KEY, value=metadata.dump(signature))
        return bytes(made.SerializeToString(deterministic=True))


def _lists(arrays: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
    return {name: array.tolist() for name, array in arrays.items()}


def _signature(heads: Sequence[str], golden: Golden) -> Signature:
    inputs = (
        tabular("insurance", [Feature("age", "", default=38)]),
        tabular("fruit", [Feature(name, "") for name in ("weight", "length", "width")]),
        Input("digit", "image", (Tensor("digit", "float32", (784,)),), size=(_SIDE, _SIDE)),
    )
    return Signature(
        inputs={entry.name: entry for entry in inputs},
        heads={
            name: Head(
                name,
                "binary" if HEADS[name] == 1 else "multiclass",
                Tensor(name, "float32", (HEADS[name],)),
                LABELS[name],
                0.5 if HEADS[name] == 1 else None,
            )
            for name in heads
        },
        golden=golden,
    )


def _with_reference(signature: Signature, model: Model) -> Signature:
    """Return a signature with a reference, as training records one, so that drift is counted."""
    rows = arrays(_REFERENCE_ROWS)
    values = {**rows, **model.predict(rows, list(signature.heads))}
    chosen = quantities(signature)
    about = {"inputs": "training", "heads": "training"}
    return replace(signature, reference=record(chosen, columns(chosen, values, {}), about))


def _begin() -> _Graph:
    """Return a graph that concatenates its inputs."""
    graph = _Graph()
    graph.node("Concat", list(INPUTS), JOINED, axis=1)
    return graph


def _end(graph: _Graph, sources: dict[str, str], width: int) -> bytes:
    """Add the heads, each after its source of `width` units, and return the model."""
    for name, source in sources.items():
        activation = "Sigmoid" if HEADS[name] == 1 else "Softmax"
        graph.dense(source, name, (width, HEADS[name]), activation)
    return graph.model(tuple(sources))


def seed() -> bytes:
    """Return the model `seed`: the inputs concatenated, Dense(10, relu), three heads."""
    graph = _begin()
    trunk = graph.dense(JOINED, "h1", (WIDTH, 10))
    return _end(graph, dict.fromkeys(HEADS, trunk), 10)


def heavy() -> bytes:
    """Return the model `heavy`: the same heads after two wide layers and two convolutions.

    The cost of the wide layers is reading their weights, for one row or a few; that of the
    convolutions grows with the rows.  A run takes about 0.84 ms for one row and 3.0 ms for 16 on
    one core of the machine for which the model was tuned (a 2.6 GHz Xeon with AVX-512).
    """
    graph = _begin()
    shape = graph.constant("image.shape", np.array([-1, 1, _SIDE, _SIDE]))
    image = graph.node("Reshape", ["digit", shape], "image")
    image = graph.convolution(image, "conv1", (1, 32))
    image = graph.convolution(image, "conv2", (32, 48))
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [image], "average")], "pooled")
    wide = graph.dense(JOINED, "h1", (WIDTH, 2048))
    wide = graph.dense(wide, "h2", (2048, 1400))
    trunk = graph.node("Concat", [wide, pooled], "trunk", axis=1)
    return _end(graph, dict.fromkeys(HEADS, trunk), 1400 + 48)


def steady() -> bytes:
    """Return the model `steady`: convolutions only, about 1 ms for each row of any request."""
    graph = _begin()
    shape = graph.constant("image.shape", np.array([-1, 1, _SIDE, _SIDE]))
    image = graph.node("Reshape", ["digit", shape], "image")
    for depth, channels in enumerate(((1, 32), (32, 64), (64, 160))):
        image = graph.convolution(image, f"conv{depth}", channels)
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [image], "average")], "pooled")
    trunk = graph.node("Concat", [graph.dense(JOINED, "h1", (WIDTH, 8)), pooled], "trunk", axis=1)
    return _end(graph, dict.fromkeys(HEADS, trunk), 8 + 160)


def branches(heads: Sequence[str] = tuple(HEADS)) -> bytes:
    """Return the model `branches`: a small shared trunk, then eight layers of 512 for each head.

    Args:
        heads: the heads of the model; the weights of a head do not depend on the other heads.
    """
    graph = _begin()
    trunk = graph.dense(JOINED, "h1", (WIDTH, 64))
    ends = {}
    for head in heads:
        ends[head], width = trunk, 64
        for depth in range(8):
            ends[head] = graph.dense(ends[head], f"{head}.deep{depth}", (width, 512))
            width = 512
    return _end(graph, ends, 512)


MODELS = {"seed": seed, "heavy": heavy, "steady": steady, "branches": branches}


def arrays(rows: int) -> Arrays:
    """Return rows like those of the data sets that the inputs are named after, float32.

    A digit, [784], is a blurred ring of random place and size: whole numbers from 0 to 255, of
    which about four in five are 0, as in MNIST.
    """
    random = np.random.default_rng(0)
    y, x = np.mgrid[:_SIDE, :_SIDE]
    digits = np.zeros((rows, _SIDE * _SIDE), np.float32)
    for digit in digits:
        top, left = random.uniform(11, 17, size=2)
        away = np.abs(np.hypot(y - top, x - left) - random.uniform(5, 9))
        ink = 255 * (1.6 - away / 1.7) + random.normal(scale=20, size=(_SIDE, _SIDE))
        digit[:] = np.where(away < 1.7 * 1.6, ink, 0).clip(0, 255).round().ravel()
    return {
        "insurance": random.integers(18, 65, size=(rows, 1)).astype(np.float32),
        "fruit": random.uniform(1, 9, size=(rows, 3)).round(1).astype(np.float32),
        "digit": digits,
    }


def body(rows: int) -> bytes:
    """Return a JSON request of `rows` rows: 1.9 kB each, with whole numbers without a point."""
    columns = {
        name: [
            [int(value) if value.is_integer() else round(value, 1) for value in row]
            for row in array.tolist()
        ]
        for name, array in arrays(rows).items()
    }
    by_row = zip(*columns.values(), strict=True)
    return orjson.dumps({"instances": [dict(zip(columns, row, strict=True)) for row in by_row]})


def binary(rows: int) -> tuple[bytes, int]:
    """Return the same request with OIP's binary tensors, and the length of its JSON in bytes."""
    tensors = arrays(rows)
    inputs = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    return head + b"".join(array.tobytes() for array in tensors.values()), len(head)


def message(rows: int) -> bytes:
    """Return the same request as a message of gRPC, with its frame."""
    return protobuf.framed(protobuf.infer_request(Path(FILE).stem, arrays(rows)))


def write(folder: Path, *names: str) -> None:
    """Write the named models as FOLDER/<name>/model.onnx, and all bodies beside them."""
    for name in names:
        path = folder / name / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MODELS[name]())
    for name, rows in BODIES.items():
        (folder / f"{name}.json").write_bytes(body(rows))
        (folder / f"{name}.bin").write_bytes(binary(rows)[0])
        (folder / f"{name}.grpc").write_bytes(message(rows))


def cost(model: Model, rows: int, heads: Sequence[str] = tuple(HEADS)) -> float:
    """Return the milliseconds of a run: the fastest of many, since other work slows a run down."""
    given = arrays(rows)
    times: list[float] = []
    until = time.perf_counter() + 0.5
    while time.perf_counter() < until or len(times) < 10:  # noqa: PLR2004  enough for a median
        started = time.perf_counter()
        model.predict(given, heads)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def main() -> None:
    """Write all models and bodies, and print the cost of the models."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    write(folder, *MODELS)
    for name in MODELS:
        path = folder / name / FILE
        model = Model.load(path)
        costs = ", ".join(f"{rows} {cost(model, rows):.3f} ms" for rows in (1, 2, 4, 8, 16, 32, 64))
        print(f"{name}: {path.stat().st_size / 1e6:.2f} MB; rows a run: {costs}")
    for name, rows in BODIES.items():
        print(f"{name}: {rows} rows, {(folder / f'{name}.json').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
