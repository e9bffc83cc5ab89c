"""The loading of a pair of versions for comparison, and the heads that can be compared.

the repository's files ─ two versions ─ load, one thread each ─▶ LoadedPair, or StopError
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.errors import ModelRefused
from service.insight import comparison
from service.insight.shadow.feeds import Feeds
from service.insight.shadow.pairs import digest
from service.insight.shadow.stops import StopError
from service.repository.catalog import EMPTY
from service.repository.declarations import declare
from service.repository.loader import Loaded, load
from service.repository.model_settings import DEFAULTS
from service.repository.scan import look

if TYPE_CHECKING:
    from pathlib import Path

    from service.inference.execution import Execution
    from service.insight.shadow.figures import Pair
    from service.repository.loader import Servable
    from service.repository.scan import Version

_MB = 2**20


@dataclass(frozen=True)
class LoadedPair:
    """Both versions of a pair, and what of them is compared."""

    stable: Servable
    candidate: Servable
    feeds: Feeds
    heads: tuple[str, ...]
    size: int
    """The bytes that both take."""


@dataclass(frozen=True)
class FoundPair:
    """The files of a pair."""

    stable: Version
    candidate: Version | None
    execution: Execution


def find(models: Path, provider: str, pair: Pair, files: str) -> FoundPair | None:
    """Return the files of a pair; `None` if they are not those that a worker serves.

    Args:
        models: the repository.
        provider: the execution provider of models whose settings name none.
        pair: the pair.
        files: the digest of the files that the worker serves.
    """
    scan = look(models)
    versions = scan.by_name.get(pair.model, {})
    stable, candidate = versions.get(pair.stable), versions.get(pair.version)
    stamps = (None if each is None else each.stamp for each in (stable, candidate))
    if stable is None or digest(*stamps) != files:
        return None
    settings = declare(scan, EMPTY).settings.get(pair.model, DEFAULTS)
    # More threads would take more processors from those that answer.
    execution = replace(settings.execution(provider), threads=1, auto=False)
    return FoundPair(stable, candidate, execution)


def load_pair(found: FoundPair, room: float) -> LoadedPair:
    """Load both versions.

    Args:
        found: their files.
        room: the bytes that they may take.

    Raises:
        StopError: one of them cannot be loaded, or nothing of them can be compared.
    """
    if found.candidate is None:
        raise StopError("refused", "there is no such version")
    stable = _loaded(found.stable, found.execution, room)
    candidate = _loaded(found.candidate, found.execution, room - stable.size)
    of_stable, of_candidate = (each.servable.signature for each in (stable, candidate))
    if of_candidate.tensor:
        raise StopError("unlike", "it takes whole tensors")
    feeds = Feeds(of_stable, of_candidate)
    why = {
        head: comparison.objection(of_stable.heads[head], of_candidate.heads[head])
        or feeds.why_not(head)
        for head in of_stable.heads
        if head in of_candidate.heads
    }
    heads = tuple(head for head, reason in why.items() if not reason)
    if not heads:
        reasons = "; ".join(f"{head}: {reason}" for head, reason in why.items())
        raise StopError("unlike", f"no head can be compared: {reasons or 'none is in both'}")
    size = stable.size + candidate.size
    return LoadedPair(stable.servable, candidate.servable, feeds, heads, size)


def _loaded(found: Version, execution: Execution, room: float) -> Loaded:
    is_large = False

    def admit(size: int) -> bool:
        nonlocal is_large
        is_large = size > room
        if is_large:
            message = (
                f"it takes {size // _MB} MB: expected at most {max(0, int(room)) // _MB} MB, as "
                "TRICEPS_MEMORY leaves to the process of the shadow"
            )
            raise ModelRefused(message)
        return True

    outcome = load(found, execution, admit)
    if not isinstance(outcome, Loaded):
        reason = getattr(outcome, "reason", "it is not loaded")
        message = f"version {found.version} is refused: {reason}"
        raise StopError("large" if is_large else "refused", message)
    return outcome
