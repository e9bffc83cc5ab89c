"""The HTTP front on real sockets: its answers are those of the Flask app, for every request."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import socket
import threading
import time
from typing import Any

import pytest

from service.http.header_cache import MAX_BLOCKS
from service.http.timeouts import Timeouts
from service.inference.model import Model
from tests.harness import small
from tests.harness.lanes import lane_of
from tests.harness.served import BODY, JSON, LAST, RIGHT, Served, post
from tests.harness.waiting import until

LIMIT = 100_000


@pytest.fixture(
    scope="module", name="served", params=["", "alone = true"], ids=["gathers", "alone"]
)
def _served(request, tmp_path_factory):
    """Yield a front over one model of each sort, once with batches and once without."""
    models = tmp_path_factory.mktemp("models")
    for name, content in small.every().items():
        small.put(models, name, 1, content)
        (models / name / "settings.toml").write_text(request.param)
    served = Served(models, default_model="three", max_body=LIMIT, max_in_flight=LIMIT)
    yield served
    served.stop()


CASES = [
    pytest.param("GET", "/", None, {}, id="home"),
    pytest.param("GET", "/models/three", None, {}, id="a signature"),
    pytest.param("GET", "/models/three?x=1", None, {}, id="a query"),
    pytest.param("GET", "/models/thr%65e/example", None, {}, id="an escaped path"),
    pytest.param("GET", "/nope", None, {}, id="no route"),
    pytest.param("GET", "/predict", None, {}, id="wrong method"),
    pytest.param("HEAD", "/models", None, {}, id="head"),
    pytest.param("OPTIONS", "/predict", None, {}, id="options"),
    pytest.param("POST", "/predict", BODY, JSON, id="a prediction"),
    pytest.param("POST", "/models/three/predict", BODY, JSON, id="by name"),
    pytest.param("POST", "/models/three/versions/1/predict", BODY, JSON, id="by version"),
    pytest.param("POST", "/models/risky/predict", b'{"instances":[[47,"no",20]]}', JSON, id="view"),
    pytest.param("POST", "/models/nope/predict", BODY, JSON, id="no model"),
    pytest.param("POST", "/models/three/versions/7/predict", BODY, JSON, id="no version"),
    pytest.param("POST", "/predict", BODY, {}, id="no type"),
    pytest.param("POST", "/predict", BODY, {"Content-Type": "text/json"}, id="another type"),
    pytest.param(
        "POST", "/predict", BODY, {"Content-Type": "application/json; charset=utf-8"}, id="charset"
    ),
    pytest.param(
        "POST",
        "/predict",
        BODY,
        {"Content-Type": "application/json; charset=latin-1"},
        id="latin-1",
    ),
    pytest.param(
        "POST", "/predict", BODY, {"Content-Type": "application/x+json"}, id="a json type"
    ),
    pytest.param("POST", "/predict", b"", JSON, id="no body"),
    pytest.param("POST", "/predict", b'{"instances":[{"digit":[1,2]}]}', JSON, id="problems"),
    pytest.param(
        "POST", "/predict", gzip.compress(BODY), {**JSON, "Content-Encoding": "gzip"}, id="gzip"
    ),
    pytest.param(
        "POST",
        "/predict",
        gzip.compress(BODY)[:-9],
        {**JSON, "Content-Encoding": "gzip"},
        id="half a gzip",
    ),
    pytest.param(
        "POST",
        "/predict",
        gzip.compress(bytes(10**6)),
        {**JSON, "Content-Encoding": "gzip"},
        id="bomb",
    ),
    pytest.param("POST", "/predict", BODY, {**JSON, "Content-Encoding": "br"}, id="brotli"),
    pytest.param(
        "POST",
        "/predict",
        json.dumps({"instances": [RIGHT] * 50}).encode(),
        {**JSON, "Accept-Encoding": "gzip, deflate"},
        id="a gzip answer",
    ),
    pytest.param(
        "POST",
        "/predict",
        json.dumps({"instances": [RIGHT] * 50}).encode(),
        {**JSON, "Accept-Encoding": "gzip;q=0"},
        id="no gzip answer",
    ),
    pytest.param(
        "POST",
        "/models/brittle/predict",
        b'{"instances":[{"x":[1],"place":9}]}',
        JSON,
        id="a run that fails",
    ),
    pytest.param(
        "POST", "/models/logs/predict", b'{"inputs":{"x":[[0,-1],[1,2]]}}', JSON, id="by column"
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "headers"), CASES)
def test_answers_are_those_of_the_flask_app(served, method, path, body, headers):
    """Both ways in give the same status, the same bytes and the same headers that matter."""
    headers = {"Accept-Encoding": "identity", **headers}
    expected = served.app.test_client().open(path, method=method, data=body, headers=headers)

    status, got, content = served.ask(method, path, body, headers)

    assert (status, content) == (expected.status_code, expected.data)
    for name in ("Content-Type", "Content-Encoding", "Content-Length", "Vary", "Allow"):
        assert got.get(name.lower()) == expected.headers.get(name), name
    assert "date" in got


def test_requests_on_one_connection_are_answered_in_order(served):
    """A refused model is answered in the same way as a model that does not exist."""
    bodies = [
        json.dumps({"instances": [{"fruit": [i, 0]}], "heads": ["size"]}).encode()
        for i in range(40)
    ]
    sent = b"".join(
        post(body) if i % 3 else post(body, path=b"/models/three/predict/")
        for i, body in enumerate(bodies)
    )

    answers = served.raw(sent + post(BODY, b"Connection: close")).split(b"HTTP/1.1 200 OK")[1:-1]

    values = [
        json.loads(answer.split(b"\r\n\r\n")[1])["predictions"][0]["size"] for answer in answers
    ]
    assert values == [{"value": float(i)} for i in range(40)]


def test_a_request_may_come_byte_by_byte(served):
    """A request that arrives in pieces of a few bytes is answered as one that arrives whole."""
    request = post(BODY, b"Connection: close")

    answer = served.raw(*(request[i : i + 7] for i in range(0, len(request), 7)))

    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_blanks_after_a_header_value_do_not_belong_to_it(served):
    """Blanks and tabs after the value of a header are dropped, as other servers drop them."""
    lines = [b"X-Request-ID: mine \t", b"X-Request-Timeout: a ", b"Connection: close"]

    head, _, content = served.raw(post(BODY, *lines)).partition(b"\r\n\r\n")

    assert b"\r\nx-request-id: mine\r\n" in head
    assert json.loads(content)["problems"][0]["received"] == "'a'"
    # The interim answer goes to a client that waits for it.
    head = post(BODY, b"Expect: 100-continue ")[: -len(BODY)]
    assert served.turns(head, BODY).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


def test_a_body_may_come_in_chunks(served):
    """The length of a body need not be known beforehand."""
    head = post(b"").split(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (BODY[:30], BODY[30:])) + b"0\r\n\r\n"

    head = head.replace(b"Host: x", b"Host: x\r\nConnection: close")

    assert served.raw(head, chunks).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        pytest.param(b"nonsense\r\n\r\n", 400, b"expected HTTP/1.1", id="not HTTP"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, b"expected HTTP/1.1", id="TLS"),
        pytest.param(post(b"", b"Content-Length: 3"), 400, b"expected HTTP/1.1", id="two lengths"),
        pytest.param(
            post(b"", b"Transfer-Encoding: chunked"),
            400,
            b"expected HTTP/1.1",
            id="length and chunks",
        ),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            400,
            b"expected HTTP/1.1",
            id="a negative length",
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 200_000,
            431,
            b"at most 65536 bytes",
            id="a huge header",
        ),
        pytest.param(b"GET /" + b"x" * 200_000, 431, b"at most 65536 bytes", id="a huge target"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n",
            413,
            b"at most 100000 bytes",
            id="announced too large",
        ),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n30000\r\n"
            + b" " * 0x30000,
            413,
            b"at most 100000 bytes",
            id="too large as it comes",
        ),
    ],
)
def test_a_malformed_request_is_refused_and_its_connection_closed(served, request_, status, words):
    """The answer says why, arrives whole, and is the last on its connection."""
    half = len(request_) // 2

    answer = served.raw(request_[:half], request_[half:], post(BODY), pause=0.02)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"\r\ndate: ") == 1
    assert b"connection: close" in answer
    assert words in answer
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


def test_a_refusal_waits_for_the_answers_before_it(served):
    """The 400 for one request comes after the answer to the request before it."""
    answer = served.raw(post(BODY, path=b"/predict/") + b"nonsense\r\n\r\n")

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


def test_a_client_that_expects_100_continue_receives_it(served):
    """Curl expects 100 Continue before it sends more than a megabyte."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
        head, _, body = post(BODY, b"Expect: 100-continue", b"Connection: close").partition(
            b"\r\n\r\n"
        )
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_an_offer_to_upgrade_to_http_2_is_ignored(served):
    """Java's client offers HTTP/2 with its first request, and goes on in HTTP/1.1."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")

    last = post(BODY, b"Connection: close")
    answer = served.raw(post(BODY, *offer), last, pause=0.05)

    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("version", "more", "kept"),
    [
        pytest.param(b"1.1", b"X: y", True, id="1.1"),
        pytest.param(b"1.1", b"Connection: close", False, id="1.1 close"),
        pytest.param(b"1.0", b"X: y", False, id="1.0"),
        pytest.param(b"1.0", b"Connection: keep-alive", True, id="1.0 keep-alive"),
    ],
)
def test_connections_are_kept_as_asked(served, version, more, kept):
    """Connections are kept or closed by the HTTP version and the Connection header."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as sock:
        sock.sendall(post(BODY, more, version=version))
        answer = sock.recv(65536)
        sock.settimeout(0.3)
        try:
            closed = sock.recv(10) == b""
        except TimeoutError:
            closed = False
    assert closed is not kept
    assert (b"connection: close" in answer) is not kept
    assert (b"connection: keep-alive" in answer) is (kept and version == b"1.0")


