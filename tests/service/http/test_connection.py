"""Connections of hostile clients: what each holds has a bound, and is released in the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from service.http import connection as connections
from service.http import flow_control, parser, tls
from service.http.connection import Connection
from service.http.flow_control import Unread
from service.http.timeouts import Timeouts
from service.inference.lane import Lane
from service.wire import limits
from tests.harness import certificates, small, tokens
from tests.harness.served import BODY, JSON, LAST, Served, post
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 4_000_000
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
HEALTH = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
# Its answer is larger than the kernel takes for one connection.
MANY = json.dumps(
    {"instances": [{"fruit": [i, 1], "digit": [1, 2, 3, 4]} for i in range(20_000)]}
    | {"heads": ["size", "digits", "tags"]}
).encode()


@pytest.fixture(name="served")
def _served(tmp_path):
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path, max_body=LIMIT // 2, max_in_flight=LIMIT)
    yield served
    served.stop()


@pytest.fixture(name="closed")
def _closed(tmp_path):
    """Yield the same model behind tokens."""
    small.put(tmp_path / "models", "three", 1, small.three())
    served = Served(tmp_path / "models", tokens_file=tokens.put(tmp_path))
    yield served
    served.stop()


@pytest.fixture(name="secure", scope="module")
def _secure(tmp_path_factory):
    """Return the TLS contexts of the server and of the client."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "tls.crt", folder / "tls.key"
    for path, text in zip(files, (certificates.A, certificates.A_KEY), strict=True):
        path.write_text(text)
        path.chmod(0o600)
    return tls.context(*files), ssl.create_default_context(cadata=certificates.A)


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@contextlib.contextmanager
def opened(served: Served, secure: Contexts | None = None) -> Iterator[socket.socket]:
    """Yield a connection, by TLS if there are contexts for it."""
    port, server = served.port, None
    if secure is not None:
        starting = served.loop.create_server(served.connect, "127.0.0.1", 0, ssl=secure[0])
        server = asyncio.run_coroutine_threadsafe(starting, served.loop).result(10)
        port = server.sockets[0].getsockname()[1]
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    if secure is not None:
        sock = secure[1].wrap_socket(sock, server_hostname="localhost")
    try:
        yield sock
    finally:
        sock.close()
        if server is not None:
            served.loop.call_soon_threadsafe(server.close)


def nothing_is_held(served: Served) -> bool:
    """Return whether no byte, row or request is counted any more."""
    front = served.front
    return (
        front.connections.bodies.held + front.pipeline.room.held,
        front.connections.unread.total,
        len(front.connections.unread),
        len(front.arrived),
    ) == (*(0, 0, 0, 0),) and all(
        (lane.coming, lane.requests, lane.rows) == (0, 0, 0) for lane in front.table.lanes
    )


def send_until_stuck(sock: socket.socket, request: bytes, most: int = 64_000_000) -> int:
    """Send a request again and again without reading, and return the number of bytes taken."""
    sock.settimeout(0.5)
    taken = 0
    with contextlib.suppress(TimeoutError, ssl.SSLWantWriteError):
        while taken < most:
            taken += sock.send(request * (1 + 60_000 // len(request)))
    return taken


def test_a_pipeline_of_refused_requests_stops_no_other_client(closed):
    """Answers go out one after another, and not from within each other."""
    first = post(
        BODY,
        b"Authorization: Bearer " + tokens.secret("predict").encode(),
        b"X-Request-Timeout: 0.000000001",
    )
    refused = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    last = refused.replace(b"Host: x", b"Host: x\r\nConnection: close")

    answer = closed.raw(first + refused * 600 + last)

    assert answer.count(b"HTTP/1.1 504 ") == 1
    assert answer.count(b"HTTP/1.1 401 ") == 601
    assert closed.ask("POST", "/predict", BODY, {**JSON, **tokens.header("predict")})[0] == 200
    until(lambda: nothing_is_held(closed))


def test_a_pipeline_for_a_full_queue_stops_no_other_client(served, monkeypatch):
    """The first request is admitted, and all behind it are refused."""
    waits = iter([False])
    monkeypatch.setattr(Lane, "is_full", lambda *_: next(waits, True))
    with opened(served) as sock:
        sock.sendall(post(BODY) * 600 + LAST)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    monkeypatch.undo()

    assert (answer.count(b"HTTP/1.1 200 "), answer.count(b"HTTP/1.1 429 ")) == (1, 600)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    until(lambda: nothing_is_held(served))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 3000])
