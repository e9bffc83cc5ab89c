"""The health and version pages that MLflow, SageMaker and Vertex AI require of a container.

They expect one model, so its health is whether the default model can answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response

from service import __version__
from service.errors import NotFound, NotReady
from service.wire import mlflow

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.repository.reloader import Library


# In place of the reason, for clients that may not know of every model.
NOT_SAID = (
    "the reason is in the logs, and is shown to clients that have a token with the scope 'predict' "
    "for all models"
)


def pages(
    library: Library, health: str = "", is_told_all: Callable[[], bool] = lambda: True
) -> Blueprint:
    """Return the pages `/ping`, `/health` and `/version`.

    Args:
        library: the models.
        health: one more path for the health, as `AIP_HEALTH_ROUTE` names it; none if empty.
        is_told_all: returns whether the client may know of every model.
    """
    blueprint = Blueprint("scoring", __name__)

    def ping() -> Response:
        try:
            library.find()
            reason = library.reason_not_ready()
        except (NotFound, NotReady) as error:
            # MLflow answers 404 here.  But a 404 would look like a path that does not exist, while
            # 503 tells a health probe to try again.
            reason = f"{error}"
        if reason is not None:
            reply = mlflow.encode_error(NotReady(reason if is_told_all() else NOT_SAID))
            return Response(reply.content, NotReady.status, content_type=reply.content_type)
        return Response("\n", mimetype="text/plain")

    for path in dict.fromkeys(("/ping", "/health", *filter(None, [health]))):
        blueprint.add_url_rule(path, view_func=ping)

    @blueprint.get("/version")
    def version() -> Response:
        return Response(__version__, mimetype="text/plain")

    return blueprint
