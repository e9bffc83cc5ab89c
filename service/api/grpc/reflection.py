"""gRPC's server reflection, v1 and v1alpha: the interface definitions, for clients without them.

A stream of requests, each answered at once by a message: the names of services, or the files that
define a name.  The two versions have the same messages in different packages.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from service.api.grpc import methods
from service.errors import NotReady, TooBusy, TooLate
from service.http.grpc import call, framing, status
from service.wire.grpc_status import INVALID_ARGUMENT, code_of
from service.wire.messages import POOL, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.api.grpc.methods import Method
    from service.http.http2.request import StreamRequest

    Forget = Callable[["ReflectionStream"], None]

# The bytes of a request, which names something; the requests of a stream; the bytes of its answers
# that may wait to be read; the streams of a worker.
LARGEST = 4096
MOST_REQUESTS = 1000
MOST_WAITING = 256 * 1024
MOST_STREAMS = 100
# The seconds that a stream may be open.
SECONDS = 60

_NOT_FOUND = code_of(404)


class Reflection:
    """The streams of one worker that ask for interface definitions."""

    def __init__(self) -> None:
        """Answer no stream yet."""
        self.streams: dict[ReflectionStream, float] = {}
        """The streams that are open, and when each began."""
        self._is_closed = False

    def begin(self, stream: StreamRequest, method: Method, now: float) -> None:
        """Answer the requests of a stream as they come.

        Args:
            stream: the stream.
            method: its method, whose messages it has.
            now: the time.

        Raises:
            TooBusy: there are too many.
            NotReady: the service stops.
        """
        if self._is_closed:
            raise _stops()
        if len(self.streams) >= MOST_STREAMS:
            message = f"reflection: expected at most {MOST_STREAMS} streams at once in a worker"
            raise TooBusy(f"{message}, received more; try again a little later")
        begun = ReflectionStream(stream, method, self._forget)
        self.streams[begun] = now
        stream.receive = begun.receive
        stream.on_gone = partial(self._forget, begun)
        stream.begin(status.CONTENT_TYPE_LINE + stream.common(begun.request_id))

    def _forget(self, stream: ReflectionStream) -> None:
        self.streams.pop(stream, None)

    def look(self, now: float) -> None:
        """End the streams that have been open for long; to be called once a second."""
        for stream, since in [*self.streams.items()]:
            if now - since > SECONDS:
                message = f"reflection: expected a stream of at most {SECONDS} s, received more"
                stream.end(status.trailers(TooLate(f"{message}; begin another one")))

    def close(self) -> None:
        """End all streams, since the service stops."""
        self._is_closed = True
        for stream in [*self.streams]:
            stream.end(status.trailers(_stops()))


def _stops() -> NotReady:
    return NotReady("reflection: the service stops")


class ReflectionStream:
    """One stream of requests, and their answers."""

    def __init__(self, stream: StreamRequest, method: Method, forget: Forget) -> None:
        """Answer the requests of a stream.

        Args:
            stream: the stream.
            method: its method.
            forget: called once the stream has ended.
        """
        self._stream = stream
        self._method = method
        self._forget = forget
        self._messages = framing.Messages(LARGEST)
        self._answered = 0
        self.request_id = stream.request_id

    def receive(self, piece: bytes, is_last: bool) -> None:  # noqa: FBT001  called by position
        """Answer the requests that are complete with the next piece of the stream."""
        try:
            for content in self._messages.cut(piece):
                self._answer(content)
            if is_last:
                self._messages.end()
                self.end(status.OK)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            answered = call.request_error(call.what(self._stream), error, self.request_id)
            self.end(status.trailers(answered))

    def _answer(self, content: bytes) -> None:
        self._answered += 1
        if self._answered > MOST_REQUESTS:
            message = f"reflection: expected at most {MOST_REQUESTS} requests in a stream"
            raise TooBusy(f"{message}, received more; begin another one")
        if self._stream.stream.waiting > MOST_WAITING:
            message = f"reflection: expected at most {MOST_WAITING} bytes of answers that wait"
            raise TooBusy(f"{message} to be read, received more requests; read them first")
        request = methods.parse(self._method.request, content)
        self._stream.send(framing.encode(answer(self._method.response, request)))

    def end(self, trailers: bytes) -> None:
        """End the stream."""
        self._forget(self)
        self._stream.receive = call.drop
        self._stream.end(trailers)


def answer(response_class: type[Any], request: Any) -> bytes:
    """Return the answer to a request.

    Args:
        response_class: the class of the answer.
        request: the request.
    """
    response = response_class(valid_host=request.host)
    response.original_request.CopyFrom(request)
    question = request.WhichOneof("message_request")
    try:
        if question == "list_services":
            for name in SERVICES:
                response.list_services_response.service.add(name=name)
        elif question == "file_by_filename":
            _add_files(response, POOL.FindFileByName(request.file_by_filename))
        elif question == "file_containing_symbol":
            _add_files(response, _file_of(request.file_containing_symbol))
        elif question == "all_extension_numbers_of_type":
            name = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type).full_name
            response.all_extension_numbers_response.base_type_name = name
        elif question == "file_containing_extension":
            _refuse(response, _NOT_FOUND, f"{question}: there are no extensions")
        else:
            _refuse(response, INVALID_ARGUMENT, "request: expected a question, received none")
    except KeyError:
        _refuse(response, _NOT_FOUND, f"{question}: there is nothing of that name")
    content: bytes = response.SerializeToString()
    return content


def _file_of(symbol: str) -> Any:
    """Return the file that defines a name.

    Raises:
        KeyError: none does.
    """
    service, _, method = symbol.rpartition(".")
    if service in SERVICES:
        # The pool does not find methods.
        return POOL.FindServiceByName(service).methods_by_name[method].containing_service.file
    return POOL.FindFileContainingSymbol(symbol)


def _add_files(response: Any, file: Any) -> None:
    """Add a file, and those that it imports, to an answer."""
    files = {}
    to_add = [file]
    while to_add:
        file = to_add.pop()
        if file.name not in files:
            files[file.name] = file.serialized_pb
            to_add += file.dependencies
    response.file_descriptor_response.file_descriptor_proto.extend(files.values())


def _refuse(response: Any, code: int, reason: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = reason
