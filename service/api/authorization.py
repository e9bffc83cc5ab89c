"""Authorization in the Flask app; every request to it also gets its request ID and CORS headers.

The scope and the model that a request needs follow from its rule.  A rule that is not among those
below needs the scope predict for all models, so a page that is forgotten here is not open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.api.console import pages as console
from service.errors import NotFound
from service.http import cors, request_ids
from service.http.tokens import ADMIN, ALL, METRICS, PREDICT
from service.repository.repository import known_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

    from service.http.access import Access
    from service.repository.reloader import Library
    from service.repository.repository import Repository
    from service.settings import Settings

# The health pages need no token, since load balancers and container probes have none.  They tell
# the reason why the service is not ready only to clients that have one.
OPEN = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping", "/health")
# All pages below this path need the scope admin.
_ADMIN = "/v2/repository/models/"
_METRICS = "/metrics"
# It has rows of the training data, which clients that ask the model need not see.
_REPORT = "/models/<name>/versions/<version>/report"
# These pages describe the service, and none of its models.
_OF_NONE = ("/v2", "/version")
_OF_THE_DEFAULT = ("/predict", "/invocations")


class Need(NamedTuple):
    """The scope and the model that a request needs, as `Access.check` takes them."""

    scope: str | None
    model: str | None


_NOTHING = Need(None, None)


def need_of(rule: str, names: Mapping[str, Any], default: str | None, settings: Settings) -> Need:
    """Return the scope and the model that a request by a rule needs.

    Args:
        rule: the rule as the app has it, such as /models/<name>.
        names: the values of the rule's variables in the path.
        default: the default model; `None` if there is none.
        settings: the service's settings, which may add rules.
    """
    if rule in (*OPEN, *console.RULES, settings.health_route):
        return _NOTHING
    if rule == _METRICS:
        return Need(METRICS, None)
    if rule == _REPORT:
        return Need(METRICS, names["name"])
    scope = ADMIN if rule.startswith(_ADMIN) else PREDICT
    if "name" in names:
        return Need(scope, names["name"])
    if rule in (*_OF_THE_DEFAULT, settings.predict_route):
        # Without a default model, the answer is an error that names all models.
        return Need(scope, default or ALL)
    return Need(scope, None if rule in _OF_NONE else ALL)


def add(app: Flask, access: Access, settings: Settings, origins: tuple[str, ...] = ()) -> None:
    """Have `app` authorize every request; to be called before anything else is added to it.

    Args:
        app: the app, with its library.
        access: the rules by which requests are admitted.
        settings: the service's settings.
        origins: the origins whose pages may read answers.
    """
    library: Library = app.extensions["triceps"]

    @app.before_request
    def enter() -> Response | None:
        request_ids.current.set(
            request_ids.name(_header(request_ids.HEADER), _header("traceparent"))
        )
        actual_method = _header("Access-Control-Request-Method")
        # A browser sends a preflight request without a token, before the actual request.
        allowed = cors.preflight(request.method, _header("Origin"), actual_method, origins)
        if allowed is not None:
            g.preflight = True
            return Response(headers=list(allowed), content_type="text/plain")
        repository = library.current
        if console.is_wanted(settings):
            need = _NOTHING
        elif request.url_rule is None:
            need = _need(app, settings, request.method, request.path, repository.default)
        else:
            names = request.view_args or {}
            need = need_of(request.url_rule.rule, names, repository.default, settings)
        admit(access, repository, _header("Authorization"), need)
        return None

    @app.after_request
    def leave(response: Response) -> Response:
        response.headers[request_ids.HEADER] = request_ids.current.get()
        if not g.get("preflight"):
            response.headers.extend(cors.headers(_header("Origin"), origins))
        return response

    @app.teardown_request
    def forget(_: BaseException | None) -> None:
        request_ids.current.set("")


def admit(access: Access, repository: Repository, authorization: str, need: Need) -> None:
    """Check that a request has what it needs.

    Args:
        access: the rules by which requests are admitted.
        repository: the models.
        authorization: the Authorization header; empty without one.
        need: the scope and the model that the request needs.

    Raises:
        Unauthorized, Forbidden: its token does not allow it.
        NotFound: there is no such model, and the client may not know which others there are.
    """
    entry = access.admit(authorization, need.scope, need.model)
    is_known = need.model is None or need.model in known_names(repository)
    # Files that have not been read yet may have a view of that name.
    if entry.models and not is_known and not repository.catalog.unknown:
        # Elsewhere, the message for an unknown model names all models.
        raise NotFound(f"model {need.model!r}: there is none of that name, now")


def is_told_all(access: Access) -> bool:
    """Return whether the client may know of every model; open pages tell others only the status."""
    return access.allows(_header("Authorization"), PREDICT, ALL)


def _need(app: Flask, settings: Settings, method: str, path: str, default: str | None) -> Need:
    """Return the scope and the model that a request needs if no rule has its path and method."""
    rules = app.url_map.bind("localhost")
    try:
        try:
            rule, names = rules.match(path, method, return_rule=True)
        except MethodNotAllowed as error:
            # The answer names the right method, so the request needs the same as with that method.
            right = next(iter(error.valid_methods or ()))
            rule, names = rules.match(path, right, return_rule=True)
    except HTTPException:
        return Need(PREDICT, None)
    return need_of(rule.rule, names, default, settings)


def _header(name: str) -> str:
    return request.headers.get(name, "")
