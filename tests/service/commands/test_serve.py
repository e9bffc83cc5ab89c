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
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from service import __version__
from service.commands.main import main
from tests.harness import certificates, small, tokens
from tests.harness.serving import FLASK, Server, free_port
from tests.harness.waiting import PATIENCE

# This service does not wait ten seconds for a request that never ends.
HASTY = (
    "from service.commands import main; from service.server import worker; "
    "worker.STOP_SECONDS = 1; main.main()"
)
# The standard streams of a program that is started by `triceps serve <&- >&- 2>&-`.
CLOSED = """
import os, sys
for number in range(3):
    os.close(number)
sys.stdin = sys.stdout = sys.stderr = None
from service.commands import main
main.main()
"""
# The end of a pipe that nobody reads in place of standard output.
UNREAD = """
import os
from service.commands import main
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
main.main()
"""
# Loading a file ends the process.
DEADLY = """
import os, signal
from service.commands import main
from service.repository import file_trial
def load(*_):
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
file_trial.Model = type("Model", (), {"load": staticmethod(load)})
main.main()
"""
# There is too little memory for the first two trials: that of the command and that of the worker.
SHORT = """
from service.commands import main
from service.repository import file_trial, sandbox
attempt, tries = file_trial.attempt, []
def hungry(path, stamp, *more):
    verdict = attempt(path, stamp, *more)
    tries.append(path)
    if len(tries) <= 2:
        verdict.reason, verdict.needs = "memory is short", 0
    return verdict
sandbox.file_trial.attempt = hungry
main.main()
"""


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
    page = f"http://127.0.0.1:{server.port}/console/"
    assert greeting[1] == f"Try it at {page} in a browser, or in a shell:\n"
    assert (code, out) == (0, "")
    assert ending < 30
    assert "Traceback" not in err
    messages = {json.loads(line)["message"] for line in err.splitlines()}
    assert messages == {
        "serving three, version 1",
        "now serving three, version 1 (was none)",
        "the default model is three",
    }


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
            },
            cwd=tmp_path,
        )
    probe_settings = {"PORT": str(server.port), "TRICEPS_TLS_CERTIFICATE": "cert.pem"}
    probed = CliRunner().invoke(main, ["health"], env=probe_settings)
    code, _, _, err = server.end()

    assert greeting[0].endswith(f" serves {models} on https://127.0.0.1:{server.port}\n")
    assert f" at https://127.0.0.1:{server.port}/console/ in a browser" in greeting[1]
    bearer = '-H "Authorization: Bearer $TOKEN"'
    assert greeting[2].startswith(
        f"  curl -sS --cacert cert.pem {bearer} https://127.0.0.1:{server.port}/models/three/"
    )
    assert greeting[2].count(bearer) == 2
    assert (probed.exit_code, probed.stdout) == (0, "ready\n"), probed.stderr
    assert pasted is None or json.loads(pasted.stdout)["model"] == "three", pasted
    assert code == 0
    records = [json.loads(line) for line in err.splitlines()]
    assert "expected a mode such as 0600" in records[0]["message"]
    assert "serving three, version 1" in {entry["message"] for entry in records}
    assert not [entry for entry in records if "whoever reaches" in entry["message"]]


