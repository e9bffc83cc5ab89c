"""Whether each row of a batch goes through a graph by itself, followed operator by operator.

inputs, rows along their first axis ─ a rule for each operator ─▶ heads, rows along their first axis

If every operator on the way handles each place along the batch axis by itself, a row's answer is
made of that row alone, whatever lies beside it and however many: a proof, in milliseconds and
without running anything.  `NoProof` says where it ends, and whether rows are known to meet there.

It is one idea: each way to follow a value, by node, function or branch, needs the others.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from service.inference.independence import rules, shapes
from service.inference.independence.lengths import FOLLOWED, WIDE
from service.inference.independence.nodes import (
    GRAPHS,
    attributes_of,
    axis_names,
    domain_of,
    every_node,
    inner_attributes,
    name_of,
    needed_nodes,
    trains,
    versions_of,
)
from service.inference.independence.operators import MIXERS, RANDOM, RULES, VERSIONS
from service.inference.independence.values import (
    ALL_ROWS,
    Node,
    NoProof,
    Size,
    UnfollowedError,
    Value,
    broadcast,
    known,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NoProof", "find_mixer", "follow", "prove"]

# Constants of more values are no shapes, and nobody looks at their numbers.
SMALL = 64
# The types of those that anybody looks at: narrower ones are cut off when they are added up.
NUMBERS = frozenset((*WIDE, onnx.TensorProto.BOOL))
# What takes a shape, or places along an axis, and may so take the number of rows.
SHAPED = frozenset({"Expand", "Reshape", "Resize", "Slice", "Tile"})
# Domains in which ONNX Runtime has operators of its own.
RUNTIMES = ("ai.onnx", "com.microsoft", "com.ms.", "org.pytorch.aten")
# Functions and branches in each other, deeper than any exporter nests them.
DEEPEST = 16


def prove(model: onnx.ModelProto) -> int:
    """Follow the batch axis from every input to every head of a graph.

    Returns:
        How many operators were followed.

    Raises:
        NoProof: some operator does not handle each row by itself, or is not known to.
    """
    if (mixer := find_mixer(model)) is not None:
        raise NoProof(mixer, mixes=True)
    try:
        values, followed = follow(model)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # A graph that is put together as nobody does; a trial may still tell.
        raise NoProof(f"its graph cannot be followed: {error!r}", mixes=False) from error
    for output in model.graph.output:
        value = values.get(output.name)
        if value is None or value.shape is None or value.axis is None:
            raise NoProof(f"head {output.name!r} is not known to have rows", mixes=False)
        if value.axis != 0 or value.shape[0] != ALL_ROWS:
            raise NoProof(f"head {output.name!r} does not have a row for each row", mixes=True)
    return followed


def follow(model: onnx.ModelProto) -> tuple[dict[str, Value], int]:
    """Give what is known of every tensor on the way to a head, and how many operators made them.

    Raises:
        NoProof: some operator does not handle each row by itself, or is not known to.
    """
    proof = _Proof(model, versions_of(model.opset_import))
    values = _constants(model.graph)
    for entry in model.graph.input:
        if entry.name not in values:
            values[entry.name] = proof.enter(entry)
    proof.follow(model.graph.node, values, [output.name for output in model.graph.output])
    return values, proof.followed


def find_mixer(model: onnx.ModelProto) -> str | None:
    """An operator that mixes rows wherever it stands, in a branch or a function too."""
    for node in every_node(model):
        reason = MIXERS.get((domain_of(node), node.op_type))
        if reason is None and trains(node):
            reason = "is in training mode: it normalizes by the statistics of the batch"
        if reason is not None:
            return f"{node.op_type} {name_of(node)!r} {reason}"
    return None


def _constants(graph: onnx.GraphProto) -> dict[str, Value]:
    """The graph's constants; with their numbers, where they are few."""
    values = {}
    for tensor in graph.initializer:
        values[tensor.name] = _constant(tensor)
    for sparse in graph.sparse_initializer:
        values[sparse.values.name] = Value(tuple(sparse.dims))
    return values


def _constant(tensor: onnx.TensorProto) -> Value:
    shape = tuple(tensor.dims)
    here = tensor.data_location != onnx.TensorProto.EXTERNAL
    if here and np.prod(shape, initial=1) <= SMALL and tensor.data_type in NUMBERS:
        return known(numpy_helper.to_array(tensor))
    return Value(shape)


