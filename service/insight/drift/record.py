"""Recording of a reference: a distribution of each quantity among given rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from service.insight.drift.quantities import NO_CODE
from service.reference import Categories, Numbers, Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.insight.drift.quantities import Quantity
    from service.reference import Distribution

BINS = 10
# The texts or labels that are counted one by one, the commonest; a rarer text than of FEW rows is
# not among them.
CATEGORIES = 20
FEW = 10


def record(
    chosen: Sequence[Quantity],
    columns: Sequence[NDArray[Any] | None],
    rows: Mapping[str, str],
    *,
    own: bool = False,
) -> Reference:
    """Return the reference of quantities; one without any value is left out.

    Args:
        chosen: the quantities.
        columns: the values of each, as `quantities.columns` returns them.
        rows: for "inputs" and "heads", which rows these are, such as "training".
        own: the vocabularies have the texts of these rows, and no others.
    """
    sides: tuple[dict[str, dict[str, Distribution]], ...] = ({}, {})
    for quantity, values in zip(chosen, columns, strict=True):
        one = None if values is None else distribution(quantity, values, own=own)
        if one is not None:
            sides[quantity.is_head].setdefault(quantity.owner, {})[quantity.part] = one
    inputs, heads = sides
    return Reference(inputs, heads, rows)


def distribution(
    quantity: Quantity, values: NDArray[Any], *, own: bool = False
) -> Distribution | None:
    """Return the distribution of a quantity's values; `None` if all are missing."""
    if quantity.labels is not None:
        return _labels(quantity.labels, values)
    if quantity.dtype == "string":
        return texts(values, own=own and quantity.known is not None)
    return numbers(values)


def numbers(values: NDArray[Any]) -> Numbers | None:
    """Return the counts of at most `BINS` bins of about equally many values, and of more for some.

    Equal values are in one bin.  One that as many rows have as a bin has no others in it, and few
    different values have a bin each.  What is not finite counts as missing.
    """
    finite = np.sort(values[np.isfinite(values)])
    if not len(finite):
        return None
    distinct, each = np.unique(finite, return_counts=True)
    cuts = distinct
    if len(distinct) > BINS:
        frequent = np.flatnonzero(each * BINS >= len(finite))
        alone = distinct[np.unique([frequent, np.minimum(frequent + 1, len(distinct) - 1)])]
        cuts = np.union1d(finite[np.arange(1, BINS) * len(finite) // BINS], alone)
    cuts = cuts[cuts > finite[0]]
    counts = np.bincount(np.searchsorted(cuts, finite, side="right"), minlength=len(cuts) + 1)
    # The fewest digits that give the number again in its own precision.
    edges = (float(str(edge)) for edge in (finite[0], *cuts, finite[-1]))
    return Numbers(tuple(edges), tuple(counts.tolist()), len(values) - len(finite))


def texts(values: NDArray[Any], *, own: bool = False) -> Categories | None:
    """Return the counts of the commonest texts, and of all others together.

    If texts are left out, the commonest are chosen from a random half of the rows, and the counts
    are those of the other half: a text that is chosen for its count would have a lower one among
    new rows, which is no drift.  For the same reason, texts are never in the order of the counts.

    Args:
        values: the texts, and `None` where one is missing.
        own: the vocabulary has these texts, and no others, so that it says how many unseen ones
            to expect.
    """
    known = values[[text is not None for text in values]]
    if not len(known):
        return None
    missing = len(values) - len(known)
    every = counts = Counter(known.tolist())
    if len(every) > CATEGORIES or min(every.values()) < FEW:
        order = np.random.default_rng(0).permutation(len(known))
        half = len(known) // 2
        chosen = Counter(known[order[:half]].tolist())
        counts = Counter(known[order[half:]].tolist())
        listed = [text for text, rows in chosen.items() if rows >= FEW / 2]
        listed = sorted(listed, key=lambda text: (-chosen[text], text))[:CATEGORIES]
    else:
        listed = sorted(every)
    part = counts.total() / len(known)
    one = _categories(listed, counts, round(missing * part))
    if not own:
        return one
    return replace(one, unseen=min(round(_unseen(every) * part), one.counts[-1]))


def _unseen(counts: Counter[str]) -> int:
    """Return how many of as many new rows have an unseen text, or an upper estimate.

    They are as likely to have one as these rows are to have a text of their own (I. J. Good, 1953).
    That is too rough an estimate where as many rows or more have a text that one other has.
    """
    times = Counter(counts.values())
    alone, in_pairs = times[1], 2 * times[2]
    return alone if in_pairs <= alone else alone + in_pairs


def _labels(labels: Sequence[str], codes: NDArray[Any]) -> Categories | None:
    known = codes[codes != NO_CODE]
    if len(labels) > CATEGORIES:
        named = np.array([*labels, None], object)[codes]
        return texts(named)
    if not len(known):
        return None
    by_code = np.bincount(known, minlength=len(labels)).tolist()
    counts = Counter(dict(zip(labels, by_code, strict=True)))
    return _categories(labels, counts, len(codes) - len(known))


def _categories(listed: Iterable[str], counts: Counter[str], missing: int) -> Categories:
    named = tuple(listed)
    each = [counts[text] for text in named]
    return Categories(named, (*each, counts.total() - sum(each)), missing)
