"""The page of a model about drift: what was answered lately, compared with training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from service.api.replies import respond_json
from service.errors import NotFound
from service.insight.serving.drift import describe
from service.insight.serving.windows import DAY, WINDOWS
from service.wire.body import show, wrong

if TYPE_CHECKING:
    from service.insight.serving.drift import Drift
    from service.repository.loader import Servable
    from service.repository.reloader import Library


def pages(library: Library, drift: Drift) -> Blueprint:
    """Return the page.

    Args:
        library: the models.
        drift: what is counted of them.
    """
    blueprint = Blueprint("drift", __name__)

    @blueprint.get("/models/<name>/drift")
    @blueprint.get("/models/<name>/versions/<version>/drift")
    def page(name: str, version: str | None = None) -> Response:
        servable = library.having(name, version).find(name, version)
        text = request.args.get("window", DAY.name)
        window = WINDOWS.get(text)
        if window is None:
            raise wrong("window", f"one of {', '.join(WINDOWS)}", show(text))
        counted = drift.counted(servable, window)
        if counted is None:
            what = f"model {servable.name!r}, version {servable.version}: drift is not counted"
            raise NotFound(f"{what}: {_reason(drift, servable)}")
        return respond_json(describe(counted, window))

    return blueprint


def _reason(drift: Drift, servable: Servable) -> str:
    if drift.setting == "off":
        return "TRICEPS_DRIFT is off"
    if servable.signature.tensor:
        return "it takes whole tensors, which are no rows"
    return (
        "its signature has no reference to compare with, which training records and "
        "triceps sign FILE.onnx --reference ROWS.csv adds"
    )
