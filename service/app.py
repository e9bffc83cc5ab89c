"""The Flask app: pages about the models, and predictions for any WSGI server.

a prediction ─▶ the pipeline, whose executor runs it at once
a page       ─▶ what it says of the repository, as JSON
an error     ─▶ the words of the protocol that the path speaks
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import (
    ClientDisconnected,
    HTTPException,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from service import __version__
from service import settings as all_settings
from service.api import authorization, descriptions, oip, openapi, routes, scoring, v1
from service.errors import BadRequest, HTTPError, RequestError, nearest
from service.errors import NotFound as NoExample
from service.http import content_encoding, cors, request_ids
from service.http.tokens import Access
from service.inference.batcher import Lane
from service.inference.direct import Direct
from service.observability.metrics import Metrics, expose
from service.prediction import Pipeline
from service.repository.reloader import Library
from service.repository.repository import known_names
from service.wire import native, tensors
from service.wire import oip as oip_wire
from service.wire.body import show, wrong
from service.wire.dialect import Reply
from service.wire.native import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.repository.repository import Repository, Servable
    from service.settings import Settings
    from service.wire.dialect import Dialect


def create_app(
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    library: Library | None = None,
    access: Access | None = None,
) -> Flask:
    """The service over the models of one repository, which are loaded here.

    Args:
        settings: by default, those of the environment.
        metrics: what counts in this process; by default, for itself alone.
        library: that of the settings' repository, if it is open already.
        access: that of the settings' tokens, if they have been read already.

    Raises:
        SettingsError: a setting is wrong, or the repository is missing or unreadable.
    """
    settings = all_settings.load() if settings is None else settings
    library = Library.of(settings) if library is None else library
    app = Flask("service", static_folder=None)
    app.extensions["triceps"] = library
    metrics = app.extensions["triceps.metrics"] = Metrics() if metrics is None else metrics
    # One more than is taken: of a body without a Content-Length, Werkzeug reads so much and then
    # stops in silence, and only the byte too many tells a large body from one that just fits.
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body + 1
    # A trailing slash is a slip of the hand and names nothing else; a doubled one is not sent on,
    # since a redirect's page is no JSON.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    if access is None:
        access = Access.open(settings.tokens_file)
    app.extensions["triceps.access"] = access
    authorization.add(app, access, settings, cors.parse(settings.cors))
    rules = routes.predictions(settings)
    pipeline = Pipeline(settings, metrics, access, Direct())
    _add_predictions(app, rules, pipeline)
    is_told_all = partial(authorization.is_told_all, access)
    _add_pages(app, rules)
    _add_own(app, settings.max_body, is_told_all)
    app.register_blueprint(oip.pages(library, metrics))
    app.register_blueprint(v1.pages(library))
    app.register_blueprint(scoring.pages(library, settings.health_route, is_told_all))
    _add_errors(app, rules)
    _add_metrics(app, rules, metrics)
    return app


def _add_predictions(app: Flask, rules: Mapping[str, Dialect], pipeline: Pipeline) -> None:
    library: Library = app.extensions["triceps"]

    def predict(
        name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Response:
        dialect = rules[request.endpoint or ""]
        g.servable = servable = library.find(name, version, alias)
        exchange = _Exchange(_body(pipeline.max_body))
        pipeline.predict(pipeline.route(servable, dialect, Lane(servable.model)), exchange)
        # The pipeline has counted it.
        g.answered = True
        return exchange.response

    for rule in rules:
        app.add_url_rule(rule, rule, predict, methods=["POST"])


class _Exchange:
    """The request that Flask has, as the pipeline takes one; and the response that comes of it."""

    caller = None

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
        return _header(name)

    def is_open(self) -> bool:
        # WSGI never tells.
        return True

    def common(self, request_id: str = "") -> bytes:
        # The app adds them to every response.
        del request_id
        return b""

    def respond(self, status: int, content: bytes, head: bytes) -> None:
        lines = [line.partition(": ") for line in head.decode("latin-1").splitlines()]
        headers = [(name, value) for name, _, value in lines]
        self.response = Response(content, status, headers)

    def abort(self) -> None:
        """Leave it to Flask to answer for a view that has no response."""


def _add_pages(app: Flask, rules: Mapping[str, Dialect]) -> None:
    library: Library = app.extensions["triceps"]

    @app.get("/models")
    def models() -> Response:
        repository = library.current
        return _json(
            {
                "default": repository.default,
                "policy": repository.policy,
                "models": [descriptions.summary(repository, name) for name in repository.names()],
                "refused": [vars(entry) for entry in repository.refused],
            }
        )

    @app.get("/models/<name>")
    @app.get("/models/<name>/versions/<version>")
    @app.get("/models/<name>/aliases/<alias>")
    def model(name: str, version: str | None = None, alias: str | None = None) -> Response:
        repository = library.having(name, version)
        servable = repository.find(name, version, alias)
        batching = servable.model.batching.as_json()
        said = {**descriptions.describe(servable), "batching": batching}
        return _json({**said, **descriptions.versions(repository, name)})

    @app.get("/models/<name>/example")
    def example(name: str) -> Response:
        servable = library.current.find(name)
        spoken = {dialect.name: dialect for dialect in reversed([*rules.values()])}
        asked = request.args.get("dialect", native.DIALECT.name)
        if asked not in spoken:
            names = ", ".join(sorted(spoken))
            raise wrong("dialect", f"one of {names}{nearest(asked, spoken)}", show(asked))
        return _json(_example(servable, spoken[asked]))


def _example(servable: Servable, dialect: Dialect) -> Any:
    """A body in a dialect that the model answers.

    Raises:
        NoExample: none is known, or this dialect has none.
    """
    signature, proof = servable.signature, servable.proof
    what = f"model {servable.name!r}: no example is known"
    if proof.no_example:
        raise NoExample(f"{what} that it answers: {proof.no_example}")
    body = examples.example(signature, proof.shapes)
    if signature.tensor and dialect not in (native.DIALECT, oip_wire.DIALECT):
        raise NoExample(f"{what} in this protocol: it takes {tensors.WHOLE}")
    if dialect.example is not None:
        body = dialect.example(native.interpret(body, signature).arrays)
    try:
        dialect.reader(signature)(orjson.dumps(body), lambda _: "")
    except BadRequest as error:
        raise NoExample(f"{what} in this protocol: {error}") from error
    return body


def _add_own(app: Flask, max_body: int, is_told_all: Callable[[], bool]) -> None:
    library: Library = app.extensions["triceps"]
    access: Access = app.extensions["triceps.access"]

    @app.get("/")
    def home() -> Response:
        links = {
            "models": "/models",
            "openapi": "/openapi.json",
            "live": "/livez",
            "ready": "/readyz",
        }
        return _json(
            {
                "status": "alive",
                "service": f"triceps {__version__}",
                "models": sorted(library.current.serving),
                "links": links,
            }
        )

    @app.get("/livez")
    def livez() -> Response:
        return _json({"status": "alive"})

    @app.get("/readyz")
    def readyz() -> Response:
        reason = library.reason_not_ready()
        told = is_told_all()
        if reason is not None:
            said = reason if told else scoring.NOT_SAID
            return _json({"status": "not ready", "reason": said}, 503)
        models = {"models": sorted(library.current.serving)} if told else {}
        return _json({"status": "ready", **models})

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return _json(openapi.document(library.current, max_body, closed=access.is_on))


def _add_metrics(app: Flask, rules: Mapping[str, Dialect], metrics: Metrics) -> None:
    library: Library = app.extensions["triceps"]

    @app.get("/metrics")
    def tell() -> Response:
        text, content_type = expose(metrics, library.current, request.headers.get("Accept", ""))
        return Response(text, content_type=content_type)

    @app.after_request
    def count(response: Response) -> Response:
        if not g.get("answered"):
            metrics.count(*_asked(library.current, rules), response.status_code)
        return response


def _asked(repository: Repository, rules: Mapping[str, Dialect]) -> tuple[str, str, str]:
    """Model, version and dialect of a request; a name that no model has is not among them."""
    dialect = rules.get(request.endpoint or "")
    if dialect is None:
        return "", "", "other"
    servable = g.get("servable")
    if servable is not None:
        return servable.name, servable.version, dialect.name
    name = (request.view_args or {}).get("name", repository.default)
    return name if name in known_names(repository) else "", "", dialect.name


def _header(name: str) -> str:
    return request.headers.get(name, "")


def _body(max_body: int) -> bytes:
    """The request's body as it was sent.

    Raises:
        RequestError: it is too large, or not the whole of itself.
    """
    try:
        return request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise content_encoding.too_large(max_body) from error
    except ClientDisconnected as error:
        expected = f"the {request.content_length} bytes of its Content-Length"
        raise wrong("body", expected, "fewer") from error


def _json(value: Any, status: int = 200) -> Response:
    return _answer(Reply(orjson.dumps(value)), status)


def _answer(reply: Reply, status: int = 200) -> Response:
    """A reply, compressed where the caller asks for that."""
    answer = Response(reply.content, status, reply.headers, content_type=reply.content_type)
    answer.vary.add("Accept-Encoding")
    smaller = content_encoding.compress(reply.content, _header("Accept-Encoding"))
    if smaller is not None:
        answer.set_data(smaller)
        answer.content_encoding = "gzip"
    return answer


def _add_errors(app: Flask, rules: Mapping[str, Dialect]) -> None:
    @app.errorhandler(RequestError)
    def refuse(error: RequestError) -> Response:
        reply = routes.dialect_of(request.path, rules).encode_error(error)
        answer = _answer(reply, error.status)
        answer.headers.extend(error.headers)
        return answer

    @app.errorhandler(HTTPException)
    def fail(error: HTTPException) -> Response:
        # What is raised and is none of ours reaches this as InternalServerError, after Flask has
        # logged the traceback; its description says nothing of what happened inside.
        code = error.code or 500
        answer = refuse(HTTPError(code, _explain(app, rules, error)))
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return answer


def _explain(app: Flask, rules: Mapping[str, Dialect], error: HTTPException) -> str:
    what = f"{request.method} {request.path}"
    if isinstance(error, MethodNotAllowed):
        # HEAD and OPTIONS are Flask's own, and nobody who comes here meant them.
        methods = sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"})
        return f"{what}: expected {' or '.join(methods)}"
    if isinstance(error, InternalServerError):
        return f"{what}: an error of the service; it is logged"
    if isinstance(error, NotFound):
        # Those of the protocol that is spoken, which are few; of all, the nearest may be another's.
        spoken = routes.dialect_of(request.path, rules)
        every = sorted({rule.rule for rule in app.url_map.iter_rules()})
        close = nearest(request.path, every)
        found = ", ".join(r for r in every if routes.dialect_of(r, rules) is spoken)
        return f"{what}: no such route{close}. Available: {found}"
    return f"{what}: {error.description}"
