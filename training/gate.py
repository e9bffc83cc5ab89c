"""The scores that `triceps train --min-score` demands of a model before it is published.

--min-score o1=0.8 ─ parse, check ─▶ Demand, before the fit ─ unmet ─▶ messages, after it
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from service.errors import nearest
from training.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from training.scores import Score
    from training.spec import Spec

# Parts of the names of Keras' metrics of which less is better, without underscores.
_ERRORS = (
    *("divergence", "entropy", "error", "falsenegative", "falsepositive", "hinge", "huber"),
    *("logcosh", "loss", "poisson"),
)
_SHORT = frozenset({"bce", "kld", "mae", "mape", "mse", "msle", "rmse"})


@dataclass(frozen=True)
class Demand:
    """The worst score that a head may have; `text` is the option as it was written."""

    head: str
    score: float
    text: str


def is_error(metric: str) -> bool:
    """Return whether a metric of Keras is an error, of which less is better."""
    name = metric.lower().replace("_", "")
    return name in _SHORT or any(part in name for part in _ERRORS)


def demands(texts: Iterable[str], spec: Spec) -> list[Demand]:
    """Read the values of `--min-score`, `HEAD=SCORE` each.

    Raises:
        SpecError: a value has another form, names no head of the spec, or one head twice.
    """
    read: dict[str, Demand] = {}
    for text in texts:
        head, _, number = text.rpartition("=")
        at = f"--min-score {text}"
        try:
            score = float(number)
        except ValueError:
            score = math.nan
        if not head or not math.isfinite(score):
            raise SpecError(f"{at}: expected HEAD=SCORE with a number, as {_example(spec)}")
        if head not in spec.heads:
            tail = nearest(head, spec.heads) or f"; heads: {', '.join(spec.heads)}"
            raise SpecError(f"{at}: {str(spec.path)!r} has no head {head!r}{tail}")
        if head in read:
            raise SpecError(f"{at}: head {head!r} has {read[head].text} already; remove one")
        read[head] = Demand(head, score, text)
    return list(read.values())


def unmet(wanted: Iterable[Demand], scores: Mapping[str, Score]) -> list[str]:
    """Return a message for each demand that the scores do not meet."""
    messages = []
    for demand in wanted:
        score = scores[demand.head]
        side, value = score.decisive
        error = is_error(score.metric)
        if (value <= demand.score) if error else (value >= demand.score):
            continue  # not-a-number meets no demand
        bound, off = ("at most", "high") if error else ("at least", "low")
        messages.append(
            f"head {demand.head!r}: the {score.metric} on {side} rows is {plain(value)},"
            f" which is {plain(abs(value - demand.score), 2)} too {off}:"
            f" --min-score {demand.text} demands {bound} {plain(demand.score, 6)}"
        )
    return messages


def plain(value: float, digits: int = 4) -> str:
    """Return a number in so many digits, and without an exponent, however large it is."""
    return format(Decimal(f"{value:.{digits}g}"), "f") if math.isfinite(value) else str(value)


def _example(spec: Spec) -> str:
    return f"{next(iter(spec.heads))}=0.8"