@pytest.mark.parametrize(
    ("host", "reached"), [("0.0.0.0", "http://127.0.0.1"), ("::", "'http://[::1]")]
)
def test_the_greeting_of_a_service_for_all_addresses_asks_the_local_one(
    serve, models, host, reached
):
    """The first line has the address that was set, and the command one that clients can use."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    server = serve("--models", models, "--host", host, "--workers", "1")
    greeting = [server.process.stdout.readline() for _ in range(3)]
    pasted = None
    if shutil.which("curl"):
        pasted = subprocess.run(["bash", "-c", greeting[2]], capture_output=True, check=True)
    code, *_ = server.end()

    bracketed = f"[{host}]" if ":" in host else host
    assert code == 0
    assert greeting[0].endswith(f" serves {models} on http://{bracketed}:{server.port}\n")
    page = f"{reached.removeprefix(chr(39))}:{server.port}/console/"
    assert greeting[1] == f"Try it at {page} in a browser, or in a shell:\n"
    assert greeting[2].count(f" {reached}:{server.port}/models/three/") == 2
    assert pasted is None or json.loads(pasted.stdout)["model"] == "three", pasted


def test_the_greeting_names_no_console_that_is_off(serve, models):
    """Without a page to open, it has the command alone."""
    server = serve("--models", models, "--console", "off", "--workers", "1")
    greeting = [server.process.stdout.readline() for _ in range(3)]
    code, *_ = server.end()

    assert code == 0
    assert greeting[1] == "Try it:\n"
    assert f":{server.port}/models/three/predict" in greeting[2]


def test_the_greeting_of_a_model_without_an_example_names_the_console_alone(serve, tmp_path):
    """There is no request to paste, but a page on which one can be made."""
    made = small.model(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [("x", TensorProto.INT64, ["n", 1])],
        [("y", TensorProto.FLOAT, ["n", 1, "m"])],
        {"table": np.zeros((0, 2), np.float32)},
    )
    (tmp_path / "lookup.onnx").write_bytes(made.SerializeToString())
    server = serve("lookup.onnx", "--workers", "1")
    server.until_alive()
    code, _, out, _ = server.end()

    assert code == 0
    assert out.splitlines()[1:] == [f"Try it at {server.url}/console/ in a browser."]


def test_a_greeting_that_fails_says_why(serve, models, tmp_path):
    """The certificate is for another address: curl says so, and the shell names no other reason."""
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    (tmp_path / "my cert.pem").write_text(certificates.A + certificates.A_KEY)
    (tmp_path / "my cert.pem").chmod(0o600)
    options = ("--tls-certificate", "my cert.pem", "--host", "127.0.0.2", "--workers", "1")
    server = serve("--models", models, *options)
    greeting = [server.process.stdout.readline() for _ in range(3)]
    pasted = subprocess.run(
        ["bash", "-c", greeting[2]], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    server.end()

    assert " --cacert 'my cert.pem' " in greeting[2]
    assert "127.0.0.2" in pasted.stderr, pasted


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
    """The service says that it waits and for what, there and on /readyz."""
    (tmp_path / "models").mkdir()
    port = free_port()
    server = serve(port=port, environment={"PORT": "1", "TRICEPS_PORT": str(port)})
    server.until_alive()
    ready = server.get("/readyz")
    code, _, out, err = server.end()

    reason = "the model repository is empty: train or publish a model into it"
    assert ready == (503, {"status": "not ready", "reason": reason})
    assert (code, err) == (0, "")
    waits = f"Triceps {__version__} waits on http://127.0.0.1:{port}"
    make = "Make one, from a table or a spec:\n"
    make += "  triceps init TABLE.csv --head COLUMN\n  triceps train SPEC.toml --models models\n"
    assert out == f"{waits}, and serves nothing yet: {reason}\n{make}"


def test_a_service_that_waits_says_once_that_it_serves(serve, tmp_path):
    """The request to try names the first model that comes, and later models change nothing."""
    (tmp_path / "models").mkdir()
    server = serve("--workers", "2", "--watch", "0.05")
    waits = server.process.stdout.readline()
    commands = [server.process.stdout.readline() for _ in range(3)]
    small.put(tmp_path / "models", "late", 1, small.three())
    greeting = [server.process.stdout.readline() for _ in range(3)]
    small.put(tmp_path / "models", "later", 1, small.three())
    server.until(lambda: server.status("/models/later") == 200)
    os.kill(server.workers()[0], signal.SIGKILL)
    server.until(lambda: "is replaced" in server.said() and server.status("/readyz") == 200)
    code, _, rest, _ = server.end()

    assert f" waits on {server.url}, and serves nothing yet: " in waits
    assert commands[0].startswith("Make one")
    assert greeting[0] == f"Triceps {__version__} serves models on {server.url}\n"
    assert greeting[2].count(f"{server.url}/models/late/") == 2
    assert (code, rest) == (0, "")


@pytest.mark.parametrize(
    "options",
    [pytest.param([], id="refused"), pytest.param(["--policy", "pinned"], id="no stable")],
)
def test_a_repository_in_which_nothing_can_serve_waits_and_says_why(serve, tmp_path, options):
    """The reason is in the greeting, so that nobody has to look for it."""
    small.put(tmp_path / "models", "m", 1, small.three() if options else b"not a model")
    server = serve("--workers", "2", *options)
    waits = server.process.stdout.readline()
    code, _, rest, _ = server.end()

    reason = (
        "m: the policy is pinned, and it has no alias 'stable': triceps alias m stable VERSION\n"
        if options
        else "m, version 1: it is not an ONNX file, or not the whole of one\n"
    )
    assert waits.endswith(f" and serves nothing yet: no model is usable: {reason}")
    assert (code, rest) == (0, "")


def test_one_file_is_served_under_any_policy(serve, tmp_path):
    """A single file has no aliases that could pin it."""
    (tmp_path / "mine.onnx").write_bytes(small.three())
    server = serve("mine.onnx", "--policy", "pinned", "--workers", "1")

    assert server.process.stdout.readline().endswith(f" serves mine.onnx on {server.url}\n")
    assert server.get("/readyz") == (200, {"status": "ready", "models": ["mine"]})


def test_nobody_has_to_read_the_greeting(serve, models):
    """A closed standard output costs the greeting, and no worker."""
    server = serve("--models", models, "--workers", "2", program=UNREAD)
    server.until_ready()
    code, _, out, err = server.end()

    assert (code, out) == (0, "")
    assert "ended" not in err


def test_closed_standard_streams_end_no_process(serve, models):
    """The service, its keeper and its workers run on as a daemon whose streams were closed."""
    server = serve("--models", models, "--workers", "2", program=CLOSED)
    server.until_ready()
    assert server.get("/readyz")[0] == 200
    code, *_ = server.end()

    assert code == 0


@pytest.mark.parametrize("file", ["bad.onnx", "folder/model.onnx"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "it is not an ONNX model: it has no outputs", id="empty"),
        pytest.param(small.three()[:-9], "it is not an ONNX file", id="half"),
    ],
)
def test_one_file_that_cannot_be_served_ends_the_start(run, tmp_path, file, content, reason):
    """The refusal is one line on standard error, without a greeting before it."""
    (tmp_path / "folder").mkdir()
    (tmp_path / file).write_bytes(content)
    done = run(file.removesuffix("/model.onnx"))

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"triceps: {file}: refused, {reason}")
    assert done.stderr.count("\n") == 1


def test_a_link_out_of_the_only_folder_ends_the_start(run, tmp_path):
    """The reason is that of a repository."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "elsewhere.onnx").write_bytes(small.three())
    (tmp_path / "folder" / "model.onnx").symlink_to("../elsewhere.onnx")
    done = run("folder")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "triceps: folder/model.onnx: refused, a link leads out of the repository"
    )


def test_one_file_that_ends_its_process_ends_no_other(serve, tmp_path):
    """The file is tried in the sandbox, and the command lives to tell."""
    (tmp_path / "deadly.onnx").write_bytes(small.three())
    server = serve("deadly.onnx", program=DEADLY)
    code, out, err = server.result()

    assert (code, out) == (1, "")
    assert err == "triceps: deadly.onnx: refused, it ends the process that loads it, by SIGSEGV\n"


def test_one_file_for_which_memory_is_short_is_waited_for(serve, tmp_path):
    """The machine is at fault, and the service serves as soon as it can."""
    (tmp_path / "large.onnx").write_bytes(small.three())
    server = serve("large.onnx", "--workers", "1", program=SHORT)
    waits, serves = (server.process.stdout.readline() for _ in range(2))

    assert waits.endswith("no model is usable: large, version 1: memory is short\n")
    assert serves.endswith(f" serves large.onnx on {server.url}\n")


KERAS = "received a Keras model. To serve a model of it: triceps export {} --name {} && triceps"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param("my model.keras", KERAS.format("'my model.keras'", "my_model"), id="Keras"),
        pytest.param("old.H5", KERAS.format("old.H5", "old"), id="Keras, formerly"),
        pytest.param("zipped", KERAS.format("zipped", "zipped"), id="Keras, by its content"),
        pytest.param("hdf5", KERAS.format("hdf5", "hdf5"), id="Keras, formerly, by its content"),
        pytest.param(
            "customers.csv",
            "received a table. To serve a model of it: name the columns to learn: "
            "triceps init customers.csv --head COLUMN --name customers && "
            "triceps train customers.toml && triceps serve",
            id="a table",
        ),
        pytest.param(
            "customers.toml",
            "received a training spec. To serve a model of it: triceps train customers.toml && ",
            id="a spec",
        ),
        pytest.param(
            "saved",
            "received a TensorFlow SavedModel. To serve a model of it: save it by "
            "model.save('saved.keras') where it was made, then "
            "triceps export saved.keras --name saved && triceps serve",
            id="SavedModel",
        ),
    ],
)
@pytest.mark.parametrize("is_setting", [False, True])
def test_other_files_are_refused_with_the_way_to_a_model(run, tmp_path, file, message, is_setting):
    """The line says what was given and which command makes a model of it."""
    (tmp_path / file).write_bytes(b"x") if file != "saved" else (tmp_path / file).mkdir()
    if file == "zipped":
        with zipfile.ZipFile(tmp_path / file, "w") as archive:
            for name in ("metadata.json", "config.json", "model.weights.h5"):
                archive.writestr(name, "x")
    elif file == "hdf5":
        (tmp_path / file).write_bytes(b"\x89HDF\r\n\x1a\n...")
    elif file == "saved":
        (tmp_path / file / "saved_model.pb").write_bytes(b"x")
        (tmp_path / file / "variables").mkdir()
    done = run(environment={"TRICEPS_MODELS": file}) if is_setting else run(file)

    assert (done.exit_code, done.stdout) == (2, "")
    expected = f"triceps: {file}: expected an ONNX file or a repository of models, {message}"
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("models")
def test_the_folder_of_a_model_is_refused_with_its_repository(run, tmp_path):
    """It would be a repository without a model, which waits for ever."""
    done = run("models/three")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "triceps: models/three: expected a repository, which has a folder for each model, received "
        "the folder of one model with its versions: "
        f"triceps serve --models {tmp_path / 'models'}\n"
    )


def test_a_zip_that_is_no_keras_model_is_refused_as_any_file(run, tmp_path):
    """Half a zip is one, too."""
    (tmp_path / "half").write_bytes(b"PK\x03\x04 and no more")
    done = run("half")

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("triceps: half: refused, it is not an ONNX")


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
