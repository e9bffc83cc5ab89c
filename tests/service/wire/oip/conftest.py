"""The two ways in which JSON is read."""

import pytest

from service.wire.oip import quick
from tests.harness.oip import unsure


@pytest.fixture(name="either_path", params=[True, False], ids=["fast", "plain"])
def _either_path(request, monkeypatch):
    """Everything holds for both ways to read JSON."""
    if not request.param:
        monkeypatch.setattr(quick, "parse", unsure)
