"""Export of a Keras model that was built and saved elsewhere to a signed, verified `model.onnx`.

    my_model.keras ─ load ─▶ the same model with named inputs and heads
                                               ─▶ convert ─▶ sign ─▶ verify ─▶ publish

Its data are unknown, so golden rows are drawn at random, in the range that the model's own layers
take.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from service.kinds import THRESHOLD, THRESHOLDED
from service.repository.publish import check_name
from service.signature import Head, Input, Signature, Tensor
from training.built import Built, every_layer, is_half, objection, predict
from training.convert import convert
from training.errors import ExportError, SpecError
from training.publish import publish
from training.quiet import keras
from training.samples import GOLDEN_ROWS, RANDOM_ROWS, Samples
from training.sign import libraries, sign
from training.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from training.publish import Exported
    from training.rows import Arrays

SEED = 0
# Tried in turn for axes of any length: a convolution needs a few, attention is slow with many.
LENGTHS = (8, 32, 128)
TEXTS = ("", "one", "another text")
WHOLE_NUMBERS = 10  # the range of whole numbers if no layer limits it
_FLAT = 2
_KINDS = {"softmax": "multiclass", "sigmoid": "multilabel"}


def export_keras(path: Path, name: str, models: Path) -> Exported:
    """Publish the Keras model saved at `path` as the next version of `name`.

    Raises:
        WrongName: no model can be called that.
        SpecError: there is no such file.
        ExportError: it is not a functional Keras model, cannot be converted, or its file does not
            answer as Keras does; nothing is published.
    """
    check_name(name)
    model = _load(path)
    built, heads = _rebuild(path, model)
    inputs = {
        key: Input(key, "tensor", (Tensor(key, str(tensor.dtype), tuple(tensor.shape[1:])),))
        for key, tensor in built.model.input.items()
    }
    random, answers = _try_rows(path, built)
    golden = {tensor: array[:GOLDEN_ROWS] for tensor, array in random.items()}
    graph = convert(built, heads, name)
    # Golden rows are predicted again, alone: the answers to rows may depend on one another.
    samples = Samples(golden, predict(built, golden), random, answers, is_half(built.model))
    provenance = {
        "source": path.name,
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **libraries(),
    }
    content = sign(graph, Signature(inputs, heads, provenance=provenance), samples)
    return publish(verify(content, samples), name, models)


def _load(path: Path) -> keras.Model:
    if path.is_dir():
        raise SpecError(
            f"{path}: a folder; expected a .keras file (load a SavedModel where it was made, and"
            " save it with model.save('my_model.keras'))"
        )
    if not path.is_file():
        raise SpecError(f"{path}: no such file; expected a Keras model, as my_model.keras")
    if path.suffix not in (".keras", ".h5", ".hdf5"):
        raise SpecError(
            f"{path}: expected a file named .keras or .h5, received {path.suffix!r}; save the model"
            " with model.save('my_model.keras')"
        )
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ExportError(
            f"{path}: not a Keras file, or not the whole of one; copy it again, or save the model"
            " again with model.save('my_model.keras')"
        )
    try:
        with warnings.catch_warnings():
            # How the model was compiled does not matter here.
            warnings.simplefilter("ignore")
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # layers raise exceptions of any class
        raise ExportError(f"{path}: {_why(error)}") from error


def _why(error: Exception) -> str:
    text = objection(error)
    missing = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
    if missing:
        return (
            f"it needs {missing[1]!r}, which is code of its author and not in the file; "
            "only Keras' own layers can be exported: build the model of them, and save it again"
        )
    if "Lambda" in text:
        return (
            "it holds a Lambda layer, which is Python code that would run while loading;"
            " replace it by Keras' own layers"
        )
    return (
        f"Keras cannot load it: {text}; if another version saved it, load it there and save it"
        f" again with Keras {keras.__version__}"
    )


def _rebuild(path: Path, model: keras.Model) -> tuple[Built, dict[str, Head]]:
    """Rebuild the model on dicts of named inputs and named heads, for any batch size.

    A model that was built for one row at a time stays so if its layers depend on it.
    """
    if not getattr(model, "inputs", None):
        raise ExportError(
            f"{path}: a {type(model).__name__} that is not functional: its inputs are not"
            " known before it is called; build it with keras.Input and keras.Model(inputs, outputs)"
        )
    inputs, outputs = _call(path, model)
    flat = {tensor.name: tensor for tensor in keras.tree.flatten(inputs)}
    names = _head_names(model)
    named = keras.Model(flat, dict(zip(names, outputs, strict=True)), name="model")
    heads = {
        name: _head(name, tensor, activation)
        for name, tensor, activation in zip(names, outputs, _activations(model), strict=True)
    }
    return Built(named, {key: key for key in flat}, frozenset(), {}), heads


def _call(path: Path, model: keras.Model) -> tuple[Any, list[Any]]:
    """Call the model on new inputs of any batch size, or of one row if it takes nothing else."""
    batches = {tensor.shape[0] for tensor in model.inputs} - {None}
    objections = []
    for batch in (None, *({1} & batches)):
        try:
            inputs = keras.tree.map_structure(
                lambda tensor, batch=batch: keras.Input(
                    batch_shape=(batch, *tensor.shape[1:]), dtype=tensor.dtype, name=tensor.name
                ),
                # A loaded Sequential has no `input` until it is called.
                model.inputs[0] if isinstance(model, keras.Sequential) else model.input,
            )
            outputs = keras.tree.flatten(model(inputs))
        except Exception as error:  # noqa: BLE001  layers raise any class
            objections.append(objection(error))
            continue
        if all(output.shape[0] == batch for output in outputs):
            return inputs, outputs
        objections.append("its layers have the batch built in")
    made_for = ", ".join(map(str, sorted(batches))) or "rows as it was saved with"
    reason = objections[-1]
    raise ExportError(
        f"{path}: made for batches of {made_for}, it takes no others: {reason}; build it with"
        " keras.Input(shape), which has no batch size, and no layer that keeps a state"
    )


def _head_names(model: keras.Model) -> list[str]:
    """Return the names of the heads: the keys of a dict of outputs, else the output layers' names.

    If a layer has several outputs, or an input is also an output, a name would occur twice: the
    later one gets a number.
    """
    if isinstance(model, keras.Sequential):
        wanted = [model.layers[-1].name]
    elif isinstance(model.output, dict) and len(model.output) == len(model.outputs):
        wanted = sorted(model.output)  # the order in which Keras flattens it
    else:
        wanted = model.output_names
    taken = [tensor.name for tensor in model.inputs]
    names: list[str] = []
    for name in wanted:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        free = (new for new in itertools.chain([name], numbered) if new not in (*taken, *names))
        names.append(next(free))
    return names


def _activations(model: keras.Model) -> Iterator[str]:
    """Yield the activation of each output's last layer, empty if it has none."""
    if isinstance(model, keras.Sequential):
        last = [model.layers[-1]]
    else:
        by_name = {operation.name: operation for operation in model.operations}
        last = [by_name[name] for name in model.output_names]
    for layer in last:
        if isinstance(layer, keras.Model):
            yield next(iter(_activations(layer)), "")
        else:
            activation = getattr(layer, "activation", None)
            yield getattr(activation, "__name__", type(layer).__name__.lower())