@pytest.mark.parametrize("together", [True, False])
def test_a_pipeline_of_any_length_is_answered_in_order(served, count, *, together):
    """The order holds for all requests, however they are cut into pieces."""
    kinds = [post(BODY), HEALTH, post(b"{"), post(BODY, *OFFER), post(BODY, path=b"/no"), PAGE]
    kinds += [b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", post(BODY, path=b"/predict/")]
    marks = [b"200", b"200", b"400", b"200", b"404", b"200", b"200", b"200"]
    order = [(i * i + i // 5) % len(kinds) for i in range(count)]
    sent = b"".join(kinds[kind] for kind in order) + LAST
    with opened(served) as sock:
        pieces = [sent] if together else [sent[i : i + 5003] for i in range(0, len(sent), 5003)]
        sender = threading.Thread(target=lambda: [sock.sendall(piece) for piece in pieces])
        sender.start()
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        sender.join(10)

    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [*(marks[kind] for kind in order), b"200"]
    until(lambda: nothing_is_held(served))


def test_a_long_pipeline_lets_other_clients_be_served(served):
    """Few of its requests are parsed ahead of their answers."""
    most = 0
    with opened(served) as sock:
        sock.sendall(HEALTH * 4000)
        answer = b""
        # A piece may end within a status line, so each is counted with what came before it.
        while answer.count(b"HTTP/1.1 200") < 4000:
            part = sock.recv(65536)
            assert part
            answer += part
            waiting = [len(c.waiting) for c in [*served.front.connections.open]]
            most = max(most, *waiting)
    assert most <= connections.PIECE / len(HEALTH) + 1


def test_an_error_in_an_answer_costs_one_connection(served, monkeypatch, caplog):
    """The connection is closed and the error logged; nothing stays in the model's queue."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.server.front.Front.answer", fail)
    with opened(served) as sock:
        sock.sendall(post(BODY))
        assert sock.recv(1000) == b""
    monkeypatch.undo()

    assert "b'/predict' could not be answered" in caplog.text
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    until(lambda: nothing_is_held(served))


SECURE = pytest.mark.parametrize("by_tls", [False, True], ids=["plain", "TLS"])


@SECURE
@pytest.mark.parametrize("request_", [PAGE, post(MANY), HEALTH], ids=["pages", "rows", "health"])
def test_a_client_that_never_reads_is_neither_read_nor_answered(
    served, secure, request_, *, by_tls
):
    """This holds above the high-water mark; after a while the connection is cut off."""
    with opened(served, secure if by_tls else None) as sock:
        # Most of it is in the kernel's buffers.
        assert send_until_stuck(sock, request_) < 32_000_000
        unread = served.front.connections.unread
        until(lambda: len(unread) == 1)
        assert 0 < unread.total < 3_000_000
        assert served.ask("POST", "/predict", BODY, JSON)[0] == 200

        served.front.connections.timeouts = Timeouts(stalled=0.5)
        until(lambda: not served.front.connections.open)
        assert nothing_is_held(served)


@SECURE
def test_a_client_that_reads_slowly_receives_everything(served, secure, *, by_tls):
    """The client receives every byte in order, and can send later requests as well."""
    count = 400
    with opened(served, secure if by_tls else None) as sock:
        sender = threading.Thread(target=sock.sendall, args=(PAGE * count + LAST,))
        sender.start()
        until(lambda: len(served.front.connections.unread) == 1)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        sender.join(10)

    pages = answer.split(b"HTTP/1.1 200 OK")[1:]
    assert len(pages) == count + 1
    assert len({page.split(b"\r\n\r\n", 1)[1] for page in pages[:-1]}) == 1
    until(lambda: nothing_is_held(served))


def test_unread_answers_have_a_bound_together(served):
    """Beyond the bound, the connections that stalled longest are cut off; one that reads is not."""
    served.front.connections.unread.limit = 100_000
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(8):
            socks.append(stack.enter_context(opened(served)))
            send_until_stuck(socks[-1], PAGE)
            assert served.front.connections.unread.total <= 100_000
        assert len(served.front.connections.open) < 8
        assert served.ask("POST", "/predict", MANY, JSON)[0] == 200
        with contextlib.suppress(ConnectionError):
            while socks[0].recv(1_000_000):
                pass
        assert len(socks[-1].recv(1000)) == 1000
    until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)


def test_the_connection_that_stalls_longest_is_cut_off_first():
    """A single connection may exceed the bound, since it harms no other."""

    class Peer:
        gone = False

        def abort(self) -> None:
            """Note the end."""
            self.gone = True

    unread, peers = Unread(100), [Peer() for _ in range(4)]
    unread.note(peers[0], 60)
    unread.note(peers[1], 40)
    unread.note(peers[0], 50)
    unread.note(peers[2], 20)
    assert [peer.gone for peer in peers] == [False, True, False, False]
    assert unread.total == 70
    unread.note(peers[3], 500)
    assert [peer.gone for peer in peers] == [True, True, True, False]
    unread.forget(peers[0])
    unread.forget(peers[3])
    assert (unread.total, len(unread)) == (0, 0)


@SECURE
@pytest.mark.parametrize(
    ("sent", "idle"),
    [
        pytest.param(post(MANY, b"Connection: close"), 75, id="the last of its connection"),
        pytest.param(post(MANY) + b"nonsense\r\n\r\n", 75, id="refused afterwards"),
        pytest.param(PAGE * 2000, 0, id="idle"),
    ],
)
def test_closing_ends_though_the_client_does_not_read(served, secure, sent, idle, *, by_tls):
    """A client cannot keep a connection open by not reading the rest of its answers."""
    served.front.connections.timeouts = Timeouts(stalled=0.5, idle=idle)
    with opened(served, secure if by_tls else None) as sock:
        sock.settimeout(1)
        with contextlib.suppress(OSError):
            sock.sendall(sent)
        until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)


def test_a_stop_ends_though_a_client_does_not_read(served):
    """The rest of the answers is dropped at the end of the time to close."""
    with opened(served) as sock:
        send_until_stuck(sock, PAGE)
        closing = asyncio.run_coroutine_threadsafe(served.front.close(0.2), served.loop)
        closing.result(10)
        until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)


def test_slow_senders_of_large_bodies_leave_room_for_others(served):
    """Each body has a share of what the others leave, and small bodies have a part of their own."""
    head = post(b"").split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    refused = 0
    with contextlib.ExitStack() as stack:
        for size in [
            LIMIT // 2,
            *(LIMIT >> shift for shift in range(2, 6)),
            *[flow_control.SMALL * 2] * 12,
        ]:
            sock = stack.enter_context(opened(served))
            before = served.front.connections.bodies.held
            sock.sendall(head + b"%x\r\n" % size + b" " * (size - 1))
            sock.settimeout(0.1)
            until(lambda: served.front.connections.bodies.held in (before, before + size - 1))  # noqa: B023
            with contextlib.suppress(TimeoutError):
                refused += sock.recv(12) == b"HTTP/1.1 429"
        assert refused > 5
        assert LIMIT // 2 < served.front.connections.bodies.held <= LIMIT * 3 // 4
        for _ in range(20):
            assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
        for _ in range(LIMIT // 4 // flow_control.SMALL - 1):
            stack.enter_context(served.half(flow_control.SMALL))
        assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
    until(lambda: nothing_is_held(served))
    assert served.ask("POST", "/predict", b" " * (LIMIT // 2), JSON)[0] == 400


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_large_body_fits_beside_slow_ones(served, others):
    """A body may be as large as the share that the others leave."""
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(served.half(LIMIT // 8))
        until(lambda: served.front.connections.bodies.held == others * (LIMIT // 8 - 1))
        left = LIMIT * 3 // 4 - served.front.connections.bodies.held
        fits = served.ask("POST", "/predict", b" " * (left * 2 // 3 - 2), JSON)[0]
        over = served.ask("POST", "/predict", b" " * (left * 2 // 3 + 2), JSON)[0]
    assert (fits, over) == (400, 429)


def test_a_body_that_is_announced_and_not_sent_takes_no_room(served):
    """Large and small bodies still have room beside a hundred announced ones."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            sock = stack.enter_context(served.half(2))
            sock.sendall(post(BODY, b"X: y")[: -len(BODY)])
            sock = stack.enter_context(opened(served))
            sock.sendall(post(b" " * (LIMIT // 2))[: -LIMIT // 2])
        assert served.ask("POST", "/predict", b" " * (LIMIT // 2), JSON)[0] == 400
        assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


@SECURE
def test_a_body_that_comes_too_slowly_is_refused(served, secure, *, by_tls):
    """A steady trickle is refused too; a faster sender may take longer than the window."""
    served.front.connections.timeouts = Timeouts(window=1, rate=10_000)
    with opened(served, secure if by_tls else None) as slow, opened(served) as fast:
        for sock in (slow, fast):
            sock.sendall(post(b" " * 200_000, b"Connection: close")[:-199_000])
        slow.settimeout(0.02)
        answer = b""
        sent = 0
        for _ in range(300):
            if sent < 198_000:
                fast.sendall(b" " * 1000)
                sent += 1000
            with contextlib.suppress(TimeoutError):
                slow.sendall(b" ")
                answer = slow.recv(1000)
            if answer:
                break
        fast.sendall(b" " * (199_000 - sent))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request: expected at least 10000 bytes a second, received fewer over " in answer
        assert fast.recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_client_that_waits_for_an_answer_is_no_slow_sender(served):
    """The rate of its next request is measured from when the service reads on."""
    served.front.connections.timeouts = Timeouts(window=1)
    release = threading.Event()
    with opened(served) as sock:
        hold = [served.front.threads.submit(release.wait, 10) for _ in range(4)]
        sock.sendall(PAGE + LAST[:-10])
        time.sleep(2.5)
        release.set()
        sock.sendall(LAST[-10:])
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert all(future.result() for future in hold)


def test_a_body_in_tiny_chunks_costs_no_more_than_itself(served):
    """The chunks are gathered in one buffer: objects for each would take twenty times as much."""
    head = post(b"").split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    with opened(served) as sock:
        sock.sendall(head + b"2\r\n  \r\n" * 50_000)
        until(lambda: served.front.connections.bodies.held == 100_000)
        (connection,) = served.front.connections.open
        assert len(connection._parser._parts) <= parser.MAX_PARTS + 1
        sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
    until(lambda: nothing_is_held(served))


NO_HOST = b"GET /livez HTTP/%s\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        pytest.param(NO_HOST % b"1.1", b"Host: expected one, received none", id="no host"),
        pytest.param(
            b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            b"Host: expected one, received several",
            id="two hosts",
        ),
        pytest.param(
            b"GET /livez HTTP/1.0\r\nhost: a\r\nX: y\r\nHOST: b\r\n\r\n",
            b"Host: expected one, received several",
            id="two hosts in 1.0",
        ),
        *(
            pytest.param(
                b"%s /livez %s\r\nHost: x\r\n\r\n" % (method, protocol),
                b"received another protocol, or another version",
                id=f"{method.decode()} {protocol.decode()}",
            )
            for method, protocol in [
                (b"GET", b"RTSP/1.0"),
                (b"OPTIONS", b"RTSP/1.1"),
                (b"SOURCE", b"ICE/1.0"),
                (b"GET", b"HTTP/2.0"),
                (b"GET", b"HTTP/0.9"),
            ]
        ),
    ],
)
@pytest.mark.parametrize("cut", ["whole", "by byte", "behind another"])
def test_a_request_that_is_not_http_1_is_refused(served, sent, message, cut):
    """It is refused whole, byte by byte, and behind another request."""
    if cut == "by byte":
        answer = served.raw(*(bytes([byte]) for byte in sent), pause=0.001)
    elif cut == "whole":
        answer = served.raw(sent)
    else:
        _, first, answer = served.raw(post(BODY) + sent).split(b"HTTP/1.1 ")
        assert first.startswith(b"200 OK")
        answer = b"HTTP/1.1 " + answer

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert message in answer


def test_http_1_0_needs_no_host(served):
    """HTTP/1.0 is older than the Host header."""
    assert served.raw(NO_HOST % b"1.0").startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("sent", "count"),
    [
        pytest.param(post(BODY, b"Expect: 100-continue"), 1, id="1.1"),
        pytest.param(post(BODY, b"Expect: 100-continue", version=b"1.0"), 0, id="1.0"),
        pytest.param(post(BODY, b"Expect: 100-continue", *OFFER), 1, id="with an offer"),
        pytest.param(
            post(BODY, b"Expect: 100-continue", *OFFER, b"Transfer-Encoding: chunked"),
            0,
            id="no request",
        ),
    ],
)
def test_100_continue_is_sent_once_to_clients_of_http_1_1(served, sent, count):
    """A client that does not receive it sends its body all the same."""
    with opened(served) as sock:
        sock.sendall(sent[: -len(BODY)])
        if count:
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        answer = sock.recv(1000)
    assert b" 100 Continue" not in answer
    assert answer.startswith(b"HTTP/1.1 200 OK" if sent.count(b"chunked") == 0 else b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(post(BODY), [b"200"], id="a prediction"),
        pytest.param(post(b"{"), [b"400"], id="an error"),
        pytest.param(PAGE, [b"200"], id="a page"),
        pytest.param(HEALTH, [b"200"], id="health"),
        pytest.param(post(BODY) * 3 + PAGE + post(BODY), [b"200"] * 5, id="several"),
        pytest.param(HEALTH * 2000, [b"200"] * 2000, id="many"),
        pytest.param(post(BODY) + post(BODY)[:-3], [b"200"], id="and half of another"),
        pytest.param(post(BODY) + b"nonsense\r\n\r\n", [b"200", b"400"], id="and nonsense"),
        pytest.param(post(BODY)[:-3], [], id="half of one"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_a_client_that_half_closes_is_answered(served, sent, statuses):
    """All of its requests are answered, and then the connection is closed."""
    with opened(served) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == statuses
    assert answer.count(b"content-length") == len(statuses)
    until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)


def reset(sock: socket.socket) -> None:
    """Make a socket reset its connection when it is closed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HOSTILE = {
    "nothing": b"",
    "half a head": post(BODY)[:40],
    "half a body": post(b" " * 500_000)[:-1],
    "small body": post(BODY)[:-1],
    "a request": post(BODY),
    "large requests": post(MANY) * 5,
    "pages": PAGE * 2000,
    "offers": post(BODY, *OFFER) * 500,
    "empty offers": b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n"
    * 1000,
    "mixed": (post(BODY) + HEALTH + post(b"{") + PAGE + post(BODY, *OFFER)) * 100,
    "and nonsense": post(BODY) * 20 + b"nonsense\r\n\r\n" + post(BODY) * 20,
    "too large": post(b" " * (LIMIT // 2 + 1)),
    "the last": LAST + post(BODY) * 10,
    "chunks": post(b"").split(b"Content-Length")[0]
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"3\r\nabc\r\n" * 10_000,
}


@SECURE
@pytest.mark.parametrize("ends", ["resets", "closes", "reads a little", "reads all", "waits"])
def test_nothing_is_held_for_a_closed_connection(served, secure, ends, *, by_tls):
    """Whatever the client sent, and however it ended, all counts return to zero."""
    served.front.connections.timeouts = Timeouts(stalled=0.5, request=3, idle=3)

    def be_hostile(sock: socket.socket, sent: bytes) -> None:
        sock.settimeout(0.5)
        with contextlib.suppress(OSError):
            sock.sendall(sent)
        with contextlib.suppress(OSError):
            if ends == "resets":
                reset(sock)
                sock.close()
            elif ends == "closes":
                sock.close()
            elif ends == "reads a little":
                sock.recv(10)
            elif ends == "reads all":
                while sock.recv(65536):
                    pass

    with contextlib.ExitStack() as stack:
        hostile = []
        for sent in HOSTILE.values():
            sock = stack.enter_context(opened(served, secure if by_tls else None))
            hostile.append(threading.Thread(target=be_hostile, args=(sock, sent)))
            hostile[-1].start()
            assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
        for thread in hostile:
            thread.join()
        until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


def test_a_thread_that_decodes_leaves_transports_alone(served, monkeypatch):
    """The thread may find that the client is gone; only the loop acts on that."""
    touched: set[str] = set()
    original = Connection.connection_made

    class Watched:
        def __init__(self, transport: Any) -> None:
            self.transport = transport

        def __getattr__(self, name: str) -> Any:
            if name not in ("is_closing", "get_extra_info"):
                touched.add(threading.current_thread().name)
            return getattr(self.transport, name)

    monkeypatch.setattr(
        Connection, "connection_made", lambda self, transport: original(self, Watched(transport))
    )
    # A large body that the fast reader does not take is read in a thread.
    body = BODY[:-1] + b" " * limits.AT_ONCE
    busy = threading.Event()
    served.front.executor.apart(len(body), lambda: busy.wait(10), lambda _: None)
    with opened(served) as sock:
        sock.sendall(post(body))
        until(lambda: served.front.connections.bodies.held == len(body))
    # Time for the end of the client's stream, the first bytes sent to it, and its reset.
    time.sleep(0.2)
    busy.set()

    until(lambda: not served.front.connections.open)
    assert nothing_is_held(served)
    assert touched == {served.thread.name}


@pytest.mark.parametrize("ending", [b"", b"]}"], ids=["wrong", "right"])
def test_a_client_that_is_gone_before_its_large_body_is_read_counts_as_499(served, ending):
    """The status is not that of a wrong body, even if the body is wrong."""
    body = b'{"instances":[{"fruit":[1,2]}' + b" " * limits.AT_ONCE + ending
    busy = threading.Event()
    served.front.executor.apart(len(body), lambda: busy.wait(10), lambda _: None)
    with opened(served) as sock:
        # This media type is not read in the event loop.
        sock.sendall(post(body).replace(b"application/json", b"application/json;charset=utf-8"))
        until(lambda: served.front.connections.bodies.held == len(body))
        reset(sock)
    until(lambda: not served.front.connections.bodies.held)
    busy.set()

    until(lambda: counted(served))
    assert counted(served) == {b"499"}


def counted(served: Served) -> set[bytes]:
    """Return the statuses of the model's requests so far."""
    text = served.ask("GET", "/metrics")[2]
    return set(re.findall(rb'triceps_requests_total\{.*model="three",status="(\d+)".* [1-9]', text))
