"""Scores of the heads of a fitted model, beside those of a constant answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight import scores as insight
from service.kinds import THRESHOLD
from training import objectives
from training.built import as_target, feeds
from training.rows import joined, known, known_targets, paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.built import Built
    from training.head_spec import HeadSpec
    from training.rows import Arrays, Data, Source
    from training.spec import Spec

BATCH = 512


@dataclass(frozen=True)
class Score:
    """The metric of one head on its training, held-out and test rows, if these have targets.

    `baseline` is the score of the best constant answer, the commonest class of the training rows or
    their mean, on the test rows, or else the held-out rows, or else the training rows.  `constant`
    is that answer, as values of the head.
    """

    metric: str
    rows: int
    held_out_rows: int
    train: float
    held_out: float | None
    baseline: float
    constant: tuple[float, ...] = ()
    test_rows: int = 0
    test: float | None = None

    @property
    def decisive(self) -> tuple[str, float]:
        """The side that the model is judged by, and the score on its rows.

        It is the `test` rows, or else the `held-out` rows, or else the `training` rows.  The
        score is in the fewest digits for float32, so that 0.7 is not a little less than 0.7.
        """
        side, value = "training", self.train
        if self.held_out is not None:
            side, value = "held-out", self.held_out
        if self.test is not None:
            side, value = "test", self.test
        return side, in_few_digits(value)


def in_few_digits(score: float) -> float:
    """Return a score in the fewest digits for float32, so that equal scores compare as equal."""
    return float(str(np.float32(score)))


@dataclass(frozen=True)
class Answered:
    """The model's answers to the rows of `data`, a side: "training", "held-out" or "test".

    `sources` are the files with their rows as they went through the network, and `outputs` the
    answers to all of them, by head.  `targets` and `answers` have by head those of the rows with
    that target, in the same order.
    """

    side: str
    data: Data
    sources: list[Source]
    outputs: Arrays
    targets: Arrays
    answers: Arrays


def scores(
    spec: Spec, built: Built, train: Data, held_out: Data | None, test: Data | None = None
) -> tuple[dict[str, Score], Answered]:
    """Return the score of every head, and the answers to the rows that the model is judged by."""
    seen = _answer(spec, built, train, "training")
    others = [
        None if data is None else _answer(spec, built, data, side)
        for data, side in ((held_out, "held-out"), (test, "test"))
    ]
    last = next((answered for answered in reversed(others) if answered), seen)
    by_head = {}
    for name, head in spec.heads.items():
        values = seen.answers[name][0].size
        mean = insight.target_sum(head.kind, seen.targets[name], values) / len(seen.targets[name])
        always = insight.best_constant(head.kind, mean).astype(np.float32)
        shape = last.answers[name].shape
        constant = np.broadcast_to(always.reshape(shape[1:]), shape)
        measured = [
            None
            if answered is None
            else _measure(built, head, answered.targets[name], answered.answers[name])
            for answered in others
        ]
        by_head[name] = Score(
            metric=objectives.metric_name(head),
            rows=_rows(train, name),
            held_out_rows=0 if held_out is None else _rows(held_out, name),
            train=_measure(built, head, seen.targets[name], seen.answers[name]),
            held_out=measured[0],
            baseline=_measure(built, head, last.targets[name], constant),
            constant=tuple(always.tolist()),
            test_rows=0 if test is None else _rows(test, name),
            test=measured[1],
        )
    return by_head, last


def _answer(spec: Spec, built: Built, data: Data, side: str) -> Answered:
    """Return the model's answers to `data`, the rows of a side."""
    sources = paired(data, np.random.default_rng(spec.fit.seed))
    x, y = joined(sources)
    answers = built.model.predict(feeds(built, x), batch_size=BATCH, verbose=0)
    there = {name: known(y[name]) for name in spec.heads}
    targets = {name: y[name][there[name]] for name in spec.heads}
    outputs = {name: np.asarray(answers[name]) for name in spec.heads}
    answered = {name: outputs[name][there[name]] for name in spec.heads}
    return Answered(side, data, sources, outputs, targets, answered)


def _rows(data: Data, head: str) -> int:
    return len(known_targets(data, head))


def _measure(built: Built, head: HeadSpec, targets: NDArray[Any], answers: NDArray[Any]) -> float:
    """Return the metric of a head: by the code of `triceps score`, or another one by Keras."""
    if objectives.metric_name(head) == insight.METRICS[head.kind]:
        return float(
            insight.by_row(head.kind, targets, answers, head.threshold or THRESHOLD).mean()
        )
    metric = objectives.metric(head)
    metric.update_state(as_target(built, head.name, targets), answers)
    return float(np.mean(metric.result()))
