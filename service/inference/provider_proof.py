"""The proof of an execution provider: it has to answer as ONNX Runtime's CPU provider does.

golden and random rows ─┬─ a session of the provider ─▶ answers ─┐
                        └─ a session of the CPU ──────▶ answers ─┴▶ the largest difference

Each row is compared alone, and all of them together.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from service.errors import ModelRefused
from service.inference.arrays import difference
from service.inference.independence import trial
from service.inference.session import first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from service.inference.model import Model

    Arrays = Mapping[str, NDArray[Any]]

# After so many rows, no more are compared once this time in seconds has passed.
LEAST_ROWS = 4
SECONDS = 1.0


def compare(model: Model, reference: Model) -> float:
    """Return the largest difference between the answers of a model and those of the CPU.

    Args:
        model: the model as the provider runs it.
        reference: the same model as the CPU provider runs it.

    Raises:
        ModelRefused: a head differs by more than the provider's precision allows, the provider
            fails on rows that the CPU answers, or no such rows are known.
    """
    heads = list(model.signature.heads)
    worst = 0.0
    for arrays, expected in _answered(reference, heads):
        try:
            answers = model.predict(arrays, heads)
        except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
            message = f"{model.execution} fails on rows that the CPU answers: {first_line(error)}"
            raise ModelRefused(message) from error
        for head in heads:
            distance = difference(answers[head], expected[head])
            if not distance <= model.execution.tolerance:
                message = (
                    f"head {head!r} has other answers on {model.execution} than on the CPU: "
                    f"expected a difference of at most {model.execution.tolerance:g}, found "
                    f"{distance:.2g}; a lower precision has to be asked for, in provider_options"
                )
                raise ModelRefused(message)
            worst = max(worst, distance)
    return worst


def _answered(reference: Model, heads: list[str]) -> list[tuple[Arrays, Arrays]]:
    """Return rows that the CPU answers, one by one and together, and these answers.

    Raises:
        ModelRefused: there are none.
    """

    def run(arrays: Arrays) -> Arrays:
        return reference.predict(arrays, heads)

    signature, golden = reference.signature, reference.golden_arrays()
    rows: list[Arrays] = []
    answers: list[Arrays] = []
    if signature.tensor:
        zeros = [reference.zeros(reference.tried, ())] if reference.tried else []
        rows, answers = trial.each(run, zeros)
    else:
        for length in trial.LENGTHS:
            candidates = _in_time(trial.candidates(signature, golden, length))
            rows, answers = trial.each(run, candidates)
            if rows:
                together, whole = trial.each(run, [trial.stack(rows)])
                rows, answers = [*rows, *together], [*answers, *whole]
                break
    if not rows:
        message = (
            "no rows are known that the CPU answers, so no other execution provider can be proven: "
            "leave provider out"
        )
        raise ModelRefused(message)
    return list(zip(rows, answers, strict=True))


def _in_time(candidates: Iterable[Arrays]) -> Iterator[Arrays]:
    """Yield candidates as long as there is time."""
    end = time.monotonic() + SECONDS
    for number, row in enumerate(candidates):
        if number >= LEAST_ROWS and time.monotonic() > end:
            return
        yield row
