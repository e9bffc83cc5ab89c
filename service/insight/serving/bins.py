"""The names of cells, as `/metrics` has them in the label `bin`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from service.reference import Numbers

if TYPE_CHECKING:
    from service.insight.drift.counting import Place

MISSING, BELOW, ABOVE, OTHER, UNSEEN = "missing", "below", "above", "other", "unseen"
_WORDS = frozenset({MISSING, OTHER, UNSEEN})


def bins(place: Place) -> list[tuple[str, int]]:
    """Return the name and the cell of each bin of a quantity that a row can be in.

    Those of numbers are `missing`, `below`, `[18,25)`, …, `above`; those of texts and labels are
    `missing`, the texts, `other` and `unseen`.  A text that is one of these words, or begins with a
    quotation mark, is in quotation marks.
    """
    one, quantity = place.reference, place.quantity
    if isinstance(one, Numbers):
        within = [f"[{_number(low)},{_number(high)})" for low, high in pairwise(one.edges)]
        within[-1] = within[-1][:-1] + "]"
        names = [MISSING, BELOW, *within, ABOVE]
    else:
        names = [MISSING, *map(_text, one.texts), OTHER, UNSEEN]
        if quantity.labels is not None and set(quantity.labels) <= set(one.texts):
            del names[-2:]
        elif quantity.known is None:
            del names[-1]
    return list(zip(names, range(place.start, place.stop), strict=False))


def _number(edge: float) -> str:
    return repr(edge).removesuffix(".0")


def _text(text: str) -> str:
    return f'"{text}"' if text in _WORDS or text.startswith('"') else text
