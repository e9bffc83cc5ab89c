"""The kinds of head: how many labels each kind has, and what tells yes from no.

Free of numpy, so that a spec is checked, and a command line read, without it.
"""

from __future__ import annotations

HEAD_KINDS = ("binary", "multiclass", "multilabel", "regression", "tensor")
LABELLED = ("binary", "multiclass", "multilabel")
THRESHOLDED = ("binary", "multilabel")
THRESHOLD = 0.5  # of a head that has none of its own


def label_count(kind: str, values: int | None) -> int | None:
    """Return how many labels a head has that answers a row with so many `values`.

    A binary head answers with one value and has two labels; every other head has a label for each
    value.  `None` stands for any number.
    """
    return 2 if kind == "binary" else values
