"""Publication of verified bytes as the next version of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.repository import publish as repository

if TYPE_CHECKING:
    from pathlib import Path

    from training.verify import Verified


@dataclass(frozen=True)
class Exported:
    """A published version, its file and the result of verifying it."""

    version: str
    path: Path
    verified: Verified


def publish(verified: Verified, name: str, models: Path, report: bytes | None = None) -> Exported:
    """Publish a verified file, and the report of its run, as the next version of model `name`.

    Raises:
        PublishError: the repository cannot be written.
    """
    version = repository.publish(models, name, verified.content, report)
    return Exported(version, models / name / version / repository.FILE, verified)
