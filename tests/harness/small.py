"""The small models of the tests, made node by node, whose arithmetic is exact."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, load_model_from_string, numpy_helper

from service import metadata
from service.signature import Feature, Golden, Head, Input, Signature, Statistics, Tensor, tabular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.inference.model import Model

F = TensorProto.FLOAT
S = TensorProto.STRING


def model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, Sequence[int | str | None]]],
    outputs: Sequence[tuple[str, int, Sequence[int | str | None] | None]],
    constants: dict[str, Any] | None = None,
) -> ModelProto:
    """Return a model of `nodes`; inputs and outputs are (name, type, shape with batch axis)."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def signed(made: ModelProto, signature: Signature) -> bytes:
    """Return the bytes of a model that contains a signature."""
    del made.metadata_props[:]
    made.metadata_props.add(key=metadata.METADATA_KEY, value=metadata.dump(signature))
    return made.SerializeToString()


def three(
    scale: float = 1.0, *, golden: bool = True, models: dict[str, Any] | None = None
) -> bytes:
    """Return a model of three inputs and four heads whose answers are easy to compute by hand.

    insurance (age, smoker: text, bmi), fruit (weight, length), digit (2 x 2 pixels):
    risk = sigmoid(age + bmi - 60 + 10 if smoker) needs insurance; size = scale * (weight +
    length) needs fruit; digit = its first three pixels as scores needs digit; tags = sigmoid of
    (weight, length) - 1 needs fruit.
    """
    made = model(
        [
            helper.make_node(
                "LabelEncoder",
                ["insurance.smoker"],
                ["smokes"],
                domain="ai.onnx.ml",
                keys_strings=["no", "yes"],
                values_floats=[0.0, 10.0],
                default_float=5.0,
            ),
            helper.make_node("ReduceSum", ["insurance", "last"], ["summed"], keepdims=1),
            helper.make_node("Add", ["summed", "smokes"], ["raised"]),
            helper.make_node("Sub", ["raised", "sixty"], ["risky"]),
            helper.make_node("Sigmoid", ["risky"], ["risk"]),
            helper.make_node("ReduceSum", ["fruit", "last"], ["large"], keepdims=1),
            helper.make_node("Mul", ["large", "scale"], ["size"]),
            helper.make_node("Slice", ["digit", "zero", "three", "last"], ["digits"]),
            helper.make_node("Sub", ["fruit", "one"], ["tagged"]),
            helper.make_node("Sigmoid", ["tagged"], ["tags"]),
        ],
        [
            ("insurance", F, ["batch", 2]),
            ("insurance.smoker", S, ["batch", 1]),
            ("fruit", F, ["batch", 2]),
            ("digit", F, ["batch", 4]),
        ],
        [
            ("risk", F, ["batch", 1]),
            ("size", F, ["batch", 1]),
            ("digits", F, ["batch", 3]),
            ("tags", F, ["batch", 2]),
        ],
        {
            "last": np.array([1]),
            "sixty": np.float32(60),
            "one": np.float32(1),
            "scale": np.float32(scale),
            "zero": np.array([0]),
            "three": np.array([3]),
        },
    )
    return signed(made, three_signature(scale, golden=golden, models=models))


