"""The spec and the training rows become a compiled Keras functional model.

    Input per tensor ─▶ one node per input ─▶ the spec's layers ─▶ one Dense per head

A layer is looked up in `keras.layers` and checked against its signature before anything is
made, so that a wrong name costs no training.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.errors import nearest
from service.kinds import THRESHOLD
from training import rows
from training.errors import SpecError
from training.quiet import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from training.head_spec import HeadSpec
    from training.rows import Arrays, Data
    from training.spec import LayerSpec, Spec

# These take their tensors as one list; any other layer is given a concatenation of them, unless
# its call asks for several (MultiHeadAttention).
TAKES_LIST = (
    *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("AdditiveAttention", "Attention"),
)
# What a layer learns from the data before the fit, and the argument that gives it beforehand.
ADAPTED = {
    "Discretization": "bin_boundaries",
    "IntegerLookup": "vocabulary",
    "Normalization": "mean",
    "StringLookup": "vocabulary",
    "TextVectorization": "vocabulary",
}
ACTIVATIONS = {"multiclass": "softmax", "regression": "linear"}  # the others: sigmoid
LOSSES = {
    "binary": "binary_crossentropy",
    "multiclass": "sparse_categorical_crossentropy",
    "multilabel": "binary_crossentropy",
    "regression": "mean_squared_error",
}

_FLAT = 2  # the rank of [rows, values]
# What TensorFlow takes as the name of a node; a column may be called anything.
_NODE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Built:
    """A compiled model.

    `tensors` is, by Keras' name of an input, the name of that tensor in the data and the graph;
    the two differ only where TensorFlow cannot say the column's name.  The targets of the heads in
    `one_hot` are wanted as one column per class.
    """

    model: keras.Model
    tensors: dict[str, str]
    one_hot: frozenset[str]


def build(spec: Spec, data: Data) -> Built:
    """Make and compile the model; layers that learn from data see `data`, the training part.

    Raises:
        SpecError: Keras has no such layer, argument, loss, metric or optimizer, or cannot make
            one of them; the message names the key.
    """
    _check_words(spec)
    try:
        return _build(spec, data)
    except RecursionError as error:
        # Keras itself walks from the heads back to the inputs, one call inside another.
        text = f"{spec.path}: layers: a chain of {len(spec.layers)} is too long for Keras"
        raise SpecError(text) from error


def _build(spec: Spec, data: Data) -> Built:
    graph = _Graph(spec, data)
    outputs = {name: graph.node(name) for name in spec.heads}
    graph.check_all_used()
    inputs = {tensor.name: tensor for tensor in graph.inputs.values()}
    # A name of its own: TensorFlow takes no leading underscore, and specs may have one.
    model = keras.Model(inputs, outputs, name="model")
    one_hot = frozenset(head.name for head in spec.heads.values() if _wants_one_hot(head))
    # XLA would compile for longer than these models train.
    model.compile(
        optimizer=_optimizer(spec),
        loss={name: keras.losses.get(_loss(head)) for name, head in spec.heads.items()},
        loss_weights={name: head.loss_weight for name, head in spec.heads.items()},
        metrics={name: [metric(head)] for name, head in spec.heads.items()},
        jit_compile=False,
    )
    names = {tensor.name: name for name, tensor in graph.inputs.items()}
    return Built(model, names, one_hot)


def metric(head: HeadSpec) -> Any:
    """A fresh Keras metric for a head: the spec's, or the one that its kind is scored by."""
    name = metric_name(head)
    if name != "accuracy":
        # By its own name: Keras numbers the metrics that it names itself.
        return type(keras.metrics.get(name))(name=name)
    if head.kind == "multiclass":
        plain = keras.metrics.CategoricalAccuracy, keras.metrics.SparseCategoricalAccuracy
        return plain[not _wants_one_hot(head)](name=name)
    return keras.metrics.BinaryAccuracy(name=name, threshold=head.threshold or THRESHOLD)


