"""Methods that a page of HTTP answers: the message becomes its request, its JSON the message.

    message ─▶ GET /v2/models/three/config ─ the Flask app ─▶ JSON ─▶ {"config": JSON} ─▶ message

So gRPC and REST say the same about models and need the same tokens, and versions are loaded on
demand for both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict

from service.errors import HTTPError, defect
from service.http.grpc import status
from service.http.grpc.status import UNIMPLEMENTED, BadCall
from service.http.reply import encode_reply
from service.http.request import Request
from service.names import NAME, NAMES
from service.wire.body import show, wrong
from service.wire.dialect import Reply
from service.wire.grpc_status import CONTENT_TYPE
from service.wire.messages import POOL, message_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.api.grpc.methods import Method
    from service.http.grpc.call import Call
    from service.http.http2.request import StreamRequest

_OIP = "/inference.GRPCInferenceService"
_TFSERVING = "/tensorflow.serving"
# The metadata that pages know as headers.
_REQUEST_METADATA = (b"authorization", b"x-request-id", b"traceparent")
# The headers of pages that are metadata of answers.
_ANSWER_METADATA = ("x-request-id", "retry-after", "www-authenticate")
_SIGNATURES = "signature_def"
_MOST_VERSION = 2**63


class RestRequest(NamedTuple):
    """The request for a page as REST has it: its method, its path, and its JSON."""

    method: bytes
    path: str
    body: Any = None


@dataclass(frozen=True)
class Page:
    """A page that answers a method.

    Args:
        request: returns the request for a message.
        convert: turns the page's JSON into that of the method's answer.
        statuses: the HTTP statuses of answers; all others are errors.
    """

    request: Callable[[Any], RestRequest]
    convert: Callable[[Any], Any] = lambda value: value
    statuses: tuple[int, ...] = (200,)


@dataclass(slots=True, eq=False)
class PageRequest(Request):
    """A request for a page on behalf of a call."""

    call: Call
    """The call that it answers."""
    rpc: Method
    """The method of the call."""
    page: Page

    @property
    def origin(self) -> StreamRequest:
        """The request that carries the call."""
        return self.call.origin

    def is_open(self) -> bool:
        """Return whether the client of the call still waits."""
        return self.call.is_open()

    def translate(
        self, status_code: int, content: bytes, lines: bytes, length: int
    ) -> tuple[int, bytes, bytes, int]:
        """Return the answer of the call for the answer of the page; any thread may call this.

        Args:
            status_code: the HTTP status of the page.
            content: its body.
            lines: its header lines.
            length: the length of its body.
        """
        del length
        metadata = b"".join(
            name.lower() + b": " + value + b"\r\n"
            for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n"))
            if name.lower().decode("latin-1") in _ANSWER_METADATA
        )
        if status_code not in self.page.statuses:
            is_defect = status_code == 500  # noqa: PLR2004
            text = _error_text(content)
            error = defect(self.call.what) if is_defect else HTTPError(status_code, text)
            return status_code, b"", status.refusal(error) + metadata, 0
        value = self.page.convert(orjson.loads(content))
        answer = ParseDict(
            value, self.rpc.response(), ignore_unknown_fields=True, descriptor_pool=POOL
        )
        reply = Reply(answer.SerializeToString(), CONTENT_TYPE)
        content, reply_lines = encode_reply(reply, self.call.headers)
        return 200, content, reply_lines + metadata, 0

    def respond(self, status: int, content: bytes, lines: bytes, length: int | None = None) -> None:
        """Answer the call with what `translate` has returned."""
        del length
        self.call.respond(status, content, lines)

    def abort(self) -> None:
        """Reset the stream of the call."""
        self.call.abort()


def request_for(call: Call, method: Method, message: Any) -> PageRequest:
    """Return the request for the page that answers a method.

    Args:
        call: the call.
        method: its method, which is in `PAGES`.
        message: its message.

    Raises:
        RequestError: the message asks for what there is no page for.
    """
    page = PAGES[method.path]
    http_method, path, value = page.request(message)
    headers = {name: call.headers[name] for name in _REQUEST_METADATA if name in call.headers}
    body = b"" if value is None else json.dumps(value).encode()
    return PageRequest(
        *(http_method, "2", path.encode(), headers, body, True, call.caller),
        call=call,
        rpc=method,
        page=page,
    )


def _error_text(content: bytes) -> str:
    """Return the message of an error of a page."""
    try:
        return str(orjson.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace")


def _checked(name: str, field: str) -> str:
    """Return a name of a message, which becomes a part of a path.

    Raises:
        BadRequest: it is none.
    """
    if NAME.fullmatch(name):
        return name
    raise wrong(field, f"a name, which has {NAMES}", show(name) if name else "none")


def _model_path(message: Any) -> str:
    """Return the path of the model, or of the version, that a message of OIP names."""
    path = f"/v2/models/{_checked(message.name, 'name')}"
    return f"{path}/versions/{_checked(message.version, 'version')}" if message.version else path


def _statistics(message: Any) -> RestRequest:
    return RestRequest(b"GET", f"{_model_path(message) if message.name else '/v2/models'}/stats")


def _index(message: Any) -> RestRequest:
    _check_repository(message.repository_name)
    return RestRequest(b"POST", "/v2/repository/index", {"ready": message.ready})


def _check_repository(name: str) -> None:
    """Check that a message does not name a repository.

    Raises:
        BadCall: it does.
    """
    if name:
        message = "repository_name: expected none, since there is one repository"
        raise BadCall(UNIMPLEMENTED, 501, f"{message}; received {show(name)}")


def _change(verb: str) -> Callable[[Any], RestRequest]:
    """Return a function that returns the request to load or unload the model of a message."""

    def request(message: Any) -> RestRequest:
        name = message.model_name
        if name:
            _check_repository(message.repository_name)
        else:
            # KServe's clients name no repository, and have the name of the model in its field.
            name = message.repository_name
        parameters = MessageToDict(message, preserving_proto_field_name=True).get("parameters", {})
        values = {key: next(iter(value.values()), None) for key, value in parameters.items()}
        return RestRequest(
            b"POST",
            f"/v2/repository/models/{_checked(name, 'model_name')}/{verb}",
            {"parameters": values} if values else {},
        )

    return request


def _model_spec_path(message: Any) -> str:
    """Return the path of the model, version or alias that a message of TensorFlow Serving names."""
    spec = message.model_spec
    path = f"/v1/models/{_checked(spec.name, 'model_spec.name')}"
    if spec.HasField("version"):
        return f"{path}/versions/{_checked(str(spec.version.value), 'model_spec.version')}"
    if spec.version_label:
        return f"{path}/labels/{_checked(spec.version_label, 'model_spec.version_label')}"
    return path


def _metadata(message: Any) -> RestRequest:
    fields = [*message.metadata_field]
    if set(fields) != {_SIGNATURES}:
        raise wrong("metadata_field", _SIGNATURES, show(", ".join(fields)) if fields else "none")
    return RestRequest(b"GET", f"{_model_spec_path(message)}/metadata")


def _metadata_answer(value: Any) -> Any:
    kind = message_class("tensorflow.serving.SignatureDefMap").DESCRIPTOR.full_name
    if int(value["model_spec"]["version"]) >= _MOST_VERSION:
        del value["model_spec"]["version"]
    signatures = {"@type": f"type.googleapis.com/{kind}", **value["metadata"][_SIGNATURES]}
    return {**value, "metadata": {_SIGNATURES: signatures}}


def _status_answer(value: Any) -> Any:
    # A version may be any whole number, and the message has room for 63 bits.
    listed = value["model_version_status"]
    return {"model_version_status": [e for e in listed if int(e["version"]) < _MOST_VERSION]}


PAGES = {
    f"{_OIP}/ServerLive": Page(lambda _: RestRequest(b"GET", "/v2/health/live")),
    f"{_OIP}/ServerReady": Page(
        lambda _: RestRequest(b"GET", "/v2/health/ready"), statuses=(200, 503)
    ),
    f"{_OIP}/ServerMetadata": Page(lambda _: RestRequest(b"GET", "/v2")),
    f"{_OIP}/ModelReady": Page(
        lambda message: RestRequest(b"GET", f"{_model_path(message)}/ready"), statuses=(200, 503)
    ),
    f"{_OIP}/ModelMetadata": Page(lambda message: RestRequest(b"GET", _model_path(message))),
    f"{_OIP}/ModelConfig": Page(
        lambda message: RestRequest(b"GET", f"{_model_path(message)}/config"),
        lambda value: {"config": value},
    ),
    f"{_OIP}/ModelStatistics": Page(_statistics),
    f"{_OIP}/RepositoryIndex": Page(_index, lambda value: {"models": value}),
    f"{_OIP}/RepositoryModelLoad": Page(
        _change("load"), lambda value: {"model_name": value["name"], "isLoaded": value["load"]}
    ),
    f"{_OIP}/RepositoryModelUnload": Page(
        _change("unload"),
        lambda value: {"model_name": value["name"], "isUnloaded": value["unload"]},
    ),
    f"{_TFSERVING}.PredictionService/GetModelMetadata": Page(_metadata, _metadata_answer),
    f"{_TFSERVING}.ModelService/GetModelStatus": Page(
        lambda message: RestRequest(b"GET", _model_spec_path(message)), _status_answer
    ),
}
"""The pages, by the paths of the methods that they answer."""
