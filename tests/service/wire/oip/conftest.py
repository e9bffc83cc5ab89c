"""Both readers of Open Inference Protocol JSON, for every test of this folder."""

import pytest

from service.wire.oip import quick
from tests.harness.oip import unsure


@pytest.fixture(name="either_path", params=[True, False], ids=["fast", "plain"])
def _either_path(request, monkeypatch):
    """Read JSON with the fast reader and with the reference reader."""
    if not request.param:
        monkeypatch.setattr(quick, "parse", unsure)
