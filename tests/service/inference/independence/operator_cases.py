"""Random graphs of one operator each, whose rows lie along any axis, for `test_operators.py`.

Everything is drawn freely, right or wrong: graphs that ONNX Runtime accepts are run, and the others
are skipped. Lengths are few and often equal to the number of rows, so that shapes that match only
by chance occur as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from service.inference.independence.operators import MICROSOFT, ML

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 4
LENGTHS = (1, 2, 3, 4)
F, I64 = TensorProto.FLOAT, TensorProto.INT64


class Graph:
    """A graph under construction: the draws, its inputs with their rows first, and its nodes."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: dict[str, tuple[int, list[int], int]] = {}
        self.version = 18
        # Tensors that later nodes may use: names, shapes, and the axis of their rows.
        self.before: list[tuple[str, list[int], int]] = []

    def one_of(self, *values: Any) -> Any:
        """Draw one of some values."""
        return self.data.draw(st.sampled_from(values))

    def some(self, *values: Any, least: int = 0) -> list[Any]:
        """Draw some of the values, each at most once."""
        return self.data.draw(st.lists(st.sampled_from(values), min_size=least, unique=True))

    def list_of(self, count: int, *values: Any) -> list[Any]:
        """Draw a list of this length."""
        return [self.one_of(*values) for _ in range(count)]

    def name(self) -> str:
        """Return an unused name."""
        return f"v{len(self.nodes)}_{len(self.constants)}_{len(self.inputs)}"

    def constant(self, array: Any) -> str:
        """Add a constant with these values."""
        name = f"c{self.name()}"
        self.constants[name] = np.asarray(array)
        return name

    def numbers(self, shape: Any, low: float = -2.0, high: float = 2.0) -> str:
        """Add a constant of numbers that are all different."""
        count = int(np.prod(shape))
        ramp = np.linspace(low, high, count) if count > 1 else np.full(count, 0.7)
        order = np.random.default_rng(count).permutation(count)
        return self.constant(ramp[order].reshape(shape).astype(np.float32))

    def add(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        output = f"n{self.name()}"
        node = helper.make_node(op, inputs, [output], domain=domain, **attributes)
        self.nodes.append(node)
        return output

    def rows(
        self, rank: int | None = None, dtype: int = F, axis: int | None = None
    ) -> tuple[str, list[int], int]:
        """Return a tensor with rows along some axis: its name, its shape and that axis."""
        before = [
            output
            for output in self.before
            if rank in (None, len(output[1])) and axis in (None, output[2]) and dtype == F
        ]
        if before and self.one_of(True, True, False):
            return self.one_of(*before)
        rank = self.one_of(1, 2, 2, 3, 3, 4) if rank is None else rank
        axis = self.one_of(*range(rank), 0) if axis is None else axis
        lengths = self.list_of(rank - 1, *LENGTHS)
        name = f"x{len(self.inputs)}"
        self.inputs[name] = (dtype, lengths, 0)
        shape = [*lengths[:axis], ROWS, *lengths[axis:]]
        if axis:
            order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
            name = self.add("Transpose", [name], perm=order)
        return name, shape, axis

    def operand(self) -> str:
        """Return a constant of any shape, or rows along any axis."""
        if self.one_of(True, True, False):
            return self.numbers(self.list_of(self.one_of(0, 1, 2, 3), *LENGTHS))
        return self.rows()[0]

    def target(self, value: str, rank: int) -> str:
        """Return a shape of numbers, some of which may be computed from a tensor's own shape."""
        plain = self.constant(np.array(self.list_of(rank, -1, 0, 1, 2, 3, 4, 6, 8), np.int64))
        if self.one_of(True, False):
            return plain
        shape = self.add("Shape", [value])
        place = self.constant(np.array([self.one_of(0, 0, 1, 2)], np.int64))
        first = self.add("Gather", [shape, place], axis=0)
        if self.one_of(True, False, False):
            first = self.add("Mul", [first, self.constant(np.array([self.one_of(2, 3)]))])
        rest = self.constant(np.array(self.list_of(rank - 1, -1, 1, 2, 3, 4), np.int64))
        return self.add("Concat", [first, rest][:: self.one_of(1, 1, -1)], axis=0)

    def flag(self) -> int:
        """Draw 0 or 1."""
        return int(self.one_of(0, 1))


Case = "Callable[[Graph, str], str]"

_INTEGERS = {"BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"}
_LOGIC = {"And", "Or", "Xor", "Not"}
_TWO = {
    *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul"),
    *("Or", "PRelu", "Pow", "StringConcat", "Sub", "Sum", "Xor"),
}


def each_place(graph: Graph, op: str) -> str:
    """Build an elementwise operator with rows in one or both operands."""
    attributes = {"direction": "LEFT"} if op == "BitShift" else {"fmod": 1} if op == "Mod" else {}
    if op == "RegexFullMatch":
        graph.version, attributes = 20, {"pattern": "1.*"}
    if op in ("Gelu", "Swish"):
        graph.version = {"Gelu": 20, "Swish": 24}[op]
    if op == "StringConcat":
        graph.version = 20
    domain = MICROSOFT if op in ("BiasGelu", "FastGelu", "QuickGelu") else ""
    names = [graph.rows()[0]]
    if op in _TWO or op in ("BiasGelu", "Where"):
        names.append(graph.operand())
    if op not in {"PRelu", "BiasGelu"}:
        names = names[:: graph.one_of(1, -1)]
    if op in _INTEGERS:
        names = [
            _cast(graph, name, TensorProto.UINT32 if op == "BitShift" else I64) for name in names
        ]
    if op in _LOGIC:
        zero = graph.constant(np.float32(0))
        names = [graph.add("Greater", [name, zero]) for name in names]
    if op == "Where":
        zero = graph.constant(np.float32(0))
        names = [graph.add("Greater", [graph.operand(), zero]), *names]
    if op in ("StringConcat", "RegexFullMatch"):
        names = [_cast(graph, name, TensorProto.STRING) for name in names]
    if op == "Cast":
        attributes = {"to": graph.one_of(TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL)}
    return graph.add(op, names, domain, **attributes)


def _cast(graph: Graph, name: str, to: int) -> str:
    whole = graph.add("Abs", [name]) if to == TensorProto.UINT32 else name
    return graph.add("Cast", [whole], to=to)


def clip(graph: Graph, op: str) -> str:
    """Build a Clip whose limits are constants or rows."""
    low = graph.one_of(graph.constant(np.float32(-0.5)), "")
    return graph.add(op, [graph.rows()[0], low])


def like(graph: Graph, op: str) -> str:
    """Build a cast to the dtype of another tensor."""
    return graph.add(op, [graph.rows()[0], graph.operand()])


def quantize(graph: Graph, op: str) -> str:
    """Build a quantization with one scale, or one for each index of some axis."""
    name, shape, _ = graph.rows()
    axis = graph.one_of(*range(len(shape)))
    count = graph.one_of(None, 1, shape[axis])
    scale = np.float32(0.1) if count is None else np.linspace(0.1, 1, count, dtype=np.float32)
    zero = np.zeros_like(scale, dtype=np.int8)
    if op == "DequantizeLinear":
        name = _cast(graph, name, TensorProto.INT8)
    more = [graph.constant(scale), graph.constant(zero)]
    return graph.add(op, [name, *more], axis=graph.one_of(axis, axis - len(shape)))


def dropout(graph: Graph, op: str) -> str:
    """Build a Dropout for inference or for training."""
    train = graph.one_of(None, False, True)
    more = (
        [] if train is None else [graph.constant(np.float32(0.5)), graph.constant(np.array(train))]
    )
    return graph.add(op, [graph.rows()[0], *more])


def along(graph: Graph, op: str) -> str:
    """Build an operator along one axis, counted from either end."""
    name, shape, _ = graph.rows()
    if op in ("Softmax", "LogSoftmax", "Hardmax"):
        graph.version = graph.one_of(11, 18)
    axis = graph.one_of(None, *range(-len(shape), len(shape)))
    attributes = {} if axis is None else {"axis": axis}
    if op in ("LayerNormalization", "RMSNormalization"):
        graph.version = 23 if op == "RMSNormalization" else 18
        at = -1 if axis is None else axis
        scale = graph.one_of(shape[at % len(shape) :], [1], [shape[-1]])
        return graph.add(op, [name, graph.numbers(scale)], **attributes)
    if op in ("CumSum", "CumProd"):
        graph.version = 26 if op == "CumProd" else 18
        at = graph.constant(np.array(axis or 0))
        return graph.add(op, [name, at], reverse=graph.flag(), exclusive=graph.flag())
    if op in ("ArgMax", "ArgMin"):
        attributes["keepdims"] = graph.flag()
    if op == "TopK":
        node = helper.make_node(
            op, [name, graph.constant(np.array([1]))], ["best", "at"], **attributes
        )
        graph.nodes.append(node)
        return graph.one_of("best", "at")
    return graph.add(op, [name], **attributes)


def reduce(graph: Graph, op: str) -> str:
    """Build a reduction along some axes, all or none."""
    name, shape, _ = graph.rows()
    graph.version = graph.one_of(11, 18)
    axes = graph.one_of(None, graph.some(*range(-len(shape), len(shape)), least=1))
    attributes = {"keepdims": graph.flag()}
    if graph.version == 11:
        return graph.add(op, [name], **attributes, **({} if axes is None else {"axes": axes}))
    attributes["noop_with_empty_axes"] = graph.flag()
    more = [] if axes is None else [graph.constant(np.array(axes, np.int64))]
    return graph.add(op, [name, *more], **attributes)


def mean_variance(graph: Graph, op: str) -> str:
    """Build a MeanVarianceNormalization along named axes, or along the default ones."""
    name, shape, _ = graph.rows(4)
    axes = graph.one_of(None, graph.some(*range(len(shape)), least=1))
    return graph.add(op, [name], **({} if axes is None else {"axes": axes}))


def transpose(graph: Graph, op: str) -> str:
    """Build a Transpose to any order."""
    name, shape, _ = graph.rows()
    order = graph.data.draw(st.permutations(range(len(shape))))
    return graph.add(op, [name], **graph.one_of({"perm": list(order)}, {}))


def reshape(graph: Graph, op: str) -> str:
    """Build a Reshape to any shape, fixed or computed."""
    name, _, _ = graph.rows()
    return graph.add(op, [name, graph.target(name, graph.one_of(1, 2, 3))])


def flatten(graph: Graph, op: str) -> str:
    """Build a Flatten at any axis."""
    name, shape, _ = graph.rows()
    return graph.add(op, [name], axis=graph.one_of(*range(-len(shape), len(shape) + 1)))


def squeeze(graph: Graph, op: str) -> str:
    """Build a Squeeze of any axes, or without naming them."""
    name, shape, _ = graph.rows()
    axes = graph.some(*range(-len(shape) - 1, len(shape) + 1), least=1)
    more = graph.one_of([graph.constant(np.array(axes, np.int64))], [])
    return graph.add(op, [name, *more])


def concat(graph: Graph, op: str) -> str:
    """Build a Concat of rows and other tensors along any axis."""
    name, shape, axis = graph.rows()
    more = graph.one_of(name, graph.add("Neg", [name]), graph.operand())
    if graph.flag():
        more = graph.rows(len(shape), axis=axis)[0]
    names = [name, more][:: graph.one_of(1, -1)]
    return graph.add(op, names, axis=graph.one_of(*range(-len(shape), len(shape))))


def split(graph: Graph, op: str) -> str:
    """Build a Split into halves along any axis; return the first half."""
    name, shape, _ = graph.rows()
    axis = graph.one_of(*range(-len(shape), len(shape)))
    names = [f"n{graph.name()}{part}" for part in "ab"]
    node = helper.make_node(op, [name], names, axis=axis, num_outputs=2)
    graph.nodes.append(node)
    return names[graph.flag()]


def cut(graph: Graph, op: str) -> str:
    """Build a Slice with any start and end."""
    name, shape, _ = graph.rows()
    axes = graph.some(*range(-len(shape), len(shape)), least=1)
    count = len(axes)
    numbers = [
        graph.list_of(count, 0, 0, 1, -1),
        graph.list_of(count, 2**63 - 1, 2**31 - 1, 10**9, 4, 2, -1),
        axes,
        graph.list_of(count, 1, 1, 2, -1),
    ]
    more = [graph.constant(np.array(n, np.int64)) for n in numbers[: graph.one_of(2, 3, 4, 4)]]
    if graph.one_of(False, False, True):
        length = graph.add("Shape", [name])
        more[1] = graph.add("Gather", [length, graph.constant(np.array([graph.one_of(0, 1)]))])
    return graph.add(op, [name, *more])


def gather(graph: Graph, op: str) -> str:
    """Build a gathering operator; data and indices are constants or rows."""
    shape = graph.list_of(graph.one_of(1, 2, 3), 4, 4, 3)
    data = graph.one_of("constant", "rows")
    if data == "constant":
        name = graph.numbers(shape)
    else:
        name, shape, _ = graph.rows()
    places = graph.one_of("constant", "rows")
    if places == "constant":
        picked = np.zeros(graph.list_of(graph.one_of(0, 1, 2), 1, 2, 4), np.int64)
        picked.flat[: graph.flag()] = 1
        where = graph.constant(picked)
    else:
        where = _places(graph, graph.rows(graph.one_of(1, 2, 3))[0])
    attributes = {"axis": graph.one_of(*range(-len(shape), len(shape)))}
    if op == "GatherND":
        attributes = {"batch_dims": graph.flag()}
        if graph.flag():
            where = graph.add("Unsqueeze", [where, graph.constant(np.array([-1]))])
    return graph.add(op, [name, where], **attributes)


def _places(graph: Graph, name: str) -> str:
    """Turn the values of rows into the indices 0 and 1."""
    zero = graph.constant(np.float32(0))
    return graph.add("Cast", [graph.add("Greater", [name, zero])], to=I64)


def expand(graph: Graph, op: str) -> str:
    """Build an Expand to any shape, fixed or computed."""
    name = graph.operand()
    shape = graph.target(graph.rows()[0], graph.one_of(1, 2, 3))
    return graph.add(op, [name, shape])


def fill(graph: Graph, op: str) -> str:
    """Build a ConstantOfShape with a fixed or computed shape."""
    return graph.add(op, [graph.target(graph.rows()[0], graph.one_of(1, 2, 3))])


def tile(graph: Graph, op: str) -> str:
    """Build a Tile of rows, or of a constant by a computed number."""
    name, shape, _ = graph.rows()
    if graph.flag():
        return graph.add(op, [name, graph.constant(np.array(graph.list_of(len(shape), 1, 1, 2)))])
    count = graph.one_of(1, 2)
    constant = graph.numbers(graph.list_of(count, *LENGTHS))
    return graph.add(op, [constant, graph.target(name, count)])


def pad(graph: Graph, op: str) -> str:
    """Build a Pad of any axes, in any mode."""
    name, shape, _ = graph.rows()
    pads = np.array(graph.list_of(2 * len(shape), 0, 0, 1), np.int64)
    return graph.add(op, [name, graph.constant(pads)], mode=graph.one_of("constant", "edge"))


def one_hot(graph: Graph, op: str) -> str:
    """Build a OneHot at any axis."""
    name, shape, _ = graph.rows()
    more = [graph.constant(np.array(3)), graph.constant(np.float32([0, 1]))]
    axis = graph.one_of(*range(-len(shape) - 1, len(shape) + 1))
    return graph.add(op, [_places(graph, name), *more], axis=axis)


def triangle(graph: Graph, op: str) -> str:
    """Build a Trilu, which cuts the last two axes."""
    return graph.add(op, [graph.rows(graph.one_of(2, 3, 4))[0]], upper=graph.flag())


def matmul(graph: Graph, op: str) -> str:
    """Build a matrix product of rows and constants of any rank, on either side."""
    names = [graph.rows()[0], graph.operand()][:: graph.one_of(1, -1)]
    attributes = {}
    if op == "FusedMatMul":
        attributes = {"transA": graph.one_of(0, 0, 1), "alpha": 0.5}
    if op in ("MatMulInteger", "QLinearMatMul"):
        names = [_cast(graph, name, TensorProto.INT8) for name in names]
        scale, zero = graph.constant(np.float32(0.5)), graph.constant(np.int8(1))
        if op == "QLinearMatMul":
            names = [names[0], scale, zero, names[1], scale, zero, scale, zero]
        else:
            names += graph.one_of([], [zero, zero])
    return graph.add(op, names, MICROSOFT if op == "FusedMatMul" else "", **attributes)


def gemm(graph: Graph, op: str) -> str:
    """Build a Gemm, transposed or not, with or without an addend."""
    names = [graph.rows(2)[0], graph.numbers(graph.list_of(2, *LENGTHS))]
    if graph.flag():
        names[1] = graph.rows(2)[0]
    names = names[:: graph.one_of(1, 1, -1)]
    more = graph.one_of([], [graph.operand()])
    return graph.add(op, [*names, *more], transA=graph.flag(), transB=graph.flag())


def einsum(graph: Graph, op: str) -> str:
    """Build one of some Einsum equations, with rows in any operand."""
    equation = graph.one_of(
        *("ij,jk->ik", "ij,kj->ik", "ij,ij->ij", "ij,ij->i", "ij,ij->j", "ijk,ikl->ijl"),
        *("ijk,jkl->il", "ij,ik->ijk", "ij,jk->ki", "ii,ij->ij", "ij,kj->ki", "ijk,ijl->ikl"),
    )
    parts = equation.partition("->")[0].split(",")
    names = []
    for part in parts:
        rank = len(part)
        if graph.one_of(True, False) or (part == parts[-1] and not graph.inputs):
            names.append(graph.rows(rank)[0])
        else:
            names.append(graph.numbers(graph.list_of(rank, *LENGTHS)))
    return graph.add(op, names, equation=equation)


def convolution(graph: Graph, op: str) -> str:
    """Build a convolution of one or two dimensions, with rows in any operand."""
    name, shape, _ = graph.rows(graph.one_of(3, 4))
    count = len(shape) - 2
    kernel = graph.list_of(count, 1, 2)
    attributes: dict[str, Any] = {"strides": graph.list_of(count, 1, 2)}
    if graph.flag():
        attributes["pads"] = graph.list_of(2 * count, 0, 1)
    elif graph.flag():
        attributes["auto_pad"] = graph.one_of("SAME_UPPER", "VALID")
    if op == "ConvTranspose":
        return graph.add(op, [name, graph.numbers([shape[1], 2, *kernel])], **attributes)
    weights = graph.numbers([graph.one_of(1, 2, 4), shape[1], *kernel])
    if op == "Conv":
        return graph.add(op, [name, weights], **attributes)
    name, weights = (
        _cast(graph, n, TensorProto.UINT8) for n in (graph.add("Abs", [name]), weights)
    )
    if op == "ConvInteger":
        return graph.add(op, [name, weights], **attributes)
    scale, zero = graph.constant(np.float32(0.5)), graph.constant(np.uint8(1))
    return graph.add(op, [name, scale, zero, weights, scale, zero, scale, zero], **attributes)


def pool(graph: Graph, op: str) -> str:
    """Build a pooling operator of one or two dimensions."""
    name, shape, _ = graph.rows(graph.one_of(3, 4))
    if op.startswith("Global"):
        return graph.add(op, [name])
    count = len(shape) - 2
    attributes = {"kernel_shape": graph.list_of(count, 1, 2), "strides": graph.list_of(count, 1, 2)}
    if op != "LpPool":
        attributes["ceil_mode"] = graph.flag()
    return graph.add(op, [name], **attributes)


def blocks(graph: Graph, op: str) -> str:
    """Build a SpaceToDepth or DepthToSpace with blocks of four values."""
    name, shape, axis = graph.rows(4)
    if axis == 0 and op == "DepthToSpace":
        name = graph.add("Concat", [name] * 4, axis=1)
    elif axis == 0:
        name = graph.add("Concat", [graph.add("Concat", [name] * 2, axis=2)] * 2, axis=3)
    del shape
    return graph.add(op, [name], blocksize=2)


def normalization(graph: Graph, op: str) -> str:
    """Build a normalization by channels, with rows in any operand."""
    name, shape, _ = graph.rows(graph.one_of(2, 3, 4))
    scale = graph.numbers([shape[1]], 0.5, 1.5)
    if op == "LRN":
        return graph.add(op, [name], size=3)
    if op == "GroupNormalization":
        graph.version = 21
        return graph.add(op, [name, scale, scale], num_groups=1)
    if op == "InstanceNormalization":
        return graph.add(op, [name, scale, scale])
    return graph.add(op, [name, scale, scale, scale, graph.numbers([shape[1]], 0.5, 2.0)])


def resize(graph: Graph, op: str) -> str:
    """Build a Resize by 1 or 2 along any axes."""
    name, shape, _ = graph.rows(graph.one_of(2, 3, 4))
    scales = graph.constant(np.float32(graph.list_of(len(shape), 1, 1, 2)))
    if op == "Upsample":
        graph.version = 9
        return graph.add(op, [name, scales], mode=graph.one_of("nearest", "linear"))
    mode = {"mode": graph.one_of("nearest", "linear", "cubic")}
    if graph.flag():
        return graph.add(op, [name, "", scales], **mode)
    return graph.add(op, [name, "", "", graph.add("Shape", [name])], **mode)


def recurrent(graph: Graph, op: str) -> str:
    """Build a recurrent layer with rows as steps or sequences; lengths and states are optional."""
    name, shape, axis = graph.rows(3, axis=graph.one_of(1, 1, 0))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    hidden, directions = 2, graph.one_of(1, 2)
    weights = graph.numbers([directions, gates * hidden, shape[2]], -1, 1)
    again = graph.numbers([directions, gates * hidden, hidden], -1, 1)
    names = [name, weights, again]
    if axis == 1 and graph.flag():
        lengths = graph.add("Add", [_places(graph, graph.rows(1)[0]), graph.constant(np.array(1))])
        names += ["", graph.add("Cast", [lengths], to=TensorProto.INT32)]
        if graph.flag() and directions == 1:
            first = graph.rows(2, axis=0)[0]
            wide = graph.add("Slice", [first, *map(graph.constant, ([0], [1], [1]))])
            wide = graph.add("Concat", [wide, wide], axis=1)
            axes = graph.constant(np.array([graph.one_of(0, 0, 1)]))
            names.append(graph.add("Unsqueeze", [wide, axes]))
    outputs = [f"n{graph.name()}{part}" for part in "ab"]
    direction = "bidirectional" if directions == 2 else "forward"
    graph.nodes.append(
        helper.make_node(op, names, outputs, hidden_size=hidden, direction=direction)
    )
    return outputs[graph.flag()]


def reverse(graph: Graph, op: str) -> str:
    """Build a ReverseSequence along the batch axis and another axis."""
    axis = graph.one_of(0, 1)
    name, _, _ = graph.rows(graph.one_of(2, 3), axis=axis)
    lengths = _places(graph, graph.rows(1)[0])
    if graph.flag():
        lengths = graph.constant(np.ones(graph.one_of(1, 2, 4), np.int64))
    batch = graph.one_of(0, 1)
    return graph.add(op, [name, lengths], batch_axis=batch, time_axis=1 - batch)


def shape_of(graph: Graph, op: str) -> str:
    """Build a use of a Shape: as a new shape, or in a computation."""
    name, _, _ = graph.rows()
    length = graph.add(op, [name])
    if graph.flag():
        return graph.add("Mul", [name, graph.add("Cast", [length], to=F)])
    if op == "Size":
        length = graph.add("Unsqueeze", [length, graph.constant(np.array([0]))])
    return graph.add("Reshape", [name, length])


def table(graph: Graph, op: str) -> str:
    """Build an operator of `ai.onnx.ml`; most of them take matrices."""
    name, shape, _ = graph.rows(graph.one_of(1, 2, 2, 2, 3))
    width = shape[-1]
    ones = [0.5 + i for i in range(width)]
    attributes: dict[str, Any] = {
        "Scaler": {"offset": ones, "scale": ones},
        "Normalizer": {"norm": graph.one_of("MAX", "L1", "L2")},
        "Imputer": {"imputed_value_floats": ones, "replaced_value_float": 0.0},
        "Binarizer": {"threshold": 0.1},
        "OneHotEncoder": {"cats_int64s": [0, 1], "zeros": 1},
        "LabelEncoder": {"keys_int64s": [0, 1], "values_floats": [5.0, 7.0]},
        "CategoryMapper": {"cats_int64s": [0, 1], "cats_strings": ["0", "1"]},
        "LinearRegressor": {"coefficients": ones, "intercepts": [0.5]},
        "LinearClassifier": {
            "coefficients": [*ones, *reversed(ones)],
            "intercepts": [0.5, 0.1],
            "classlabels_ints": [3, 4],
            "post_transform": graph.one_of("NONE", "SOFTMAX", "LOGISTIC"),
        },
        "SVMRegressor": {
            "coefficients": [1.0],
            "support_vectors": ones,
            "n_supports": 1,
            "rho": [0.3],
            "kernel_type": "RBF",
            "kernel_params": [0.1, 0.0, 3.0],
        },
        "SVMClassifier": {
            "coefficients": [*ones, *reversed(ones)],
            "rho": [0.3, 0.1],
            "kernel_type": "LINEAR",
            "kernel_params": [0.1, 0.0, 3.0],
            "classlabels_ints": [3, 4],
        },
    }.get(op, {})
    if op in ("OneHotEncoder", "LabelEncoder", "CategoryMapper"):
        name = _places(graph, name)
    if op == "CategoryMapper":
        name = graph.add("CategoryMapper", [name], ML, **attributes)
        return graph.add("CategoryMapper", [name], ML, **attributes)
    if op == "TreeEnsemble":
        attributes = _new_tree()
    elif op.startswith("Tree"):
        attributes = _tree(op)
    names = [f"n{graph.name()}a", f"n{graph.name()}b"][: 1 + op.endswith("Classifier")]
    graph.nodes.append(helper.make_node(op, [name], names, domain=ML, **attributes))
    return graph.one_of(*names)


def _tree(op: str) -> dict[str, Any]:
    kind = "class" if op.endswith("Classifier") else "target"
    attributes = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.1, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        f"{kind}_treeids": [0, 0],
        f"{kind}_nodeids": [1, 2],
        f"{kind}_ids": [0, 1] if kind == "class" else [0, 0],
        f"{kind}_weights": [0.7, 0.9],
    }
    return {
        **attributes,
        **({"classlabels_int64s": [3, 4]} if kind == "class" else {"n_targets": 1}),
    }


