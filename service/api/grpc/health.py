"""gRPC's health checking: the service, its gRPC services, and each model by its name.

    ""                                the readiness of the service
    inference.GRPCInferenceService    the same, as for all other services of gRPC
    three                             whether the model or view `three` answers

A version that is loaded on demand answers once a request names it, so it is healthy.  A model that
has the name of a service cannot be checked.  A check of one model needs the token that the pages of
that model need; all others need none, since load balancers and probes have none.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from service.errors import NotFound, NotReady, RequestError, TooBusy
from service.http.grpc import framing, status
from service.http.tokens import ALL, PREDICT
from service.repository.repository import known_names
from service.wire.messages import SERVICES, message_class

if TYPE_CHECKING:
    from service.http.access import Access
    from service.http.http2.request import StreamRequest
    from service.repository.reloader import Library

log = logging.getLogger(__name__)

SERVING = 1
NOT_SERVING = 2
SERVICE_UNKNOWN = 3
# The streams of one worker that wait for changes: each holds a connection, and costs a look every
# second.
MOST_WATCHES = 1000
# By the protocol, a list of more fails.
MOST_LISTED = 100


class Watch:
    """A stream that is told the health of a service whenever that changes."""

    __slots__ = ("service", "stream", "told")

    def __init__(self, stream: StreamRequest, service: str) -> None:
        self.stream = stream
        self.service = service
        # The status that the client has been told last.
        self.told: int | None = None


class Moment:
    """The statuses of services and models at one moment; what many share is worked out once."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._repository = library.current

    def of(self, service: str) -> int:
        """Return the status of a service or model."""
        if _is_service(service):
            return SERVING if self._is_ready else NOT_SERVING
        if service in self._repository.answering:
            return NOT_SERVING if self._library.stopping else SERVING
        # Files that have not been read yet may have a view of that name.
        if self._repository.catalog.unknown or service in self._known:
            return NOT_SERVING
        return SERVICE_UNKNOWN

    @cached_property
    def _is_ready(self) -> bool:
        return self._library.reason_not_ready() is None

    @cached_property
    def _known(self) -> set[str]:
        return known_names(self._repository)


class Health:
    """The health of one worker, and the streams that watch it."""

    def __init__(self, library: Library, access: Access) -> None:
        """Watch nothing yet.

        Args:
            library: the models.
            access: the rules by which requests are admitted.
        """
        self._library = library
        self._access = access
        self.watches: set[Watch] = set()
        self._is_closed = False

    def check(self, service: str, token: str) -> bytes:
        """Return the answer of Check.

        Args:
            service: the name of a service or model.
            token: the authorization metadata.

        Raises:
            NotFound: there is none of that name.
            Unauthorized, Forbidden: the token does not allow to ask for that model.
        """
        self._authorize(service, token)
        health = Moment(self._library).of(service)
        if health == SERVICE_UNKNOWN:
            text = f"service: expected one of gRPC, or a model, received {service[:128]!r}"
            raise NotFound(f"{text}, and there is none of that name; List has those there are")
        return _answer(health)

    def list(self, token: str) -> bytes:
        """Return the answer of List: the services and, for clients that may know, the models.

        Raises:
            TooBusy: there are more than a list may have.
        """
        names = ["", *SERVICES]
        if self._access.allows(token, PREDICT, ALL):
            names += self._library.current.names()
        if len(names) > MOST_LISTED:
            text = f"list: expected at most {MOST_LISTED} services and models, as the protocol"
            raise TooBusy(f"{text} says, found {len(names)}: check each one by its name")
        listed = message_class("grpc.health.v1.HealthListResponse")()
        moment = Moment(self._library)
        for name in names:
            listed.statuses[name].status = moment.of(name)
        content: bytes = listed.SerializeToString()
        return content

    def watch(self, stream: StreamRequest, service: str) -> None:
        """Tell a stream the health of a service, now and whenever it changes.

        Args:
            stream: the request of Watch.
            service: the name of a service or model, which need not exist.

        Raises:
            TooBusy: there are too many watches.
            NotReady: the service stops.
            Unauthorized, Forbidden: the token does not allow to ask for that model.
        """
        if self._is_closed:
            raise _stops()
        if len(self.watches) >= MOST_WATCHES:
            text = f"watch: expected at most {MOST_WATCHES} at once in a worker, received more"
            raise TooBusy(f"{text}: ask by Check, now and then")
        watch = Watch(stream, service)
        self._authorize(service, _token(stream))
        stream.begin(status.CONTENT_TYPE_LINE + stream.common())
        stream.on_gone = lambda: self.watches.discard(watch)
        self.watches.add(watch)
        self._look_at(watch, Moment(self._library))

    def look(self) -> None:
        """Tell every watch what has changed; to be called once a second."""
        moment = Moment(self._library)
        for watch in [*self.watches]:
            try:
                self._look_at(watch, moment)
            except Exception:
                log.exception("a watch of the health failed, and is ended")
                self.watches.discard(watch)
                watch.stream.abort()

    def close(self) -> None:
        """End all watches, since the service stops; their clients ask another one."""
        self._is_closed = True
        self.look()
        for watch in [*self.watches]:
            self._end(watch, _stops())

    def _look_at(self, watch: Watch, moment: Moment) -> None:
        """Tell a watch what has changed, and forget it if its client has gone."""
        if not watch.stream.is_open():
            self.watches.discard(watch)
            return
        try:
            self._authorize(watch.service, _token(watch.stream))
        except RequestError as error:
            # The token has been removed since.
            self._end(watch, error)
            return
        health = moment.of(watch.service)
        if health != watch.told:
            watch.told = health
            watch.stream.send(framing.encode(_answer(health)))

    def _end(self, watch: Watch, error: RequestError) -> None:
        self.watches.discard(watch)
        watch.stream.end(status.trailers(error))

    def _authorize(self, service: str, token: str) -> None:
        """Check that a client may ask for a model; for services, anybody may."""
        if not _is_service(service):
            self._access.check(token, PREDICT, service)


def _stops() -> NotReady:
    return NotReady("watch: the service stops")


def _is_service(name: str) -> bool:
    return not name or name in SERVICES


def _token(stream: StreamRequest) -> str:
    return stream.header("authorization")


def _answer(health: int) -> bytes:
    answer = message_class("grpc.health.v1.HealthCheckResponse")(status=health)
    content: bytes = answer.SerializeToString()
    return content
