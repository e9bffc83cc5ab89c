"""The loss of each row, by which the worst ones are found: log loss, or absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.evaluation.calibration import SUM

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST = 1e-7  # a smaller probability counts as this, as in Keras


def by_row(kind: str, targets: NDArray[Any], answers: NDArray[Any]) -> NDArray[np.float64]:
    """Return the loss of each row, [rows]; infinity for an answer that is no finite number.

    It is the log loss, -log(p) of the probability p of what is right, the mean of it for several
    labels, or for a regression the absolute error, the mean of it for several values.  Values
    beyond 0 and 1 count as 0 and 1; those of several classes that are no probabilities count as
    logits.

    Args:
        kind: the kind of the head, as for `service.insight.scores`.
        targets: as for `service.insight.scores.by_row`.
        answers: the values of the head, [rows, …].
    """
    flat = answers.reshape(len(answers), -1).astype(np.float64)
    if kind == "regression":
        with np.errstate(over="ignore", invalid="ignore"):
            loss = np.abs(flat - targets.reshape(flat.shape)).mean(axis=1)
    elif kind == "multiclass":
        loss = _log(_probabilities(flat)[np.arange(len(flat)), targets])
    else:
        loss = _log(np.where(targets.reshape(flat.shape) > 0, flat, 1 - flat)).mean(axis=1)
    return np.where(np.isfinite(flat).all(axis=1), loss, np.inf)


def worst(losses: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the places of the largest losses, the largest first; of equal ones the first."""
    return np.argsort(-losses, kind="stable")[:most]


def _log(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(np.log(np.clip(probabilities, LEAST, 1.0)))  # 0, and not -0


def _probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows that add up to 1 as they are, and others by softmax."""
    with np.errstate(over="ignore", invalid="ignore"):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        are = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM)
        return np.where(are[:, None], values, powers / powers.sum(axis=1, keepdims=True))
