"""The loader of one version: its file becomes a model that serves, or the reason why it cannot."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ModelRefused
from service.inference.model import Model
from service.repository import sandbox
from service.repository.proof import Proof, prove
from service.repository.reasons import is_shortage, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.repository.scan import Version
    from service.signature import Signature

log = logging.getLogger(__name__)

# When what the machine was short of is asked for again: twice as long after each try.
AGAIN_SECONDS = 1.0
MOST_AGAIN_SECONDS = 300.0


@dataclass(frozen=True)
class Servable:
    """What a request is answered by: a version of a model, or a view of some of its heads."""

    name: str
    version: str
    model: Model
    signature: Signature
    proof: Proof = field(default_factory=Proof)


@dataclass(frozen=True)
class Loaded:
    """A version that is loaded: under its own name, and by view."""

    found: Version
    servable: Servable
    views: Mapping[str, Servable]


@dataclass(frozen=True)
class Broken:
    """A version whose file, as it is now, cannot serve."""

    found: Version
    reason: str
    is_short: bool = False
    """Whether the machine is at fault, which may have by now what loading it takes."""
    tries: int = 0
    again: float = math.inf
    """When it is tried again, by the monotonic clock; what is the file's fault never is."""


def load(found: Version) -> Loaded | Broken:
    """Load a version and prove it, or say why it cannot serve."""
    name, version = found.key
    try:
        check_place(Path(found.path), found.root)
        with sandbox.passed(found.path, found.stamp):
            model = Model.load(Path(found.path))
            model.name = f"{name!r}, version {version}"
            signature = model.signature
            proof, views = prove(model)
        return Loaded(
            found,
            Servable(name, version, model, signature, proof),
            {
                view: Servable(view, version, model, restricted, own)
                for view, (restricted, own) in views.items()
            },
        )
    except ModelRefused as error:
        return Broken(found, plain(str(error)), is_shortage(error))
    except Exception as error:
        # A bug, of ours or of what we load with; the other models are to serve all the same.
        is_short = is_shortage(error)
        if not is_short:
            log.exception("%s, version %s: loading it failed", name, version)
        reason = f"loading it failed: {type(error).__name__}: {error}"
        return Broken(found, plain(reason), is_short)


def later(made: Loaded | Broken, before: Broken | None) -> Loaded | Broken:
    """What came of a load, and when to try again if the machine is at fault.

    Args:
        made: that.
        before: what came of the one before, if it failed.
    """
    if isinstance(made, Loaded) or not made.is_short:
        return made
    tries = before.tries + 1 if before is not None and before.found == made.found else 0
    wait = min(MOST_AGAIN_SECONDS, AGAIN_SECONDS * 2**tries)
    return replace(made, tries=tries, again=time.monotonic() + wait)


def check_place(file: Path, root: str) -> None:
    """Refuse a link out of the repository: who may write there need not be who may read here.

    The repository itself may be a link, and links inside of it are followed.
    """
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):  # what cannot be followed cannot be read, which says why
        return
    if root and not real.is_relative_to(Path(root).resolve()):
        message = (
            f"a link leads out of the repository, to {real}: expected the file, or a link inside; "
            "the repository itself may be a link"
        )
        raise ModelRefused(message)