def _new_tree() -> dict[str, Any]:
    return {
        "n_targets": 1,
        "nodes_featureids": [0],
        "nodes_splits": numpy_helper.from_array(np.float32([0.1])),
        "nodes_modes": numpy_helper.from_array(np.uint8([0])),
        "nodes_truenodeids": [0],
        "nodes_falsenodeids": [1],
        "nodes_trueleafs": [1],
        "nodes_falseleafs": [1],
        "tree_roots": [0],
        "leaf_targetids": [0, 0],
        "leaf_weights": numpy_helper.from_array(np.float32([0.7, 0.9])),
    }


def features(graph: Graph, op: str) -> str:
    """Build a FeatureVectorizer of two inputs."""
    inputs = [graph.rows(graph.one_of(1, 2, 2)) for _ in range(2)]
    widths = [shape[-1] for _, shape, _ in inputs]
    return graph.add(op, [name for name, _, _ in inputs], ML, inputdimensions=widths)


def extract(graph: Graph, op: str) -> str:
    """Build an extraction of columns from rows or from a list."""
    if graph.flag():
        places = graph.constant(np.array(graph.list_of(graph.one_of(1, 2), 0), np.int64))
        return graph.add(op, [graph.rows()[0], places], ML)
    data = graph.numbers(graph.one_of([3], [1, 3], [2, 3]))
    return graph.add(op, [data, _places(graph, graph.rows()[0])], ML)


