"""Repositories that tests change, and how often their versions are loaded."""

import pytest

from service.inference.model import Model


@pytest.fixture
def models(tmp_path):
    """An empty repository."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def loads(monkeypatch):
    """The versions that are loaded, as (name, version), each time that one is."""
    seen = []
    real = Model.load

    def load(source):
        seen.append(source.parts[-3:-1])
        return real(source)

    monkeypatch.setattr(Model, "load", load)
    return seen
