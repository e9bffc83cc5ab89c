"""gRPC's health checking, of the service, its services and its models."""

from __future__ import annotations

import queue
import threading

import grpc
import pytest

from service.api.grpc import health
from service.wire.messages import SERVICES, message_class
from tests.harness import small
from tests.harness.calls import HEALTH, client, prefixed, send
from tests.harness.served import Served
from tests.harness.waiting import until

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


def listed(calls):
    """Return the answer of List: the statuses by service."""
    asked = message_class("grpc.health.v1.HealthListRequest")()
    told = calls.ask(f"{HEALTH}/List", asked, "grpc.health.v1.HealthListResponse")
    statuses = {} if told.answer is None else told.answer.statuses
    return told, {name: each.status for name, each in statuses.items()}


class Watching:
    """A watch, whose statuses a thread collects."""

    def __init__(self, calls, service=""):
        self.call = calls.watch(service)
        self.statuses = queue.Queue()
        self.thread = threading.Thread(target=self._collect)
        self.thread.start()

    def _collect(self):
        try:
            for status in self.call:
                self.statuses.put(status)
            self.statuses.put("OK")
        except grpc.RpcError as error:
            self.statuses.put((error.code().name, error.details()))

    def next(self):
        """Return the next status, or the end."""
        return self.statuses.get(timeout=20)

    def end(self):
        """Cancel the watch."""
        self.call.cancel()
        self.thread.join()


class Broken:
    """A stream that nothing can be sent on."""

    def __init__(self, stream):
        self.abort = stream.abort
        self.header = stream.header
        self.is_open = stream.is_open

    def send(self, _):
        """Fail."""
        raise ZeroDivisionError


@pytest.mark.parametrize("service", ["", *SERVICES, "three"])
def test_what_serves_is_serving(calls, service):
    """The service, each of its gRPC services, and a model."""
    told = calls.check(service)

    assert (told.code, told.answer.status) == ("OK", SERVING)


def test_a_model_that_cannot_serve_is_not_serving(calls):
    """The service is serving, since others can."""
    assert calls.check("broken").answer.status == NOT_SERVING
    assert calls.check("").answer.status == SERVING


def test_what_does_not_exist_is_not_found(calls):
    """The message says where to find what exists."""
    told = calls.check("thre")

    text = (
        "service: expected one of gRPC, or a model, received 'thre', and there is none of that "
        "name; List has those there are"
    )
    assert (told.code, told.text) == ("NOT_FOUND", text)


def test_all_is_listed_at_once(calls):
    """The list has the services and the models."""
    _, statuses = listed(calls)

    assert statuses == {**dict.fromkeys(["", *SERVICES, "three"], SERVING)}


def test_a_list_of_very_many_fails(tmp_path):
    """The protocol has a limit; each one can be checked by its name."""
    for number in range(101):
        small.put(tmp_path, f"m{number}", 1, b"")
    served = Served(tmp_path)
    served.front.library._current = _named(served.front.library.current, 101)
    with client(served.port) as calls:
        told, _ = listed(calls)
    served.stop()

    assert told.code == "RESOURCE_EXHAUSTED"
    assert told.text.startswith("list: expected at most 100 services and models, as the protocol")


def _named(repository, number):
    class Many:
        def __getattr__(self, name):
            return getattr(repository, name)

        def names(self):
            return [f"m{i}" for i in range(number)]

    return Many()


@pytest.mark.parametrize(
    ("token", "service", "code"),
    [
        ("", "", "OK"),
        ("", SERVICES[0], "OK"),
        ("", "three", "UNAUTHENTICATED"),
        ("metrics", "three", "PERMISSION_DENIED"),
        ("predict", "three", "OK"),
        ("some", "three", "OK"),
        ("some", "broken", "PERMISSION_DENIED"),
        ("some", "nothing", "PERMISSION_DENIED"),
    ],
)
def test_the_health_of_a_model_needs_a_token(guarded, token, service, code):
    """As its page does; that of the service needs none."""
    with client(guarded.port, token) as calls:
        watching = Watching(calls, service)
        first = watching.next()
        watching.end()

        assert calls.check(service).code == code
        assert first == SERVING if code == "OK" else first[0] == code


@pytest.mark.parametrize(
    ("token", "more"), [("", []), ("some", []), ("predict", ["three"]), ("all", ["three"])]
)
def test_models_are_listed_to_those_who_may_know(guarded, token, more):
    """Others see the services."""
    with client(guarded.port, token) as calls:
        _, statuses = listed(calls)

    assert {*statuses} == {"", *SERVICES, *more}