def three_signature(
    scale: float = 1.0, *, golden: bool = True, models: dict[str, Any] | None = None
) -> Signature:
    """Return the signature of `three`."""
    insurance = tabular(
        "insurance",
        [
            Feature("age", "", default=38, statistics=Statistics(18, 70, 40.0, 12.0)),
            Feature("smoker", "", default="no", vocabulary=("no", "yes")),
            Feature("bmi", "", statistics=Statistics(17, 50, 30.0, 6.0)),
        ],
    )
    fruit = tabular("fruit", [Feature("weight", "", default=1.5), Feature("length", "", default=2)])
    digit = Input("digit", "image", (Tensor("digit", "float32", (4,)),), size=(2, 2))
    heads = [
        Head("risk", "binary", Tensor("risk", "float32", (1,)), ("low", "high"), 0.5),
        Head("size", "regression", Tensor("size", "float32", (1,))),
        Head("digits", "multiclass", Tensor("digits", "float32", (3,)), ("zero", "one", "two")),
        Head("tags", "multilabel", Tensor("tags", "float32", (2,)), ("heavy", "long"), 0.5),
    ]
    rows = Golden(
        {
            "insurance": [[30.0, 30.0], [47.0, 13.0]],
            "insurance.smoker": [["no"], ["no"]],
            "fruit": [[1.0, 1.0], [2.0, 0.5]],
            "digit": [[0.0, 1.0, 0.0, 9.0], [3.0, 2.0, 1.0, 0.0]],
        },
        {
            "risk": [[0.5], [0.5]],
            "size": [[2.0 * scale], [2.5 * scale]],
            "digits": [[0.0, 1.0, 0.0], [3.0, 2.0, 1.0]],
        },
    )
    return Signature(
        inputs={entry.name: entry for entry in (insurance, fruit, digit)},
        heads={head.name: head for head in heads},
        models=models or {},
        golden=rows if golden else None,
    )


def refusing() -> bytes:
    """Return `three`, but with unseen texts refused."""
    signature = three_signature()
    table = signature.inputs["insurance"]
    refused = [replace(f, unseen="refuse" if f.vocabulary else "answer") for f in table.features]
    inputs = {**signature.inputs, "insurance": replace(table, features=tuple(refused))}
    return signed(load_model_from_string(three()), replace(signature, inputs=inputs))


def put(models: Any, name: str, version: int, content: bytes) -> None:
    """Copy a version into a repository without the steps of `publish`."""
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)


def plant() -> bytes:
    """Return a model whose tabular input has the name of a feature; two features have no default.

    plant (height, plant, colour: text) → weight = [height + plant, height - plant], a vector; and
    100 more of each where it is red, 1000 where it is neither red nor green.
    """
    made = model(
        [
            helper.make_node(
                "LabelEncoder",
                ["plant.colour"],
                ["tone"],
                domain="ai.onnx.ml",
                keys_strings=["green", "red"],
                values_floats=[0.0, 100.0],
                default_float=1000.0,
            ),
            helper.make_node("MatMul", ["plant", "signs"], ["sums"]),
            helper.make_node("Add", ["sums", "tone"], ["weight"]),
        ],
        [("plant", F, ["batch", 2]), ("plant.colour", S, ["batch", 1])],
        [("weight", F, ["batch", 2])],
        {"signs": np.float32([[1, 1], [1, -1]])},
    )
    features = [
        Feature("height", "", default=10),
        Feature("plant", ""),
        Feature("colour", "", vocabulary=("green", "red")),
    ]
    heads = {"weight": Head("weight", "regression", Tensor("weight", "float32", (2,)))}
    return signed(made, Signature({"plant": tabular("plant", features)}, heads))


def counted() -> bytes:
    """Return a model of a tabular input of whole numbers: total = up + down."""
    made = model(
        [helper.make_node("ReduceSum", ["counts", "last"], ["total"], keepdims=1)],
        [("counts", TensorProto.INT32, ["batch", 2])],
        [("total", TensorProto.INT32, ["batch", 1])],
        {"last": np.array([1])},
    )
    features = [Feature("up", "", default=1), Feature("down", "")]
    heads = {"total": Head("total", "regression", Tensor("total", "int32", (1,)))}
    return signed(made, Signature({"counts": tabular("counts", features, "int32")}, heads))


def wide_table(features: int, default: float | None) -> bytes:
    """Return a model of a tabular input of many features, all with a default or none: their sum."""
    made = model(
        [helper.make_node("ReduceSum", ["table", "last"], ["total"], keepdims=1)],
        [("table", F, ["batch", features])],
        [("total", F, ["batch", 1])],
        {"last": np.array([1])},
    )
    table = tabular("table", [Feature(f"f{i}", "", default=default) for i in range(features)])
    heads = {"total": Head("total", "regression", Tensor("total", "float32", (1,)))}
    return signed(made, Signature({"table": table}, heads))