def test_slow_senders_delay_no_other_client(served):
    """With two dozen half-sent bodies open, all other requests are answered at once."""
    with contextlib.ExitStack() as stack:
        for _ in range(24):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            sock.sendall(post(BODY)[:-10])
        for _ in range(20):
            started = time.monotonic()
            assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
            assert time.monotonic() - started < 5


def test_quiet_connections_are_closed(served):
    """A request that never ends gets a 408; an idle connection is closed without an answer."""
    with served.within(Timeouts(request=0.5, idle=0.5)):
        half = served.raw(post(BODY)[:-10])
        idle = served.raw(post(BODY))

    assert half.startswith(b"HTTP/1.1 408 ")
    assert b"expected all of it within 0.5 s, received only a part" in half
    assert idle.startswith(b"HTTP/1.1 200 OK")


def test_a_bug_is_a_plain_500_and_a_logged_traceback(served, monkeypatch, caplog):
    """The client learns nothing of the error inside, and the log has its traceback."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("service.wire.native.fast.Decoder.decode", fail)
    status, _, content = served.ask("POST", "/predict", BODY, JSON)

    assert status == 500
    assert b"secret" not in content
    assert json.loads(content) == {"error": "POST /predict: an error of the service; it is logged"}
    assert "ZeroDivisionError: secret" in caplog.text


def test_a_bug_while_encoding_is_answered_too(served, monkeypatch, caplog):
    """An exception while an answer is encoded costs the request a 500 and no endless wait."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("service.wire.native.answers.labels_of", fail)

    assert served.ask("POST", "/predict", BODY, JSON)[0] == 500
    assert "ZeroDivisionError" in caplog.text