def metric_name(head: HeadSpec) -> str:
    """What a head is scored by."""
    return head.metric or ("mae" if head.kind == "regression" else "accuracy")


def _loss(head: HeadSpec) -> str:
    return head.loss or LOSSES[head.kind]


def _wants_one_hot(head: HeadSpec) -> bool:
    name = _loss(head).lower().replace("_", "")
    return head.kind == "multiclass" and not name.startswith("sparse")


class _Graph:
    """The Keras tensors made so far, by the names that the spec's `after` uses."""

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
        """Every `input.column` is a column that has a tensor of its own."""
        problems = []
        for follower, after in self.after.items():
            section = "layers" if follower in self.spec.layers else "heads"
            for text in after:
                name, dot, column = text.partition(".")
                if not dot:
                    continue
                features = {feature.name: feature for feature in self.entries[name].features}
                texts = [key for key, value in features.items() if value.vocabulary is not None]
                if column in texts:
                    continue
                if column in features:
                    why = (
                        f"{column!r} is a number and part of {name!r}; "
                        f'inputs.{name}.categorical = ["{column}"] makes it a text'
                    )
                else:
                    why = f"{name!r} has no text column {column!r}{nearest(column, texts)}"
                problems.append(f"{section}.{follower}.after: {why}")
        _raise_any(self.spec, problems)

    def _make_inputs(self) -> None:
        for name in self.spec.inputs:
            entry = self.entries[name]
            for tensor in entry.tensors:
                known = self.nodes.keys() | self.inputs.keys()
                safe = tensor.name if _NODE_NAME.fullmatch(tensor.name) else f"in{len(known)}"
                made = keras.Input(tensor.shape, dtype=tensor.dtype, name=safe)
                self.inputs[tensor.name] = made
                if tensor.dtype == "string":
                    self.nodes[tensor.name] = made
            if name in self.taken:
                self.nodes[name] = self._block(name)

    def _block(self, name: str) -> Any:
        """The node of one input: its numbers, then each text column as one-hot.

        A text column that a layer takes by its own name is that layer's to prepare.
        """
        entry = self.entries[name]
        parts = [self.inputs[name]] if name in self.inputs else []
        for feature in entry.features:
            if feature.vocabulary is None or feature.tensor in self.taken:
                continue
            safe = self.inputs[feature.tensor].name
            look_up = keras.layers.StringLookup(
                vocabulary=list(feature.vocabulary), output_mode="one_hot", name=f"{safe}.one_hot"
            )
            parts.append(look_up(self.inputs[feature.tensor]))
        if not parts:
            text = f"nothing is left of it: layers take all its columns by name, and {name!r} too"
            _raise_any(self.spec, [f"inputs.{name}: {text}"])
        return parts[0] if len(parts) == 1 else keras.layers.Concatenate(name=f"{name}.all")(parts)

    def check_all_used(self) -> None:
        """Refuse columns that reach no head because only their neighbours are taken by name."""
        used = {
            tensor.name
            for name in self.spec.heads
            for tensor in keras.utils.get_source_inputs(self.nodes[name])
        }
        problems = []
        for name, entry in self.entries.items():
            left = [
                feature.name
                for feature in entry.features
                if self.inputs[feature.tensor].name not in used
            ]
            if left and name in self.spec.inputs:
                columns = ", ".join(repr(column) for column in left)
                problems.append(
                    f"inputs.{name}: no head reads {columns}; "
                    f"name {name!r} in an after, or leave them out with columns"
                )
        _raise_any(self.spec, problems)

    def node(self, name: str) -> Any:
        """The tensor of a node, made with all that it follows when it is first asked for."""
        waiting = [name]
        while waiting:
            last = waiting[-1]
            if last in self.nodes:
                waiting.pop()
                continue
            before = [text for text in self.after[last] if text not in self.nodes]
            if before:
                waiting += reversed(before)  # so that the first is made first
                continue
            made = [self.nodes[text] for text in self.after[last]]
            if last in self.spec.heads:
                self.nodes[last] = self._head(self.spec.heads[last], made)
            else:
                self.nodes[last] = self._layer(self.spec.layers[last], made)
        return self.nodes[name]

    def _layer(self, layer: LayerSpec, tensors: list[Any]) -> Any:
        owner = self.spec.layers[layer.share] if layer.share else layer
        at = f"layers.{owner.name}.{owner.kind}"
        if owner.kind in TAKES_LIST:
            arguments = [tensors]
        elif len(tensors) > 1 and _tensors_of_call(getattr(keras.layers, owner.kind)) > 1:
            arguments = tensors
        else:
            arguments = [self._join(layer.name, tensors)]
        if owner.name not in self.layers:
            self.layers[owner.name] = self._make(at, owner, arguments[0])
        where = f"layers.{layer.name}.share" if layer.share else at
        return _ask(self.spec, where, self.layers[owner.name], *arguments)

    def _make(self, at: str, layer: LayerSpec, tensor: Any) -> Any:
        kind = getattr(keras.layers, layer.kind)
        arguments = _ask(self.spec, at, _value, layer.arguments)
        learns = layer.kind in ADAPTED and ADAPTED[layer.kind] not in arguments
        if learns and layer.kind == "Normalization":
            arguments |= _ask(
                self.spec, at, _moments, self._reaching(tensor), arguments.get("axis", -1)
            )
        made = _ask(self.spec, at, kind, **arguments, name=layer.name)
        if learns and layer.kind != "Normalization":
            _ask(self.spec, at, made.adapt, self._reaching(tensor))
        return made

    def _head(self, head: HeadSpec, tensors: list[Any]) -> Any:
        at = f"heads.{head.name}"
        tensor = self._join(head.name, tensors)
        if len(tensor.shape) != _FLAT:
            shape = list(tensor.shape[1:])
            text = f"expected a flat row of values, received the shape {shape}; Flatten it first"
            _raise_any(self.spec, [f"{at}.after: {text}"])
        arguments = {
            "units": _units(head, self.data),
            "activation": ACTIVATIONS.get(head.kind, "sigmoid"),
            **_ask(self.spec, f"{at}.Dense", _value, head.arguments),
        }
        made = _ask(self.spec, f"{at}.Dense", keras.layers.Dense, **arguments, name=head.name)
        return _ask(self.spec, f"{at}.after", made, tensor)

    def _join(self, name: str, tensors: list[Any]) -> Any:
        if len(tensors) == 1:
            return tensors[0]
        joined = keras.layers.Concatenate(name=f"{name}.all")
        section = "layers" if name in self.spec.layers else "heads"
        return _ask(self.spec, f"{section}.{name}.after", joined, tensors)

    def _reaching(self, tensor: Any) -> NDArray[Any]:
        """What the training rows are when they reach `tensor`."""
        names = {made.name: name for name, made in self.inputs.items()}
        reached = {source.name: source for source in keras.utils.get_source_inputs(tensor)}
        arrays = self._rows({names[name] for name in reached})
        if tensor.name in reached:
            return arrays[names[tensor.name]]
        feeds = {name: feed(arrays[names[name]]) for name in reached}
        return np.asarray(keras.Model(reached, tensor).predict(feeds, verbose=0))

    def _rows(self, tensors: set[str]) -> Arrays:
        """The training rows of some tensors: each row once, unless files have to be paired."""
        for source in self.data.sources.values():
            if tensors <= source.arrays.keys():
                return source.arrays
        arrays, _ = rows.pairs(self.data, np.random.default_rng(self.spec.fit.seed))
        return arrays


