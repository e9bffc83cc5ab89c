"""Verification of a finished file against Keras, with the code that serves it.

The last step of training is the first of serving: the code that will answer requests loads and runs
the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import CannotRun, ModelRefused
from service.inference.arrays import difference
from service.inference.model import Model
from training.errors import ExportError
from training.samples import BATCHES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.rows import Arrays
    from training.samples import Samples

# Relative to answers above 1.  Random rows lie further out than real ones: for raw pixels, float32
# arithmetic differs by more than 1e-5.
GOLDEN_TOLERANCE = 1e-5
RANDOM_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Verified:
    """The largest difference to Keras by head, and whether requests may share runs and why."""

    differences: dict[str, float]
    batching: str


@dataclass(frozen=True)
class _Trial:
    """Some rows, Keras' answers to them, and the largest difference that is accepted."""

    rows: str
    arrays: Arrays
    answers: Arrays
    tolerance: float


def verify(content: bytes, samples: Samples) -> Verified:
    """Compare the file with Keras on golden and random rows, for each head alone and for all.

    Raises:
        ExportError: the service would refuse the file, or it does not answer as Keras does.
    """
    model = load(content)
    heads = model.signature.head_names
    worst = dict.fromkeys(heads, 0.0)
    for asked in dict.fromkeys([heads, *((head,) for head in heads)]):
        for trial in _trials(samples, joint=model.batching.mode == "joint"):
            for head, answer in answers_of(model, trial.arrays, asked, trial.rows).items():
                distance = difference(answer, trial.answers[head])
                worst[head] = max(worst[head], distance)
                if not distance <= trial.tolerance:
                    raise ExportError(
                        f"head {head!r} does not answer as Keras does: {trial.rows} differ by "
                        f"{distance:.2g}, expected at most {trial.tolerance:g};"
                        " nothing was published"
                    )
    return Verified(worst, str(model.batching))


def _trials(samples: Samples, *, joint: bool) -> Iterator[_Trial]:
    half = HALF_TOLERANCE if samples.half else 0.0
    tolerance = max(half, GOLDEN_TOLERANCE)
    yield _Trial("golden rows", samples.golden, samples.golden_answers, tolerance)
    for rows in BATCHES:
        # If rows depend on one another, a part of them has other answers.
        if rows == max(BATCHES) or not joint:
            yield _Trial(
                f"random rows in a batch of {rows}",
                {tensor: array[:rows] for tensor, array in samples.random.items()},
                {head: answer[:rows] for head, answer in samples.random_answers.items()},
                max(half, RANDOM_TOLERANCE),
            )


def load(content: bytes) -> Model:
    """Load a model from its bytes as the service does.

    Raises:
        ExportError: the service would refuse it.
    """
    try:
        return Model.load(content)
    except ModelRefused as error:
        raise ExportError(f"the service would refuse it: {error}; nothing was published") from error


def answers_of(model: Model, arrays: Arrays, heads: Sequence[str], rows: str) -> Arrays:
    """Return the answers of some heads to `arrays`, which a message calls `rows`.

    Raises:
        ExportError: the model cannot run on these rows.
    """
    try:
        return model.predict(arrays, heads)
    except CannotRun as error:
        raise ExportError(f"{rows}: {error}; nothing was published") from error
