"""The warnings at the end of a run: what a careful reader of the scores should know.

They are printed below the scores and stored in the signature; with `--strict` they prevent the
publication.  A problem of many features is one warning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.kinds import LABELLED
from training import importance
from training.gate import is_error, plain
from training.rows import ENOUGH, known_targets
from training.scaling import unscaled
from training.scores import in_few_digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from training.fit import Fitted
    from training.rows import Data
    from training.scores import Score
    from training.spec import Spec

APART = 100.0  # losses
FAR = 0.1  # scores on training and held-out rows; of an error, the held-out one in units of FARTHER
FARTHER = 1.5
SHOWN = 5  # names in a message
CHOSEN = (
    "the held-out rows chose the epoch, so that the scores on them are a little too good;"
    " fit.test_split = 0.1, or --test FILE.csv, gives scores that are not"
)


@dataclass(frozen=True)
class RunWarning:
    """A warning; `head` is empty if it is about the whole model."""

    code: str
    message: str
    head: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the warning as it is stored in a signature."""
        head = {"head": self.head} if self.head else {}
        return {"code": self.code, **head, "message": self.message}


def collect(
    spec: Spec, fitted: Fitted, train: Data, held_out: Data | None, test: Data | None = None
) -> list[RunWarning]:
    """Return the warnings of a run, those about heads first, in the order of the spec."""
    found: list[RunWarning] = []
    for name, score in fitted.scores.items():
        found += _baseline(name, score)
        found += _gap(name, score)
        found += _unlearned(spec, name, train, [held_out, test])
        if test is not None:
            found += _few(spec, name, test, "test")
        elif held_out is not None:
            found += _few(spec, name, held_out, "held-out")
    found += _losses(fitted)
    found += _constant(train)
    found += _unscaled(spec, train)
    found += _unused(fitted, train)
    if spec.fit.patience is not None and test is None:
        found.append(RunWarning("chosen_epoch", CHOSEN))
    return found


def _baseline(name: str, score: Score) -> Iterator[RunWarning]:
    side, value = score.decisive
    baseline = in_few_digits(score.baseline)  # as `value` is: equal is not better
    better = value < baseline if is_error(score.metric) else value > baseline
    if not better:
        yield RunWarning(
            "below_baseline",
            f"head {name!r} does not beat its baseline: {score.metric} {plain(value, 6)} on {side}"
            f" rows, and {plain(baseline, 6)} without looking at any input",
            name,
        )


def _gap(name: str, score: Score) -> Iterator[RunWarning]:
    """Warn of a score that is much worse on new rows, by more than their luck explains."""
    side, value = score.decisive
    if side == "training":
        return
    rows = score.test_rows or score.held_out_rows
    if is_error(score.metric):
        apart = value > FARTHER * score.train and rows >= ENOUGH
    else:
        share = min(max(value, 0.0), 1.0)
        luck = 2 * math.sqrt(share * (1 - share) / max(rows, 1))
        apart = score.train - value > max(FAR, luck)
    if apart:
        yield RunWarning(
            "far_apart",
            f"head {name!r} is much worse on rows that it has not seen: {score.metric}"
            f" {plain(score.train, 6)} on training rows, {plain(value, 6)} on {side} rows",
            name,
        )


def _few(spec: Spec, name: str, data: Data, side: str) -> Iterator[RunWarning]:
    few = [f"{label} ({n})" for label, n in _counts(spec, name, data) if n < ENOUGH]
    if few:
        yield RunWarning(
            "few_rows",
            f"head {name!r}: fewer than {ENOUGH} {side} rows of {_listed(few)};"
            " its score says little about them",
            name,
        )


def _unlearned(
    spec: Spec, name: str, train: Data, others: Iterable[Data | None]
) -> Iterator[RunWarning]:
    """Warn of classes that only rows held out have."""
    there = {label for data in others if data for label, n in _counts(spec, name, data) if n}
    unlearned = [label for label, n in _counts(spec, name, train) if not n and label in there]
    if unlearned:
        yield RunWarning(
            "unlearned_class",
            f"head {name!r}: no training row is {_listed(unlearned)}, and what no row shows is not"
            " learned; fit.stratify, or another fit.seed, may leave some to training",
            name,
        )


def _counts(spec: Spec, name: str, data: Data) -> list[tuple[str, int]]:
    """Return each label of a head with its rows; nothing for a head without labels."""
    labels = data.labels[name]
    if labels is None or spec.heads[name].kind not in LABELLED:
        return []
    targets = known_targets(data, name)
    if spec.heads[name].kind == "multilabel":
        counts = targets.sum(axis=0).astype(int)
    else:
        counts = np.bincount(targets.astype(int).reshape(-1), minlength=len(labels))
    return list(zip(labels, counts.tolist(), strict=True))


def _losses(fitted: Fitted) -> Iterator[RunWarning]:
    """Warn of losses that were far apart from the first epoch to the last."""
    losses = {name: pair for name, pair in fitted.losses.items() if min(pair) > 0}
    if len(losses) < 2:  # noqa: PLR2004  (a loss and another)
        return
    large = max(losses, key=lambda name: losses[name][0])
    small = min(losses, key=lambda name: losses[name][0])
    if all(a > APART * b for a, b in zip(losses[large], losses[small], strict=True)):
        yield RunWarning(
            "losses_apart",
            f"the loss of head {large!r} is {losses[large][1]:,.4g}, that of {small!r}"
            f" {losses[small][1]:,.4g}: what they share learns {large!r} almost alone;"
            " standardize a regression, or set loss_weight",
        )


def _constant_features(train: Data) -> list[str]:
    """Return the features that have one value in all rows, as input.feature."""
    return [
        f"{name}.{feature.name}"
        for name, entry in train.inputs.items()
        for feature in entry.features
        if (feature.statistics and feature.statistics.min == feature.statistics.max)
        or (feature.vocabulary is not None and len(feature.vocabulary) == 1)
    ]


def _constant(train: Data) -> Iterator[RunWarning]:
    names = _constant_features(train)
    if names:
        yield RunWarning(
            "constant_feature",
            f"always the same, so that nothing can be learnt from it: {_listed(names)}",
        )


def _unscaled(spec: Spec, train: Data) -> Iterator[RunWarning]:
    for found in unscaled(spec, train.inputs):
        yield RunWarning(
            "unscaled_feature",
            f"{found}, and no layer scales it; Normalization (or Rescaling, for an image) helps",
        )


def _unused(fitted: Fitted, train: Data) -> Iterator[RunWarning]:
    same = _constant_features(train)
    unused = importance.unused(fitted.importance)
    every = [
        f"{name}.{feature}" if feature else name
        for name, features in unused.items()
        for feature in features
    ]
    names = [name for name in every if name not in same]
    if names:
        yield RunWarning(
            "unused_feature",
            f"nothing was learnt from {_listed(names)}: shuffled among {fitted.importance.side}"
            " rows, no head gets worse beyond chance",
        )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