def feed(array: NDArray[Any]) -> Any:
    """An array as Keras takes it: numpy's texts are objects to it, TensorFlow's are texts."""
    return tf.constant(array) if array.dtype == object else array


def objection(error: Exception) -> str:
    """What Keras or TensorFlow said, without colours, stack and the tensors that were there."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling [^\n]*\n", "", text)
    text = text.partition("Arguments received by")[0]
    if text.startswith(("Graph execution error", "in user code")):
        # The message proper comes last, after the places in their code that it came through.
        text = re.split(r"\n\s*\n", text.strip())[-1]
        text = re.sub(r"\[\[\{\{.*", "", text, flags=re.DOTALL)
    return " ".join(text.split()) or type(error).__name__


def _moments(values: NDArray[Any], axis: Any) -> dict[str, Any]:
    """Mean and variance for a Normalization layer, in double precision.

    A value that never varies in training gets variance 1: by its own variance, 0, the first
    unseen value would be millions of standard deviations away.
    """
    axes = () if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    kept = {a % values.ndim for a in axes}
    reduced = tuple(a for a in range(values.ndim) if a not in kept)
    mean = values.mean(axis=reduced, dtype=np.float64)
    variance = values.var(axis=reduced, dtype=np.float64)
    variance = np.where(variance > 0, variance, 1.0)
    return {"mean": mean.astype(np.float32), "variance": variance.astype(np.float32)}


def _units(head: HeadSpec, data: Data) -> int:
    labels = data.labels[head.name]
    if head.kind == "multiclass" and labels is not None:
        return len(labels)
    return int(rows.target(data, head.name).shape[1])


def _tensors_of_call(kind: type) -> int:
    parameters = list(inspect.signature(kind.call).parameters.values())[1:]  # type: ignore[attr-defined]
    return sum(
        parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


def _check_words(spec: Spec) -> None:
    """Hold every layer, argument, loss, metric and optimizer against what Keras knows."""
    problems: list[str] = []
    for layer in spec.layers.values():
        if layer.share is None:
            _check_object(problems, f"layers.{layer.name}", layer.kind, layer.arguments)
    for head in spec.heads.values():
        at = f"heads.{head.name}"
        _check_object(problems, at, "Dense", head.arguments)
        for key, namespace in (("loss", keras.losses), ("metric", keras.metrics)):
            name = getattr(head, key)
            if name is not None:
                _check_word(problems, f"{at}.{key}", namespace, name)
    name = spec.fit.optimizer
    kind = _optimizer_class(name)
    if kind is None:
        tail = nearest(name, [*_optimizers(), *map(str.lower, _optimizers())])
        problems.append(f"fit.optimizer: Keras has no optimizer {name!r}{tail}")
    else:
        at = f"fit.optimizer.{kind.__name__}"
        _check_arguments(problems, at, kind, spec.fit.optimizer_arguments)
    _raise_any(spec, problems)


def _check_word(problems: list[str], at: str, namespace: Any, name: str) -> None:
    """A loss or metric by its name; Keras also knows short forms, as mse."""
    if name == "accuracy":
        return
    try:
        namespace.get(name)
    except ValueError:
        names = [word for word in _public(namespace) if word not in ("deserialize", "serialize")]
        what = at.rpartition(".")[2]
        problems.append(f"{at}: Keras has no {what} {name!r}{nearest(name, names)}")
    except TypeError as error:
        problems.append(f"{at}: {name} cannot be had by its name alone: {error}")


def _check_object(problems: list[str], at: str, kind: str, arguments: Mapping[str, Any]) -> None:
    layer = _find(keras.layers, kind)
    if layer is None:
        names = [name for name in _public(keras.layers) if _find(keras.layers, name)]
        problems.append(f"{at}.{kind}: Keras has no such layer{nearest(kind, names)}")
    else:
        _check_arguments(problems, f"{at}.{kind}", layer, arguments)


def _check_arguments(
    problems: list[str], at: str, kind: type, arguments: Mapping[str, Any]
) -> None:
    names = _parameters(kind)
    for name, value in arguments.items():
        if name not in names:
            tail = nearest(name, names) or f"; it takes {', '.join(names)}"
            problems.append(f"{at}.{name}: {kind.__name__} takes no such argument{tail}")
        if name.endswith("activation") and isinstance(value, str):
            _check_word(problems, f"{at}.{name}", keras.activations, value)
        for inner, inner_arguments in _objects(value):
            found = _find_object(inner)
            if found is None:
                known = [word for namespace in _NAMESPACES for word in _public(namespace)]
                tail = nearest(inner, [word for word in known if _find_object(word)])
                problems.append(f"{at}.{name}.{inner}: Keras has no such thing{tail}")
            else:
                _check_arguments(problems, f"{at}.{name}.{inner}", found, inner_arguments)


def _parameters(kind: type) -> list[str]:
    """The names of a constructor's arguments, those that it passes on to its parents too."""
    names: dict[str, None] = {}
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(vars(parent)["__init__"]).parameters.values())[1:]
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= dict.fromkeys(item.name for item in parameters if item.kind not in rest)
        if not any(item.kind is rest[0] for item in parameters):
            break
    names.pop("name", None)  # the table's own name is the layer's
    return list(names)


