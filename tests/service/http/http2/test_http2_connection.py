"""Requests over HTTP/2: the same answers as over HTTP/1.1, and the same bounds."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import socket
import ssl
import threading
import time
import tracemalloc
import weakref

import hpack
import pytest

from service.http import tls
from service.http.grpc import framing
from service.http.http2 import frames, opening, streams
from service.http.http2.stream import Stream
from service.http.timeouts import Timeouts
from tests.harness import calls, certificates, small, tokens
from tests.harness.http2 import JSON, Peer
from tests.harness.http2_streams import HEAD
from tests.harness.served import BODY, Served, post
from tests.harness.waiting import until

CALL = (("content-type", "application/grpc"), ("grpc-encoding", "gzip"))
# The beginning of a message for the model `three`; all after it is no field.
INFER_THREE = b"\x0a\x05three"
LIMIT = 4_000_000
MAX_BODY = LIMIT // 2
# Its answer is larger than the kernel takes for one connection.
MANY = json.dumps(
    {"instances": [{"fruit": [i, 1], "digit": [1, 2, 3, 4]} for i in range(20_000)]}
    | {"heads": ["size", "digits", "tags"]}
).encode()


@pytest.fixture(name="served")
def _served(tmp_path):
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, max_body=MAX_BODY, max_in_flight=LIMIT)
    yield served
    served.stop()


@pytest.fixture(name="closed")
def _closed(tmp_path):
    """Yield the same model behind tokens."""
    small.put(tmp_path / "models", "three", 1, small.three())
    served = Served(tmp_path / "models", tokens_file=tokens.put(tmp_path))
    yield served
    served.stop()


@pytest.fixture(name="peer")
def _peer(served):
    with Peer(served.port) as peer:
        yield peer


def nothing_is_held(served):
    """Return whether no byte and no request is counted any more."""
    front = served.front
    held = front.connections.bodies.held + front.pipeline.room.held
    return (held, front.connections.unread.total, len(front.connections.unread)) == (0, 0, 0) and (
        all((lane.coming, lane.requests) == (0, 0) for lane in front.table.lanes)
    )


def answered_streams(served):
    """Return the streams whose answers wait for their clients."""
    return [
        stream
        for connection in served.front.connections.open
        for stream in connection._streams.sending.waiting
    ]


def without_own(headers):
    """Return headers without those that each answer has anew."""
    return {k: v for k, v in headers.items() if k not in ("date", "x-request-id")}


@pytest.mark.parametrize(
    "asked",
    [
        ("POST", "/predict", BODY, JSON),
        ("POST", "/predict", MANY, (*JSON, ("accept-encoding", "gzip"))),
        ("POST", "/predict", b"nonsense", JSON),
        ("POST", "/predict", BODY, (("content-type", "text/plain"),)),
        ("POST", "/v2/models/three/infer", b"{}", JSON),
        ("POST", "/v1/models/three:predict?x=1", BODY, JSON),
        ("GET", "/models", b"", ()),
        ("HEAD", "/models", b"", ()),
        ("GET", "/livez", b"", ()),
        ("GET", "/openapi.json", b"", ()),
        ("GET", "/nothing", b"", ()),
        ("DELETE", "/predict", b"", ()),
        ("BREW", "/predict", b"", ()),
    ],
)
def test_an_answer_is_that_of_http_1_1(served, peer, asked):
    """Status, headers and body are the same."""
    method, path, body, headers = asked
    answer = peer.ask(path, body, *headers, method=method)
    if method != "BREW":
        status, theirs, content = served.ask(method, path, body or None, headers)
        theirs.pop("connection", None)
        assert (answer.status, answer.body) == (status, content)
        assert without_own(answer.headers) == without_own(theirs)
    else:
        # HTTP/1.1's parser knows no other methods than the registered ones.
        assert answer.status == 405
    until(lambda: nothing_is_held(served))


def test_the_largest_body_is_taken_and_a_larger_one_refused(served, peer):
    """The refusal comes before the body, and the connection goes on."""
    assert peer.ask("/predict", BODY.ljust(MAX_BODY), *JSON).status == 200
    announced = peer.begin("/predict", *JSON, ("content-length", str(MAX_BODY + 1)))
    assert peer.answer(announced).status == 413
    assert json.loads(peer.answers[announced].body)["error"].startswith("body: expected at most")
    stream = peer.begin("/predict", *JSON)
    peer.write(stream, b" " * (MAX_BODY + 1), ends=False)
    assert peer.answer(stream).status == 413
    assert peer.ask("/predict", BODY, *JSON).status == 200
    # The rest of a body that is not wanted is called off, and nobody is at fault (RFC 9113, 8.1).
    until(lambda: peer.answers[stream].reset == frames.NO_ERROR or peer.read())
    until(lambda: nothing_is_held(served))


def test_a_request_that_ends_after_its_refusal_is_not_called_off(served, peer):
    """A proxy may use its connection for another client by then, and would pass the reset on."""
    stream = peer.begin("/predict", *JSON, ("content-length", str(MAX_BODY + 1)))
    assert peer.answer(stream).status == 413
    peer.send(frames.header(9, frames.DATA, frames.END_STREAM, stream) + b"x" * 9)
    with contextlib.suppress(TimeoutError):
        peer.sock.settimeout(4)
        while True:
            peer.read()
    assert peer.answers[stream].reset is None
    assert peer.ask("/predict", BODY, *JSON).status == 200
    assert not peer.goaway


def test_a_body_waits_for_no_token(closed):
    """It is refused before it is sent, and the connection goes on."""
    with Peer(closed.port) as peer:
        assert peer.answer(peer.begin("/predict", *JSON)).status == 401
        secret = ("authorization", "Bearer " + tokens.secret("predict"))
        assert peer.ask("/predict", BODY, *JSON, secret).status == 200
        assert peer.ask("/predict", BODY, *JSON).status == 401
        assert peer.ask("/livez").status == 200
        assert peer.ask("/models").status == 401


def test_requests_of_one_connection_are_answered_in_any_order(served, peer):
    """A slow one holds up no other; a client may have so many open, and one more is refused."""
    slow = [peer.begin("/predict", *JSON) for _ in range(127)]
    assert peer.ask("/predict", BODY, *JSON).status == 200
    slow.append(peer.begin("/predict", *JSON))
    # h2 itself would not open another one.
    peer.h2.remote_settings[3] = 1000
    peer.h2.remote_settings.acknowledge()
    assert peer.answer(peer.begin("/predict", *JSON)).reset == frames.REFUSED_STREAM
    for stream in reversed(slow):
        peer.write(stream, BODY)
    assert {peer.answer(stream).status for stream in slow} <= {200, 429}
    assert peer.answers[slow[-1]].status == 200
    until(lambda: nothing_is_held(served))


def test_a_request_that_is_given_up_releases_its_body(served, peer):
    """The connection goes on."""
    stream = peer.begin("/predict", *JSON)
    peer.write(stream, BODY[:-1], ends=False)
    until(lambda: served.front.connections.bodies.held == len(BODY) - 1)
    peer.h2.reset_stream(stream, frames.CANCEL)
    peer.flush()
    until(lambda: nothing_is_held(served))
    assert peer.ask("/predict", BODY, *JSON).status == 200


def test_a_request_that_is_given_up_is_not_run(served, peer, monkeypatch):
    """It is counted as left, like one whose connection of HTTP/1.1 was closed."""
    peer.ask("/predict", BODY, *JSON)
    route = served.front.table.find(b"/predict")
    left = []
    monkeypatch.setattr(type(route.meter), "failed", lambda _, status: left.append(status))
    for _ in range(20):
        stream = peer.h2.get_next_available_stream_id()
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/predict"),
            (":authority", "x"),
        ]
        peer.h2.send_headers(stream, [*head, *JSON])
        peer.h2.send_data(stream, BODY, end_stream=True)
        peer.h2.reset_stream(stream, frames.CANCEL)
    peer.flush()
    assert peer.ask("/predict", BODY, *JSON).status == 200
    assert left == [499] * 20


@pytest.mark.parametrize(
    "asked",
    [
        ("/predict", JSON, b"[".ljust(MAX_BODY)),
        ("/v2/repository/index", JSON, b"[".ljust(MAX_BODY)),
        (calls.INFER, CALL, calls.prefixed(INFER_THREE.ljust(MAX_BODY, b"\0"))),
    ],
    ids=["prediction", "page", "message"],
)
def test_a_body_of_a_request_that_is_given_up_is_freed(served, peer, asked):
    """It does not wait for the thread that was to read it."""
    path, head, body = asked
    hold, number, front = threading.Event(), 8, served.front
    for pool in (front.threads, *front.executor._threads):
        for _ in range(served.settings.threads):
            pool.submit(hold.wait, 20)
    tracemalloc.start()
    try:
        for _ in range(number):
            stream = peer.request(path, body, *head)
            until(lambda: front.connections.bodies.held >= MAX_BODY)
            peer.h2.reset_stream(stream, frames.CANCEL)
            peer.flush()
            until(lambda: not front.connections.bodies.held)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        hold.set()
    assert size < 2 * MAX_BODY
    until(lambda: nothing_is_held(served))


@pytest.mark.parametrize("path", ["/openapi.json", "/v2/models/three/config"])
def test_a_request_for_a_page_that_is_given_up_is_not_run(served, peer, monkeypatch, path):
    """Those who ask for pages do not wait for those that nobody waits for."""
    asked, hold = [], threading.Event()
    app = served.app.wsgi_app

    def noting(environ, start):
        asked.append(environ["PATH_INFO"])
        return app(environ, start)

    monkeypatch.setattr(served.app, "wsgi_app", noting)
    for _ in range(served.settings.threads):
        served.front.threads.submit(hold.wait, 20)
    for _ in range(20):
        stream = peer.begin(path, method="GET", ends=True)
        peer.h2.reset_stream(stream, frames.CANCEL)
    peer.flush()
    stream = peer.begin("/models", method="GET", ends=True)
    assert peer.ask("/livez").status == 200
    hold.set()
    assert peer.answer(stream).status == 200
    assert path not in asked


@pytest.mark.parametrize("ends", ["answered", "given up", "refused", "lost"])
def test_a_request_is_freed_at_once(served, monkeypatch, ends):
    """Nothing that has its body waits for the search for cycles."""
    made = []

    def noting(*given):
        stream = Stream(*given)
        made.append(weakref.ref(stream))
        return stream

    monkeypatch.setattr(streams, "Stream", noting)
    gc.collect()
    gc.disable()
    try:
        with Peer(served.port) as peer:
            if ends == "answered":
                assert peer.ask("/predict", BODY, *JSON).status == 200
            elif ends == "refused":
                assert peer.ask("/predict", b" " * (MAX_BODY + 1), *JSON).status == 413
            else:
                stream = peer.begin("/predict", *JSON)
                peer.write(stream, BODY[:-1], ends=False)
                until(lambda: made)
                if ends == "given up":
                    peer.h2.reset_stream(stream, frames.CANCEL)
                    peer.flush()
                else:
                    peer.sock.close()
            until(lambda: made and all(stream() is None for stream in made))
    finally:
        gc.enable()


@pytest.mark.parametrize("window", [1, 100, 65_535, 2**20])
def test_an_answer_comes_no_faster_than_it_is_read(served, window):
    """It is the same whatever the windows are, and nothing waits in the service after it."""
    whole = served.ask("POST", "/predict", MANY if window > 100 else BODY, dict(JSON))
    with Peer(served.port, window=window) as peer:
        answer = peer.ask("/predict", MANY if window > 100 else BODY, *JSON)
        assert (answer.status, answer.body) == (200, whole[2])
    until(lambda: nothing_is_held(served))


@pytest.mark.parametrize("rows", range(2000, 10_000, 2000))
def test_a_window_that_opens_at_once_lets_all_of_an_answer_come(served, rows):
    """The client says nothing more until it has all of it."""
    instances = [{"fruit": [i, 1], "digit": [1, 2, 3, 4]} for i in range(rows)]
    body = json.dumps({"instances": instances, "heads": ["size", "digits", "tags"]}).encode()
    whole = served.ask("POST", "/predict", body, dict(JSON))
    with Peer(served.port, window=0, reads=False) as peer:
        stream = peer.request("/predict", body, *JSON)
        until(lambda: served.front.connections.unread.total)
        peer.h2.increment_flow_control_window(2**30)
        peer.h2.increment_flow_control_window(2**30, stream)
        peer.flush()
        assert peer.answer(stream).body == whole[2]


def test_a_client_that_grants_no_window_keeps_its_answer_for_a_while_only(served):
    """The bytes that wait are counted, others are answered, and the stream is reset in the end."""
    with served.within(Timeouts(stalled=1)), Peer(served.port, window=0) as peer:
        stream = peer.request("/predict", MANY, *JSON)
        until(lambda: served.front.connections.unread.total > 1_000_000)
        assert served.ask("GET", "/livez")[0] == 200
        assert peer.answer(stream).reset == frames.CANCEL
        until(lambda: nothing_is_held(served))


ZIPPED = gzip.compress(b" " * 50_000)


@pytest.mark.parametrize(
    "asked",
    [
        ("/predict", JSON, b" " * 50_000),
        ("/predict", (*JSON, ("content-encoding", "gzip")), ZIPPED),
        (calls.INFER, CALL, calls.prefixed(b" " * 50_000)),
        (calls.INFER, CALL, calls.prefixed(ZIPPED, flag=1)),
    ],
    ids=["json", "gzip", "message", "compressed message"],
)
def test_requests_that_are_completed_together_are_handed_over_in_turns(
    served, peer, monkeypatch, asked
):
    """A client cannot have the work of many bodies done before others are looked at."""
    turns = []
    path, head, body = asked
    front, ends = served.front, len(body) - 1
    for name in ("answer", "answer_call"):
        monkeypatch.setattr(front, name, noting(turns, front.loop, getattr(front, name)))
    streams = [peer.begin(path, *head) for _ in range(20)]
    for stream in streams:
        peer.write(stream, body[:ends], ends=False)
    until(lambda: front.connections.bodies.held == len(streams) * ends)
    last = (frames.header(1, frames.DATA, frames.END_STREAM, n) + body[ends:] for n in streams)
    peer.send(b"".join(last))
    for stream in streams:
        assert peer.answer(stream).is_complete
    assert "".join(turns).count("a") == len(streams)
    assert "aaa" not in "".join(turns)


def test_requests_of_a_stream_are_answered_in_turns(served, peer, monkeypatch):
    """So are the requests for definitions, of which a frame has hundreds."""
    turns = []
    cut = noting(turns, served.front.loop, framing.Messages.cut)
    monkeypatch.setattr(framing.Messages, "cut", cut)
    streams = [peer.begin(calls.REFLECTION, *CALL) for _ in range(8)]
    until(lambda: len(served.front.calls.reflection.streams) == len(streams))
    piece = calls.prefixed(b"").ljust(frames.DEFAULT_FRAME, b"\0")
    peer.send(b"".join(frames.header(len(piece), frames.DATA, 0, n) + piece for n in streams))
    until(lambda: turns.count("a") == len(streams))
    assert "aaa" not in "".join(turns)


def noting(turns, loop, step):
    """Return a step that adds an "a" to `turns`, and a bar at the next turn of the event loop."""

    def noted(*args):
        turns.append("a")
        loop.call_soon(turns.append, "|")
        return step(*args)

    return noted


def test_a_body_is_kept_no_longer_than_its_answer_is_made(served):
    """A client that does not read its answers keeps none of its bodies in memory."""
    number = 8
    with Peer(served.port, window=0) as peer:
        tracemalloc.start()
        for _ in range(number):
            peer.request("/predict", b"[".ljust(MAX_BODY), *JSON)
        until(lambda: len(answered_streams(served)) == number)
        until(lambda: served.front.connections.bodies.held == 0)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size < 2 * MAX_BODY


@pytest.mark.parametrize("window", [0, 2**30])
def test_an_answer_is_sent_whole_once_its_windows_are_large(served, window):
    """One update of the windows is enough, and nothing waits in the service after it."""
    whole = served.ask("POST", "/predict", MANY, dict(JSON))[2]
    with Peer(served.port, window=window, reads=False) as peer:
        stream = peer.begin("/predict", *JSON)
        peer.write(stream, MANY)
        until(lambda: served.front.connections.unread.total > 1_000_000)
        peer.h2.increment_flow_control_window(2**30)
        if not window:
            peer.h2.increment_flow_control_window(2**30, stream)
        peer.flush()
        assert peer.answer(stream).body == whole
        until(lambda: nothing_is_held(served))


def test_the_unread_answers_of_one_connection_have_a_bound(served):
    """It takes no more than the answers of many do, and the first ones are still read."""
    unread = served.front.connections.unread
    with Peer(served.port, window=0) as peer:
        streams = [peer.request("/predict", MANY, *JSON)]
        until(lambda: unread.total > unread.limit)
        one = unread.total
        for _ in range(5):
            streams.append(peer.request("/predict", MANY, *JSON))
            assert peer.answer(streams[-1]).reset == frames.ENHANCE_YOUR_CALM
        assert unread.total == one
        peer.h2.increment_flow_control_window(2**22)
        peer.h2.increment_flow_control_window(2**22, streams[0])
        peer.flush()
        assert len(peer.answer(streams[0]).body) >= one
        until(lambda: nothing_is_held(served))


def test_a_client_that_asks_for_more_is_not_taken_for_one_that_reads(served):
    """If there is too much unread, the one that has read nothing for the longest time goes."""
    some = json.dumps({"instances": [{"fruit": [1, 1]}] * 10_000} | {"heads": ["size"]}).encode()
    with Peer(served.port, window=0) as hostile, Peer(served.port, window=0) as other:
        unread = served.front.connections.unread
        for number, peer in enumerate((hostile, other, hostile), 1):
            peer.request("/predict", some, *JSON)
            until(lambda number=number: len(answered_streams(served)) == number)
        while not hostile.is_closed:
            hostile.ask("/livez", b"", method="HEAD")
            hostile.request("/predict", some, *JSON)
        assert unread.total
        other.h2.increment_flow_control_window(2**20, 1)
        other.flush()
        assert other.answer(1).is_complete


def test_a_client_that_never_reads_is_cut_off(served):
    """Neither answers nor acknowledgements of its frames pile up."""
    with served.within(Timeouts(stalled=1)), Peer(served.port, window=2**31 - 1) as peer:
        peer.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        peer.flush()
        for _ in range(60):
            stream = peer.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":scheme", "http"), (":path", "/openapi.json")]
            peer.h2.send_headers(stream, [*head, (":authority", "x")], end_stream=True)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.flush()
        until(lambda: not served.front.connections.open)
    until(lambda: nothing_is_held(served))


def test_a_body_that_comes_too_slowly_is_refused(served):
    """The time limit and the least rate are those of HTTP/1.1."""
    with served.within(Timeouts(request=1)), Peer(served.port) as peer:
        stream = peer.begin("/predict", *JSON)
        assert peer.answer(stream).status == 408
        assert peer.ask("/predict", BODY, *JSON).status == 200
    with served.within(Timeouts(window=1)), Peer(served.port) as peer:
        stream = peer.begin("/predict", *JSON)
        peer.write(stream, b" " * 10, ends=False)
        assert peer.answer(stream).status == 408


@pytest.mark.parametrize(
    "cut", [b"P", frames.PREFACE[:10], frames.PREFACE, frames.PREFACE + frames.settings({})[:8]]
)
def test_an_opening_that_never_ends_is_closed(served, cut):
    """No connection is kept open by a part of a preface or of a frame."""
    with (
        served.within(Timeouts(idle=1, request=1, linger=0.5)),
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock,
    ):
        sock.sendall(cut)
        until(lambda: not served.front.connections.open)
    until(lambda: served.closed == 1)


def test_a_flood_is_counted(served, monkeypatch):
    """Operators see it beside other refusals."""
    counted = []
    monkeypatch.setattr(served.front.metrics, "count", lambda *given: counted.append(given))
    for wrong in (frames.settings({}) * 100, frames.window_update(0, 0)):
        with Peer(served.port) as peer:
            peer.send(wrong)
            until(lambda: peer.goaway or peer.read())
    assert counted == [("", "", "other", 429), ("", "", "other", 400)]


def test_an_idle_connection_is_closed_with_goaway(served):
    """The client knows that no request of its own was lost."""
    with served.within(Timeouts(idle=1)), Peer(served.port) as peer:
        assert peer.ask("/livez").status == 200
        peer.wait_for_end()
        assert [entry[:2] for entry in peer.goaway] == [(1, frames.NO_ERROR)]


def test_a_service_that_stops_says_so_and_answers_what_has_come(served):
    """First it warns; streams that are opened before the client reads that are answered."""
    with Peer(served.port) as peer:
        assert peer.ask("/livez").status == 200
        open_one = peer.begin("/predict", *JSON)
        [their] = served.front.connections.open
        until(lambda: their._streams.highest == open_one)
        served.loop.call_soon_threadsafe(served.front.drain)
        until(lambda: peer.goaway or peer.read())
        assert [entry[:2] for entry in peer.goaway] == [(2**31 - 1, frames.NO_ERROR)]
        closing = asyncio.run_coroutine_threadsafe(served.front.close(10), served.loop)
        # h2 refuses to send after GOAWAY; a client may finish what it has begun.
        rest = frames.header(len(BODY), frames.DATA, frames.END_STREAM, open_one) + BODY
        peer.send(rest)
        data = b"".join(iter(lambda: peer.sock.recv(65536), b""))
        closing.result(10)
    assert b'"predictions"' in data


def test_a_request_that_comes_after_the_end_was_announced_is_not_answered(served):
    """The client is told once which of its requests is the last, and may repeat later ones."""
    with Peer(served.port) as peer:
        assert peer.ask("/livez").status == 200
        last = peer.begin("/predict", *JSON)
        [their] = served.front.connections.open
        until(lambda: their._streams.highest == last)
        closing = asyncio.run_coroutine_threadsafe(served.front.close(2), served.loop)
        until(lambda: any(entry[0] == last for entry in peer.goaway) or peer.read())
        late = hpack.Encoder().encode([*HEAD], huffman=False)
        peer.send(frames.header(len(late), frames.HEADERS, 5, last + 2) + late)
        data = b"".join(iter(lambda: peer.sock.recv(65536), b""))
        closing.result(10)
    assert [entry[0] for entry in peer.goaway][-1] == last
    assert data == b""


def test_the_start_of_a_connection_decides_its_protocol(served):
    """Any split of the preface is HTTP/2, and anything else HTTP/1.1."""
    for at in range(1, len(frames.PREFACE)):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as sock:
            sock.sendall(frames.PREFACE[:at])
            sock.sendall(frames.PREFACE[at:] + frames.settings({}))
            assert sock.recv(9)[3] == frames.SETTINGS
    whole = post(BODY, b"Connection: close")
    for at in range(1, 6):
        assert served.raw(whole[:at], whole[at:], pause=0.01).startswith(b"HTTP/1.1 200")
    assert served.raw(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_http_1_1_alone_refuses_http_2(tmp_path):
    """The setting leaves one protocol."""
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, protocols="http1")
    try:
        assert served.raw(frames.PREFACE).startswith(b"HTTP/1.1 400")
    finally:
        served.stop()


@pytest.mark.parametrize(("protocols", "chosen"), [("http1,http2", "h2"), ("http1", "http/1.1")])
def test_tls_agrees_on_http_2_where_it_is_offered(served, tmp_path, protocols, chosen):
    """A client that offers both gets HTTP/2, unless the setting leaves it out."""
    files = tmp_path / "tls.crt", tmp_path / "tls.key"
    for path, text in zip(files, (certificates.A, certificates.A_KEY), strict=True):
        path.write_text(text)
        path.chmod(0o600)
    server = tls.context(*files, opening.offered(protocols))
    starting = served.loop.create_server(served.connect, "127.0.0.1", 0, ssl=server)
    listening = asyncio.run_coroutine_threadsafe(starting, served.loop).result(10)
    port = listening.sockets[0].getsockname()[1]
    for offer in (["h2", "http/1.1"], ["http/1.1"]):
        client = ssl.create_default_context(cadata=certificates.A)
        client.set_alpn_protocols(offer)
        if "h2" in offer and chosen == "h2":
            with Peer(port, client) as peer:
                assert peer.sock.selected_alpn_protocol() == "h2"
                assert peer.ask("/predict", BODY, *JSON).status == 200
                assert peer.ask("/predict", MANY, *JSON).status == 200
        else:
            with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as raw:
                sock = client.wrap_socket(raw, server_hostname="localhost")
                assert sock.selected_alpn_protocol() == "http/1.1"
                sock.sendall(post(BODY, b"Connection: close"))
                assert sock.recv(12) == b"HTTP/1.1 200"
                sock.close()
    served.loop.call_soon_threadsafe(listening.close)


def test_100_continue_is_sent_to_those_who_expect_it(served, peer):
    """The interim answer is one of its own, before the final one."""
    stream = peer.begin("/predict", *JSON, ("expect", "100-continue"))
    peer.write(stream, BODY)
    assert peer.answer(stream).status == 200


def test_a_body_in_tiny_frames_takes_no_more_memory_than_itself(served, peer):
    """They are gathered, and the body is the same."""
    stream = peer.begin("/predict", *JSON)
    body = BODY.ljust(200_000)
    piece = 2
    frame = frames.header(piece, frames.DATA, 0, stream)
    tracemalloc.start()
    peer.send(b"".join(frame + body[i : i + piece] for i in range(0, len(body), piece)))
    until(lambda: served.front.connections.bodies.held == len(body))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 10 * len(body)
    peer.send(frames.header(0, frames.DATA, frames.END_STREAM, stream))
    assert peer.answer(stream).status == 200


def test_an_upload_that_goes_on_is_no_frame_that_never_ends(served):
    """Each chunk that is read may end within a frame, for longer than a frame may take."""
    with served.within(Timeouts(request=1.5, rate=1)), Peer(served.port) as peer:
        stream = peer.begin("/predict", *JSON)
        piece = frames.header(10, frames.DATA, 0, stream) + b" " * 10
        for _ in range(8):
            # The last frame is never whole.
            peer.send(piece[5:] + piece[:5] if _ else piece + piece[:5])
            time.sleep(0.3)
        assert peer.answer(stream).status == 408
        assert not peer.goaway


def test_a_header_block_that_comes_frame_by_frame_has_the_time_of_a_request(served):
    """A client cannot keep it open by one more byte now and then."""
    with served.within(Timeouts(request=1, linger=0.5)), Peer(served.port) as peer:
        peer.send(frames.header(3, frames.HEADERS, 0, 1) + b"\0\1x")
        for _ in range(10):
            time.sleep(0.3)
            peer.send(frames.header(1, frames.CONTINUATION, 0, 1) + b"\1")
        until(lambda: not served.front.connections.open)
