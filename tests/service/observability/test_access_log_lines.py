"""One line of the access log: whatever a request has, it is one short object in ASCII."""

import json
import select
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.access import Access
from service.http.request import Request
from service.observability.access_log import MAX_PATH, AccessLog
from service.observability.metrics import Metrics

TOKEN = "triceps_" + "Ab1_-" * 8 + "Ab1"
PEER = SimpleNamespace(peer="192.0.2.1")


class Kept(list):
    """Lines that are kept, as a `LineWriter` takes them."""

    dropped = 0
    add = list.append


def line(method=b"GET", target=b"/", headers=None, lines=b""):
    """Return the line of a request."""
    kept = Kept()
    log = AccessLog(kept, Metrics(), Access.open(""), "")
    log.add(Request(method, "1.1", target, headers or {}, b"", True, PEER), 200, 0, 0, lines)
    return kept[0]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(b"/models/three/predict?key=secret", "/models/three/predict", id="a query"),
        pytest.param(b"/a%20b#c", "/a%20b", id="escapes stay, a fragment does not"),
        pytest.param(b'/"\\', '/"\\', id="a quote and a backslash"),
        pytest.param(b"/a b\n\x00\x7f", "/a%20b%0A%00%7F", id="control characters"),
        pytest.param("/größe\u2028".encode(), "/gr%C3%B6%C3%9Fe%E2%80%A8", id="UTF-8"),
        pytest.param(b"/\xff\xfe", "/%FF%FE", id="no UTF-8"),
        pytest.param(b"http://user:password@host/a?b", "/a", id="the absolute form"),
        pytest.param(b"http://user:password@host", "/", id="without a path"),
        pytest.param(b"http://user:pass?word@host/a", "/", id="with a question mark"),
        pytest.param(b"user:password@host:80", "host:80", id="the form of CONNECT"),
        pytest.param(b"*", "*", id="the form of OPTIONS"),
        pytest.param(b"/" + b"x" * MAX_PATH, "/" + "x" * (MAX_PATH - 4) + "...", id="long"),
        pytest.param(b"/" + b"x" * (MAX_PATH - 1), "/" + "x" * (MAX_PATH - 1), id="not too long"),
        pytest.param(f"/{TOKEN}/x".encode(), "/(a%20token)/x", id="a token"),
        pytest.param(
            b"/" + b"x" * (MAX_PATH - 20) + TOKEN.encode(),
            "/" + "x" * (MAX_PATH - 20) + "(a%20token)",
            id="a token at the end",
        ),
    ],
)
def test_a_path_is_written_as_urls_are(target, path):
    """It is the path as it was sent, without what may be secret, and of limited length."""
    assert json.loads(line(target=target))["path"] == path


@given(
    st.binary(max_size=40),
    st.binary(max_size=3000),
    st.dictionaries(st.sampled_from([b"x-request-id", b"traceparent"]), st.binary(max_size=200)),
)
def test_a_line_is_an_object_in_ascii_that_the_kernel_writes_at_once(method, target, headers):
    """No bytes of a client's end a line or leave a string."""
    made = line(method, target, headers)

    assert made.endswith(b"}\n")
    assert made.count(b"\n") == 1
    assert len(made) <= select.PIPE_BUF
    assert all(32 <= byte < 127 for byte in made[:-1])
    assert set(json.loads(made)) <= {
        *("time", "remote", "request_id", "protocol", "method", "path", "status"),
        *("bytes_in", "bytes_out"),
    }


def test_the_request_id_is_the_one_of_the_answer():
    """Without an answer, it is the one that the client sent."""
    sent = {b"x-request-id": b"sent"}
    answered = b"content-type: a\r\nX-Request-ID: answered\r\n"

    assert json.loads(line(headers=sent, lines=answered))["request_id"] == "answered"
    assert json.loads(line(headers=sent))["request_id"] == "sent"
    assert "request_id" not in json.loads(line(lines=b"a: x-request-id: no\r\n"))
    assert TOKEN.encode() not in line(headers={b"x-request-id": TOKEN.encode()})


def test_a_line_has_the_model_the_rows_and_the_stages():
    """They are those of the request, whatever the lines before it have."""
    kept = Kept()
    log = AccessLog(kept, Metrics(), Access.open(""), "")
    for name, rows in (('a"b', 1), ("ü", 20)):
        request = Request(b"POST", "1.1", b"/predict", {}, b"", True, PEER)
        run = SimpleNamespace(started=1.25, ended=1.5)
        times = (1.0, 1.0625, run, 2.0, 2.00006)
        log.note(request, SimpleNamespace(name=name, version="3"), rows, times)
        log.add(request, 200, 7, 8, b"")
    failed = Request(b"POST", "1.1", b"/predict", {}, b"", True, PEER)
    log.note(failed, SimpleNamespace(name="a", version="4"))
    log.add(failed, 503, 7, 8, b"")
    assert all(line.isascii() for line in kept)
    lines = [json.loads(line) for line in kept]

    assert [(line["model"], line["version"], line.get("rows")) for line in lines] == [
        ('a"b', "3", 1),
        ("ü", "3", 20),
        ("a", "4", None),
    ]
    stages = {"decode": 0.0625, "queue": 0.1875, "run": 0.25, "encode": 0.00006}
    assert [line.get("seconds") for line in lines] == [stages, stages, None]
    assert [(line["status"], line["bytes_in"], line["bytes_out"]) for line in lines] == [
        *[(200, 7, 8)] * 2,
        (503, 7, 8),
    ]


def test_a_line_that_cannot_be_written_costs_no_request(caplog):
    """It counts as dropped, and the log has the first one."""
    metrics = Metrics()
    log = AccessLog(SimpleNamespace(flush=list, dropped=2), metrics, Access.open(""), "")
    request = Request(b"GET", "1.1", b"/", {}, b"", True, PEER)

    for _ in range(3):
        log.add(request, 200, 0, 0, b"")
        log.flush()

    assert len(caplog.records) == 1
    assert metrics.totals()["access_log_dropped",].tolist() == [5]
