"""What every request through the Flask app passes: its name, whose page asks, and who may.

What of an app needs which scope is worked out from its rules, so nothing that is added to it is
open by being forgotten: a rule that is not among those below needs `predict`, and is taken to
tell of every model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from flask import Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.errors import NotFound
from service.http import cors, request_ids
from service.http.tokens import ADMIN, ALL, METRICS, PREDICT
from service.repository.repository import known_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

    from service.http.access import Access
    from service.repository.reloader import Library
    from service.settings import Settings

# Whoever asks whether all is well, a load balancer or a container's probe, has no token; why all is
# not well is told to those who have one.
OPEN = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping", "/health")
# Whatever is put below it.
_ADMIN = "/v2/repository/models/"
_METRICS = "/metrics"
# These say what the service is, and nothing of its models.
_OF_NONE = ("/v2", "/version")
_OF_THE_DEFAULT = ("/predict", "/invocations")


class Need(NamedTuple):
    """What a request needs: a scope (`None`: nothing), and for which model (as `Access.check`)."""

    scope: str | None
    model: str | None


def need_of(rule: str, names: Mapping[str, Any], default: str | None, settings: Settings) -> Need:
    """What a request needs that a rule is for.

    Args:
        rule: as the app has it, such as /models/<name>.
        names: by variable of the rule, what the path has there.
        default: the model that is asked where none is named.
        settings: which may add rules.
    """
    if rule in (*OPEN, settings.health_route):
        return Need(None, None)
    if rule == _METRICS:
        return Need(METRICS, None)
    scope = ADMIN if rule.startswith(_ADMIN) else PREDICT
    if "name" in names:
        return Need(scope, names["name"])
    if rule in (*_OF_THE_DEFAULT, settings.predict_route):
        # Without a default, the answer tells which models there are.
        return Need(scope, default or ALL)
    return Need(scope, None if rule in _OF_NONE else ALL)


def add(app: Flask, access: Access, settings: Settings, origins: tuple[str, ...] = ()) -> None:
    """Have every request of `app` pass; to be called before anything else is added to it.

    Args:
        app: with its library.
        access: whose requests are answered.
        settings: of the service.
        origins: whose pages may read answers.
    """
    library: Library = app.extensions["triceps"]

    @app.before_request
    def enter() -> Response | None:
        request_ids.current.set(
            request_ids.name(_header(request_ids.HEADER), _header("traceparent"))
        )
        asked = _header("Access-Control-Request-Method")
        # A browser asks this without a token, and only then asks what it was asked for.
        allowed = cors.preflight(request.method, _header("Origin"), asked, origins)
        if allowed is not None:
            g.preflight = True
            return Response(headers=list(allowed), content_type="text/plain")
        repository = library.current
        if request.url_rule is None:
            need = _need(app, settings, request.method, request.path, repository.default)
        else:
            given = request.view_args or {}
            need = need_of(request.url_rule.rule, given, repository.default, settings)
        entry = access.admit(_header("Authorization"), need.scope, need.model)
        if entry.models and need.model is not None and need.model not in known_names(repository):
            # What is said of this elsewhere names the models that there are.
            raise NotFound(f"model {need.model!r}: there is none of that name, now")
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


def is_told_all(access: Access) -> bool:
    """Whether who asks may know of every model: an open page tells others only how all is."""
    return access.allows(_header("Authorization"), PREDICT, ALL)


def _need(app: Flask, settings: Settings, method: str, path: str, default: str | None) -> Need:
    """What a request needs, by the app's own way to find a rule."""
    rules = app.url_map.bind("localhost")
    try:
        try:
            rule, names = rules.match(path, method, return_rule=True)
        except MethodNotAllowed as error:
            # Who may ask by the right method may know which that is.
            right = next(iter(error.valid_methods or ()))
            rule, names = rules.match(path, right, return_rule=True)
    except HTTPException:
        return Need(PREDICT, None)
    return need_of(rule.rule, names, default, settings)


def _header(name: str) -> str:
    return request.headers.get(name, "")
