"""Occlusion: what the answer loses without one feature."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.insight.explanations import occlusion


@given(st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_the_parts_of_a_sum_are_its_terms(terms):
    """The first run is the row itself, and each of the others lacks one feature."""
    masks = occlusion.masks(len(terms))
    scores = masks @ np.array(terms)

    assert masks[0].all()
    assert masks.shape == (len(terms) + 1, len(terms))
    assert np.allclose(occlusion.parts(scores[None]), [terms], atol=1e-6)


def test_features_that_say_the_same_hide_each_other():
    """Parts need not add up: the other one still says it, or both are needed."""
    masks = occlusion.masks(2)
    either = masks.any(axis=1).astype(float)
    both = masks.all(axis=1).astype(float)

    assert occlusion.parts(either[None]).tolist() == [[0, 0]]
    assert occlusion.parts(both[None]).tolist() == [[1, 1]]
