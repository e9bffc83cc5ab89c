"""The Flask app: pages about the models, and predictions under any WSGI server.

a prediction ─▶ the pipeline, whose executor runs it at once
a page       ─▶ `service.api`
an error     ─▶ an answer in the protocol that the path speaks
"""

from __future__ import annotations

import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from service import settings as all_settings
from service.api import (
    authorization,
    comparing,
    errors,
    oip,
    openapi,
    pages,
    routes,
    scoring,
    v1,
)
from service.api import drift as drift_pages
from service.api.console import pages as console
from service.http import content_encoding, cors, request_ids
from service.http.access import Access
from service.inference.direct import Direct
from service.inference.lane import Lane
from service.insight.serving import drift_metrics
from service.insight.serving.drift import Drift
from service.observability.exposition import expose
from service.observability.metrics import Metrics
from service.prediction import Pipeline
from service.repository.assembly import check_default
from service.repository.reloader import Library
from service.repository.repository import known_names
from service.wire.body import wrong

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.prediction import Route
    from service.repository.loader import Servable
    from service.repository.repository import Repository
    from service.settings import Settings
    from service.wire.dialect import Dialect

log = logging.getLogger(__name__)


def create_app(
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    library: Library | None = None,
    access: Access | None = None,
) -> Flask:
    """Load the models of one repository, and return the Flask app that serves them.

    Args:
        settings: the settings; by default, those of the environment.
        metrics: the metrics that count the requests; by default, new ones for this process alone.
        library: the models, if they are loaded already and their changes are followed elsewhere.
        access: the access by tokens, if the tokens file is read already.

    Raises:
        SettingsError: a setting is wrong, or the repository is missing or unreadable.
    """
    settings = all_settings.load() if settings is None else settings
    app = Flask("service", static_folder=None)
    if library is None:
        library = _open_library(app, settings)
        if settings.access_log == "on":
            log.warning("TRICEPS_ACCESS_LOG has no effect: this server has its own access log")
        if settings.sample:
            log.warning("TRICEPS_SAMPLE has no effect: only triceps serve takes samples")
    app.extensions["triceps"] = library
    metrics = app.extensions["triceps.metrics"] = Metrics() if metrics is None else metrics
    # One byte more than the limit: Werkzeug cuts off a body without a Content-Length at this length
    # and raises no error, so only that byte tells a body that is too large from one that fits.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    # A trailing slash changes nothing.  A doubled slash is an error, not a redirect, since the page
    # of a redirect is not JSON.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    if access is None:
        access = Access.open(settings.tokens_file)
    app.extensions["triceps.access"] = access
    authorization.add(app, access, settings, cors.parse(settings.cors))
    rules = routes.predictions(settings)
    pipeline = Pipeline(settings, metrics, access, Direct())
    pipeline.drift = app.extensions["triceps.drift"] = Drift(settings.drift, metrics)
    _add_predictions(app, rules, pipeline)
    is_told_all = partial(authorization.is_told_all, access)

    def document() -> dict[str, Any]:
        return openapi.document(library.current, settings, closed=access.is_on)

    # Of dialects with the same name, the last one here counts; it is the plainest form.
    dialects = reversed([*rules.values()])
    app.register_blueprint(pages.pages(library, document, is_told_all, settings))
    app.register_blueprint(pages.of_models(library, dialects, metrics, settings.drift))
    if settings.console == "on":
        app.register_blueprint(console.pages())
    app.register_blueprint(drift_pages.pages(library, app.extensions["triceps.drift"]))
    app.register_blueprint(comparing.pages(library, metrics))
    app.register_blueprint(oip.pages(library, metrics))
    app.register_blueprint(v1.pages(library))
    app.register_blueprint(scoring.pages(library, settings.health_route, is_told_all))
    errors.add(app, rules)
    _add_metrics(app, rules, metrics)
    return app


def _open_library(app: Flask, settings: Settings) -> Library:
    """Open the repository of the settings, and follow its changes while the app serves requests."""
    library = Library.of(settings)
    check_default(library.current, settings.default_model)
    # Started by the first request: a server may load the app and then fork, which ends all threads.
    app.before_request(lambda: library.watch(settings.watch))
    return library


