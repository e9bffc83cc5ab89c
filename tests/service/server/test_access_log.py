"""The access log of a real service: a line for each request, that no client can forge or block."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from service.app import create_app
from service.http.timeouts import Timeouts
from service.settings import Settings
from tests.harness import calls, grpc_messages, small, tokens
from tests.harness.calls import OIP, REFLECTION, ROW, client
from tests.harness.exposition import samples
from tests.harness.http2 import JSON as TYPE
from tests.harness.http2 import Peer
from tests.harness.served import BODY, JSON, Served, post
from tests.harness.serving import LIFE, PROGRAM, Server
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ON = {"TRICEPS_ACCESS_LOG": "on"}
TO_A_FILE = ["sh", "-c", 'exec "$@" > access.log', "sh"]
# Few lines wait for their reader.
SHORT = "from service.observability import line_writer; line_writer.MOST_BYTES = 20_000; " + PROGRAM
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PREDICT = "/models/three/predict"
STAGES = {"decode", "queue", "run", "encode"}


def read(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a file, each of which is JSON in ASCII."""
    return [json.loads(line.decode("ascii")) for line in file.read_bytes().splitlines()]


@contextlib.contextmanager
def logging(folder: Path, *options: object, **more: Any) -> Iterator[Server]:
    """Yield a service whose standard output is the file access.log."""
    small.put(folder / "models", "three", 1, small.three())
    command = [*TO_A_FILE, sys.executable, "-c", LIFE + more.pop("program", PROGRAM), "serve"]
    variables = {**ON, **more.pop("environment", {})}
    words = ("--models", folder / "models", *options)
    with Server(*words, folder=folder, command=command, environment=variables, **more) as server:
        server.until_ready()
        yield server


def reset_at_the_end(sock: socket.socket) -> None:
    """Have a socket closed by a reset, by which its service knows that the client has gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def counted(server: Server) -> Counter[str]:
    """Return the requests by status, as /metrics counts them, without the one that asks."""
    _, _, content = server.ask("GET", "/metrics")
    statuses: Counter[str] = Counter()
    for name, value in samples(content.decode()).items():
        if name[0] == "triceps_requests_total":
            # The labels are sorted: dialect, model, status, version.
            statuses[name[3]] += int(value)
    return statuses


@pytest.fixture(name="inside")
def _inside(tmp_path, monkeypatch):
    """Yield a front in this process, with tokens, and its lines so far."""
    small.put(tmp_path / "models", "three", 1, small.three())
    file = tmp_path / "access.log"
    with file.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        served = Served(
            tmp_path / "models",
            access_log="on",
            tokens_file=tokens.put(tmp_path),
            max_body=5000,
        )
        monkeypatch.undo()

        def last(number: int = 1) -> list[dict[str, Any]]:
            until(lambda: len(read(file)) >= number)
            return read(file)

        yield SimpleNamespace(served=served, last=last)
        served.stop()


def named(file: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of a file by their request IDs, without their times."""
    lines = read(file)
    assert all(TIME.fullmatch(line.pop("time")) for line in lines)
    assert {line["remote"] for line in lines} == {"127.0.0.1"}
    return {line.pop("request_id", ""): line for line in lines}


def test_requests_of_http_have_a_line(tmp_path):
    """Predictions, pages, errors and broken requests, of both versions of HTTP."""
    with logging(tmp_path, "--workers", 2) as server:
        server.ask("POST", "/predict?key=secret", BODY, {**JSON, "X-Request-ID": "first"})
        server.ask("POST", PREDICT, b"{}", {**JSON, "X-Request-ID": "wrong"})
        server.ask("GET", "/models", headers={"X-Request-ID": "page"})
        server.ask("HEAD", "/models", headers={"X-Request-ID": "head"})
        server.ask("GET", "/nowhere", headers={"X-Request-ID": "none"})
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"no HTTP at all\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400 ")
        with Peer(server.port) as peer:
            peer.ask(PREDICT, BODY, *TYPE, ("x-request-id", "two"))
            peer.ask("/v2", b"", ("x-request-id", "two-page"))
            # A frame of a stream that no request has opened.
            peer.send(b"\0\0\1\0\0\0\0\0\x63x")
            peer.wait_for_end()
        code, _, _, err = server.end()
    lines = read(tmp_path / "access.log")
    found = named(tmp_path / "access.log")
    # Each worker writes its own lines.
    broken = {(line["protocol"], line["status"]) for line in lines if "path" not in line}

    assert code == 0
    assert "serves" in err
    assert broken == {("HTTP/1.1", 400), ("HTTP/2", 400)}
    assert "secret" not in (tmp_path / "access.log").read_text()
    first = found["first"]
    assert set(first.pop("seconds")) == STAGES
    assert first.pop("bytes_out") > 50
    assert first == {
        "remote": "127.0.0.1",
        "protocol": "HTTP/1.1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "model": "three",
        "version": "1",
        "rows": 1,
        "bytes_in": len(BODY),
    }
    assert found["wrong"]["status"] == 400
    assert (found["wrong"]["model"], "rows" in found["wrong"]) == ("three", False)
    assert "model" not in found["page"]
    assert found["page"]["bytes_out"] > found["head"]["bytes_out"] == 0
    assert (found["none"]["status"], found["none"]["path"]) == (404, "/nowhere")
    assert found["two"]["protocol"] == found["two-page"]["protocol"] == "HTTP/2"
    assert (found["two"]["rows"], found["two"]["bytes_in"]) == (1, len(BODY))


