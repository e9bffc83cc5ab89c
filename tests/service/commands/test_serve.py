"""`triceps serve`, as real processes on real sockets: its start, its answers and its end."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from service.commands.main import main
from tests.harness import certificates, small, tokens
from tests.harness.serving import FLASK, Server, free_port
from tests.harness.waiting import PATIENCE

# This service does not wait ten seconds for a request that never ends.
HASTY = (
    "from service.commands import main; from service.server import worker; "
    "worker.STOP_SECONDS = 1; main.main()"
)


@pytest.fixture
def serve(tmp_path):
    """Yield a function that starts servers in an empty folder; they are ended after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(
            Server(*options, folder=tmp_path, **more)
        )


@pytest.fixture
def models(tmp_path):
    """Return a repository of one model."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    return tmp_path / "models"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs the command in this process, for starts that fail."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments, environment=None):
        environment = {"PORT": str(free_port()), **(environment or {})}
        return CliRunner().invoke(main, ["serve", *map(str, arguments)], env=environment)

    return command


def test_the_service_starts_with_a_greeting_that_works_in_a_shell(serve, models):
    """It starts within 3 s, prints a request to paste into a shell, and ends without a message."""
    server = serve("--models", models)
    seconds = server.until_alive()
    greeting = [server.process.stdout.readline() for _ in range(3)]
    if shutil.which("curl"):
        pasted = subprocess.run(
            ["bash", "-c", greeting[2]], capture_output=True, text=True, check=True
        )
        assert json.loads(pasted.stdout)["predictions"] == [
            {
                "risk": {"value": 0.5, "label": "low"},
                "size": {"value": 2.0},
                "digits": {"value": [0.0, 1.0, 0.0], "label": "one"},
                "tags": {"value": [0.5, 0.5], "label": []},
            }
        ]
    code, ending, out, err = server.end()

    assert seconds < 30
    assert greeting[0].startswith("Triceps ")
    assert greeting[0].endswith(f" serves {models} on http://127.0.0.1:{server.port}\n")
    assert greeting[1] == "Try it:\n"
    assert (code, out) == (0, "")
    assert ending < 30
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if "three, version 1" not in line] == []


def test_the_greeting_works_with_tokens_and_tls(serve, models, tmp_path):
    """The shell has the token, a probe needs none, and every log line is JSON."""
    (tmp_path / "cert.pem").write_text(certificates.A + certificates.A_KEY)
    (tmp_path / "cert.pem").chmod(0o600)
    file = tokens.put(tmp_path)
    file.chmod(0o644)
    encrypted = ("--tls-certificate", "cert.pem", "--tokens-file", file)
    server = serve("--models", models, "--workers", "1", *encrypted)
    greeting = [server.process.stdout.readline() for _ in range(3)]
    pasted = None
    if shutil.which("curl"):
        pasted = subprocess.run(
            ["bash", "-c", greeting[2]],
            capture_output=True,
            text=True,
            check=True,
            env={
                **os.environ,
                "TOKEN": tokens.secret("some"),
                "CURL_CA_BUNDLE": str(tmp_path / "cert.pem"),
            },
        )
    probe_settings = {"PORT": str(server.port), "TRICEPS_TLS_CERTIFICATE": "cert.pem"}
    probed = CliRunner().invoke(main, ["health"], env=probe_settings)
    code, _, _, err = server.end()

    assert greeting[0].endswith(f" serves {models} on https://127.0.0.1:{server.port}\n")
    bearer = '-H "Authorization: Bearer $TOKEN"'
    assert greeting[2].startswith(
        f"  curl -s {bearer} https://127.0.0.1:{server.port}/models/three/"
    )
    assert greeting[2].count(bearer) == 2
    assert (probed.exit_code, probed.stdout) == (0, "ready\n"), probed.stderr
    assert pasted is None or json.loads(pasted.stdout)["model"] == "three", pasted
    assert code == 0
    records = [json.loads(line) for line in err.splitlines()]
    assert "expected a mode such as 0600" in records[0]["message"]
    assert "serving three, version 1" in {entry["message"] for entry in records}
    assert not [entry for entry in records if "whoever reaches" in entry["message"]]


def test_a_service_for_others_without_tokens_logs_a_warning(serve, models):
    """The warning is logged once, whatever the number of workers."""
    server = serve("--models", models, "--host", "0.0.0.0", "--workers", "2")
    server.until_alive()
    code, _, _, err = server.end()

    warned = [json.loads(line) for line in err.splitlines() if "whoever reaches" in line]
    assert (code, len(warned)) == (0, 1)
    assert (warned[0]["level"], warned[0]["logger"]) == ("warning", "service.commands.serve")


def test_ctrl_c_ends_the_service_as_sigterm_does(serve, models):
    """The exit code is 0, without a traceback; an idle connection does not delay the end."""
    server = serve()
    server.until_alive()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        code, seconds, _, err = server.end(signal.SIGINT)

    assert (code, "Traceback" in err) == (0, False)
    assert seconds < 5


def test_a_body_that_never_ends_does_not_prevent_the_end(serve, models):
    """A client that stops sending halfway is cut off after a while."""
    server = serve("--models", models, program=HASTY)
    server.until_alive()
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        time.sleep(0.2)
        code, seconds, _, _ = server.end()

    assert code == 0
    assert seconds < 5


def test_a_request_in_progress_is_answered_before_the_end(serve, models):
    """A service that ends accepts no new requests, but answers those it has accepted."""
    server = serve("--models", models)
    server.until_alive()
    body = json.dumps({"instances": [{"fruit": [1, 2]}] * 20_000, "heads": ["size"]}).encode()
    answers = []

    def ask():
        request = urllib.request.Request(
            f"{server.url}/predict", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answers.append(len(json.load(answer)["predictions"]))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.05)
    code, _, _, _ = server.end()
    asking.join()

    assert (code, answers) == (0, [20_000])


def test_one_file_is_served_on_ipv6_by_several_workers(serve, tmp_path):
    """`triceps serve FILE.onnx` works with several options at once."""
    (tmp_path / "my model.onnx").write_bytes(small.three())
    try:
        server = serve("my model.onnx", "--host", "::1", "--workers", "2", host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    server.until_alive()
    ready = server.get("/readyz")
    code, _, out, err = server.end()

    assert ready == (200, {"status": "ready", "models": ["my_model"]})
    assert (code, "Traceback" in err) == (0, False)
    assert out.splitlines()[0].endswith(f" serves my model.onnx on {server.url}")


def test_a_service_without_a_model_starts_and_waits(serve, tmp_path):
    """The service starts, says on /readyz what is missing, and prints no request to try."""
    (tmp_path / "models").mkdir()
    port = free_port()
    server = serve(port=port, environment={"PORT": "1", "TRICEPS_PORT": str(port)})
    server.until_alive()
    ready = server.get("/readyz")
    code, _, out, err = server.end()

    assert ready == (
        503,
        {
            "status": "not ready",
            "reason": "the model repository is empty: train or publish a model into it",
        },
    )
    assert (code, len(out.splitlines()), err) == (0, 1, "")


def test_a_port_that_is_taken_is_reported_in_one_line(serve, models):
    """The port is not shared with the other process, which Linux would allow without an error."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        server = serve("--port", port, environment={"TRICEPS_PORT": "1"})
        code, out, err = server.result()

    assert (code, out) == (1, "")
    assert err == (
        f"triceps: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with --port or --host\n"
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        pytest.param(
            ["--models", "nowhere"],
            {},
            2,
            "nowhere: there is nothing there; expected a folder of models",
            id="no repository",
        ),
        pytest.param(["nowhere.onnx"], {}, 2, "nowhere.onnx: there is nothing there", id="no file"),
        pytest.param(
            [],
            {"TRICEPS_PROT": "1"},
            2,
            "TRICEPS_PROT: expected a setting, there is none of that name (did you mean "
            "'TRICEPS_PORT'?)",
            id="an unknown setting",
        ),
        pytest.param(
            [],
            {"TRICEPS_WORKERS": "many"},
            2,
            "TRICEPS_WORKERS: expected a whole number",
            id="a wrong setting",
        ),
        pytest.param(
            [],
            {"TRICEPS_DEFAULT_MODEL": "tree"},
            2,
            "TRICEPS_DEFAULT_MODEL: expected the name of a model, received 'tree' "
            "(did you mean 'three'?)",
            id="an unknown default model",
        ),
        pytest.param(
            ["--host", "no.such.host.invalid"],
            {},
            1,
            "cannot listen on no.such.host.invalid:",
            id="an unknown host",
        ),
        pytest.param(
            ["--tokens-file", "none.toml"],
            {},
            2,
            "none.toml: cannot be read: No such file or directory",
            id="no tokens",
        ),
        pytest.param(
            ["--tls-certificate", "none.pem"],
            {},
            2,
            "TRICEPS_TLS_CERTIFICATE: none.pem cannot be read: No such file or directory",
            id="no certificate",
        ),
        pytest.param(
            ["--tls-key", "none.pem"],
            {},
            2,
            "TRICEPS_TLS_KEY: expected TRICEPS_TLS_CERTIFICATE beside it, received none",
            id="a key alone",
        ),
        pytest.param(
            [],
            {"TRICEPS_CORS": "https://a.example/"},
            2,
            "TRICEPS_CORS: expected origins such as https://app.example.com",
            id="a wrong origin",
        ),
    ],
)
@pytest.mark.usefixtures("models")
def test_a_start_that_fails_is_reported_in_one_line(run, arguments, environment, code, message):
    """The error comes before a worker starts, and without a traceback."""
    done = run(*arguments, environment=environment)

    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"triceps: {message}")
    assert done.stderr.count("\n") == 1


def test_a_file_and_a_repository_cannot_both_be_served(run, models):
    """It would not be clear which of the two was meant."""
    done = run("a.onnx", "--models", models)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "FILE and --models: expected one of them, received both" in done.stderr


def test_flask_run_serves_too(serve, models):
    """`flask --app service run` serves the same models."""
    port = free_port()
    server = serve("--port", port, port=port, command=FLASK)
    server.until_alive()
    ready = server.get("/readyz")

    assert ready == (200, {"status": "ready", "models": ["risky", "three"]})


def test_a_stop_at_the_very_start_is_not_missed(serve, models):
    """A worker that is still loading does not miss the signal."""
    server = serve("--models", models, "--workers", "4")
    server.until_alive()
    code, seconds, _, err = server.end()

    assert code == 0
    assert seconds < 5
    assert "Traceback" not in err
    assert "ignored" not in err