def _head(name: str, tensor: Any, activation: str) -> Head:
    shape = tuple(tensor.shape[1:])
    kind = _KINDS.get(activation, "regression") if len(tensor.shape) == _FLAT else "tensor"
    if kind == "multilabel" and shape == (1,):
        kind = "binary"
    threshold = THRESHOLD if kind in THRESHOLDED else None
    return Head(name, kind, Tensor(name, str(tensor.dtype), shape), None, threshold)


def _try_rows(path: Path, built: Built) -> tuple[Arrays, Arrays]:
    """Return random rows that the model answers, and its answers.

    Only its layers know which values it takes: a float that goes into an Embedding must be a whole
    number in its range.
    """
    objections = []
    kinds = [_draw, _draw_whole]
    if _ranges(built.model) and not any("int" in t.dtype for t in built.model.input.values()):
        # Then the Embedding looks floats up.
        kinds.reverse()
    for length, draw in itertools.product(LENGTHS, kinds):
        rng = np.random.default_rng(SEED)
        arrays = {
            tensor.name: draw(built.model, tensor, (RANDOM_ROWS, *_shape(tensor, length)), rng)
            for tensor in built.model.input.values()
        }
        try:
            answers = predict(built, arrays)
        except Exception as error:  # noqa: BLE001  TensorFlow's own kinds; the next try may fit
            objections.append(objection(error))
            continue
        if all(np.isfinite(a).all() for a in answers.values() if a.dtype.kind == "f"):
            return arrays, answers
        objections.append("its answers are not finite")
    raise ExportError(
        f"{path}: it does not answer random rows: {objections[0]}; try model.predict in Keras with"
        " other rows than those of the training, and mend the layer that fails"
    )


def _shape(tensor: Any, length: int) -> list[int]:
    return [length if axis is None else axis for axis in tensor.shape[1:]]


def _draw(
    model: keras.Model, tensor: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[Any]:
    dtype = str(tensor.dtype)
    if dtype == "string":
        return rng.choice(np.array([*_texts(model), *TEXTS], object), shape)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    return _draw_whole(model, tensor, shape, rng)


def _draw_whole(
    model: keras.Model, tensor: Any, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[Any]:
    """Draw whole numbers in the range that every layer takes; 0 to 255 for bytes, as in pixels."""
    dtype = str(tensor.dtype)
    if dtype == "string":
        return _draw(model, tensor, shape, rng)
    wide = {"bool": 2, "uint8": 256}.get(dtype, WHOLE_NUMBERS)
    return rng.integers(0, min([wide, *_ranges(model)]), shape).astype(dtype)


def _ranges(model: keras.Model) -> list[int]:
    """Return the number of different whole numbers of each layer that limits them."""
    sizes = [
        getattr(layer, "input_dim" if isinstance(layer, keras.layers.Embedding) else "num_tokens")
        for layer in every_layer(model)
        if isinstance(layer, keras.layers.Embedding | keras.layers.CategoryEncoding)
    ]
    return [int(size) for size in sizes if size]


def _texts(model: keras.Model) -> list[str]:
    """Return the words of the model's look-ups, so that golden rows are not all of unknown ones."""
    return [
        text
        for layer in every_layer(model)
        if isinstance(layer, keras.layers.StringLookup)
        for text in layer.get_vocabulary(include_special_tokens=False)
    ]
