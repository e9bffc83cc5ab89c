"""A Keras model under the names that data and graph have, and what is asked of it."""

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

# Half precision has three digits, and no two programs round them alike.
_HALF = ("float16", "bfloat16")


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


def feed(array: NDArray[Any]) -> Any:
    """An array as Keras takes it: numpy's texts are objects to it, TensorFlow's are texts."""
    return tf.constant(array) if array.dtype == object else array


def feeds(built: Built, arrays: Arrays) -> dict[str, Any]:
    """Rows by the names of Keras' inputs, as Keras takes them."""
    return {name: feed(arrays[tensor]) for name, tensor in built.tensors.items()}


def as_target(built: Built, head: str, target: NDArray[Any]) -> NDArray[Any]:
    """What a head learns, as its loss takes it."""
    if head not in built.one_hot:
        return target
    classes = built.model.get_layer(head).units
    return one_hot(target, classes)


def one_hot(places: Any, classes: int) -> NDArray[Any]:
    """One column per class, 1 in the row's own."""
    columns: NDArray[Any] = np.eye(classes, dtype=np.float32)[places]
    return columns


def predict(built: Built, arrays: Arrays) -> Arrays:
    """What Keras answers, by head.

    Raises:
        ExportError: it answers with an exception, as a look-up without a place for unseen texts.
    """
    inputs = feeds(built, arrays)
    # The one number of rows that the model takes; or all at once, as ONNX Runtime will have them.
    batch = next(iter(built.model.input.values())).shape[0]
    batch = len(next(iter(inputs.values()))) if batch is None else batch
    try:
        answers = built.model.predict(inputs, batch_size=batch, verbose=0)
    except (ValueError, tf.errors.OpError) as error:
        raise ExportError(f"Keras does not answer new rows: {objection(error)}") from error
    return {name: np.asarray(answer) for name, answer in answers.items()}


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


def is_half(model: keras.Model) -> bool:
    """Whether any of it computes in half precision."""
    return any(layer.compute_dtype in _HALF for layer in every_layer(model))


def every_layer(model: keras.Model) -> Iterator[Any]:
    """The layers of a model, and those of the models among them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from every_layer(layer)
        else:
            yield layer