class _Proof:
    """One graph that is followed: its functions and versions, and what was counted on the way."""

    def __init__(self, model: onnx.ModelProto, versions: Mapping[str, int]) -> None:
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._versions = versions
        self._symbols: list[str] = []
        self._batch_names = set(axis_names(model))
        self._depth = 0
        self.followed = 0

    def enter(self, entry: onnx.ValueInfoProto) -> Value:
        """Have rows along the first axis of an input."""
        tensor = entry.type.tensor_type
        if not entry.type.HasField("tensor_type") or not tensor.HasField("shape"):
            raise NoProof(f"input {entry.name!r} has no shape", mixes=False)
        if not tensor.shape.dim:
            raise NoProof(f"input {entry.name!r} has no axes", mixes=True)
        shape: list[int | Size] = [ALL_ROWS]
        for place, dim in enumerate(tensor.shape.dim[1:], 1):
            if dim.dim_param and dim.dim_param in self._batch_names:
                why = f"axis {place} of input {entry.name!r} is as long as the batch"
                raise NoProof(why, mixes=True)
            # Axes of one name need not be equally long: ONNX Runtime does not look.
            shape.append(dim.dim_value if dim.HasField("dim_value") else self._fresh())
        return Value(tuple(shape), 0)

    def _fresh(self) -> Size:
        return Node("", "", 0, (), {}, symbols=self._symbols).fresh()

    def follow(
        self, nodes: Sequence[onnx.NodeProto], values: dict[str, Value], wanted: Sequence[str]
    ) -> None:
        """Add what is known of the outputs of nodes, as far as something that is wanted needs."""
        needed = needed_nodes(nodes, wanted)
        for node in nodes:
            if needed.isdisjoint(node.output):
                continue
            self.followed += 1
            made = self._apply(node, values)
            values |= {n: v for n, v in zip(node.output, made, strict=False) if n}

    def _apply(self, node: onnx.NodeProto, values: dict[str, Value]) -> list[Value]:
        inputs: list[Value | None] = []
        for name in node.input:
            if name and name not in values:
                why = f"{node.op_type} {name_of(node)!r} needs {name!r}, of which nothing is known"
                raise NoProof(why, mixes=False)
            inputs.append(values[name] if name else None)
        domain = domain_of(node)
        function = self._functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            return self._call(node, function, inputs)
        if (domain, node.op_type) == ("", "If"):
            return self._branch(node, values, inputs)
        said = Node(
            op=node.op_type,
            name=name_of(node),
            version=self._versions.get(domain, 0),
            inputs=inputs,
            attributes=attributes_of(node),
            outputs=len(node.output),
            symbols=self._symbols,
        )
        if domain == "" and said.version not in VERSIONS:
            said.unknown(f"is of operator set {said.version}, which is not in the table")
        if any(attribute.type in GRAPHS for attribute in node.attribute):
            said.unknown("has a graph of its own, which is not followed")
        if not any(value is not None and value.axis is not None for value in inputs) and not (
            domain == "" and node.op_type in ("Shape", "Size")
        ):
            return _fold(said, domain)
        rule = RULES.get((domain, node.op_type))
        if rule is None:
            said.unknown("is not in the table of operators")
        shaped = domain == "" and node.op_type in SHAPED
        if any(v is not None and v.is_counted for v in (inputs[:1] if shaped else inputs)):
            said.mixes("computes with the number of rows")
        try:
            return rule(said)
        except UnfollowedError:
            said.unknown("computes lengths that are not followed")
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Such as fewer ends than starts: whether ONNX Runtime takes it is not ours to say.
            said.unknown("is not as its definition says")

    def _call(
        self, node: onnx.NodeProto, function: onnx.FunctionProto, inputs: Sequence[Value | None]
    ) -> list[Value]:
        """Follow the body of a function of the model."""
        versions = versions_of(function.opset_import)
        if (
            self._depth == DEEPEST
            or any(entry.ref_attr_name for entry in inner_attributes(function))
            # ONNX Runtime runs its own operator of that name instead,
            or node.domain.startswith(RUNTIMES)
            or not node.domain
            # and any operator as the model's own operator set has it.
            or any(self._versions.get(domain, n) != n for domain, n in versions.items())
        ):
            why = f"{node.op_type} {name_of(node)!r} is a function that is not followed"
            raise NoProof(why, mixes=False)
        known_inputs = zip(function.input, inputs, strict=False)
        inside = {name: value for name, value in known_inputs if value is not None}
        outer = self._versions
        self._versions = versions
        self._depth += 1
        self.follow(function.node, inside, list(function.output))
        self._depth -= 1
        self._versions = outer
        return [inside[name] for name in function.output]

    def _branch(
        self, node: onnx.NodeProto, values: dict[str, Value], inputs: Sequence[Value | None]
    ) -> list[Value]:
        """Follow both branches; what chooses between them has to be no row's."""
        [condition] = inputs
        if condition is None or condition.axis is not None or condition.is_counted:
            why = f"If {name_of(node)!r} chooses for all rows by what is in them"
            raise NoProof(why, mixes=True)
        if self._depth == DEEPEST:
            raise NoProof(f"If {name_of(node)!r} is nested too deep to follow", mixes=False)
        self._depth += 1
        both = []
        for attribute in node.attribute:
            inside = {**values, **_constants(attribute.g)}
            wanted = [output.name for output in attribute.g.output]
            self.follow(attribute.g.node, inside, wanted)
            both.append([inside[name] for name in wanted])
        self._depth -= 1
        made = []
        for one, other in zip(*both, strict=True):
            if one.is_counted or other.is_counted:
                raise NoProof(f"If {name_of(node)!r} hands on the number of rows", mixes=False)
            if one.axis != other.axis or one.shape is None or other.shape is None:
                why = f"If {name_of(node)!r} has branches that differ in their rows"
                raise NoProof(why, mixes=False)
            if one.shape != other.shape and len(one.shape) != len(other.shape):
                raise NoProof(f"If {name_of(node)!r} has branches of other shapes", mixes=False)
            pairs = list(zip(one.shape, other.shape, strict=True))
            if one.axis is not None and pairs[one.axis][0] != pairs[one.axis][1]:
                raise NoProof(f"If {name_of(node)!r} has branches of other rows", mixes=False)
            made.append(Value(tuple(a if a == b else self._fresh() for a, b in pairs), one.axis))
        return made


