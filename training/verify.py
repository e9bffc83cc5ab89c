"""Verification of a finished file against Keras, with the code that serves it.

The last step of training is the first of serving: the code that will answer requests loads and runs
the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from service.errors import CannotRun, ModelRefused
from service.inference.arrays import difference
from service.inference.model import Model
from service.signature import LARGEST_TOLERANCE
from training.errors import ExportError
from training.rounding import rounding
from training.samples import BATCHES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from training.rows import Arrays
    from training.samples import Samples

# Relative to answers above 1.  Random rows lie further out than real ones: for raw pixels, float32
# arithmetic differs by more than 1e-5.  Where the rounding error of a head is larger, it counts.
GOLDEN_TOLERANCE = 1e-5
RANDOM_TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Verified:
    """The bytes of a file that answers as Keras does.

    `differences` are the largest ones to Keras by head, and `batching` says whether requests may
    share runs and why.
    """

    content: bytes
    differences: dict[str, float]
    batching: str


@dataclass(frozen=True)
class _Trial:
    """Some rows, Keras' answers to them, and the largest difference of each head."""

    rows: str
    arrays: Arrays
    answers: Arrays
    tolerances: dict[str, float]


def verify(content: bytes, samples: Samples) -> Verified:
    """Compare the file with Keras on golden and random rows, for each head alone and for all.

    Raises:
        ExportError: the service would refuse the file, or it does not answer as Keras does.
    """
    model = load(content)
    heads = model.signature.head_names
    worst = dict.fromkeys(heads, 0.0)
    trials = list(_trials(content, model, samples))
    for asked in dict.fromkeys([heads, *((head,) for head in heads)]):
        for trial in trials:
            for head, answer in answers_of(model, trial.arrays, asked, trial.rows).items():
                distance = difference(answer, trial.answers[head])
                worst[head] = max(worst[head], distance)
                tolerance = trial.tolerances[head]
                if not distance <= tolerance:
                    raise ExportError(
                        f"head {head!r} does not answer as Keras does: {trial.rows} differ by "
                        f"{distance:.2g}, expected at most {tolerance:.2g}; nothing was published"
                    )
    return Verified(content, worst, str(model.batching))


def _trials(content: bytes, model: Model, samples: Samples) -> Iterator[_Trial]:
    half = HALF_TOLERANCE if samples.half else 0.0
    golden = model.signature.golden
    stated = golden.tolerances if golden else {}
    tolerances = {
        head: max(half, GOLDEN_TOLERANCE, stated.get(head, 0.0)) for head in samples.golden_answers
    }
    yield _Trial("golden rows", samples.golden, samples.golden_answers, tolerances)
    joint = model.batching.mode == "joint"
    errors = rounding(onnx.load_from_string(content), samples.random)
    tolerances = {
        head: max(half, RANDOM_TOLERANCE, min(error, LARGEST_TOLERANCE))
        for head, error in errors.items()
    }
    for rows in BATCHES:
        # If rows depend on one another, a part of them has other answers.
        if rows == max(BATCHES) or not joint:
            yield _Trial(
                f"random rows in a batch of {rows}",
                {tensor: array[:rows] for tensor, array in samples.random.items()},
                {head: answer[:rows] for head, answer in samples.random_answers.items()},
                tolerances,
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
