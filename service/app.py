"""The Flask app: routes, and what is HTTP about a request.

bytes ─ native.decode ─▶ arrays by tensor ─ model.predict ─▶ arrays by head ─ native.encode ─▶ bytes
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
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

from service import __version__, bulk, cors, describe, gate, openapi, routes, transfer
from service import settings as all_settings
from service.access import Access
from service.errors import BadRequest, HTTPError, RequestError, nearest
from service.errors import NotFound as NoExample
from service.life import Library
from service.metrics import ASK_TIMING, Metrics, expose, server_timing
from service.pages import oip, scoring, v1
from service.repository import known_names
from service.run import Run
from service.wire import native, tensors
from service.wire import oip as oip_wire
from service.wire.body import show, wrong
from service.wire.dialect import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from service.repository import Repository, Servable
    from service.settings import Settings
    from service.wire.dialect import Dialect


def create_app(
    settings: Settings | None = None,
    metrics: Metrics | None = None,
    library: Library | None = None,
) -> Flask:
    """The service over the models of one repository, which are loaded here.

    Args:
        settings: by default, those of the environment.
        metrics: what counts in this process; by default, for itself alone.
        library: that of the settings' repository, if it is open already.

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
    access = app.extensions["triceps.access"] = Access.open(settings.tokens_file)
    gate.add(app, access, settings, cors.parse(settings.cors))
    rules = routes.predictions(settings)
    _add_predictions(app, rules, metrics, settings.max_body)
    is_told_all = partial(gate.is_told_all, access)
    _add_pages(app, rules)
    _add_own(app, settings.max_body, is_told_all)
    app.register_blueprint(oip.pages(library, metrics))
    app.register_blueprint(v1.pages(library))
    app.register_blueprint(scoring.pages(library, settings.health_route, is_told_all))
    _add_errors(app, rules)
    _add_metrics(app, rules, metrics)
    return app


def _add_predictions(
    app: Flask, rules: Mapping[str, Dialect], metrics: Metrics, max_body: int
) -> None:
    library: Library = app.extensions["triceps"]

    def predict(
        name: str | None = None, version: str | None = None, alias: str | None = None
    ) -> Response:
        dialect = rules[request.endpoint or ""]
        g.servable = servable = library.find(name, version, alias)
        body = _body(max_body, dialect)
        received = perf_counter()
        asked = bulk.read(dialect.reader(servable.signature), body, _header)
        bulk.check_rows(asked.arrays, asked.heads, servable.signature)
        decoded = perf_counter()
        outputs = servable.model.predict(asked.arrays, asked.heads)
        rows = 1 if servable.signature.tensor else len(next(iter(outputs.values())))
        run = Run(rows, decoded, perf_counter(), outputs)
        answer = _written(dialect, asked, servable, outputs)
        times = (received, decoded, run, run.ended, perf_counter())
        metrics.meter(servable, dialect.name).answered(times, asked.imputed)
        g.answered = True
        if request.headers.get(ASK_TIMING) == "1":
            answer.headers["Server-Timing"] = server_timing(times)
        return answer

    for rule in rules:
        app.add_url_rule(rule, rule, predict, methods=["POST"])


def _written(
    dialect: Dialect, asked: Any, servable: Servable, outputs: Mapping[str, NDArray[Any]]
) -> Response:
    """The answer to a prediction; a large one is written once it is its turn."""
    size = bulk.check_answer(outputs)
    known = servable.name, servable.version, servable.signature
    if size <= bulk.NUMBERS_AT_ONCE:
        return _answer(dialect.encode(asked, *known, outputs))
    with bulk.turn(size):
        return _answer(dialect.encode(asked, *known, outputs))


def _add_pages(app: Flask, rules: Mapping[str, Dialect]) -> None:
    library: Library = app.extensions["triceps"]

    @app.get("/models")
    def models() -> Response:
        repository = library.current
        return _json(
            {
                "default": repository.default,
                "policy": repository.policy,
                "models": [describe.summary(repository, name) for name in repository.names()],
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
        said = {**describe.describe(servable), "batching": batching}
        return _json({**said, **describe.versions(repository, name)})

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
    body = describe.example(signature, proof.shapes)
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


def _body(max_body: int, dialect: Dialect) -> bytes:
    """The request's body, inflated where it came compressed.

    Raises:
        RequestError: as `transfer.read`, or it is not the whole of itself.
    """
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge as error:
        raise transfer.too_large(max_body) from error
    except ClientDisconnected as error:
        expected = f"the {request.content_length} bytes of its Content-Length"
        raise wrong("body", expected, "fewer") from error
    kind, encoding = _header("Content-Type"), _header("Content-Encoding")
    return transfer.read(body, kind, encoding, max_body, dialect.reads)


def _json(value: Any, status: int = 200) -> Response:
    return _answer(Reply(orjson.dumps(value)), status)


def _answer(reply: Reply, status: int = 200) -> Response:
    """A reply, compressed where the caller asks for that."""
    answer = Response(reply.content, status, reply.headers, content_type=reply.content_type)
    answer.vary.add("Accept-Encoding")
    smaller = transfer.compress(reply.content, _header("Accept-Encoding"))
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