def wide_inputs(number: int) -> bytes:
    """Return a file without a signature with many inputs of one value: their sum."""
    names = [f"x{i}" for i in range(number)]
    return model(
        [helper.make_node("Sum", names, ["total"])],
        [(name, F, ["n", 1]) for name in names],
        [("total", F, ["n", 1])],
    ).SerializeToString()


def same(
    dtype: int, shape: Sequence[int | str | None] = (2,), batch: int | str = "n", name: str = "x"
) -> bytes:
    """Return a file without a signature whose only head, `y`, equals its only input."""
    axes = [batch, *shape]
    nodes = [helper.make_node("Identity", [name], ["y"])]
    return model(nodes, [(name, dtype, axes)], [("y", dtype, axes)]).SerializeToString()


def entry(name: str, shape: tuple[int | None, ...], dtype: str = "float32") -> Input:
    """Return an input that is a single tensor."""
    return Input(name, "tensor", (Tensor(name, dtype, shape),))


ODD_NAMES = ("a.b/c:0", 'say "x"', "größe", "two words")


def odd_names() -> bytes:
    """Return a file without a signature whose names Keras never makes; heads end in `!`."""
    return model(
        [helper.make_node("Identity", [name], [f"{name}!"]) for name in ODD_NAMES],
        [(name, F, ["n", 1]) for name in ODD_NAMES],
        [(f"{name}!", F, ["n", 1]) for name in ODD_NAMES],
    ).SerializeToString()


def per_column() -> bytes:
    """Return a file without a signature with an input of one value for each column of a table.

    skl2onnx makes such files: total = age + visits, place = city.
    """
    return model(
        [
            helper.make_node("Cast", ["visits"], ["seen"], to=F),
            helper.make_node("Add", ["age", "seen"], ["total"]),
            helper.make_node("Identity", ["city"], ["place"]),
        ],
        [("age", F, ["n", 1]), ("visits", TensorProto.INT64, ["n", 1]), ("city", S, ["n", 1])],
        [("total", F, ["n", 1]), ("place", S, ["n", 1])],
    ).SerializeToString()


def joint() -> bytes:
    """Return a model whose rows depend on each other: y = a + b - the mean of all a and b."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("ReduceSum", ["centred", "last"], ["y"], keepdims=1),
    ]
    constants = {"first": np.array([0]), "last": np.array([1])}
    return model(nodes, [("x", F, ["n", 2])], [("y", F, ["n", 1])], constants).SerializeToString()


def steps(head: str = "y") -> bytes:
    """Return a model that adds up any number of steps, with a head of this name."""
    nodes = [helper.make_node("ReduceSum", ["x", "last"], [head], keepdims=1)]
    shapes = [("x", F, ["n", "steps"])], [(head, F, ["n", 1])]
    return model(nodes, *shapes, {"last": np.array([1])}).SerializeToString()


def long() -> bytes:
    """Return a model with a head of one number, and one with 20,000 times the steps of a row."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "last"], ["y"], keepdims=1),
        helper.make_node("Tile", ["x", "times"], ["long"]),
    ]
    outputs = [("y", F, ["n", 1]), ("long", F, ["n", "many"])]
    constants = {"last": np.array([1]), "times": np.array([1, 20_000])}
    return model(nodes, [("x", F, ["n", "steps"])], outputs, constants).SerializeToString()


def ragged() -> bytes:
    """Return a file without a signature that sums any number of steps, [steps, 2]."""
    return model(
        [helper.make_node("ReduceSum", ["x", "steps"], ["y"], keepdims=0)],
        [("x", F, ["n", "steps", 2])],
        [("y", F, ["n", 2])],
        {"steps": np.array([1])},
    ).SerializeToString()


