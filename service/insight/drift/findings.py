"""Findings: the statistics and the verdict of each quantity, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.insight.drift import statistics
from service.insight.drift.counting import compared
from service.reference import Numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.insight.drift.counting import Layout, Place

    Counts = NDArray[np.int64]

# The chance that any quantity of a model is said to drift while none does.
FALSE_ALARM = 0.01
DRIFT, NO_DRIFT, TOO_FEW = "drift", "no drift", "too few rows"


def findings(layout: Layout, counts: Counts, risk: float = FALSE_ALARM) -> dict[str, Any]:
    """Return for JSON what is to be said about the features and the heads of a model.

    Args:
        layout: the cells of the model.
        counts: the counts of the rows.
        risk: the chance of any false alarm; each quantity has an equal part of it.
    """
    each = risk / max(1, len(layout.places))
    sides: tuple[list[dict[str, Any]], ...] = ([], [])
    for place in layout.places:
        sides[place.quantity.is_head].append(
            _finding(place, counts[place.start : place.stop], each)
        )
    features, heads = (sorted(side, key=_rank) for side in sides)
    return {"features": features, "heads": heads}


def _finding(place: Place, counts: Counts, risk: float) -> dict[str, Any]:
    rows, reference_rows = int(counts.sum()), int(place.expected.sum())
    before, after = compared(place.reference, counts)
    one = statistics.compare(before, after, risk)
    needed = statistics.rows_needed(before, risk)
    if one.exceeds_chance and (one.psi or 0.0) > statistics.SMALL:
        verdict = DRIFT
    elif needed is None:
        enough = statistics.reference_rows_needed(before, risk)
        verdict = f"{TOO_FEW} in the reference: {reference_rows} of {enough}"
    else:
        verdict = NO_DRIFT if rows >= needed else f"{TOO_FEW}: {rows} of {needed}"
    return {
        ("head" if place.quantity.is_head else "feature"): place.quantity.name,
        "verdict": verdict,
        "psi": one.psi,
        "bound": one.bound,
        "jensen_shannon": one.jensen_shannon,
        **_shares(place, counts),
        "rows": rows,
        "rows_needed": needed,
        "reference_rows": reference_rows,
    }


def _shares(place: Place, counts: Counts) -> dict[str, float | None]:
    """Return the shares of rows that say what has changed; `None` for those that no row can be."""
    shares: dict[str, float | None] = {"missing": None, "unseen": None, "out_of_range": None}
    rows = int(counts.sum())
    if rows:
        shares["missing"] = float(counts[0]) / rows
        if isinstance(place.reference, Numbers):
            shares["out_of_range"] = float(counts[1] + counts[-1]) / rows
        elif place.quantity.known is not None:
            shares["unseen"] = float(counts[-1]) / rows
    return shares


def _rank(finding: dict[str, Any]) -> tuple[bool, float]:
    """Return the order of a finding: drift first, then by PSI in relation to its bound."""
    psi, bound = finding["psi"] or 0.0, finding["bound"] or 0.0
    return finding["verdict"] != DRIFT, -psi / max(bound, statistics.SMALL)
