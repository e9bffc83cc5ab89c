"""Training of the place for texts that training never saw, so that they have a neutral effect.

A look-up keeps a place for all texts outside of its vocabulary, and no row of a CSV ever reaches
it: without help, its weights stay as they were drawn at random.  So each epoch replaces a few cells
by a text that no file has.  They are drawn from all rows alike, so the place learns the mean effect
of the known texts, each weighted by its rows.  This holds for every layer that reads the texts: the
look-up of a whole input, or one of the spec with an Embedding behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from training.rows import Arrays

# Of the cells of a text column: enough to train its place like that of a rare text, and too few to
# weaken the others.
SHARE = 0.05
# No cell of a file begins with a blank.
UNSEEN = " never seen"
"""A text that is in no vocabulary."""


def mask(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Return rows by tensor with a random `SHARE` of the cells of each text column replaced."""
    return {
        name: _masked(array, rng) if array.dtype == object else array
        for name, array in arrays.items()
    }


def _masked(texts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    masked = texts.copy()
    masked[rng.random(texts.shape) < SHARE] = UNSEEN
    return masked
