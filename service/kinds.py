"""Words of a signature: the kinds of head with their labels, and what is done with unseen texts.

This module does not import numpy, so that a spec can be checked, and a command line read, without
it.
"""

from __future__ import annotations

HEAD_KINDS = ("binary", "multiclass", "multilabel", "regression", "tensor")
LABELLED = ("binary", "multiclass", "multilabel")
THRESHOLDED = ("binary", "multilabel")
# Texts that are not in the vocabulary of their feature are answered, the default, or refused.
UNSEEN = ("answer", "refuse")
THRESHOLD = 0.5  # of a head whose signature records none


def label_count(kind: str, values: int | None) -> int | None:
    """Return the number of labels of a head that answers each row with that number of `values`.

    A binary head answers with one value and has two labels; every other head has a label for each
    value.  `None` stands for any number.
    """
    return 2 if kind == "binary" else values
