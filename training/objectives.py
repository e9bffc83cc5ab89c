"""How a head is fitted and scored, by its kind: activation, loss and metric."""

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
    """A fresh Keras metric for a head: the spec's, or the one that its kind is scored by."""
    name = metric_name(head)
    if name != "accuracy":
        # By its own name: Keras numbers the metrics that it names itself.
        return type(keras.metrics.get(name))(name=name)
    if head.kind == "multiclass":
        plain = keras.metrics.CategoricalAccuracy, keras.metrics.SparseCategoricalAccuracy
        return plain[not wants_one_hot(head)](name=name)
    return keras.metrics.BinaryAccuracy(name=name, threshold=head.threshold or THRESHOLD)


def metric_name(head: HeadSpec) -> str:
    """What a head is scored by."""
    return head.metric or ("mae" if head.kind == "regression" else "accuracy")


def activation(kind: str) -> str:
    """What the Dense layer of a head of some kind ends with."""
    return _ACTIVATIONS.get(kind, "sigmoid")


def loss(head: HeadSpec) -> str:
    """What a head is fitted by: the spec's loss, or that of its kind."""
    return head.loss or _LOSSES[head.kind]


def wants_one_hot(head: HeadSpec) -> bool:
    """Whether the loss of a head takes its targets as one column per class."""
    name = loss(head).lower().replace("_", "")
    return head.kind == "multiclass" and not name.startswith("sparse")
