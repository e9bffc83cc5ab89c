"""Rows for the model of three inputs."""

import numpy as np
import pytest

from tests.harness.loading import floats


@pytest.fixture
def rows():
    """Return two rows for `three`, by tensor."""
    return {
        "insurance": floats([30, 30], [60, 13]),
        "insurance.smoker": np.array([["no"], ["yes"]], object),
        "fruit": floats([1, 2], [3, 4]),
        "digit": floats([1, 0, 0, 0], [0, 0, 1, 0]),
    }
