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


def publish(verified: Verified, name: str, models: Path) -> Exported:
    """Publish a verified file as the next version of model `name`.

    Raises:
        PublishError: the repository cannot be written.
    """
    version = repository.publish(models, name, verified.content)
    return Exported(version, models / name / version / repository.FILE, verified)
