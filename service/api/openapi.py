"""OpenAPI 3.1 of what is loaded: real names, shapes, labels and examples, one path per model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service import __version__
from service.api.schemas import answer_schema, request_schema
from service.wire.native import examples

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from service.api.schemas import Schema
    from service.repository.loader import Servable
    from service.repository.repository import Repository

_PROBLEM: Schema = {
    "type": "object",
    "required": ["at", "expected", "received"],
    "properties": {
        "at": {"type": "string", "description": "where, as a path into the body"},
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
            "description": "the first 20 of all problems with the body",
            "items": {"$ref": "#/components/schemas/Problem"},
        },
        "count": {"type": "integer", "description": "how many problems there are in all"},
    },
}
_ERRORS = {
    "BadRequest": "The body does not fit the model; every problem is named.",
    "NotFound": "There is no such model, version or route.",
    "TooSlow": "The request did not come within the time for one.",
    "TooLarge": "The body is larger than the service takes.",
    "NotJSON": "The body's type or encoding is one that is not read.",
    "TooBusy": "More is asked than can be answered soon; nothing of this was computed.",
    "TooLargeHead": "The request's line and headers are larger than the service takes.",
    "ServiceError": "The service failed; the reason is logged.",
    "NotReady": "No version of the model is usable, now.",
    "TooLate": "The time that the request had was over before it was run.",
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
# When to ask again goes with these.
_COME_AGAIN = ("NotReady", "TooBusy")
_RETRY_AFTER: Schema = {
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}
}
# Where tokens are asked for, every operation has these answers too, but for those that are open.
_CLOSED = {
    "Unauthorized": "No token came, or one that nobody knows.",
    "Forbidden": "The token is for other things, or for other models.",
}
_CLOSED_STATUS = {"401": "Unauthorized", "403": "Forbidden"}
_OPEN = ("/livez", "/readyz")
_SCHEME: Schema = {
    "type": "http",
    "scheme": "bearer",
    "description": "A token with the scope `predict`, as `triceps token` makes it.",
}


def document(repository: Repository, max_body: int, *, closed: bool = False) -> dict[str, Any]:
    """The whole document, made from the loaded models.

    Args:
        repository: those.
        max_body: the bytes that a body may have.
        closed: whether tokens are asked for.
    """
    made = _open(repository, max_body)
    if closed:
        _close(made)
    return made


def _close(document: dict[str, Any]) -> None:
    """Say of each operation that it needs a token, or that it does not."""
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


def _open(repository: Repository, max_body: int) -> dict[str, Any]:
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
        schemas[f"{name}.Request"] = request_schema(serving.signature)
        schemas[f"{name}.Answer"] = answer_schema(serving.signature)
        paths[f"/models/{name}"] = _get(f"The signature of {name}.", f"{name}:signature")
        if not serving.proof.no_example:
            paths[f"/models/{name}/example"] = _get(f"A body that {name} takes.", f"{name}:example")
        paths[f"/models/{name}/predict"] = _predict(serving, f"{name}:predict", max_body)
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
    """The paths of a model's versions and aliases.

    They may have other signatures; only the version that serves has its schemas here.
    """
    # With a colon, which no name has, no two operations are called alike; and no alias is called
    # like a version.
    paths = {}
    for version in repository.states(name):
        about = f"The signature of version {version}."
        paths[f"/models/{name}/versions/{version}"] = _get(about, f"{name}:{version}:signature")
    serving = repository.serving.get(name)
    aliases = repository.aliases.get(name, {})
    for alias in aliases:
        about = f"The signature of {alias}."
        paths[f"/models/{name}/aliases/{alias}"] = _get(about, f"{name}:{alias}:signature")
    if serving is not None:
        same = {f"versions/{serving.version}": serving.version}
        same |= {f"aliases/{alias}": alias for alias, other in aliases.items() if other is serving}
        for path, which in same.items():
            made = _predict(serving, f"{name}:{which}:predict", max_body)
            paths[f"/models/{name}/{path}/predict"] = made
    return paths


def _get(summary: str, operation: str, errors: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "get": {
            "summary": summary,
            "operationId": operation,
            "responses": {
                "200": {"description": summary, "content": _content({"type": "object"})},
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
    """By name, the answers that are errors, each with what it is about."""
    content = _content({"$ref": "#/components/schemas/Error"})
    made: dict[str, Any] = {
        name: {"description": about, "content": content} for name, about in errors.items()
    }
    for name in made.keys() & set(_COME_AGAIN):
        made[name]["headers"] = _RETRY_AFTER
    return made


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