def idle() -> bytes:
    """Return a file without a signature with an unused input, `idle`: y = x."""
    return model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", F, ["n", 1]), ("idle", F, ["n", 1])],
        [("y", F, ["n", 1])],
    ).SerializeToString()


def brittle() -> bytes:
    """Return a file without a signature with a head that fails for all places except 0 to 2.

    calm = x; wild = the `place`-th of 10, 20, 30.
    """
    return model(
        [
            helper.make_node("Identity", ["x"], ["calm"]),
            helper.make_node("Gather", ["tens", "place"], ["wild"]),
        ],
        [("x", F, ["n", 1]), ("place", TensorProto.INT64, ["n"])],
        [("calm", F, ["n", 1]), ("wild", F, ["n"])],
        {"tens": np.float32([10, 20, 30])},
    ).SerializeToString()


def logs() -> bytes:
    """Return a model with a head of each kind: log(x), NaN below 0, minus infinity at 0."""
    made = model(
        [
            helper.make_node("Log", ["x"], ["many"]),
            helper.make_node("Log", ["x"], ["best"]),
            helper.make_node("Slice", ["many", "zero", "one", "one"], ["first"]),
            helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Cast", ["x"], ["truth"], to=TensorProto.BOOL),
            helper.make_node("Cast", ["whole"], ["text"], to=S),
        ],
        [("x", F, ["n", 2])],
        [
            ("many", F, ["n", 2]),
            ("best", F, ["n", 2]),
            ("first", F, ["n", 1]),
            ("whole", TensorProto.INT64, ["n", 2]),
            ("truth", TensorProto.BOOL, ["n", 2]),
            ("text", S, ["n", 2]),
        ],
        {"zero": np.array([0]), "one": np.array([1])},
    )
    heads = [
        Head("many", "multilabel", Tensor("many", "float32", (2,)), ("a", "b"), 0.0),
        Head("best", "multiclass", Tensor("best", "float32", (2,)), ("a", "b")),
        Head("first", "binary", Tensor("first", "float32", (1,)), ("no", "yes"), 1.0),
        *(Head(n, "tensor", Tensor(n, "", (2,))) for n in ("whole", "truth", "text")),
    ]
    entry = Input("x", "tensor", (Tensor("x", "float32", (2,)),))
    return signed(made, Signature({"x": entry}, {head.name: head for head in heads}))


def every() -> dict[str, bytes]:
    """Return a model of each kind, by name."""
    dtypes = [*("FLOAT", "DOUBLE", "FLOAT16", "BOOL", "STRING"), *("INT8", "INT16", "INT32")]
    dtypes += ["INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
    return {
        "three": three(models={"risky": ["risk"], "fruity": ["tags", "size"]}),
        "unproven": three(golden=False),
        "plant": plant(),
        "counted": counted(),
        "odd_names": odd_names(),
        "per_column": per_column(),
        "ragged": ragged(),
        "brittle": brittle(),
        "logs": logs(),
        "scalar": same(F, ()),
        "deep": same(F, (2, 1, 3)),
        "alone": same(F, (2,), 1),
        "alone_ragged": same(F, (None, 2), 1),
        **{dtype.lower(): same(TensorProto.DataType.Value(dtype)) for dtype in dtypes},
    }


def returning(models: Mapping[str, Model]) -> list[str]:
    """Return the names of those of `every` that return their only tensor as it is."""
    changing = ("plant", "counted", "ragged", "logs")
    return [n for n in models if len(models[n].signature.inputs) == 1 and n not in changing]


def values_for(one: Model) -> NDArray[Any]:
    """Return a row of different values for the only tensor of a model."""
    (only,) = one.signature.inputs.values()
    (tensor,) = only.tensors
    shape = (1, *(2 if axis is None else axis for axis in tensor.shape))
    numbers = np.arange(np.prod(shape)).reshape(shape)
    if tensor.dtype == "string":
        return numbers.astype(str).astype(object)
    return numbers.astype(tensor.dtype)