# A table of one capitalised name, inside arguments, is that object:
# kernel_regularizer = { L2 = { l2 = 0.01 } }, layer = { LSTM = { units = 8 } }
_NAMESPACES = (
    *(keras.layers, keras.regularizers, keras.initializers, keras.constraints),
    keras.optimizers.schedules,
)


def _objects(value: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict) and len(value) == 1:
        [(name, arguments)] = value.items()
        if name[:1].isupper() and isinstance(arguments, dict):
            yield name, arguments
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _value(value: Any) -> Any:
    """An argument, or all of them, as Keras takes it: objects that tables stand for are made."""
    if isinstance(value, list):
        return [_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _value(item) for key, item in value.items()}
    for name, _ in _objects(value):
        kind = _find_object(name)
        if kind is not None:
            return kind(**made[name])
    return made


def _find_object(name: str) -> type | None:
    return next((found for space in _NAMESPACES if (found := _find(space, name))), None)


def _find(namespace: Any, name: str) -> type | None:
    """A class of Keras by its exact name; bases and inputs are nothing to put in a spec."""
    found = getattr(namespace, name, None)
    if not inspect.isclass(found) or name in ("InputLayer", "Layer", "Wrapper"):
        return None
    return found if namespace is not keras.layers or issubclass(found, keras.Layer) else None