def _fold(node: Node, domain: str) -> list[Value]:
    """What comes of constants alone, and of the number of rows."""
    if (domain, node.op) in RANDOM:
        node.mixes("draws at random")
    values = [value for value in node.inputs if value is not None]
    if domain == "" and node.op == "Constant":
        return [_constant_of(node)]
    follow = FOLLOWED.get(node.op) if domain == "" else None
    if follow is not None and all(value.content is not None for value in values):
        try:
            content = follow(node, *(v.content if v is not None else None for v in node.inputs))
        except (UnfollowedError, TypeError, ValueError, IndexError, ZeroDivisionError):
            pass
        else:
            if content.size <= SMALL:
                return [Value(content.shape, None, content)]
    if any(value.is_counted for value in values):
        repeats = node.op in ("Expand", "Tile") and not values[0].is_counted
        if domain == "" and (repeats or node.op == "ConstantOfShape"):
            with contextlib.suppress(UnfollowedError):
                return RULES[domain, node.op](node)
        node.mixes("computes with the number of rows")
    return [Value(_shape(node, domain))] * node.outputs


def _constant_of(node: Node) -> Value:
    for name, value in node.attributes.items():
        if name == "value":
            return _constant(value)
        if name in ("value_int", "value_float", "value_ints", "value_floats"):
            return known(np.array(value))
    return Value(None)


def _shape(node: Node, domain: str) -> tuple[int | Size, ...] | None:
    """The shape of what comes of constants, where it is easily said."""
    rule = RULES.get((domain, node.op))
    first = node.input(0)
    shape = None
    if first is None or first.shape is None:
        return None
    if rule is rules.each_place:
        with contextlib.suppress(NoProof):
            shape = broadcast(node, [value for value in node.inputs if value is not None]).shape
    elif rule in (rules.same, rules.like, rules.quantize):
        shape = first.shape
    elif rule is shapes.transpose:
        order = node.attributes.get("perm", list(reversed(range(len(first.shape)))))
        shape = tuple(first.shape[i] for i in order)
    elif rule is shapes.reshape and (target := node.input(1)) is not None:
        content = [] if target.content is None else list(target.content.flat)
        shape = tuple(content) if content and all(n > 0 for n in content) else None
    return shape
