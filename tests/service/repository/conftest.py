"""Fixtures for repositories that tests change, and for the loads of their versions."""

import pytest

from service.inference.model import Model


@pytest.fixture
def models(tmp_path):
    """Return the folder of an empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def loads(monkeypatch):
    """Return the (name, version) of each load, in order."""
    seen = []
    real = Model.load

    def load(source, *more):
        seen.append(source.parts[-3:-1])
        return real(source, *more)

    monkeypatch.setattr(Model, "load", load)
    return seen
