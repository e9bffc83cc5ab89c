"""The memory that drift takes for a model is as small as docs/monitoring.md says."""

import pytest

from benchmarks import drift_memory


@pytest.mark.parametrize("setting", ["heads", "features"])
def test_a_model_takes_less_than_a_megabyte(setting):
    """One of a thousand features does, with all rows that wait and its counts over time."""
    own, shared = drift_memory.measure(setting, *drift_memory.wide())

    assert own > 0
    assert shared > 0
    assert own + shared < 1_000_000