def test_calls_of_grpc_have_a_line(tmp_path):
    """Predictions, methods with a page, health checks, and streams, which have one at their end."""
    with logging(tmp_path, "--workers", 2) as server:
        with client(server.port) as grpc:
            for name in ("three", "nine"):
                asked = grpc_messages.infer(ROW, raw=True, name=name)
                told = {"x-request-id": name}
                grpc.ask(calls.INFER, asked, "inference.ModelInferResponse", metadata=told)
            grpc.oip("ServerLive")
            grpc.check()
            grpc.oip("ModelReady", name="nine")
            watch = grpc.watch()
            assert next(watch) == 1
            watch.cancel()
        calls.send(server.port, REFLECTION, b"", headers=[("x-request-id", "reflection")])
        calls.send(server.port, "/no/Method", b"", headers=[("x-request-id", "none")])
        server.end()
    found = named(tmp_path / "access.log")
    by_path = {line["path"]: line for line in found.values()}

    three = found["three"]
    assert (three["protocol"], three["path"], three["grpc_status"]) == ("gRPC", calls.INFER, 0)
    assert (three["status"], three["model"], three["rows"]) == (200, "three", 1)
    assert three["bytes_in"] > three["bytes_out"] > 50
    assert (found["nine"]["status"], found["nine"]["grpc_status"]) == (404, 5)
    assert (found["none"]["status"], found["none"]["grpc_status"]) == (404, 12)
    assert by_path[f"{OIP}/ServerLive"]["grpc_status"] == 0
    assert by_path[f"{OIP}/ModelReady"]["grpc_status"] == 5
    assert by_path["/grpc.health.v1.Health/Check"]["grpc_status"] == 0
    assert by_path["/grpc.health.v1.Health/Watch"]["grpc_status"] == 1
    assert (found["reflection"]["status"], found["reflection"]["bytes_out"]) == (200, 0)


