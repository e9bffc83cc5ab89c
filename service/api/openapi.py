"""The OpenAPI 3.1 document of the loaded models, with their names, shapes, labels and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service import __version__
from service.api.console import pages as console
from service.api.schemas import answer_schema, request_schema
from service.insight.serving.drift import is_counted
from service.repository import reports
from service.wire.native import examples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.api.schemas import Schema
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.settings import Settings

_PROBLEM: Schema = {
    "type": "object",
    "required": ["at", "expected", "received"],
    "properties": {
        "at": {"type": "string", "description": "the place, as a path into the body"},
        "expected": {"type": "string"},
        "received": {"type": "string"},
    },
}
_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "problems": {
            "type": "array",
            "description": "the first 20 problems of the body",
            "items": {"$ref": "#/components/schemas/Problem"},
        },
        "count": {"type": "integer", "description": "the number of all problems"},
    },
}
_ERRORS = {
    "BadRequest": "The body does not fit the model; every problem is named.",
    "NotFound": "There is no such model, version or route.",
    "TooSlow": "The request did not arrive in time.",
    "TooLarge": "The body is larger than the service accepts.",
    "NotJSON": "The content type or the content encoding of the body is not supported.",
    "TooBusy": "The service has more requests than it can answer soon; it computed nothing.",
    "TooLargeHead": "The request line and headers are larger than the service accepts.",
    "ServiceError": "The service failed; the reason is logged.",
    "NotReady": "No version of the model is usable at the moment.",
    "TooLate": "The deadline of the request passed before it was run.",
}
_STATUS = {
    "400": "BadRequest",
    "404": "NotFound",
    "408": "TooSlow",
    "413": "TooLarge",
    "415": "NotJSON",
    "429": "TooBusy",
    "431": "TooLargeHead",
    "500": "ServiceError",
    "503": "NotReady",
    "504": "TooLate",
}
_PAGE: Schema = {"text/html": {"schema": {"type": "string"}}}
# Their answers have a header that says when to retry.
_RETRYABLE = ("NotReady", "TooBusy")
_RETRY_AFTER: Schema = {
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}
}
# Where tokens are required, every operation has these answers too, except the health pages.
_CLOSED = {
    "Unauthorized": "The request has no token, or an unknown one.",
    "Forbidden": "The token lacks the scope or the model.",
}
_CLOSED_STATUS = {"401": "Unauthorized", "403": "Forbidden"}
_OPEN = ("/livez", "/readyz", console.PAGE)
_SCHEME: Schema = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token with the scope `predict`, as `triceps token` makes it.",
}


def document(repository: Repository, settings: Settings, *, closed: bool = False) -> dict[str, Any]:
    """Return the whole document for the models that are loaded.

    Args:
        repository: the loaded models.
        settings: the service's settings.
        closed: whether the service requires tokens.
    """
    whole = _open(repository, settings)
    if settings.console == "on":
        whole["paths"] |= {console.PAGE: _get("The console.", "console", content=_PAGE)}
        whole["paths"]["/"]["get"]["responses"]["302"] = {
            "description": "To the console, for a browser: text/html is preferred to JSON."
        }
    if closed:
        _close(whole)
    return whole


def _close(document: dict[str, Any]) -> None:
    """State for each operation whether it needs a token."""
    document["security"] = [{"token": []}]
    document["components"]["securitySchemes"] = {"token": _SCHEME}
    document["components"]["responses"] |= _responses(_CLOSED)
    answers = {status: _refer(name) for status, name in _CLOSED_STATUS.items()}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in _OPEN:
                operation["security"] = []
            else:
                operation["responses"] |= answers


def _open(repository: Repository, settings: Settings) -> dict[str, Any]:
    max_body = settings.max_body
    paths: dict[str, Any] = {
        "/": _get("What is here.", "home"),
        "/livez": _get("The process is alive.", "livez"),
        "/readyz": _get("A model is usable.", "readyz", ("503",)),
        "/models": _get("Models, their versions, and what was refused.", "models"),
        "/openapi.json": _get("This document.", "openapi"),
    }
    schemas: dict[str, Schema] = {"Problem": _PROBLEM, "Error": _ERROR}
    if repository.default is not None and repository.default in repository.serving:
        servable = repository.serving[repository.default]
        paths["/predict"] = _predict(servable, "predict", max_body)
    for name, serving in sorted(repository.serving.items()):
        schemas[f"{name}.Request"] = request_schema(
            serving.signature, joint=serving.model.established.mode == "joint"
        )
        schemas[f"{name}.Answer"] = answer_schema(serving.signature)
        paths[f"/models/{name}"] = _get(f"The signature of {name}.", f"{name}:signature")
        if not serving.proof.no_example:
            paths[f"/models/{name}/example"] = _get(f"A body that {name} takes.", f"{name}:example")
        paths[f"/models/{name}/predict"] = _predict(serving, f"{name}:predict", max_body)
        if is_counted(settings.drift, serving.signature):
            about = f"The drift of the rows that {name} was asked."
            paths[f"/models/{name}/drift"] = _get(about, f"{name}:drift")
            about = f"The drift of the rows that version {serving.version} was asked."
            path = f"/models/{name}/versions/{serving.version}/drift"
            paths[path] = _get(about, f"{name}:{serving.version}:drift")
        traffic = repository.traffic(name)
        if traffic is not None and traffic.shadow is not None:
            about = f"The comparison of {name} with its shadow."
            paths[f"/models/{name}/compare"] = _get(about, f"{name}:compare")
    for name in repository.available():
        paths |= _of_versions(repository, name, max_body)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Triceps",
            "version": __version__,
            "description": "Every head of every model in one request, or only the heads asked for.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": _responses(_ERRORS),
        },
    }


def _of_versions(repository: Repository, name: str, max_body: int) -> dict[str, Any]:
    """Return the paths of a model's versions and aliases.

    Their signatures may differ; the document has the schemas of the serving version alone.
    """
    # A colon, which names cannot contain, keeps operation IDs unique; and no alias has the name of
    # a version.
    paths = {}
    for version in repository.states(name):
        about = f"The signature of version {version}."
        paths[f"/models/{name}/versions/{version}"] = _get(about, f"{name}:{version}:signature")
    for version in reports.versions(repository, name):
        about = f"The report of the run that trained version {version}."
        path = f"/models/{name}/versions/{version}/report"
        paths[path] = _get(about, f"{name}:{version}:report", content=_PAGE)
    serving = repository.serving.get(name)
    aliases = repository.aliases.get(name, {})
    for alias in repository.versions_of_aliases(name):
        about = f"The signature of {alias}."
        paths[f"/models/{name}/aliases/{alias}"] = _get(about, f"{name}:{alias}:signature")
    if serving is not None:
        same = {f"versions/{serving.version}": serving.version}
        same |= {f"aliases/{alias}": alias for alias, other in aliases.items() if other is serving}
        for path, which in same.items():
            operation = _predict(serving, f"{name}:{which}:predict", max_body)
            paths[f"/models/{name}/{path}/predict"] = operation
        if not serving.proof.no_example:
            version = serving.version
            about = f"A body that version {version} takes."
            path = f"/models/{name}/versions/{version}/example"
            paths[path] = _get(about, f"{name}:{version}:example")
    return paths


def _get(
    summary: str, operation: str, errors: Iterable[str] = (), content: Schema | None = None
) -> dict[str, Any]:
    """Return a GET that answers with JSON, or with other `content`."""
    return {
        "get": {
            "summary": summary,
            "operationId": operation,
            "responses": {
                "200": {"description": summary, "content": content or _content({"type": "object"})},
                **{status: _response(status) for status in errors},
            },
        }
    }


def _predict(servable: Servable, operation: str, max_body: int) -> dict[str, Any]:
    heads = ", ".join(servable.signature.heads)
    schema = {"$ref": f"#/components/schemas/{servable.name}.Request"}
    body: dict[str, Any] = {"schema": schema}
    if not servable.proof.no_example:
        body["example"] = examples.example(servable.signature, servable.proof.shapes)
    return {
        "post": {
            "summary": f"Answer {heads} of {servable.name}.",
            "description": f"The body may have {max_body} bytes, and may be gzip.",
            "operationId": operation,
            "requestBody": {
                "required": True,
                "content": {"application/json": body},
            },
            "responses": {
                "200": {
                    "description": "The answers, in the form of the request.",
                    "content": _content({"$ref": f"#/components/schemas/{servable.name}.Answer"}),
                },
                **{status: _response(status) for status in _STATUS},
            },
        }
    }


def _response(status: str) -> Schema:
    return _refer(_STATUS[status])


def _refer(response: str) -> Schema:
    return {"$ref": f"#/components/responses/{response}"}


def _responses(errors: Mapping[str, str]) -> dict[str, Any]:
    """Return the error answers by name, each with its description."""
    content = _content({"$ref": "#/components/schemas/Error"})
    responses: dict[str, Any] = {
        name: {"description": about, "content": content} for name, about in errors.items()
    }
    for name in responses.keys() & set(_RETRYABLE):
        responses[name]["headers"] = _RETRY_AFTER
    return responses


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