def _add_predictions(app: Flask, rules: Mapping[str, Dialect], pipeline: Pipeline) -> None:
    library: Library = app.extensions["triceps"]
    routes_of = _Routes(pipeline)
    pipeline.is_leader = library.is_leader

    def predict(
        name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Response:
        dialect = rules[request.endpoint or ""]
        repository = library.having(name, version, alias)
        g.servable = servable = repository.find(name, version, alias)
        exchange = _Exchange(_body(pipeline.max_body))
        is_shared = version is None and alias is None
        route = routes_of.find(repository, servable, dialect, is_shared=is_shared)
        pipeline.predict(route, exchange)
        g.is_counted = True
        return exchange.response

    for rule in rules:
        app.add_url_rule(rule, rule, predict, methods=["POST"])


class _Routes:
    """The routes of the current repository, each made when it is first requested."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._of: Callable[[], Repository | None] = lambda: None
        self._routes: dict[tuple[int, int, bool], Route] = {}

    def find(
        self, repository: Repository, servable: Servable, dialect: Dialect, *, is_shared: bool
    ) -> Route:
        """Return the route to a version in a dialect; any thread may call this.

        Args:
            repository: the repository that has the version.
            servable: the version.
            dialect: the dialect.
            is_shared: whether a canary takes a share of its requests, if there is one.
        """
        routes = self._routes
        if repository is not self._of():
            routes = {}
            self._pipeline.splits.use(repository)
            # Routes hold their models, which have to go with the repository, even if no request
            # comes any more: under `triceps serve`, hardly any does.
            self._routes = routes
            self._of = weakref.ref(repository, lambda _: routes.clear())

        # No function that calls itself: the cycle would keep the repository.
        find = partial(self._unshared, routes, dialect)
        if not is_shared:
            return find(servable)
        key = id(servable), id(dialect), True
        route = routes.get(key)
        if route is None:
            route = routes[key] = self._pipeline.shared(repository, find(servable), find)
        return route

    def _unshared(
        self, routes: dict[tuple[int, int, bool], Route], dialect: Dialect, servable: Servable
    ) -> Route:
        """Return the route to a version that shares its requests with no canary."""
        key = id(servable), id(dialect), False
        route = routes.get(key)
        if route is None:
            route = routes[key] = self._pipeline.route(servable, dialect, Lane(servable.model))
        return route


class _Exchange:
    """A Flask request as a `service.exchange.Exchange`, and the response to it."""

    caller = None
    # Another server has its own access log.
    origin = None

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.headers = {
            name.lower().encode("latin-1"): value.encode("latin-1")
            for name, value in request.headers
        }
        self.what = f"{request.method} {request.path}"
        self.request_id = request_ids.current.get()
        self.response: Response

    def header(self, name: str) -> str:
        return request.headers.get(name, "")

    def is_open(self) -> bool:
        # WSGI does not report that a client has gone.
        return True

    def common(self, request_id: str = "") -> bytes:
        # `authorization.add` adds these headers to every response.
        del request_id
        return b""

    def respond(self, status: int, content: bytes, lines: bytes) -> None:
        named = [line.partition(": ") for line in lines.decode("latin-1").splitlines()]
        headers = [(name, value) for name, _, value in named]
        self.response = Response(content, status, headers)

    def abort(self) -> None:
        """Do nothing: Flask answers an error for a view without a response."""


def _body(max_body: int) -> bytes:
    """Return the request's body as it was sent.

    Raises:
        RequestError: the body is too large, or has been cut off.
    """
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise content_encoding.too_large(max_body) from error
    except ClientDisconnected as error:
        expected = f"the {request.content_length} bytes of its Content-Length"
        raise wrong("body", expected, "fewer") from error


def _add_metrics(app: Flask, rules: Mapping[str, Dialect], metrics: Metrics) -> None:
    library: Library = app.extensions["triceps"]
    drift: Drift = app.extensions["triceps.drift"]

    @app.get("/metrics")
    def page() -> Response:
        repository = library.current
        more = partial(drift_metrics.families, drift, repository)
        accept = request.headers.get("Accept", "")
        text, content_type = expose(metrics, repository, accept, more)
        return Response(text, content_type=content_type)

    @app.after_request
    def count(response: Response) -> Response:
        # The pipeline has counted the requests that it answers.
        if not g.get("is_counted"):
            metrics.count(*_target(library.current, rules), response.status_code)
        return response


def _target(repository: Repository, rules: Mapping[str, Dialect]) -> tuple[str, str, str]:
    """Return the model, version and dialect of the request; the model is empty if unknown."""
    dialect = rules.get(request.endpoint or "")
    if dialect is None:
        return "", "", "other"
    servable = g.get("servable")
    if servable is not None:
        return servable.name, servable.version, dialect.name
    name = (request.view_args or {}).get("name", repository.default)
    return name if name in known_names(repository) else "", "", dialect.name