def test_lines_are_as_many_as_requests_are_counted(tmp_path):
    """Two workers write to one file, and no line is mixed with another."""
    with logging(tmp_path, "--workers", 2) as server:

        def ask(i: int) -> None:
            with contextlib.closing(server.connect()) as connection:
                for j in range(150):
                    body = b"{}" if (i + j) % 5 == 0 else BODY
                    connection.request("POST", PREDICT, body, JSON)
                    connection.getresponse().read()

        def call() -> None:
            with Peer(server.port) as peer:
                streams = [peer.request(PREDICT, BODY, *TYPE) for _ in range(100)]
                assert {peer.answer(stream).status for stream in streams} == {200}

        def leave() -> None:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", server.port)) as sock:
                    sock.sendall(post(BODY) * 8)
                    reset_at_the_end(sock)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        threads += [threading.Thread(target=call), threading.Thread(target=leave)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        # The numbers of the other worker are there a second later.
        time.sleep(2.5)
        expected = counted(server)
        server.end()
    lines = Counter(str(line["status"]) for line in read(tmp_path / "access.log"))

    # The page that said the numbers had not been counted yet.
    assert lines == expected + Counter({"200": 1})
    assert lines.total() >= 700
    assert lines["400"] >= 120


def test_a_blocked_reader_blocks_no_request(tmp_path):
    """Lines that nobody reads are dropped and counted, and the others come once they are read."""
    small.put(tmp_path / "models", "three", 1, small.three())
    words = ("--models", tmp_path / "models", "--workers", 1)
    with Server(*words, folder=tmp_path, environment=ON, program=SHORT) as server:
        server.until_ready()
        with contextlib.closing(server.connect(5)) as connection:
            for _ in range(800):
                connection.request("POST", PREDICT, BODY, JSON)
                assert connection.getresponse().read()

        def dropped() -> int:
            content = server.ask("GET", "/metrics")[2].decode()
            return int(samples(content)["triceps_access_log_dropped_total",])

        until(dropped)
        output: list[bytes] = []
        reader = threading.Thread(target=lambda: output.append(server.process.stdout.buffer.read()))
        reader.start()
        # With a reader, no more lines are dropped; the last ones that were are counted by then.
        time.sleep(2.5)
        lost = dropped()
        total = counted(server)
        server.process.terminate()
        assert server.process.wait(20) == 0
        reader.join(10)
    lines = [json.loads(line) for line in output[0].splitlines()]

    assert total["200"] > 800
    # The page that said the numbers had not been counted yet.
    assert len(lines) + lost == total.total() + 1
    assert lost > 100


def test_a_service_with_a_blocked_reader_stops_in_time(tmp_path):
    """The last lines are lost, as nobody takes them."""
    small.put(tmp_path / "models", "three", 1, small.three())
    words = ("--models", tmp_path / "models", "--workers", 1)
    with Server(*words, folder=tmp_path, environment=ON, program=SHORT) as server:
        server.until_ready()
        with contextlib.closing(server.connect(5)) as connection:
            for _ in range(400):
                connection.request("POST", PREDICT, BODY, JSON)
                assert connection.getresponse().read()
        server.process.terminate()
        # It has ten seconds for the requests that are open.
        assert server.process.wait(8) == 0


def test_no_client_can_forge_a_line(tmp_path):
    """Each line is one object in ASCII: other bytes are escaped as URLs escape them."""
    token = "triceps_" + "Ab1_-" * 8 + "Ab1"
    targets = {
        "one": b'/a"},{"status":200,"x":"',
        "two": "/größe/\u2028/\u202e".encode(),
        "three": b"/\xff\xfe\\n\\u0000",
        "four": b"/" + b"x" * 30_000,
        "five": b"http://user:password@example.com/absolute?token=secret",
        "six": f"/models/{token}/predict".encode(),
        "seven": b"/" + b"\xff" * 2000 + b"?secret",
        "eight": b"*",
    }
    with logging(tmp_path, "--workers", 1) as server:
        for name, target in targets.items():
            method = b"OPTIONS" if target == b"*" else b"GET"
            head = b"%b %b HTTP/1.1\r\nHost: x\r\nX-Request-ID: %b\r\nConnection: close\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.sendall(head % (method, target, name.encode()))
                sock.makefile("rb").read()
        server.ask("GET", "/models", headers={"X-Request-ID": 'a"\u00ff{', "User-Agent": "\x7f"})
        server.ask("GET", "/models", headers={"X-Request-ID": token})
        with Peer(server.port, checks=False) as peer:
            peer.ask("/a\u007f", b"", method="GET\u0080")
            peer.ask("/method", b"", method="X" * 100)
        code, *_ = server.end()
    written = (tmp_path / "access.log").read_text()
    paths = {
        line["request_id"]: line.get("path")
        for line in read(tmp_path / "access.log")
        if line.get("request_id") in targets
    }

    assert code == 0
    assert "secret" not in written
    assert "password" not in written
    assert token not in written
    assert set(targets) - set(paths) == {"two", "three", "seven"}  # refused by the parser
    assert (len(paths["four"]), paths["four"][-4:]) == (1024, "x...")
    assert paths["five"] == "/absolute"
    assert paths["six"] == "/models/(a%20token)/predict"
    assert paths["one"] == targets["one"].decode()
    assert paths["eight"] == "*"
    assert max(map(len, written.splitlines())) < 4096


def test_lines_have_the_names_of_tokens(inside):
    """The name is that of any known token, even if it is not allowed; the token is never there."""
    served, path = inside.served, "/v2/repository/models/three/unload"
    served.ask("POST", PREDICT, BODY, JSON | tokens.header("some"))
    served.ask("POST", path, b"", tokens.header("predict"))
    served.ask("POST", PREDICT, BODY, JSON)
    served.ask("GET", "/models", headers={"Authorization": "Bearer " + "x" * 40})
    lines = inside.last(4)

    assert [(line["status"], line.get("token")) for line in lines] == [
        (200, "some"),
        (403, "predict"),
        (401, None),
        (401, None),
    ]
    assert "Bearer" not in json.dumps(lines)
    assert tokens.secret("some") not in json.dumps(lines)


def test_what_is_refused_while_it_arrives_has_a_line(inside):
    """Bodies that are too large or too slow, and headers that are too large."""
    served = inside.served
    bearer = f"Authorization: {tokens.header('all')['Authorization']}".encode()
    served.raw(post(b" " * 6000, bearer))
    served.raw(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: %b\r\n" % (b"x" * 5000) * 20)
    with served.within(Timeouts(request=0.5)), served.half(100) as slow:
        until(lambda: slow.recv(100).startswith(b"HTTP/1.1 401 "))
    with (
        served.within(Timeouts(request=0.5)),
        contextlib.closing(
            socket.create_connection(("127.0.0.1", served.port), timeout=20)
        ) as slow,
    ):
        slow.sendall(post(b" " * 100, bearer)[:-1])
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    lines = inside.last(4)

    assert [(line["status"], line.get("path"), line["bytes_in"]) for line in lines] == [
        (413, "/predict", 0),
        (431, "/", 0),
        (401, "/predict", 0),
        (408, "/predict", 99),
    ]
    assert [line.get("method") for line in lines] == ["POST", "GET", "POST", "POST"]


def test_a_client_that_has_gone_has_a_line(inside):
    """It is counted as 499, which tells it from an answer."""
    served = inside.served
    release = threading.Event()
    hold = [served.front.threads.submit(release.wait, 10) for _ in range(4)]
    page = b"GET /models HTTP/1.1\r\nHost: x\r\nX-Request-ID: gone\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        reset_at_the_end(sock)
        sock.sendall(page * 2)
        until(lambda: any(getattr(c, "waiting", ()) for c in served.front.connections.open))
    until(lambda: not served.front.connections.open)
    release.set()
    assert all(future.result() for future in hold)

    lines = inside.last(2)
    assert [(line["status"], line["bytes_out"], line["request_id"]) for line in lines] == [
        (499, 0, "gone")
    ] * 2


@pytest.mark.parametrize(
    ("path", "body", "kind", "expected"),
    [
        pytest.param(PREDICT, BODY, "application/json", ("HTTP/2", None), id="HTTP/2"),
        pytest.param(
            calls.INFER,
            calls.prefixed(grpc_messages.infer(ROW, raw=True).SerializeToString()),
            "application/grpc",
            ("gRPC", 1),
            id="gRPC",
        ),
    ],
)
def test_a_stream_that_was_given_up_has_a_line(inside, path, body, kind, expected):
    """Its model is known by then, and its gRPC status is CANCELLED."""
    token = tokens.header("all")["Authorization"]
    with Peer(inside.served.port) as peer:
        head = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        peer.h2.send_headers(1, [*head, ("content-type", kind), ("authorization", token)])
        peer.h2.send_data(1, body, end_stream=True)
        # It comes with the request, which has not been run by then.
        peer.h2.reset_stream(1)
        peer.flush()
        (line,) = inside.last()

    assert (line["protocol"], line.get("grpc_status")) == expected
    assert (line["status"], line["model"], line["path"]) == (499, "three", path)
    assert (line["token"], line["bytes_in"], line["bytes_out"]) == ("all", len(body), 0)


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [("", "127.0.0.1"), ("127.0.0.0/8", "192.0.2.1"), ("192.0.2.0/24", "127.0.0.1")],
)
def test_proxies_are_believed_if_a_setting_names_them(tmp_path, trusted, expected):
    """The address is that of the client, over each protocol."""
    forwarded = {"X-Forwarded-For": "198.51.100.1, 192.0.2.1"}
    environment = {"TRICEPS_TRUSTED_PROXIES": trusted}
    with logging(tmp_path, "--workers", 1, environment=environment) as server:
        server.ask("POST", PREDICT, BODY, {**JSON, **forwarded})
        with Peer(server.port) as peer:
            peer.ask(PREDICT, BODY, *TYPE, ("forwarded", "for=192.0.2.1"))
        server.end()
    lines = [line for line in read(tmp_path / "access.log") if line.get("path") == PREDICT]

    assert [line["remote"] for line in lines] == [expected] * 2


def test_without_the_setting_there_are_no_lines(tmp_path):
    """Standard output has the greeting alone."""
    with logging(tmp_path, environment={"TRICEPS_ACCESS_LOG": ""}) as server:
        server.ask("POST", PREDICT, BODY, JSON)
        page = samples(server.ask("GET", "/metrics")[2].decode())
        server.end()

    assert (tmp_path / "access.log").read_text().startswith("Triceps ")
    assert '"path"' not in (tmp_path / "access.log").read_text()
    assert ("triceps_access_log_dropped_total",) not in page


def test_another_server_has_its_own_access_log(tmp_path, caplog):
    """The setting has no effect there, and the log says so."""
    small.put(tmp_path, "three", 1, small.three())

    create_app(Settings(models=tmp_path, access_log="on"))

    assert "TRICEPS_ACCESS_LOG has no effect" in caplog.text
