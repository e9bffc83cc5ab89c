"""The pages of TensorFlow Serving and KServe v1: models, the states of versions, and tensors.

Clients of both request /v1/models/<name>, and each reads its own keys in the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from service.api.replies import plain_json
from service.api.routes import VERBS
from service.errors import HTTPError, nearest
from service.wire import tfserving

if TYPE_CHECKING:
    from service.repository.reloader import Library
    from service.repository.repository import Repository

_PREFIX = "/v1/models"
# TensorFlow Serving's names for the states of a version: it answers; it is loaded when a request
# names it; it was unloaded; and it is refused.
_STATES = {"loaded": "AVAILABLE", "on demand": "START", "unloaded": "END"}
_REFUSED = "END"


def pages(library: Library) -> Blueprint:
    """Return the pages about the models of `library`."""
    blueprint = Blueprint("v1", __name__, url_prefix=_PREFIX)

    @blueprint.get("")
    def models() -> Response:
        return plain_json({"models": library.current.available()})

    @blueprint.get("/<name>")
    @blueprint.get("/<name>/versions/<version>")
    @blueprint.get("/<name>/labels/<alias>")
    def status(name: str, version: str | None = None, alias: str | None = None) -> Response:
        repository = library.having(name, version, alias)
        if alias is not None:
            version = repository.find(name, alias=alias).version
        listed = _listed(repository, name)
        if version is not None:
            listed = [entry for entry in listed if entry["version"] == version]
        if not listed:
            # This raises the error that tells the reason.
            repository.find(name, version)
        if version is None:
            ready = name in repository.serving
        else:
            ready = any(entry["state"] == _STATES["loaded"] for entry in listed)
        return plain_json({"model_version_status": listed, "name": name, "ready": ready})

    @blueprint.get("/<name>/metadata")
    @blueprint.get("/<name>/versions/<version>/metadata")
    @blueprint.get("/<name>/labels/<alias>/metadata")
    def metadata(name: str, version: str | None = None, alias: str | None = None) -> Response:
        servable = library.find(name, version, alias)
        signatures = {tfserving.SIGNATURE: tfserving.signature_def(servable.signature)}
        return plain_json(
            {
                "model_spec": {
                    "name": servable.name,
                    "signature_name": "",
                    "version": servable.version,
                },
                "metadata": {"signature_def": {"signature_def": signatures}},
            }
        )

    # No rule matches an unknown verb, or a verb with a wrong method; the rule of a model's page
    # would take that path for the name of a model.
    blueprint.before_app_request(_check_verb)
    return blueprint


def _check_verb() -> None:
    """Check that a path that ends with a verb is a prediction.

    Raises:
        HTTPError: the verb is unknown.
        MethodNotAllowed: the verb is known, and the method is not POST.
    """
    _, colon, verb = request.path.rpartition("/")[2].partition(":")
    if not colon or not request.path.startswith(_PREFIX):
        return
    if verb in VERBS:
        if request.method in ("POST", "OPTIONS"):
            return
        raise MethodNotAllowed(["POST"])
    known = ", ".join(f":{verb}" for verb in VERBS)
    what = f"Malformed request: {request.method} {request.path}"
    raise HTTPError(400, f"{what}: expected one of {known} at its end{nearest(verb, VERBS)}")


def _listed(repository: Repository, name: str) -> list[dict[str, Any]]:
    """Return the states of a model's or view's versions, the newest first."""
    listed = {
        version: _entry(version, _STATES[state], "OK", "")
        for version, state in repository.states(name).items()
    }
    for refused in repository.refused:
        if refused.name == name and refused.version is not None:
            # A version that is loaded answers on if its file is replaced by a broken one.
            entry = _entry(refused.version, _REFUSED, "FAILED_PRECONDITION", refused.reason)
            listed.setdefault(refused.version, entry)
    return [listed[version] for version in sorted(listed, key=int, reverse=True)]


def _entry(version: str, state: str, code: str, message: str) -> dict[str, Any]:
    status = {"error_code": code, "error_message": message}
    return {"version": version, "state": state, "status": status}
