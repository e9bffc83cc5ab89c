"""The dispatch of a worker's gRPC calls.

StreamRequest ─┬─ ModelInfer, Predict ─▶ a ModelCall, whose target is an `Address` ─▶ Front.answer
               ├─ a page's method     ─▶ a PageRequest                             ─▶ Front.answer
               ├─ Check, List, Watch  ─▶ `Health`
               └─ reflection          ─▶ `Reflection`
"""

from __future__ import annotations

import logging
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from service.api import authorization
from service.api.grpc import methods, pages
from service.api.grpc.health import Health
from service.api.grpc.reflection import Reflection
from service.http.grpc import call, status
from service.http.grpc.call import Call, ModelCall
from service.http.grpc.metadata import check_form
from service.http.reply import encode_error
from service.http.tokens import PREDICT
from service.repository.repository import known_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from service.api.grpc.methods import Method
    from service.errors import RequestError
    from service.http.http2.request import StreamRequest
    from service.repository.repository import Repository
    from service.server.front import Front

log = logging.getLogger(__name__)

# The bytes of a message that is no prediction; it is read in the event loop.
LARGEST = 2**16


class Calls:
    """The gRPC server of one worker."""

    def __init__(self, front: Front) -> None:
        """Answer calls by what `front` answers requests by."""
        self._front = front
        self.health = Health(front.library, front.access)
        self.reflection = Reflection()

    def answer(self, stream: StreamRequest) -> None:
        """Answer a call, now or later."""
        dialect = "other"
        try:
            method = methods.METHODS.get(stream.target)
            if method is None:
                stream.receive = call.drop
                self._front.turns.add(stream.caller, partial(self._refuse_unknown, stream))
                return
            check_form(stream.method, stream.headers)
            if method.path in methods.PREDICTIONS:
                dialect = methods.PREDICTIONS[method.path].name
                address = methods.ADDRESSES[method.path]
                largest = self._front.connections.max_body
                self._front.answer(ModelCall(stream, largest, method.path, *address))
            elif stream.target in methods.STREAMED:
                self._reflect(stream, method)
            else:
                self._answer_message(stream, method)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self._refuse(stream, dialect, error)

    def answer_unloaded(self, prediction: ModelCall) -> None:
        """Answer a prediction for a version that is not loaded, with the reason.

        A thread looks for it: to find the nearest of many names takes milliseconds.
        """
        self._front.turns.add(prediction.caller, partial(self._look_for, prediction))

    def is_streamed(self, target: bytes) -> bool:
        """Return whether a call is answered while its messages arrive.

        A call of no method is: its client may send them until it is told so.
        """
        return target in methods.STREAMED or target not in methods.METHODS

    def needs_no_token(self, target: bytes) -> bool:
        """Return whether a call is read without a token."""
        return target in methods.OPEN

    def refusal(self, target: bytes, headers: Mapping[bytes, bytes], error: RequestError) -> bytes:
        """Count a call that is refused before it has arrived completely.

        Returns:
            The header lines of its answer.
        """
        self._front.count_unanswered(target, error.status)
        return status.refusal(error) + self._front.common(headers)

    def look(self) -> None:
        """Tell watches what has changed, and end long streams; to be called once a second."""
        self.health.look()
        self.reflection.look(self._front.connections.now)

    def close(self) -> None:
        """End the streams that would not end by themselves."""
        self.health.close()
        self.reflection.close()

    def _refuse(self, stream: StreamRequest, dialect: str, error: Exception) -> None:
        self._front.metrics.count("", "", dialect, call.refuse(stream, error))

    def _refuse_unknown(self, stream: StreamRequest) -> None:
        """Answer a call of no method, unless its client has gone; a thread calls this."""
        if not stream.is_open():
            return
        error = methods.unknown(stream.target)
        self._soon(stream, partial(self._refuse, stream, "other", error))

    def _look_for(self, prediction: ModelCall) -> None:
        """Look for the version that a prediction names; a thread calls this."""
        front, address = self._front, prediction.target
        repository = front.library.current
        token = prediction.header("authorization")
        try:
            need = authorization.Need(PREDICT, address.name)
            authorization.admit(front.access, repository, token, need)
            repository.find(address.name, address.version, address.alias)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            self._soon(prediction, partial(self.refuse_prediction, prediction, repository, error))
        else:
            # It has been loaded a moment ago, and the front is about to be told.
            self._soon(prediction, partial(self._answer_again, prediction))

    def _soon(self, request: StreamRequest | ModelCall, step: Callable[[], None]) -> None:
        """Have the event loop take a step towards an answer."""

        def take() -> None:
            try:
                step()
            except Exception:
                # Nothing else answers the call, and its client must not wait forever.
                log.exception("%s could not be answered", request.what)
                request.abort()

        self._front.loop.call_soon_threadsafe(take)

    def refuse_prediction(
        self, prediction: ModelCall, repository: Repository, error: Exception
    ) -> None:
        """Answer a prediction with the reason why there is no version for it, and count it."""
        address, request_id = prediction.target, prediction.request_id
        dialect = methods.PREDICTIONS[address.method]
        answered = call.request_error(prediction.what, error, request_id)
        content, lines = encode_error(dialect, answered, {})
        prediction.respond(answered.status, content, lines + prediction.common(request_id))
        name = address.name if address.name in known_names(repository) else ""
        self._front.metrics.count(name, "", dialect.name, answered.status)

    def _answer_again(self, prediction: ModelCall) -> None:
        self._front.use(self._front.library.current)
        self._front.answer(prediction, perf_counter())

    def _answer_message(self, stream: StreamRequest, method: Method) -> None:
        """Answer a call about models or the health."""
        unary = Call(stream, self._front.connections.max_body)
        message = methods.parse(method.request, unary.message(LARGEST))
        token = unary.header("authorization")
        if method.path in pages.PAGES:
            self._front.answer(pages.request_for(unary, method, message))
            return
        if method.path == methods.WATCH:
            self.health.watch(stream, message.service)
        elif method.path == methods.CHECK:
            self._respond(unary, self.health.check(message.service, token))
        else:
            self._respond(unary, self.health.list(token))
        self._front.metrics.count("", "", "other", 200)

    def _respond(self, unary: Call, content: bytes) -> None:
        unary.respond(200, content, status.CONTENT_TYPE_LINE + unary.common())

    def _reflect(self, stream: StreamRequest, method: Method) -> None:
        front = self._front
        # The definitions describe the service, and none of its models.
        front.access.check(stream.header("authorization"), PREDICT, None)
        self.reflection.begin(stream, method, front.connections.now)
        front.metrics.count("", "", "other", 200)