def _public(namespace: Any) -> list[str]:
    return [name for name in vars(namespace) if not name.startswith("_")]


def _optimizers() -> list[str]:
    return [
        name
        for name in _public(keras.optimizers)
        if _find(keras.optimizers, name) and name not in ("Optimizer", "LossScaleOptimizer")
    ]


def _optimizer_class(name: str) -> type | None:
    found = [known for known in _optimizers() if known.lower() == name.lower()]
    return _find(keras.optimizers, found[0]) if found else None


def _optimizer(spec: Spec) -> Any:
    kind = _optimizer_class(spec.fit.optimizer) or keras.optimizers.Adam
    return _ask(spec, "fit.optimizer", lambda: kind(**_value(spec.fit.optimizer_arguments)))


def _ask(spec: Spec, at: str, thing: Callable[..., Any], /, *given: Any, **arguments: Any) -> Any:
    """Call Keras with what the spec says; whatever it objects to is told with the key."""
    try:
        return thing(*given, **arguments)
    except Exception as error:  # Keras checks with whatever its own code happens to raise
        text = f"{spec.path}: {at}: {objection(error)}"
        raise SpecError(text) from error


def _raise_any(spec: Spec, problems: list[str]) -> None:
    if problems:
        raise SpecError("\n".join(f"{spec.path}: {problem}" for problem in problems))
