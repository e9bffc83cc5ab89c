"""`triceps health`: what a probe learns of a service, by its exit code and one line."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from service import settings
from service.app import create_app
from service.commands import health
from service.commands.main import main
from tests.harness import small, tokens

ROOT = Path(__file__).parents[3]


def ask(**environment):
    """Exit code, standard output and standard error."""
    done = CliRunner().invoke(main, ["health"], env={k: str(v) for k, v in environment.items()})
    return done.exit_code, done.stdout, done.stderr


@contextlib.contextmanager
def serving(status, body, host="127.0.0.1"):
    """A server that answers everything with `status` and `body`; its port and what was asked."""
    asked = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing: the test's output is its own."""

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def listening(then=b""):
    """A port where each connection is answered with `then`, and hung up on unless that is None."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def answer():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                kept.append(connection)
                if then is not None:
                    connection.recv(1000)
                    connection.sendall(then)
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
        for connection in kept:
            connection.close()


def page(models, **more):
    """What the service's own page answers, over these models."""
    answer = create_app(settings.load({}, models=models, **more)).test_client().get(health.PATH)
    return answer.status_code, answer.data


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_service_that_is_ready_is_zero(tmp_path, host):
    """Where it listens on every address, it is asked on this machine's own."""
    small.put(tmp_path, "three", 1, small.three())
    with serving(*page(tmp_path)) as (port, asked):
        said = ask(HOST=host, PORT=port)

    assert said == (0, "ready\n", "")
    assert asked == ["/readyz"]


@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_service_on_ipv6_is_asked_there(host):
    """Also where it listens on every address."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(503, b"{}", host="::1") as (port, _):
        code, _, err = ask(TRICEPS_HOST=host, TRICEPS_PORT=port)

    assert code == 1
    assert err.startswith(f"triceps: http://[::1]:{port}/readyz: ")


def test_a_service_that_waits_for_a_model_is_one_with_its_reason(tmp_path):
    """In the service's own words, on one line."""
    with serving(*page(tmp_path)) as (port, _):
        said = ask(PORT=port)

    reason = "not ready: the model repository is empty: train or publish a model into it"
    assert said == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(404, b"<html>", id="no JSON"),
        pytest.param(503, b"[]", id="no object"),
        pytest.param(503, b'{"status": "no"}', id="no reason"),
        pytest.param(500, b"\xff", id="no text"),
    ],
)
def test_another_program_on_that_port_is_one(status, body):
    """It answers, but not as the service does."""
    with serving(status, body) as (port, _):
        said = ask(PORT=port)

    reason = f"expected the page of `triceps serve`, received one with status {status}"
    assert said == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_service_behind_tokens_is_asked_without_one(tmp_path):
    """It says whether it is ready to all, and why not to those who have a token."""
    (tmp_path / "models").mkdir()
    with serving(*page(tmp_path / "models", tokens_file=tokens.put(tmp_path))) as (port, _):
        code, out, err = ask(PORT=port)

    assert (code, out) == (1, "")
    assert err.startswith(
        f"triceps: http://127.0.0.1:{port}/readyz: not ready: the reason is in the logs"
    )


def test_nobody_there_is_one_with_a_way_out():
    """The likeliest reason is another HOST or PORT than the service has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    reason = "nothing listens there; start `triceps serve` with the same HOST and PORT"
    assert ask(PORT=port) == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_service_that_hangs_is_one(monkeypatch):
    """A probe has no longer to wait than its platform gives it."""
    monkeypatch.setattr(health, "SECONDS", 0.1)
    with listening(then=None) as port:
        said = ask(PORT=port)

    assert said == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: no answer within 0.1 s\n")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        pytest.param(
            b"", "no answer: Remote end closed connection without response", id="a hang-up"
        ),
        pytest.param(
            b"SSH-2.0-other\r\n", r"expected HTTP, received 'SSH-2.0-other\r\n'", id="no HTTP"
        ),
    ],
)
def test_what_does_not_answer_is_one(then, reason):
    """Told on one line, like any other trouble."""
    with listening(then) as port:
        said = ask(PORT=port)

    assert said == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_host_that_is_unknown_is_one():
    """One line, and no traceback."""
    code, out, err = ask(HOST="no.such.host.invalid")

    assert (code, out) == (1, "")
    assert err.startswith("triceps: http://no.such.host.invalid:8080/readyz: no answer: ")
    assert err.count("\n") == 1


def test_a_wrong_setting_is_two():
    """The service itself would not start with it."""
    assert ask(PORT="http")[0] == 2


_IMPORTED = """
import sys
from service.commands.main import main
sys.argv = ["triceps", "health"]
try:
    main()
finally:
    print(*sys.modules)
"""


def test_a_probe_imports_nothing_that_serves():
    """It comes every few seconds, and its start is all it costs."""
    with serving(200, json.dumps({"status": "ready"}).encode()) as (port, _):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTED],
            cwd=ROOT,
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
            check=True,
        )

    heavy = {"numpy", "onnx", "onnxruntime", "flask", "uvloop", "orjson", "rich", "service.app"}
    assert heavy & set(done.stdout.split()) == set()
    assert done.stdout.startswith("ready\n")
