"""Construction of a compiled Keras functional model from a spec and its training rows.

Input per tensor ─▶ one node per input ─▶ the spec's layers ─▶ one Dense per head
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import nearest
from training import rows
from training.built import Built, feed
from training.errors import SpecError
from training.keras_objects import call, check_words, layer_class, optimizer, raise_any, value_of
from training.layers import Columns
from training.objectives import activation, loss, metric, wants_one_hot
from training.quiet import keras
from training.standardized import StandardizedLoss, moments, rescaling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.head_spec import HeadSpec
    from training.rows import Arrays, Data
    from training.spec import LayerSpec, Spec

# These layers take their tensors as one list.  Any other layer is given a concatenation of them,
# unless its call has several parameters (MultiHeadAttention).
TAKES_LIST = (
    *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("AdditiveAttention", "Attention"),
)
# Layers that learn from the data before the fit, and the argument that makes this unnecessary.
ADAPTED = {
    "Discretization": "bin_boundaries",
    "IntegerLookup": "vocabulary",
    "Log": "unit",
    "Normalization": "mean",
    "PiecewiseLinear": "boundaries",
    "StringLookup": "vocabulary",
    "TextVectorization": "vocabulary",
}

_FLAT = 2  # the rank of [rows, values]
# TensorFlow restricts the names of nodes; a column may have any name.
_NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def build(spec: Spec, data: Data) -> Built:
    """Build and compile the model.  Layers that learn from data see `data`, the training rows.

    Raises:
        SpecError: Keras has no such layer, argument, loss, metric or optimizer, or cannot create
            one of them; the message names the key.
    """
    check_words(spec)
    try:
        return _build(spec, data)
    except RecursionError as error:
        # Keras walks from the heads back to the inputs recursively.
        text = f"{spec.path}: layers: a chain of {len(spec.layers)} is too long for Keras"
        raise SpecError(text) from error


def _build(spec: Spec, data: Data) -> Built:
    network = _Network(spec, data)
    outputs = {name: network.node(name) for name in spec.heads}
    network.check_all_used()
    inputs = {tensor.name: tensor for tensor in network.inputs.values()}
    # Not the spec's name, which may begin with an underscore: TensorFlow refuses that.
    model = keras.Model(inputs, outputs, name="model")
    one_hot = frozenset(head.name for head in spec.heads.values() if wants_one_hot(head))
    # XLA would take longer to compile than these models take to train.
    model.compile(
        optimizer=optimizer(spec),
        loss={name: _loss(head, model) for name, head in spec.heads.items()},
        loss_weights={name: head.loss_weight for name, head in spec.heads.items()},
        # Where rows lack the target of a head, its metric goes by the weights, as the loss does.
        metrics={n: [metric(h)] for n, h in spec.heads.items() if n not in data.partial},
        weighted_metrics={name: [metric(spec.heads[name])] for name in data.partial},
        jit_compile=False,
    )
    names = {tensor.name: name for name, tensor in network.inputs.items()}
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in network.nodes.items()}
    return Built(model, names, one_hot, shapes)


class _Network:
    """The Keras tensors created so far, by the names that `after` uses in the spec."""

    def __init__(self, spec: Spec, data: Data) -> None:
        self.spec = spec
        self.data = data
        self.nodes: dict[str, Any] = {}
        self.layers: dict[str, Any] = {}
        self.inputs: dict[str, Any] = {}  # by tensor
        followers: list[LayerSpec | HeadSpec] = [*spec.layers.values(), *spec.heads.values()]
        self.after = {follower.name: follower.after for follower in followers}
        self.taken = {text for after in self.after.values() for text in after}
        self.entries = data.inputs
        self._check_columns()
        self._make_inputs()

    def _check_columns(self) -> None:
        """Refuse every `input.column` that is not a feature of the input."""
        problems = []
        for follower, after in self.after.items():
            section = "layers" if follower in self.spec.layers else "heads"
            for text in after:
                name, dot, column = text.partition(".")
                if not dot:
                    continue
                names = [feature.name for feature in self.entries[name].features]
                if column not in names:
                    why = f"{name!r} has no column {column!r}{nearest(column, names)}"
                    problems.append(f"{section}.{follower}.after: {why}")
        raise_any(self.spec, problems)

    def _make_inputs(self) -> None:
        for name in self.spec.inputs:
            entry = self.entries[name]
            for tensor in entry.tensors:
                known = self.nodes.keys() | self.inputs.keys()
                safe = tensor.name if _NODE_NAME.fullmatch(tensor.name) else f"in{len(known)}"
                placeholder = keras.Input(tensor.shape, dtype=tensor.dtype, name=safe)
                self.inputs[tensor.name] = placeholder
                if tensor.dtype == "string":
                    self.nodes[tensor.name] = placeholder
            for feature in entry.features:
                node = f"{name}.{feature.name}"
                if node in self.taken and feature.vocabulary is None:
                    self.nodes[node] = self._numbers(feature.tensor, [feature.column])
            if name in self.taken:
                self.nodes[name] = self._block(name)

    def _block(self, name: str) -> Any:
        """Return the node of one input: its numbers, then each text column in one-hot encoding.

        A column that a layer takes by name is left to that layer.
        """
        entry = self.entries[name]
        left = [feature for feature in entry.features if f"{name}.{feature.name}" not in self.taken]
        numbers = [feature.column for feature in left if feature.vocabulary is None]
        parts = [self._numbers(name, numbers)] if numbers or not entry.features else []
        for feature in left:
            if feature.vocabulary is None:
                continue
            safe = self.inputs[feature.tensor].name
            look_up = keras.layers.StringLookup(
                vocabulary=list(feature.vocabulary), output_mode="one_hot", name=f"{safe}.one_hot"
            )
            parts.append(look_up(self.inputs[feature.tensor]))
        if not parts:
            text = f"nothing is left of it: layers take all its columns by name, and {name!r} too"
            raise_any(self.spec, [f"inputs.{name}: {text}"])
        return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=f"{name}.all")(parts)

    def _numbers(self, tensor: str, positions: list[int]) -> Any:
        """Return the numbers at some positions of an input's tensor."""
        numbers = self.inputs[tensor]
        if not positions or positions == list(range(numbers.shape[1])):
            return numbers
        # A number in the name, since a column may have any name, and a dot, which no layer has.
        return Columns(positions, name=f"columns.{len(self.nodes)}")(numbers)

    def check_all_used(self) -> None:
        """Refuse columns that reach no head because layers take only their neighbours by name."""
        problems = []
        for name, entry in self.entries.items():
            # Every layer leads to a head, which `wiring` has checked.
            left = [
                feature.name
                for feature in entry.features
                if not self.taken & {name, f"{name}.{feature.name}"}
            ]
            if left and name in self.spec.inputs:
                columns = ", ".join(repr(column) for column in left)
                problems.append(
                    f"inputs.{name}: no head reads {columns}; "
                    f"name {name!r} in an after, or leave them out with columns"
                )
        raise_any(self.spec, problems)

    def node(self, name: str) -> Any:
        """Return the tensor of a node, creating it and all that it follows on first use."""
        waiting = [name]
        while waiting:
            last = waiting[-1]
            if last in self.nodes:
                waiting.pop()
                continue
            before = [text for text in self.after[last] if text not in self.nodes]
            if before:
                waiting += reversed(before)  # so that the first is created first
                continue
            tensors = [self.nodes[text] for text in self.after[last]]
            if last in self.spec.heads:
                self.nodes[last] = self._head(self.spec.heads[last], tensors)
            else:
                self.nodes[last] = self._layer(self.spec.layers[last], tensors)
        return self.nodes[name]

    def _layer(self, layer: LayerSpec, tensors: list[Any]) -> Any:
        owner = self.spec.layers[layer.share] if layer.share else layer
        at = f"layers.{owner.name}.{owner.kind}"
        if owner.kind in TAKES_LIST:
            arguments = [tensors]
        elif len(tensors) > 1 and _tensors_of_call(layer_class(owner.kind)) > 1:
            arguments = tensors
        else:
            arguments = [self._join(layer.name, tensors)]
        if owner.name not in self.layers:
            self.layers[owner.name] = self._make(at, owner, arguments[0])
        where = f"layers.{layer.name}.share" if layer.share else at
        return call(self.spec, where, self.layers[owner.name], *arguments)

    def _make(self, at: str, layer: LayerSpec, tensor: Any) -> Any:
        kind: Any = layer_class(layer.kind)
        arguments = call(self.spec, at, value_of, layer.arguments)
        learns = layer.kind in ADAPTED and ADAPTED[layer.kind] not in arguments
        if learns and layer.kind == "Normalization":
            arguments |= call(
                self.spec, at, moments, self._reaching(tensor), arguments.get("axis", -1)
            )
        keras_layer = call(self.spec, at, kind, **arguments, name=layer.name)
        if learns and layer.kind != "Normalization":
            call(self.spec, at, keras_layer.adapt, self._reaching(tensor))
        return keras_layer

    def _head(self, head: HeadSpec, tensors: list[Any]) -> Any:
        at = f"heads.{head.name}"
        tensor = self._join(head.name, tensors)
        if len(tensor.shape) != _FLAT:
            shape = list(tensor.shape[1:])
            text = f"expected a flat row of values, received the shape {shape}; Flatten it first"
            raise_any(self.spec, [f"{at}.after: {text}"])
        arguments = {
            "units": _units(head, self.data),
            "activation": activation(head.kind),
            **call(self.spec, f"{at}.Dense", value_of, head.arguments),
        }
        name = f"{head.name}.standardized" if head.standardize else head.name
        dense = call(self.spec, f"{at}.Dense", keras.layers.Dense, **arguments, name=name)
        answer = call(self.spec, f"{at}.after", dense, tensor)
        if not head.standardize:
            return answer
        return rescaling(rows.known_targets(self.data, head.name), head.name)(answer)

    def _join(self, name: str, tensors: list[Any]) -> Any:
        if len(tensors) == 1:
            return tensors[0]
        joined = keras.layers.Concatenate(name=f"{name}.all")
        section = "layers" if name in self.spec.layers else "heads"
        return call(self.spec, f"{section}.{name}.after", joined, tensors)

    def _reaching(self, tensor: Any) -> NDArray[Any]:
        """Return the values that the training rows have at `tensor`."""
        names = {placeholder.name: name for name, placeholder in self.inputs.items()}
        reached = {source.name: source for source in keras.utils.get_source_inputs(tensor)}
        arrays = self._rows({names[name] for name in reached})
        if tensor.name in reached:
            return arrays[names[tensor.name]]
        feeds = {name: feed(arrays[names[name]]) for name in reached}
        return np.asarray(keras.Model(reached, tensor).predict(feeds, verbose=0))

    def _rows(self, tensors: set[str]) -> Arrays:
        """Return the training rows of some tensors, each row once unless files must be paired."""
        for source in self.data.sources.values():
            if tensors <= source.arrays.keys():
                return source.arrays
        arrays, _ = rows.pairs(self.data, np.random.default_rng(self.spec.fit.seed))
        return arrays


def _loss(head: HeadSpec, model: keras.Model) -> Any:
    """Return the loss of a head, on standardised values if the head has them."""
    plain = keras.losses.get(loss(head))
    return StandardizedLoss(plain, model.get_layer(head.name)) if head.standardize else plain


def _units(head: HeadSpec, data: Data) -> int:
    labels = data.labels[head.name]
    if head.kind == "multiclass" and labels is not None:
        return len(labels)
    return int(rows.target(data, head.name).shape[1])


def _tensors_of_call(kind: Any) -> int:
    parameters = list(inspect.signature(kind.call).parameters.values())[1:]
    return sum(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )
