"""A Keras model with the names that data and graph use, and the ways to run it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import ExportError
from training.quiet import keras, tf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from training.rows import Arrays

# Half precision has three digits, and programs differ in how they round.
_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Built:
    """A compiled model.

    `tensors` maps Keras' name of an input to the name of that tensor in the data and the graph.
    The two differ only where TensorFlow refuses the column's name.  The heads in `one_hot` have a
    loss that takes targets as one column per class.  `shapes` has the shape of a row at the nodes
    of the spec; a saved model has none.
    """

    model: keras.Model
    tensors: dict[str, str]
    one_hot: frozenset[str]
    shapes: dict[str, tuple[int | None, ...]]


def feed(array: NDArray[Any]) -> Any:
    """Return an array as Keras takes it: strings must be TensorFlow's, not numpy objects."""
    return tf.constant(array) if array.dtype == object else array


def feeds(built: Built, arrays: Arrays) -> dict[str, Any]:
    """Return rows as Keras takes them, by the names of its inputs."""
    return {name: feed(arrays[tensor]) for name, tensor in built.tensors.items()}


def as_target(built: Built, head: str, target: NDArray[Any]) -> NDArray[Any]:
    """Return the targets of a head in the form that its loss takes."""
    if head not in built.one_hot:
        return target
    classes = built.model.get_layer(head).units
    return one_hot(target, classes)


def one_hot(places: Any, classes: int) -> NDArray[Any]:
    """Return one column per class, with 1 in the column of the row's class and 0 elsewhere."""
    columns: NDArray[Any] = np.eye(classes, dtype=np.float32)[places]
    return columns


def predict(built: Built, arrays: Arrays) -> Arrays:
    """Return Keras' predictions by head for rows by tensor.

    Raises:
        ExportError: Keras raises, such as a look-up without a place for unseen strings.
    """
    inputs = feeds(built, arrays)
    # The only batch size that the model takes, or else all rows at once, as in ONNX Runtime.
    batch = next(iter(built.model.input.values())).shape[0]
    batch = len(next(iter(inputs.values()))) if batch is None else batch
    try:
        answers = built.model.predict(inputs, batch_size=batch, verbose=0)
    except (ValueError, tf.errors.OpError) as error:
        raise ExportError(f"Keras does not answer new rows: {objection(error)}") from error
    return {name: np.asarray(answer) for name, answer in answers.items()}


def objection(error: Exception) -> str:
    """Return the message of Keras or TensorFlow without colours, stack and tensors."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"^Exception encountered when calling [^\n]*\n", "", text)
    text = text.partition("Arguments received by")[0]
    if text.startswith(("Graph execution error", "in user code")):
        # The message itself comes last, after the call stack.
        text = re.split(r"\n\s*\n", text.strip())[-1]
        text = re.sub(r"\[\[\{\{.*", "", text, flags=re.DOTALL)
    return " ".join(text.split()) or type(error).__name__


def is_half(model: keras.Model) -> bool:
    """Return whether any layer computes in half precision."""
    return any(layer.compute_dtype in _HALF for layer in every_layer(model))


def every_layer(model: keras.Model) -> Iterator[Any]:
    """Yield the layers of a model, including those of nested models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer
