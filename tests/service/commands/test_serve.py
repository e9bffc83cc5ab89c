"""`triceps serve`, as real processes on real sockets: starting, answering and ending."""

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

# One that does not wait ten seconds for what never ends.
HASTY = (
    "from service.commands import main; from service.server import worker; "
    "worker.STOP_SECONDS = 1; main.main()"
)


@pytest.fixture
def serve(tmp_path):
    """Start servers in an empty folder; whatever still runs at the end is ended."""
    with contextlib.ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(
            Server(*options, folder=tmp_path, **more)
        )


@pytest.fixture
def models(tmp_path):
    """A repository of one model."""
    small.put(tmp_path / "models", "three", 1, small.three(models={"risky": ["risk"]}))
    return tmp_path / "models"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command for starts that fail, which need no process of their own."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments, environment=None):
        environment = {"PORT": str(free_port()), **(environment or {})}
        return CliRunner().invoke(main, ["serve", *map(str, arguments)], env=environment)

    return command


def test_it_serves_and_greets_with_a_request_that_works(serve, models):
    """Within seconds; what it prints can be pasted into a shell; it ends quietly when told to."""
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


def test_behind_tokens_and_tls_the_greeting_works_too(serve, models, tmp_path):
    """With a token from the shell; a probe needs none; what is logged is JSON from the first."""
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
    there = {"PORT": str(server.port), "TRICEPS_TLS_CERTIFICATE": "cert.pem"}
    probed = CliRunner().invoke(main, ["health"], env=there)
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
    said = [json.loads(line) for line in err.splitlines()]
    assert "expected a mode such as 0600" in said[0]["message"]
    assert "serving three, version 1" in {entry["message"] for entry in said}
    assert not [entry for entry in said if "whoever reaches" in entry["message"]]


def test_a_service_for_others_without_tokens_says_so(serve, models):
    """Once, whatever the number of workers."""
    server = serve("--models", models, "--host", "0.0.0.0", "--workers", "2")
    server.until_alive()
    code, _, _, err = server.end()

    warned = [json.loads(line) for line in err.splitlines() if "whoever reaches" in line]
    assert (code, len(warned)) == (0, 1)
    assert (warned[0]["level"], warned[0]["logger"]) == ("warning", "service.commands.serve")


def test_ctrl_c_ends_it_like_any_other_end(serve, models):
    """Exit code 0 and no traceback; one that is connected and asks nothing does not hold it up."""
    server = serve()
    server.until_alive()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        code, seconds, _, err = server.end(signal.SIGINT)

    assert (code, "Traceback" in err) == (0, False)
    assert seconds < 5


def test_a_body_that_never_ends_does_not_keep_it_from_ending(serve, models):
    """Whoever stopped sending half-way is left behind, after a while."""
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


def test_a_request_that_is_being_answered_is_answered(serve, models):
    """To end means to take no more, not to drop what was taken."""
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
    """`triceps serve FILE.onnx`, with all that can be asked of a start at once."""
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


def test_an_empty_repository_waits_for_a_model(serve, tmp_path):
    """It starts, says what is missing where one asks, and has no request to offer."""
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


def test_a_port_that_is_taken_is_said_in_one_line(serve, models):
    """And not shared with whoever has it, which Linux would do without a word."""
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
    ("arguments", "environment", "code", "said"),
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
def test_a_start_that_cannot_be_fails_in_one_line(run, arguments, environment, code, said):
    """Before a worker is started, and without a traceback."""
    done = run(*arguments, environment=environment)

    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith(f"triceps: {said}")
    assert done.stderr.count("\n") == 1


def test_a_file_and_a_repository_cannot_both_be_served(run, models):
    """Which of the two was meant, nobody could say."""
    done = run("a.onnx", "--models", models)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "FILE and --models: expected one of them, received both" in done.stderr


def test_flask_runs_it_too(serve, models):
    """`flask --app service run`, for who is used to it."""
    port = free_port()
    server = serve("--port", port, port=port, command=FLASK)
    server.until_alive()
    ready = server.get("/readyz")

    assert ready == (200, {"status": "ready", "models": ["risky", "three"]})


def test_a_stop_at_the_very_start_is_heard(serve, models):
    """A worker that is still loading does not miss what its parent is told."""
    server = serve("--models", models, "--workers", "4")
    server.until_alive()
    code, seconds, _, err = server.end()

    assert code == 0
    assert seconds < 5
    assert "Traceback" not in err
    assert "ignored" not in err
