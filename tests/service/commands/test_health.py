"""`triceps health`: its exit code and its one line, for each state of a service."""

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
from tests.harness.serving import Server

ROOT = Path(__file__).parents[3]


def ask(**environment):
    """Return the exit code, standard output and standard error of the command."""
    done = CliRunner().invoke(main, ["health"], env={k: str(v) for k, v in environment.items()})
    return done.exit_code, done.stdout, done.stderr


@contextlib.contextmanager
def serving(status, body, host="127.0.0.1"):
    """Yield the port of a server that answers all requests alike, and the paths of the requests."""
    paths = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Log nothing, to keep the output of the test clean."""

    class Server(HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def listening(then=b""):
    """Yield a port that answers one connection with `then` and closes it, or hangs for None."""
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
    """Return the status and body of the service's own page for these models."""
    answer = create_app(settings.load({}, models=models, **more)).test_client().get(health.PATH)
    return answer.status_code, answer.data


def test_the_address_may_be_given_as_flags(tmp_path):
    """They are those of `triceps serve`, and take precedence over the variables."""
    small.put(tmp_path, "three", 1, small.three())
    with serving(*page(tmp_path)) as (port, _):
        done = CliRunner().invoke(
            main,
            ["health", "--host", "127.0.0.1", "--port", str(port)],
            env={"HOST": "nowhere.invalid", "PORT": "1"},
        )

    assert (done.exit_code, done.stdout) == (0, "ready\n")


def test_json_has_the_address_that_was_asked(tmp_path):
    """If the service is not ready, the reason is on standard error, as without the option."""
    small.put(tmp_path, "three", 1, small.three())
    with serving(*page(tmp_path)) as (port, _):
        url = f"http://127.0.0.1:{port}/readyz"
        done = CliRunner().invoke(main, ["health", "--json"], env={"PORT": str(port)})
    gone = CliRunner().invoke(main, ["health", "--json"], env={"PORT": str(port)})

    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"ready": True, "url": url}
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr.startswith(f"triceps: {url}: nothing listens there")


def test_an_endless_page_is_not_read(tmp_path):
    """Another program on that port may send any number of bytes."""
    with serving(503, b"x" * 2**22) as (port, _):
        assert ask(PORT=port)[0] == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_ready_service_gives_exit_code_0(tmp_path, host):
    """A service that listens on every address is reached on the local one."""
    small.put(tmp_path, "three", 1, small.three())
    with serving(*page(tmp_path)) as (port, paths):
        result = ask(HOST=host, PORT=port)

    assert result == (0, "ready\n", "")
    assert paths == ["/readyz"]


@pytest.mark.parametrize("host", ["::1", "::"])
def test_a_service_on_ipv6_is_asked_over_ipv6(host):
    """A service that listens on every IPv6 address is reached on the local one."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(503, b"{}", host="::1") as (port, _):
        code, _, err = ask(TRICEPS_HOST=host, TRICEPS_PORT=port)

    assert code == 1
    assert err.startswith(f"triceps: http://[::1]:{port}/readyz: ")


def test_a_service_without_a_model_gives_exit_code_1_and_the_reason(tmp_path):
    """The line has the reason that the service gives."""
    with serving(*page(tmp_path)) as (port, _):
        result = ask(PORT=port)

    reason = "not ready: the model repository is empty: train or publish a model into it"
    assert result == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(404, b"<html>", id="no JSON"),
        pytest.param(503, b"[]", id="no object"),
        pytest.param(503, b'{"status": "no"}', id="no reason"),
        pytest.param(500, b"\xff", id="no text"),
    ],
)
def test_another_program_on_that_port_gives_exit_code_1(status, body):
    """The program answers, but not with the page of a service."""
    with serving(status, body) as (port, _):
        result = ask(PORT=port)

    reason = f"expected the page of `triceps serve`, received one with status {status}"
    assert result == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_service_behind_tokens_is_asked_without_one(tmp_path):
    """Any client may learn whether the service is ready, but not the reason why it is not."""
    (tmp_path / "models").mkdir()
    with serving(*page(tmp_path / "models", tokens_file=tokens.put(tmp_path))) as (port, _):
        code, out, err = ask(PORT=port)

    assert (code, out) == (1, "")
    assert err.startswith(
        f"triceps: http://127.0.0.1:{port}/readyz: not ready: the reason is in the logs"
    )


def test_a_port_without_a_service_gives_exit_code_1_and_the_way_out():
    """The most likely reason is another HOST or PORT than that of the service."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    reason = "nothing listens there; start `triceps serve` with the same HOST and PORT"
    assert ask(PORT=port) == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_service_that_hangs_gives_exit_code_1(monkeypatch):
    """The command gives up in time, before its platform does."""
    monkeypatch.setattr(health, "SECONDS", 0.1)
    with listening(then=None) as port:
        result = ask(PORT=port)

    assert result == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: no answer within 0.1 s\n")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        pytest.param(
            b"",
            "the connection was closed without an answer; if the service is encrypted, set "
            "TRICEPS_TLS_CERTIFICATE here as for `triceps serve`",
            id="a closed connection",
        ),
        pytest.param(
            b"SSH-2.0-other\r\n", r"expected HTTP, received 'SSH-2.0-other\r\n'", id="no HTTP"
        ),
    ],
)
def test_a_server_that_does_not_answer_gives_exit_code_1(then, reason):
    """The error is one line, like any other."""
    with listening(then) as port:
        result = ask(PORT=port)

    assert result == (1, "", f"triceps: http://127.0.0.1:{port}/readyz: {reason}\n")


def test_a_service_with_tls_needs_the_setting_of_its_certificate(tmp_path):
    """Without the setting, the message names it; with it, the file need not be readable."""
    small.put(tmp_path / "models", "three", 1, small.three())
    with Server(folder=tmp_path, encrypted=True) as server:
        server.until_ready()
        without = ask(PORT=server.port)
        with_it = ask(PORT=server.port, TRICEPS_TLS_CERTIFICATE="any.pem")

    assert with_it == (0, "ready\n", "")
    assert without[:2] == (1, "")
    assert "if the service is encrypted, set TRICEPS_TLS_CERTIFICATE here" in without[2]


def test_a_service_without_tls_that_is_asked_over_tls_gives_exit_code_1():
    """The setting is in the environment of the probe alone."""
    with serving(200, b"{}") as (port, _):
        result = ask(PORT=port, TRICEPS_TLS_CERTIFICATE="tls.crt")

    reason = "expected TLS, received something else: is TRICEPS_TLS_CERTIFICATE meant to be set"
    assert result == (1, "", f"triceps: https://127.0.0.1:{port}/readyz: {reason} here?\n")


def test_an_unknown_host_gives_exit_code_1():
    """The error is one line, without a traceback."""
    code, out, err = ask(HOST="no.such.host.invalid")

    assert (code, out) == (1, "")
    assert err.startswith("triceps: http://no.such.host.invalid:8080/readyz: no answer: ")
    assert err.count("\n") == 1


def test_a_wrong_setting_gives_exit_code_2():
    """The service would not start with this setting either."""
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


def test_the_probe_does_not_import_the_service():
    """The probe runs every few seconds, and costs little more than its start."""
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
