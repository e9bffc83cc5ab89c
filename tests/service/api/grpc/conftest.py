"""A front that answers HTTP/2, and clients of it."""

from __future__ import annotations

import pytest

from tests.harness import small, tokens
from tests.harness.calls import client
from tests.harness.served import Served


@pytest.fixture(name="models")
def _models(tmp_path):
    """Return a repository of a model with two versions, and of one that is broken."""
    models = tmp_path / "models"
    models.mkdir()
    for version in (1, 2):
        small.put(models, "three", version, small.three(version))
    small.put(models, "broken", 1, b"nothing")
    return models


@pytest.fixture(name="served")
def _served(models):
    """Yield a service that requires no tokens."""
    served = Served(models)
    yield served
    served.stop()


@pytest.fixture(name="guarded")
def _guarded(models, tmp_path):
    """Yield a service that requires tokens."""
    served = Served(models, tokens_file=tokens.put(tmp_path))
    yield served
    served.stop()


@pytest.fixture(name="calls")
def _calls(served):
    """Yield a client of the service."""
    with client(served.port) as made:
        yield made