def distances(graph: Graph, op: str) -> str:
    """Build distances from rows to constants or to rows."""
    name, shape, _ = graph.rows(2)
    other = graph.one_of(graph.numbers([3, shape[1]]), graph.rows(2)[0], name)
    pair = [name, other][:: graph.one_of(1, -1)]
    return graph.add(op, pair, MICROSOFT, metric="sqeuclidean")


def unsqueeze(graph: Graph, op: str) -> str:
    """Build an Unsqueeze of any axes."""
    return squeeze(graph, op)


# The builders of the operators of each rule, by the rule's name.
BY_RULE: dict[str, Callable[[Graph, str], str]] = {
    "each_place": each_place,
    "same": clip,
    "like": like,
    "quantize": quantize,
    "dropout": dropout,
    "softmax": along,
    "along_last": along,
    "layer_normalization": along,
    "cumulative": along,
    "reduce": reduce,
    "reduce_one": along,
    "mean_variance": mean_variance,
    "top": along,
    "transpose": transpose,
    "reshape": reshape,
    "flatten": flatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "concat": concat,
    "split": split,
    "cut": cut,
    "gather": gather,
    "gather_elements": gather,
    "gather_nd": gather,
    "expand": expand,
    "fill": fill,
    "tile": tile,
    "pad": pad,
    "one_hot": one_hot,
    "triangle": triangle,
    "matmul": matmul,
    "fused_matmul": matmul,
    "integer_matmul": matmul,
    "quantized_matmul": matmul,
    "gemm": gemm,
    "einsum": einsum,
    "convolution": convolution,
    "pool": pool,
    "global_pool": pool,
    "rows_first": blocks,
    "keeps_rows_first": normalization,
    "batch_normalization": normalization,
    "resize": resize,
    "recurrent": recurrent,
    "reverse": reverse,
    "shape_of": shape_of,
    "size_of": shape_of,
    "table": table,
    "estimator": table,
    "encode": table,
    "features": features,
    "extract": extract,
    "distances": distances,
}
BY_NAME: dict[str, Callable[[Graph, str], str]] = {
    "ConvTranspose": convolution,
    "LabelEncoder": table,
    "CategoryMapper": table,
}
