"""Pages of the Open Inference Protocol besides predictions: server, health, models, statistics.

Clients of KServe and Triton use them.  Loading and unloading need the scope admin
(`service.api.authorization`).  An unloaded model is out of service in all processes that serve the
repository, until it is loaded again (`service.repository.unloaded`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flask import Blueprint, Response, request

from service import __version__
from service.api.replies import plain_json
from service.errors import HTTPError, NotReady, SettingsError
from service.inference.batching import MOST_ROWS_WHOLE
from service.repository.repository import known_names
from service.wire.body import MOST_ROWS, parse, show, wrong
from service.wire.oip import DATATYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from service.observability.metrics import Metrics
    from service.repository.loader import Servable
    from service.repository.reloader import Library
    from service.repository.repository import Repository
    from service.signature import Signature, Tensor

    Totals = Mapping[tuple[str, ...], NDArray[Any]]

# Triton's names for the protocol extensions that the service has.
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)
_STATES = {
    "loaded": ("READY", ""),
    "on demand": ("UNAVAILABLE", "it is loaded once it is asked for by its version"),
    "unloaded": ("UNAVAILABLE", "unloaded"),
}

# The version that answers for its model does so, whether or not it has to be loaded first.
_READY = ("READY", "it is loaded once it is asked for")

_NONE = np.zeros(2)


def pages(library: Library, metrics: Metrics) -> Blueprint:
    """Return the pages below `/v2`.

    Args:
        library: the models.
        metrics: the metrics of the models.
    """
    blueprint = Blueprint("oip", __name__, url_prefix="/v2")
    _add_server(blueprint, library)
    _add_models(blueprint, library)
    _add_stats(blueprint, library, metrics)
    _add_repository(blueprint, library)
    return blueprint


def _add_server(blueprint: Blueprint, library: Library) -> None:
    @blueprint.get("")
    def server() -> Response:
        return plain_json({"name": "triceps", "version": __version__, "extensions": EXTENSIONS})

    @blueprint.get("/health/live")
    def live() -> Response:
        return plain_json({"live": True})

    @blueprint.get("/health/ready")
    def ready() -> Response:
        is_ready = library.reason_not_ready() is None
        return plain_json({"ready": is_ready}, 200 if is_ready else 503)


def _add_models(blueprint: Blueprint, library: Library) -> None:
    @blueprint.get("/models")
    def models() -> Response:
        return plain_json({"models": library.current.available()})

    @blueprint.get("/models/<name>")
    @blueprint.get("/models/<name>/versions/<version>")
    def metadata(name: str, version: str | None = None) -> Response:
        servable = library.find(name, version)
        return plain_json(_metadata(servable, library.current.states(name)))

    @blueprint.get("/models/<name>/ready")
    @blueprint.get("/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        try:
            library.find(name, version)
        except NotReady as error:
            return plain_json({"name": name, "ready": False, "error": str(error)}, error.status)
        return plain_json({"name": name, "ready": True})

    @blueprint.get("/models/<name>/config")
    @blueprint.get("/models/<name>/versions/<version>/config")
    def config(name: str, version: str | None = None) -> Response:
        return plain_json(_config(library.find(name, version)))


def _add_stats(blueprint: Blueprint, library: Library, metrics: Metrics) -> None:
    @blueprint.get("/models/stats")
    @blueprint.get("/models/<name>/stats")
    @blueprint.get("/models/<name>/versions/<version>/stats")
    def stats(name: str | None = None, version: str | None = None) -> Response:
        repository = library.current
        names = repository.available() if name is None else [name]
        versions = [
            (each, known)
            for each in names
            for known, state in repository.states(each).items()
            if version in (None, known) and state != "unloaded"
        ]
        if name is not None and not versions:
            # This raises the error that tells the reason.
            repository.find(name, version)
        metrics.flush()
        totals = metrics.totals(set(versions))
        return plain_json({"model_stats": [_stats(*each, totals) for each in versions]})


def _add_repository(blueprint: Blueprint, library: Library) -> None:
    @blueprint.post("/repository/index")
    def index() -> Response:
        ready = _body_object().get("ready", False)
        if not isinstance(ready, bool):
            raise wrong("ready", "true or false", show(ready))
        entries = _index(library.current)
        return plain_json([entry for entry in entries if not ready or entry["state"] == "READY"])

    @blueprint.post("/repository/models/<name>/load")
    def load(name: str) -> Response:
        parameters = _body_object().get("parameters")
        if parameters:
            message = (
                f"load {name!r}: its files are the repository's, and no parameters change them"
            )
            raise HTTPError(501, f"{message}: expected none, received {show(parameters)}")
        try:
            library.load(name)
        except SettingsError as error:
            raise HTTPError(503, f"load {name!r}: {error}") from error
        return plain_json({"name": name, "load": True})

    @blueprint.post("/repository/models/<name>/unload")
    def unload(name: str) -> Response:
        # Only its views depend on a model; they are in its files and are unloaded with it.
        parameters = _body_object().get("parameters") or {}
        if not isinstance(parameters, dict) or parameters.keys() - {"unload_dependents"}:
            raise wrong("parameters", "none but unload_dependents", show(parameters))
        try:
            library.unload(name)
        except SettingsError as error:
            raise HTTPError(503, f"unload {name!r}: {error}") from error
        return plain_json({"name": name, "unload": True})


def _body_object() -> dict[str, Any]:
    """Return the JSON object in the request's body; an empty one if there is no body.

    Raises:
        BadRequest: the body is something else.
    """
    body = request.get_data(cache=False)
    value = parse(body) if body.strip() else {}
    if not isinstance(value, dict):
        raise wrong("body", "an object, or no body", show(value))
    return value


def _metadata(servable: Servable, versions: Iterable[str]) -> dict[str, Any]:
    signature = servable.signature
    rows = [] if signature.tensor else [-1]
    return {
        "name": servable.name,
        "versions": list(versions),
        "platform": "onnx_onnxv1",
        "inputs": [_tensor(tensor, rows) for tensor in _inputs(signature)],
        "outputs": [_tensor(head.tensor, rows) for head in signature.heads.values()],
    }


def _inputs(signature: Signature) -> list[Tensor]:
    return [tensor for entry in signature.inputs.values() for tensor in entry.tensors]


def _tensor(tensor: Tensor, rows: list[int]) -> dict[str, Any]:
    shape = [*rows, *_axes(tensor)]
    return {"name": tensor.name, "datatype": DATATYPES[tensor.dtype], "shape": shape}


def _axes(tensor: Tensor) -> list[int]:
    return [-1 if axis is None else axis for axis in tensor.shape]


def _config(servable: Servable) -> dict[str, Any]:
    """Return a model's configuration as Triton would derive it; dims leave out the batch axis."""
    signature = servable.signature
    # For whole tensors, max_batch_size is 0: so Triton says that they have no batch axis.
    batching: dict[str, Any] = {} if signature.tensor else {"dynamic_batching": {}}
    most = MOST_ROWS_WHOLE if servable.model.runs_whole else MOST_ROWS
    return {
        "name": servable.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 0 if signature.tensor else most,
        "input": [_configured(tensor) for tensor in _inputs(signature)],
        "output": [_configured(head.tensor) for head in signature.heads.values()],
        **batching,
    }