def test_a_closed_connection_costs_no_run(served, monkeypatch):
    """A request whose connection is closed is dropped before the model runs."""
    runs = []
    predict = Model.predict

    def slow(self: Model, arrays: Any, heads: Any) -> Any:
        runs.append(len(next(iter(arrays.values()))))
        time.sleep(0.2)
        return predict(self, arrays, heads)

    monkeypatch.setattr(Model, "predict", slow)
    with socket.create_connection(("127.0.0.1", served.port)) as first:
        first.sendall(post(BODY))
        time.sleep(0.05)
        gone = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
        for sock in gone:
            sock.sendall(post(BODY))
            sock.close()
        assert first.recv(1000).startswith(b"HTTP/1.1 200 OK")
    time.sleep(0.5)
    assert sum(runs) <= 2


def test_many_connections_get_their_own_answers(served):
    """A preflight request needs no token; from another origin, it is answered 401."""
    wrong = []

    def client(number: int) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as c:
            for i in range(100):
                values = [number * 1000 + i, (i * 7 + number) % 11]
                body = {"instances": [{"fruit": values}] * (1 + i % 3), "heads": ["size"]}
                c.request("POST", "/predict", json.dumps(body), JSON)
                got = json.loads(c.getresponse().read())["predictions"]
                if got != [{"size": {"value": float(sum(values))}}] * (1 + i % 3):
                    wrong.append((values, got))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_lets_requests_finish(tmp_path):
    """Open requests are answered, with Connection: close; idle connections are closed at once."""
    small.put(tmp_path, "three", 1, small.three())
    served = Served(tmp_path)
    predict = Model.predict

    def slow(self: Model, arrays: Any, heads: Any) -> Any:
        time.sleep(0.5)
        return predict(self, arrays, heads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "predict", slow)
        idle = socket.create_connection(("127.0.0.1", served.port), timeout=5)
        busy = socket.create_connection(("127.0.0.1", served.port), timeout=5)
        # In a thread, as slow models run: the loop has to learn of the end meanwhile.
        lane_of(served).seconds = 1.0
        busy.sendall(post(BODY))
        time.sleep(0.2)
        served.stop()
    with idle, busy:
        assert idle.recv(10) == b""
        answer = busy.recv(1000)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer


