"""Calibration of probabilities: of answers of about 0.8, eight of ten should be right.

For a binary head they are the probabilities of its second label (M. P. Naeini, G. F. Cooper and
M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015); for
several classes, those of the answered class (C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, On
calibration of modern neural networks, ICML 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10  # of equal width
ROUNDING = 1e-6  # float32 sums of exponentials may be this far out of [0, 1]
SUM = 0.01  # probabilities of float16 add up to 1 so closely


class Bins(NamedTuple):
    """The rows by their probability, in `BINS` bins from 0 to 1, upper ends included: all [bins].

    `rows` counts them, `mean` is the mean probability of those in the bin and `share` the share of
    them in which it came true; both are not-a-number in an empty bin.
    """

    rows: NDArray[np.int64]
    mean: NDArray[np.float64]
    share: NDArray[np.float64]


def bins(true: NDArray[np.bool_], probabilities: NDArray[Any]) -> Bins:
    """Return the rows by their probability.

    Args:
        true: whether that came true which has the probability, [rows].
        probabilities: from 0 to 1, [rows].
    """
    values = probabilities.astype(np.float64)
    place = np.searchsorted(np.arange(1, BINS) / BINS, values)
    rows = np.bincount(place, minlength=BINS)
    sums = (np.bincount(place, weights, minlength=BINS) for weights in (values, true))
    with np.errstate(invalid="ignore"):
        mean, share = (total / rows for total in sums)
    return Bins(rows, mean, share)


def expected_error(binned: Bins) -> float | None:
    """Return the expected calibration error: the mean of |share - mean|, weighed by the rows.

    `None` without rows.
    """
    total = binned.rows.sum()
    if not total:
        return None
    return float(np.nansum(binned.rows * np.abs(binned.share - binned.mean)) / total)


def are_probabilities(answers: NDArray[Any], *, of_classes: bool) -> bool:
    """Return whether all values are from 0 to 1, and add up to 1 if they are `of_classes`.

    Args:
        answers: finite answers, [rows, values].
        of_classes: whether the values of a row are those of classes that exclude one another.
    """
    values = answers.astype(np.float64)
    inside = bool(((values >= -ROUNDING) & (values <= 1 + ROUNDING)).all())
    return inside and not (of_classes and (np.abs(values.sum(axis=1) - 1) > SUM).any())