def test_a_call_without_a_token_is_small(guarded):
    """Nobody without a token makes the service hold much."""
    raw = send(guarded.port, f"{HEALTH}/Check", prefixed(b"x" * 2**17))

    text = "body: expected at most 65536 bytes, for a call that needs no token, received more"
    assert (raw.code, raw.text) == (8, text)


def test_a_watch_is_told_what_changes(served, models):
    """The first status comes at once, and another one for each change."""
    with client(served.port) as calls:
        watching = Watching(calls, "new")
        service = Watching(calls)
        seen = [watching.next()]
        small.put(models, "new", 1, small.three())
        served.front.library.refresh()
        seen.append(watching.next())
        (models / "new" / "unloaded").touch()
        served.front.library.refresh()
        seen.append(watching.next())
        first = service.next()
        watching.end()
        service.end()

    assert seen == [SERVICE_UNKNOWN, SERVING, NOT_SERVING]
    assert first == SERVING
    assert service.statuses.get() == ("CANCELLED", "Locally cancelled by application!")
    until(lambda: not served.front.calls.health.watches)


def test_a_draining_service_is_not_serving(served):
    """Watches are told at once, and end with the service."""
    with client(served.port) as calls:
        watching = [Watching(calls, name) for name in ("", SERVICES[0], "three")]
        first = [each.next() for each in watching]
        served.loop.call_soon_threadsafe(served.front.drain)
        drained = [each.next() for each in watching]
        served.loop.call_soon_threadsafe(served.front.calls.close)
        ends = [each.next() for each in watching]
        late = Watching(calls, "").next()

    assert (first, drained) == ([SERVING] * 3, [NOT_SERVING] * 3)
    # One that begins later would keep the service from its end.
    assert [*ends, late] == [("UNAVAILABLE", "watch: the service stops")] * 4


def test_a_watch_ends_with_its_token(guarded, tmp_path):
    """A token that is removed is good for nothing, not even for what has begun."""
    with client(guarded.port, "some") as calls:
        watching = Watching(calls, "three")
        first = watching.next()
        file = tmp_path / "tokens.toml"
        others = [t for t in file.read_text().split("[[tokens]]") if '"some"' not in t]
        file.write_text("[[tokens]]".join(others))
        guarded.front.access.look_again()
        end = watching.next()

    assert first == SERVING
    assert end[0] == "UNAUTHENTICATED"


def test_watches_are_limited(served, monkeypatch):
    """One more is refused, until another one has ended."""
    monkeypatch.setattr(health, "MOST_WATCHES", 2)
    with client(served.port) as calls:
        watching = [Watching(calls) for _ in range(2)]
        first = [each.next() for each in watching]
        late = Watching(calls)
        refused = late.next()
        watching[0].end()
        until(lambda: len(served.front.calls.health.watches) == 1)
        again = Watching(calls)
        accepted = again.next()
        again.end()
        watching[1].end()

    assert (first, accepted) == ([SERVING] * 2, SERVING)
    assert refused == (
        "RESOURCE_EXHAUSTED",
        "watch: expected at most 2 at once in a worker, received more: ask by Check, now and then",
    )


def test_a_watch_ends_with_its_connection(served):
    """Nothing is left of a client that has gone."""
    with client(served.port) as calls:
        watching = Watching(calls)
        assert watching.next() == SERVING
        calls.close()
        watching.thread.join()

    until(lambda: not served.front.calls.health.watches)


def test_watches_share_what_takes_long(served, monkeypatch):
    """Whether the service is ready is worked out once a second, however many watches there are."""
    library = served.front.library
    asked = []

    def reason():
        asked.append(1)

    with client(served.port) as calls:
        watching = [Watching(calls, name) for name in ["", *SERVICES] * 3]
        first = [each.next() for each in watching]
        looked = threading.Event()
        monkeypatch.setattr(library, "reason_not_ready", reason)

        def look():
            asked.clear()
            served.front.calls.health.look()
            looked.set()

        served.loop.call_soon_threadsafe(look)
        assert looked.wait(20)
        times = len(asked)
        for each in watching:
            each.end()

    assert {*first} == {SERVING}
    assert times == 1


def test_a_bug_ends_a_watch_and_no_other(served, caplog):
    """The others are told what changes."""
    with client(served.port) as calls:
        watching = [Watching(calls), Watching(calls, "three")]
        first = [each.next() for each in watching]
        watches = served.front.calls.health.watches
        broken = next(watch for watch in watches if not watch.service)
        broken.stream = Broken(broken.stream)
        served.loop.call_soon_threadsafe(served.front.drain)
        ends = [each.next() for each in watching]
        watching[1].end()

    assert first == [SERVING] * 2
    assert ends[0][0] == "INTERNAL"
    assert ends[1] == NOT_SERVING
    assert "a watch of the health failed, and is ended" in caplog.text
