"""Activation, loss and metric of a head by its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.kinds import THRESHOLD
from training.quiet import keras

if TYPE_CHECKING:
    from training.head_spec import HeadSpec

_ACTIVATIONS = {"multiclass": "softmax", "regression": "linear"}  # the others: sigmoid
_LOSSES = {
    "binary": "binary_crossentropy",
    "multiclass": "sparse_categorical_crossentropy",
    "multilabel": "binary_crossentropy",
    "regression": "mean_squared_error",
}


def metric(head: HeadSpec) -> Any:
    """Create the Keras metric of a head: that of the spec, or else that of its kind."""
    name = metric_name(head)
    if name != "accuracy":
        # Named here, as Keras numbers metrics that have no name.
        return type(keras.metrics.get(name))(name=name)
    if head.kind == "multiclass":
        plain = keras.metrics.CategoricalAccuracy, keras.metrics.SparseCategoricalAccuracy
        return plain[not wants_one_hot(head)](name=name)
    return keras.metrics.BinaryAccuracy(name=name, threshold=head.threshold or THRESHOLD)


def metric_name(head: HeadSpec) -> str:
    """Return the name of a head's metric."""
    return head.metric or ("mae" if head.kind == "regression" else "accuracy")


def activation(kind: str) -> str:
    """Return the activation of the Dense layer of a head by its kind."""
    return _ACTIVATIONS.get(kind, "sigmoid")


def loss(head: HeadSpec) -> str:
    """Return the loss of a head: that of the spec, or else that of its kind."""
    return head.loss or _LOSSES[head.kind]


def wants_one_hot(head: HeadSpec) -> bool:
    """Return whether the loss of a head takes targets as one column per class."""
    name = loss(head).lower().replace("_", "")
    return head.kind == "multiclass" and not name.startswith("sparse")
