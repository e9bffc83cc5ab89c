"""What those who run a container ask besides predictions: MLflow, SageMaker and Vertex AI.

They ask for one model, the default one, so what is told here is whether that can answer.
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


# What those read who are not to learn which models there are.
NOT_SAID = "why is told to who has a token with the scope 'predict' for all models, and in the logs"


def pages(
    library: Library, health: str = "", is_told_all: Callable[[], bool] = lambda: True
) -> Blueprint:
    """`/ping`, `/health` and `/version`.

    Args:
        library: what is asked whether it has a default model that serves.
        health: one more path that says so, as `AIP_HEALTH_ROUTE` has it; none if empty.
        is_told_all: whether who asks may know of every model.
    """
    blueprint = Blueprint("scoring", __name__)

    def ping() -> Response:
        try:
            library.find()
            reason = library.reason_not_ready()
        except (NotFound, NotReady) as error:
            # MLflow has 404 for this; but one who asks for a health wants to know when to come
            # again, and a 404 would look like a path that is not there.
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
