"""The proof of row independence: the batch axis is followed through a graph, node by node.

inputs, rows along their first axis ─ a rule for each operator ─▶ heads, rows along their first axis

If each operator on the way computes a row of its outputs from the same row of its inputs, and from
what is the same for every batch, then an answer depends on its row alone, whichever rows lie beside
it and however many.  The proof takes milliseconds and runs nothing.  `NoProof` says at which node
it ends, and whether rows are known to mix there or are merely not known to stay apart.

This file is one idea: following a node, a function and a branch need each other.
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

# A constant of more values than this is not a shape, so its numbers are not kept.
SMALL = 64
# The types of constants whose numbers are kept.  Narrower ones overflow, which is not followed.
NUMBERS = frozenset((*WIDE, onnx.TensorProto.BOOL))
# The operators whose inputs after the first are shapes, scales or indices.  These inputs may hold
# the number of rows; to compute with it in any other way is to make answers depend on it.
SHAPED = frozenset({"Expand", "Reshape", "Resize", "Slice", "Tile"})
# The prefixes of the domains in which ONNX Runtime has operators of its own.
RUNTIMES = ("ai.onnx", "com.microsoft", "com.ms.", "org.pytorch.aten")
# The deepest nesting of functions and branches that is followed; exporters nest less deeply.
DEEPEST = 16


def prove(model: onnx.ModelProto) -> int:
    """Follow the batch axis from every input to every head of a graph.

    Returns:
        The number of nodes that were followed.

    Raises:
        NoProof: an operator mixes rows, or is not known to keep them apart.
    """
    if (mixer := find_mixer(model)) is not None:
        raise NoProof(mixer, mixes=True)
    try:
        values, followed = follow(model)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        # An unusual or invalid graph; a trial may still decide.
        raise NoProof(f"its graph cannot be followed: {error!r}", mixes=False) from error
    for output in model.graph.output:
        value = values.get(output.name)
        if value is None or value.shape is None or value.axis is None:
            raise NoProof(f"head {output.name!r} is not known to have rows", mixes=False)
        if value.axis != 0 or value.shape[0] != ALL_ROWS:
            raise NoProof(f"head {output.name!r} does not have a row for each row", mixes=True)
    return followed


def follow(model: onnx.ModelProto) -> tuple[dict[str, Value], int]:
    """Follow the batch axis to every head, and keep what is known on the way.

    Returns:
        By name, the value of every tensor that some head needs; and the number of nodes followed.

    Raises:
        NoProof: an operator mixes rows, or is not known to keep them apart.
    """
    proof = _Proof(model, versions_of(model.opset_import))
    values = _constants(model.graph)
    for entry in model.graph.input:
        if entry.name not in values:
            values[entry.name] = proof.enter(entry)
    proof.follow(model.graph.node, values, [output.name for output in model.graph.output])
    return values, proof.followed


def find_mixer(model: onnx.ModelProto) -> str | None:
    """Return an operator of `MIXERS` and its reason, also from a branch or a function."""
    for node in every_node(model):
        reason = MIXERS.get((domain_of(node), node.op_type))
        if reason is None and trains(node):
            reason = "is in training mode: it normalizes by the statistics of the batch"
        if reason is not None:
            return f"{node.op_type} {name_of(node)!r} {reason}"
    return None


def _constants(graph: onnx.GraphProto) -> dict[str, Value]:
    """Return the values of a graph's constants, with their numbers if they are few."""
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
    """A proof in progress: the model's functions and operator sets, and a count of nodes."""

    def __init__(self, model: onnx.ModelProto, versions: Mapping[str, int]) -> None:
        self._functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        self._versions = versions
        self._symbols: list[str] = []
        self._batch_names = set(axis_names(model))
        self._depth = 0
        self.followed = 0

    def enter(self, entry: onnx.ValueInfoProto) -> Value:
        """Return the value of an input, with its rows along the first axis.

        Raises:
            NoProof: the input has no shape, no axes, or another axis as long as the batch.
        """
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
            # Axes of the same name may differ in length, since ONNX Runtime does not compare them.
            shape.append(dim.dim_value if dim.HasField("dim_value") else self._fresh())
        return Value(tuple(shape), 0)

    def _fresh(self) -> Size:
        return Node("", "", 0, (), {}, symbols=self._symbols).fresh()

    def follow(
        self, nodes: Sequence[onnx.NodeProto], values: dict[str, Value], wanted: Sequence[str]
    ) -> None:
        """Add the outputs of nodes to `values`, as far as the `wanted` ones need them."""
        needed = needed_nodes(nodes, wanted)
        for node in nodes:
            if needed.isdisjoint(node.output):
                continue
            self.followed += 1
            outputs = self._apply(node, values)
            values |= {n: v for n, v in zip(node.output, outputs, strict=False) if n}

    def _apply(self, node: onnx.NodeProto, values: dict[str, Value]) -> list[Value]:
        """Return the values of a node's outputs, by the rule of its operator."""
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
        operator = Node(
            op=node.op_type,
            name=name_of(node),
            version=self._versions.get(domain, 0),
            inputs=inputs,
            attributes=attributes_of(node),
            outputs=len(node.output),
            symbols=self._symbols,
        )
        if domain == "" and operator.version not in VERSIONS:
            operator.unknown(f"is of operator set {operator.version}, which is not in the table")
        if any(attribute.type in GRAPHS for attribute in node.attribute):
            operator.unknown("has a graph of its own, which is not followed")
        if not any(value is not None and value.axis is not None for value in inputs) and not (
            domain == "" and node.op_type in ("Shape", "Size")
        ):
            return _fold(operator, domain)
        rule = RULES.get((domain, node.op_type))
        if rule is None:
            operator.unknown("is not in the table of operators")
        shaped = domain == "" and node.op_type in SHAPED
        if any(v is not None and v.is_counted for v in (inputs[:1] if shaped else inputs)):
            operator.mixes("computes with the number of rows")
        try:
            return rule(operator)
        except UnfollowedError:
            operator.unknown("computes lengths that are not followed")
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # For example fewer ends than starts, which ONNX Runtime may accept all the same.
            operator.unknown("does not match its definition")

    def _call(
        self, node: onnx.NodeProto, function: onnx.FunctionProto, inputs: Sequence[Value | None]
    ) -> list[Value]:
        """Follow the body of a function of the model, if ONNX Runtime runs it as it is written."""
        versions = versions_of(function.opset_import)
        if (
            self._depth == DEEPEST
            or any(entry.ref_attr_name for entry in inner_attributes(function))
            # In these domains, ONNX Runtime runs its own operator of that name instead;
            or node.domain.startswith(RUNTIMES)
            or not node.domain
            # and in every body, operators mean what they do in the model's operator sets.
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
        """Follow both branches of an If, whose condition must be the same for every batch.

        Raises:
            NoProof: the condition depends on rows or their number, a branch ends the proof, or
                the outputs of the branches differ in their rows.
        """
        [condition] = inputs
        if condition is None or condition.axis is not None or condition.is_counted:
            why = f"If {name_of(node)!r} chooses for all rows by their values"
            raise NoProof(why, mixes=True)
        if self._depth == DEEPEST:
            raise NoProof(f"If {name_of(node)!r} is nested too deeply to follow", mixes=False)
        self._depth += 1
        both = []
        for attribute in node.attribute:
            inside = {**values, **_constants(attribute.g)}
            wanted = [output.name for output in attribute.g.output]
            self.follow(attribute.g.node, inside, wanted)
            both.append([inside[name] for name in wanted])
        self._depth -= 1
        outputs = []
        for one, other in zip(*both, strict=True):
            if one.is_counted or other.is_counted:
                raise NoProof(f"If {name_of(node)!r} returns the number of rows", mixes=False)
            if one.axis != other.axis or one.shape is None or other.shape is None:
                why = f"If {name_of(node)!r} has branches that differ in their rows"
                raise NoProof(why, mixes=False)
            if one.shape != other.shape and len(one.shape) != len(other.shape):
                raise NoProof(f"If {name_of(node)!r} has branches of different ranks", mixes=False)
            pairs = list(zip(one.shape, other.shape, strict=True))
            if one.axis is not None and pairs[one.axis][0] != pairs[one.axis][1]:
                raise NoProof(
                    f"If {name_of(node)!r} has branches with different numbers of rows", mixes=False
                )
            outputs.append(Value(tuple(a if a == b else self._fresh() for a, b in pairs), one.axis))
        return outputs


def _fold(node: Node, domain: str) -> list[Value]:
    """Return the outputs of a node none of whose inputs has a batch axis.

    Lengths are computed, so that shapes can be followed.  The output is a constant, unless the
    number of rows goes into it: then it is a shape, or a constant that is repeated for each row.

    Raises:
        NoProof: the node draws at random, or computes with the number of rows.
    """
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
    """Return the shape of a computed constant; `None` if it is not easily known."""
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
