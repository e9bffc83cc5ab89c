"""The fit: batches of rows that belong together, progress for the user, scores by head.

training rows ──▶ Batches (paired anew each epoch) ──▶ keras fit ──▶ scores beside a baseline
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from training import importance, objectives
from training.built import as_target, feeds, objection
from training.errors import FitError
from training.quiet import keras, tf
from training.rows import known, known_targets, pairs
from training.scores import BATCH, scores
from training.unseen import mask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from training.built import Built
    from training.head_spec import HeadSpec
    from training.importance import Importance
    from training.rows import Arrays, Data
    from training.scores import Answered, Score
    from training.spec import Spec

# The number of the stream of random numbers that chooses masked cells, beside the fit's own.
_MASKS = 1


@dataclass(frozen=True)
class Curve:
    """The loss of one head in each epoch, on training and on held-out rows, if there are any."""

    train: tuple[float, ...]
    held_out: tuple[float, ...] = ()


@dataclass(frozen=True)
class Fitted:
    """A model after its fit, with the number of epochs and the score of each head.

    `losses` has the weighted loss of each head in the first and in the last epoch.  `answered` has
    the answers to the rows that the model is judged by.  `curves` has
    the losses of each head by epoch, unweighted, and `chosen` is the epoch, from 1, whose weights
    the model has.  `importance` is that of the inputs and features for these weights.
    """

    built: Built
    epochs: int
    scores: dict[str, Score]
    losses: dict[str, tuple[float, float]]
    answered: Answered
    curves: dict[str, Curve]
    chosen: int
    importance: Importance


def seed(number: int) -> None:
    """Make everything that Keras and TensorFlow do from now on reproducible."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(number)
    tf.config.experimental.enable_op_determinism()


def fit(
    spec: Spec, built: Built, train: Data, held_out: Data | None, test: Data | None = None
) -> Fitted:
    """Fit the model to `train`, watching `held_out` but not `test`, and score every head.

    Raises:
        FitError: the loss became not-a-number, or Keras raised.
    """
    weights = {name: _weights(head, train) for name, head in spec.heads.items()}
    batches = Batches(spec, built, train, weights)
    watched = None if held_out is None else _watched(spec, built, held_out, weights)
    progress = _Progress(spec, len(batches))
    callbacks = [progress]
    if spec.fit.patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_loss", patience=spec.fit.patience, restore_best_weights=True
            )
        )
    try:
        with progress.bar:
            history = built.model.fit(
                batches,
                epochs=spec.fit.epochs,
                validation_data=watched,
                validation_batch_size=BATCH,
                shuffle=False,
                verbose=0,
                callbacks=callbacks,
            )
    except (ValueError, TypeError, tf.errors.OpError) as error:
        message = f"{spec.path}: Keras could not fit it: {objection(error)}"
        raise FitError(message) from error
    if not all(np.isfinite(array).all() for array in _weights_of(built)):
        raise FitError(_diverged(spec, "a weight is no finite number at its end"))
    epochs = {name: history.history.get(f"{name}_loss") for name in spec.heads}
    losses = {
        name: (values[0] * spec.heads[name].loss_weight, values[-1] * spec.heads[name].loss_weight)
        for name, values in epochs.items()
        if values  # Keras names the loss of a single head otherwise
    }
    count = len(history.epoch)
    chosen = callbacks[-1].best_epoch + 1 if spec.fit.patience is not None else count
    scored, answered = scores(spec, built, train, held_out, test)
    curves = _curves(spec, history.history)
    measured = importance.measure(built, train, held_out, spec.fit.seed)
    return Fitted(built, count, scored, losses, answered, curves, chosen, measured)