def size_of(value: int) -> bytes:
    """Return a request for `size` of a row.

    Its header block is the same for all values with as many digits.
    """
    row = {"instances": [{"fruit": [value, 0]}], "heads": ["size"]}
    return post(json.dumps(row).encode())


def sizes_in(answer: bytes) -> list[float]:
    """Return the sizes in the answers, in order."""
    return [float(value) for value in re.findall(rb'"size":\{"value":([\d.]+)', answer)]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([size_of(11), size_of(12), size_of(13), LAST], id="one by one"),
        pytest.param([size_of(11) + size_of(12) + size_of(13) + LAST], id="all at once"),
        pytest.param([size_of(11), size_of(12) + size_of(13), LAST], id="two at once"),
        pytest.param(
            [size_of(11), size_of(12)[:90], size_of(12)[90:], size_of(13), LAST], id="cut"
        ),
        pytest.param(
            [size_of(11), *(b"%c" % byte for byte in size_of(12)), size_of(13), LAST], id="by byte"
        ),
        pytest.param(
            [size_of(11), size_of(12) + size_of(13)[:50], size_of(13)[50:] + LAST], id="ahead"
        ),
        pytest.param([b"\r\n" + size_of(11), size_of(12), b"\r\n" + size_of(13), LAST], id="blank"),
    ],
)
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_cached_header_block_changes_no_answer(served, known, pieces):
    """However the requests are cut into pieces, each gets its own answer."""
    served.front.connections.header_cache.clear()
    if known:
        served.turns(size_of(10))
    assert bool(served.front.connections.header_cache) is known

    answer = served.raw(*pieces, pause=0.01)

    assert sizes_in(answer)[:3] == [11, 12, 13]
    assert answer.count(b"HTTP/1.1 200 OK") == 4


@pytest.mark.parametrize(
    ("sent", "cached"),
    [
        pytest.param(post(BODY), True, id="a prediction"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", True, id="no body"),
        pytest.param(post(BODY, version=b"1.0"), False, id="the last of its connection"),
        pytest.param(post(BODY, b"Connection: close"), False, id="as it says"),
        pytest.param(post(BODY, b"Authorization: Bearer x"), False, id="a secret"),
        pytest.param(post(BODY, b"X-Request-ID: x"), False, id="a name"),
        pytest.param(post(BODY, b"Expect: 100-continue"), False, id="waits to be told"),
        pytest.param(post(BODY, b"X: " + b"x" * 5000), False, id="a long one"),
        pytest.param(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            False,
            id="chunks",
        ),
    ],
)
def test_header_blocks_that_are_cached(served, sent, cached):
    """A header block is cached if its request arrives in one piece and it has nothing personal."""
    served.front.connections.header_cache.clear()

    served.turns(sent)

    assert served.front.connections.header_cache.keys() == (
        {sent[: sent.find(b"\r\n\r\n") + 4]} if cached else set()
    )


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"GET", b" /livez HTTP/1.1\r\nHost: x\r\n\r\n"], id="cut in its first word"),
        pytest.param(
            [b"POST /predict HTTP/1.1\r\n", post(BODY).split(b"\r\n", 1)[1]], id="by line"
        ),
        pytest.param(
            # As many bytes of a header block after a blank line as its body has.
            [b"\r\n\r\n" + post(BODY)[: len(BODY)], post(BODY)[len(BODY) :]],
            id="after a blank line",
        ),
        pytest.param([post(BODY)[: -len(BODY)] + BODY[:5], BODY[5:]], id="cut in its body"),
    ],
)
def test_a_header_block_that_arrives_in_pieces_is_not_cached(served, pieces):
    """A cached piece could give a later request the answer to another one."""
    served.front.connections.header_cache.clear()

    answer = served.raw(*pieces, LAST, pause=0.05)

    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert not served.front.connections.header_cache


def test_the_header_cache_has_a_bound(served):
    """A client that never sends the same header block twice does not fill the memory."""
    served.front.connections.header_cache.clear()

    served.turns(*(post(BODY, b"X: %d" % i) for i in range(MAX_BLOCKS + 6)))

    assert len(served.front.connections.header_cache) == 6


def test_a_cached_header_block_does_not_lift_the_bound_on_bodies(served):
    """A body beyond the bound is refused, whether its header block is cached or not."""
    served.front.connections.header_cache.clear()
    served.turns(post(BODY))
    assert served.front.connections.header_cache
    with served.half(LIMIT):
        until(lambda: served.front.connections.bodies.held == LIMIT - 1)

        assert served.raw(post(BODY)).startswith(b"HTTP/1.1 429 ")
