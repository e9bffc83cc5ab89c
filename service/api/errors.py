"""Error answers of the Flask app, in the protocol that the path speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

from service.api import routes
from service.api.replies import respond
from service.errors import HTTPError, RequestError, defect, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.wire.dialect import Dialect


def add(app: Flask, rules: Mapping[str, Dialect]) -> None:
    """Have the app answer every error in the dialect of the path.

    Args:
        app: the app.
        rules: the dialects of the paths that predict, by rule.
    """

    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        reply = routes.dialect_of(request.path, rules).encode_error(error)
        response = respond(reply, error.status)
        response.headers.extend(error.headers)
        return response

    @app.errorhandler(HTTPException)
    def fail(error: HTTPException) -> Response:
        # An exception that is not an HTTP error comes here as InternalServerError, after Flask has
        # logged its traceback.  The message tells the client nothing about it.
        code = error.code or 500
        response = refuse(HTTPError(code, _message(app, rules, error)))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response


def _message(app: Flask, rules: Mapping[str, Dialect], error: HTTPException) -> str:
    what = f"{request.method} {request.path}"
    if isinstance(error, MethodNotAllowed):
        # Flask itself answers HEAD and OPTIONS; a client that is refused meant neither.
        methods = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"})
        return f"{what}: expected {' or '.join(methods)}"
    if isinstance(error, InternalServerError):
        return str(defect(what))
    if isinstance(error, NotFound):
        # The nearest route may be another protocol's; the list has only those of this one.
        dialect = routes.dialect_of(request.path, rules)
        paths = sorted({rule.rule for rule in app.url_map.iter_rules()})
        close = nearest(request.path, paths)
        available = ", ".join(p for p in paths if routes.dialect_of(p, rules) is dialect)
        return f"{what}: no such route{close}. Available: {available}"
    return f"{what}: {error.description}"