def _curves(spec: Spec, history: Mapping[str, Sequence[float]]) -> dict[str, Curve]:
    """Return the losses by head and epoch; Keras names the loss of a single head otherwise."""
    return {
        name: Curve(
            tuple(history.get(f"{name}_loss", history.get("loss", ()))),
            tuple(history.get(f"val_{name}_loss", history.get("val_loss", ()))),
        )
        for name in spec.heads
    }


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """The training rows in batches, shuffled each epoch; independent files are paired anew."""

    def __init__(
        self, spec: Spec, built: Built, data: Data, weights: Mapping[str, NDArray[Any] | None]
    ) -> None:
        super().__init__()
        self._spec = spec
        self._built = built
        self._data = data
        self._weights = weights
        self._rng = np.random.default_rng(spec.fit.seed)
        # Of its own, so that rows are drawn alike with text columns and without.
        self._masks = np.random.default_rng((spec.fit.seed, _MASKS))
        self._rows = max(source.rows for source in data.sources.values())
        self._shuffle()  # Keras takes a batch before the first epoch begins

    def __len__(self) -> int:
        return math.ceil(self._rows / self._spec.fit.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        size = self._spec.fit.batch_size
        rows = self._order[index * size : (index + 1) * size]
        x = {name: array[rows] for name, array in self._x.items()}
        y = {name: array[rows] for name, array in self._y.items()}
        return _batch(self._built, x, y, self._weights, self._data.partial)

    def on_epoch_begin(self) -> None:
        """Draw the epoch's pairs and their order."""
        self._shuffle()

    def _shuffle(self) -> None:
        x, self._y = pairs(self._data, self._rng)
        self._x = mask(x, self._masks)
        self._order = self._rng.permutation(self._rows)


def _batch(
    built: Built,
    x: Arrays,
    y: Arrays,
    weights: Mapping[str, NDArray[Any] | None],
    partial: Sequence[str],
) -> tuple[Any, ...]:
    """Return inputs, targets and, if a head needs them, sample weights for Keras' fit.

    A row that lacks the target of one of the heads in `partial` has the weight 0 there.
    """
    inputs = feeds(built, x)
    there = {name: known(y[name]) for name in partial}
    y = y | {name: _filled(y[name], rows) for name, rows in there.items()}
    targets = {name: as_target(built, name, y[name]) for name in weights}
    if not partial and all(weight is None for weight in weights.values()):
        return inputs, targets
    samples = {
        name: np.ones(len(y[name]), np.float32)
        if weight is None
        else weight[y[name].astype(np.int64).reshape(-1)]
        for name, weight in weights.items()
    }
    return inputs, targets, samples | {name: samples[name] * there[name] for name in partial}


def _filled(targets: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Return targets with any number in rows that lack one: with weight 0 it does not count."""
    targets = targets.copy()
    targets[~known] = 0
    return targets


def _watched(
    spec: Spec, built: Built, data: Data, weights: Mapping[str, NDArray[Any] | None]
) -> tuple[Any, ...]:
    x, y = pairs(data, np.random.default_rng(spec.fit.seed))
    return _batch(built, x, y, weights, data.partial)


def _weights(head: HeadSpec, data: Data) -> NDArray[Any] | None:
    """Return the class weights by label index, or `None` if the head has none."""
    if head.class_weights is None:
        return None
    labels = data.labels[head.name] or ()
    if isinstance(head.class_weights, str):
        places = known_targets(data, head.name).astype(np.int64).reshape(-1)
        counts = np.maximum(np.bincount(places, minlength=len(labels)), 1)
        return (len(places) / (len(labels) * counts)).astype(np.float32)
    return np.array([head.class_weights.get(label, 1.0) for label in labels], np.float32)


def _weights_of(built: Built) -> list[NDArray[Any]]:
    return [array for array in built.model.get_weights() if np.issubdtype(array.dtype, np.floating)]


def _diverged(spec: Spec, what: str) -> str:
    return (
        f"{spec.path}: the fit diverged: {what}; nothing is published. "
        "A smaller fit.learning_rate, or a Normalization layer behind the inputs, usually helps"
    )


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """The progress of the fit: a bar during an epoch (on a terminal), a line after it."""

    def __init__(self, spec: Spec, batches: int) -> None:
        super().__init__()
        self._spec = spec
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self.bar.add_task("", total=batches, losses="")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  (Keras')
        self._name = f"epoch {epoch + 1:>{len(str(self._spec.fit.epochs))}}/{self._spec.fit.epochs}"
        self.bar.reset(self._task, description=self._name, losses="")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FitError(_diverged(self._spec, self._no_number(batch, logs)))
        if not self.bar.disable:
            losses = _losses(self._spec, logs)
            self.bar.update(self._task, completed=batch + 1, losses=losses)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002  (Keras')
        logs = logs or {}
        held_out = {
            key.removeprefix("val_"): value for key, value in logs.items() if key[:4] == "val_"
        }
        line = f"{self._name}  {_losses(self._spec, logs)}"
        if held_out:
            line += f"  held out: {_losses(self._spec, held_out)}"
        self.bar.console.print(line)

    def _no_number(self, batch: int, logs: Mapping[str, float]) -> str:
        """Return which losses are not finite, and since which batch."""
        heads = list(self._spec.heads)
        names = [name for name in heads if not math.isfinite(logs.get(f"{name}_loss", 0.0))]
        if not names and len(heads) == 1:
            names = heads  # Keras names the loss of a single head otherwise
        listed = " and ".join(map(repr, names))
        of = f" of head {listed}" if names else ""
        when = f"batch {batch + 1} of {self._name.replace('  ', ' ')}"
        return f"the loss{of} is no finite number, since {when}"


def _losses(spec: Spec, logs: Mapping[str, float]) -> str:
    """Return loss and metric of each head as text, and the total loss if there are several."""
    parts = []
    for name, head in spec.heads.items():
        metric = objectives.metric_name(head)
        loss = logs.get(f"{name}_loss", logs.get("loss", math.nan))
        # F1Score and others have a value for each class, whose mean is the score.
        score = float(np.mean(logs.get(f"{name}_{metric}", logs.get(metric, math.nan))))
        parts.append(f"{name} loss {loss:.4f} {metric} {score:.4f}")
    if len(parts) > 1:
        parts.insert(0, f"loss {logs.get('loss', math.nan):.4f}")
    return "  ".join(parts)