def _configured(tensor: Tensor) -> dict[str, Any]:
    datatype = "STRING" if tensor.dtype == "string" else DATATYPES[tensor.dtype]
    return {"name": tensor.name, "data_type": f"TYPE_{datatype}", "dims": _axes(tensor)}


def _index(repository: Repository) -> list[dict[str, str]]:
    """Return an entry for every version, and for every model or file that is refused."""
    listed: dict[tuple[str, str], tuple[str, str]] = {}
    for name in sorted(known_names(repository)):
        for version, state in repository.states(name).items():
            listed[name, version] = _STATES[state]
            if state == "on demand" and repository.answering.get(name) == version:
                listed[name, version] = _READY
    for entry in repository.refused:
        # A version that is loaded answers on if its file is replaced by a broken one.
        at = entry.name, entry.version or ""
        state, _ = listed.get(at, ("UNAVAILABLE", ""))
        listed[at] = state, entry.reason
    return [
        {
            "name": name,
            **({"version": version} if version else {}),
            "state": state,
            "reason": reason,
        }
        for (name, version), (state, reason) in sorted(listed.items())
    ]


def _stats(name: str, version: str, totals: Totals) -> dict[str, Any]:
    """Return the statistics of a version since the service was started.

    The time of failures is not measured, and is 0.  The time of the last request and the times by
    batch size are not known, and are left out.
    """

    def spent(stage: str) -> dict[str, int]:
        numbers = totals.get(("stage_seconds", name, version, stage), _NONE)
        return {"count": int(numbers[:-1].sum()), "ns": round(numbers[-1] * 1e9)}

    answered = failed = 0
    for (family, *labels), numbers in totals.items():
        if family == "requests" and labels[:2] == [name, version]:
            answered += int(numbers[0]) * (labels[-1] == "200")
            failed += int(numbers[0]) * (labels[-1] != "200")
    stages = {
        "queue": spent("queue"),
        "compute_input": spent("decode"),
        "compute_infer": spent("run"),
        "compute_output": spent("encode"),
    }
    nothing = {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "inference_count": int(totals.get(("rows", name, version), _NONE)[0]),
        "execution_count": int(totals.get(("batch_rows", name, version), _NONE)[:-1].sum()),
        "inference_stats": {
            "success": {"count": answered, "ns": sum(stage["ns"] for stage in stages.values())},
            "fail": {"count": failed, "ns": 0},
            **stages,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }
