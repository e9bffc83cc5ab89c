"""The page about the shadow of a model: the comparison of its answers with those of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from service.api.replies import respond_json
from service.errors import NotFound
from service.insight import comparison
from service.insight.shadow import figures
from service.insight.shadow.feeds import Feeds
from service.insight.shadow.figures import Pair
from service.insight.shadow.stops import REASONS
from service.observability.logs import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.insight.shadow.figures import Figures
    from service.observability.metrics import Metrics
    from service.repository.loader import Servable
    from service.repository.reloader import Library
    from service.repository.repository import Repository


def pages(library: Library, metrics: Metrics) -> Blueprint:
    """Return the page.

    Args:
        library: the models.
        metrics: have what all processes have compared.
    """
    blueprint = Blueprint("comparing", __name__)

    @blueprint.get("/models/<name>/compare")
    def compare(name: str) -> Response:
        return respond_json(_compared(library.current, metrics, name))

    return blueprint


def stopped(repository: Repository, metrics: Metrics, name: str) -> str:
    """Return why the shadow of a model or view is not run; empty if it is, or there is none."""
    pair, _ = _pair(repository, name)
    if pair is None:
        return ""
    return _reason(repository, name, figures.stopped(metrics.shadow).get(pair, ""))


def _compared(repository: Repository, metrics: Metrics, name: str) -> dict[str, Any]:
    """Return the comparison of a model or view with its shadow.

    Raises:
        NotFound: there is no such model, or it has no shadow.
    """
    pair, share = _pair(repository, name)
    if pair is None:
        if name not in repository.answering:
            repository.find(name)  # raises the error that gives the reason
        why = repository.candidates.reasons.get((name, "shadow"), "it has no shadow")
        owner, _ = repository.key(name, "")
        # A client that may only see the view must not see the name of its model.
        way_out = f": triceps traffic {name} --shadow VERSION --share 10%" if owner == name else ""
        raise NotFound(f"model {name!r}: {why}{way_out}")
    known = figures.read(metrics, pair)
    stable, candidate = (
        repository.loaded(name, version, None) for version in (pair.stable, pair.version)
    )
    heads = {
        head: total.as_json()
        for head, total in known.heads.items()
        if stable is None or head in stable.signature.heads
    }
    return {
        "version": pair.stable,
        "with": pair.version,
        "share": share,
        "since": moment(known.since) if known.since else None,
        "stopped": _reason(repository, name, known.stopped) or None,
        "rows": known.outcomes.get(figures.COMPARED, 0),
        "dropped": known.outcomes.get(figures.DROPPED, 0),
        "failed": known.outcomes.get(figures.FAILED, 0),
        "heads": heads,
        "not_compared": {} if stable is None else _not_compared(stable, candidate),
        "seconds": _seconds(known),
    }


def _pair(repository: Repository, name: str) -> tuple[Pair | None, float]:
    """Return the pair of a model or view, and its share; `None` if it has no shadow."""
    traffic, stable = repository.traffic(name), repository.answering.get(name)
    if traffic is None or traffic.shadow is None or stable in (None, traffic.shadow.version):
        return None, 0.0
    owner, _ = repository.key(name, "")
    return Pair(owner, traffic.shadow.version, stable), traffic.shadow.share


def _reason(repository: Repository, name: str, stop: str) -> str:
    """Return why a candidate is not run; empty if it is.

    Args:
        repository: the models.
        name: the name of the model or view.
        stop: the reason for which it has stopped, by its name in `REASONS`; empty for none.
    """
    reason = repository.candidates.reasons.get((name, "shadow"), "")
    serving = repository.serving.get(name)
    if serving is not None and serving.signature.tensor:
        return "answers to whole tensors are not compared"
    if reason or not stop:
        return reason
    return f"{REASONS.get(stop, stop)}; the log of the service says more"


def _not_compared(stable: Servable, candidate: Servable | None) -> dict[str, str]:
    """Return why heads are not compared, by head."""
    if candidate is None:
        return {}
    of_stable, of_candidate = stable.signature, candidate.model.signature
    feeds = Feeds(stable.model.signature, of_candidate)
    reasons = {}
    for head in of_stable.heads:
        if head not in of_candidate.heads:
            reasons[head] = f"version {candidate.version} does not have it"
        else:
            objection = comparison.objection(of_stable.heads[head], of_candidate.heads[head])
            reasons[head] = objection or feeds.why_not(head)
    return {head: reason for head, reason in reasons.items() if reason}


def _seconds(known: Figures) -> Mapping[str, Any]:
    """Return the processor time of one row, by version, of rows that both ran alike."""
    rows = 0
    means: dict[str, float | None] = {}
    for version in (figures.STABLE, figures.CANDIDATE):
        taken = known.seconds.get(version)
        means[version] = None if taken is None or not taken.rows else taken.seconds / taken.rows
        rows = 0 if taken is None else taken.rows
    return {**means, "rows": rows}
