"""Pulls in the process of a test, without long pauses; and a repository that they pull into."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from service import settings
from service.stores import pulling
from service.stores import source as sources
from service.stores.backoff import Backoff

if TYPE_CHECKING:
    from pathlib import Path

    from service.stores.pulling import Pulled
    from service.stores.store import Offer, Store


class Puller:
    """Pulls of one source into one repository, and what they said."""

    def __init__(self, models: Path, source: str, **options: object) -> None:
        """Keep the source; options are those of `Wanted`."""
        self.models = models
        self.said: list[str] = []
        self.backoff = Backoff(self.said.append, attempts=4, first_seconds=0.001)
        parsed = sources.parse(source, is_pinned=True)
        facts = {"name": parsed.name, "sha256": None, "most": None, **options}
        self.wanted = pulling.Wanted(parsed, **facts)

    def pull(self, seen: Offer | None = None, store: Store | None = None) -> Pulled | None:
        """Pull once."""
        opened = store or self.wanted.source.open()
        loaded = settings.load({}, models=self.models)
        return pulling.pull(self.wanted, opened, loaded, self.backoff, seen)

    def content(self, version: str) -> bytes:
        """Return the graph of a version."""
        return (self.models / self.wanted.name / version / "model.onnx").read_bytes()


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()


def visible(models: Path) -> list[str]:
    """Return the paths in a repository, without hidden folders, and notes of numbers."""
    paths = (path.relative_to(models).as_posix() for path in models.rglob("*"))
    return sorted(p for p in paths if not p.startswith(".") and not p.endswith("last_version"))
