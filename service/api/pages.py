"""The service's own pages: its home page, its health, its models and its OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson
from flask import Blueprint, Response, request

from service import __version__
from service.api import comparing, descriptions, scoring
from service.api.console import pages as console
from service.api.replies import respond, respond_json
from service.errors import BadRequest, NotFound, nearest
from service.insight.serving.drift import is_counted
from service.repository import reports
from service.wire import native, oip, tensors
from service.wire.body import show, wrong
from service.wire.dialect import Reply
from service.wire.native import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from service.observability.metrics import Metrics
    from service.repository.loader import Servable
    from service.repository.reloader import Library
    from service.settings import Settings
    from service.wire.dialect import Dialect


# A report is a file that anyone who writes into the repository may replace: nothing in it runs, is
# fetched or is sent, and it has no access to the origin of the service.
_INERT = (
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; sandbox"
        ),
    ),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


def pages(
    library: Library,
    document: Callable[[], Any],
    is_told_all: Callable[[], bool],
    settings: Settings,
) -> Blueprint:
    """Return the pages about the service.

    Args:
        library: the models.
        document: returns the OpenAPI document.
        is_told_all: returns whether the client may know of every model.
        settings: the service's settings.
    """
    blueprint = Blueprint("pages", __name__)
    _add_home(blueprint, library, settings)
    _add_health(blueprint, library, is_told_all)

    @blueprint.get("/openapi.json")
    def openapi_json() -> Response:
        return respond_json(document())

    return blueprint


def _add_home(blueprint: Blueprint, library: Library, settings: Settings) -> None:
    @blueprint.get("/")
    def home() -> Response:
        if console.is_wanted(settings):
            return console.redirect()
        links = {
            "models": "/models",
            "openapi": "/openapi.json",
            "live": "/livez",
            "ready": "/readyz",
        }
        response = respond_json(
            {
                "status": "alive",
                "service": f"triceps {__version__}",
                "models": sorted(library.current.answering),
                "links": links,
            }
        )
        if settings.console == "on":
            response.vary.add("Accept")
        return response


def _add_health(blueprint: Blueprint, library: Library, is_told_all: Callable[[], bool]) -> None:
    @blueprint.get("/livez")
    def livez() -> Response:
        return respond_json({"status": "alive"})

    @blueprint.get("/readyz")
    def readyz() -> Response:
        reason = library.reason_not_ready()
        sees_all = is_told_all()
        if reason is not None:
            shown = reason if sees_all else scoring.NOT_SAID
            return respond_json({"status": "not ready", "reason": shown}, 503)
        models = {"models": sorted(library.current.answering)} if sees_all else {}
        return respond_json({"status": "ready", **models})


def of_models(
    library: Library, spoken: Iterable[Dialect], metrics: Metrics, drift: str
) -> Blueprint:
    """Return the pages about models.

    Args:
        library: the models.
        spoken: the dialects that the service speaks.
        metrics: tell which canaries are asked no more, and which shadows have stopped.
        drift: TRICEPS_DRIFT, which says what is counted of the models.
    """
    blueprint, tallies = Blueprint("models", __name__), metrics.tallies
    dialects = {dialect.name: dialect for dialect in spoken}

    @blueprint.get("/models")
    def models() -> Response:
        repository = library.current
        names = repository.names()
        page = _page(names, request.args)
        return respond_json(
            {
                "default": repository.default,
                "policy": repository.policy,
                "models": [descriptions.summary(repository, name, tallies) for name in page],
                "refused": [vars(entry) for entry in repository.refused],
                # The name to go on after, if there are more.
                **({"next": page[-1]} if page and page[-1] != names[-1] else {}),
            }
        )

    @blueprint.get("/models/<name>")
    @blueprint.get("/models/<name>/versions/<version>")
    @blueprint.get("/models/<name>/aliases/<alias>")
    def model(name: str, version: str | None = None, alias: str | None = None) -> Response:
        repository = library.having(name, version, alias)
        servable = repository.find(name, version, alias)
        description = {**descriptions.describe(servable), **descriptions.in_force(servable)}
        reported: dict[str, Any] = {"reports": reports.versions(repository, name)}
        if is_counted(drift, servable.signature):
            # The console asks for the page only if there is something on it.
            reported["drift"] = drift
        states = descriptions.versions(repository, name, tallies)
        if stopped := comparing.stopped(repository, metrics, name):
            states["traffic"]["shadow"]["reason"] = stopped
        return respond_json({**description, **states, **reported})

    @blueprint.get("/models/<name>/versions/<version>/report")
    def report(name: str, version: str) -> Response:
        content = reports.read(library.current, name, version)
        return respond(Reply(content, "text/html; charset=utf-8", _INERT))

    @blueprint.get("/models/<name>/example")
    @blueprint.get("/models/<name>/versions/<version>/example")
    def example(name: str, version: str | None = None) -> Response:
        servable = library.having(name, version).find(name, version)
        dialect = request.args.get("dialect", native.DIALECT.name)
        if dialect not in dialects:
            names = ", ".join(sorted(dialects))
            raise wrong("dialect", f"one of {names}{nearest(dialect, dialects)}", show(dialect))
        return respond_json(_example(servable, dialects[dialect]))

    return blueprint


def _page(names: list[str], arguments: Mapping[str, str]) -> list[str]:
    """Return the part of the sorted names of models that a request wants.

    Args:
        names: the names.
        arguments: `limit`, the most names, and `after`, the name that they follow.

    Raises:
        BadRequest: the limit is not a whole number from 1.
    """
    limit, after = arguments.get("limit"), arguments.get("after", "")
    if limit is not None and not re.fullmatch(r"[1-9][0-9]{0,8}", limit):
        raise wrong("limit", "a whole number from 1 to 999999999", show(limit))
    rest = [name for name in names if name > after]
    return rest if limit is None else rest[: int(limit)]


def _example(servable: Servable, dialect: Dialect) -> Any:
    """Return an example of a request body in a dialect.

    Raises:
        NotFound: the model has no example, or the dialect cannot express it.
    """
    signature, proof = servable.signature, servable.proof
    what = f"model {servable.name!r}: no example is known"
    if proof.no_example:
        raise NotFound(f"{what} that it answers: {proof.no_example}")
    body = examples.example(signature, proof.shapes)
    if signature.tensor and dialect not in (native.DIALECT, oip.DIALECT):
        raise NotFound(f"{what} in this protocol: it takes {tensors.WHOLE}")
    if dialect.example is not None:
        body = dialect.example(native.interpret(body, signature).arrays)
    try:
        dialect.reader(signature)(orjson.dumps(body), lambda _: "")
    except BadRequest as error:
        raise NotFound(f"{what} in this protocol: {error}") from error
    return body
