"""`triceps pull`, as a person, an init container and a sidecar run it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import certificates, file_server, small, terminal
from tests.harness.file_server import cut, fine, status
from tests.harness.serving import Server
from tests.harness.stores import digest, visible
from tests.harness.waiting import until

ROOT = Path(__file__).parents[3]
PROGRAM = "from service.commands.main import main; main()"
PATH = "/churn/model.onnx"
ONE, TWO = small.three(), small.three(2.0)


@pytest.fixture(name="files")
def _files():
    """Yield the files of a server with TLS, which has one model."""
    with file_server.served() as files:
        files.content[PATH] = ONE
        yield files


def _environment(folder):
    (folder / "ca.pem").write_text(certificates.A)
    return {**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(folder / "ca.pem")}


def started(folder, *arguments):
    """Start the command in its own process; it ends by itself in any case."""
    program = f"import signal; signal.alarm(300); {PROGRAM}"
    return subprocess.Popen(
        [sys.executable, "-c", program, "pull", *map(str, arguments), "--into", "models"],
        cwd=folder,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder, *arguments):
    """Return exit code, standard output and standard error of the command."""
    with started(folder, *arguments) as process:
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def test_a_file_is_published_and_served(tmp_path, files):
    """A running service gets what is pulled into its repository; its answers have the version."""
    (tmp_path / "models").mkdir()
    with Server("--workers", 1, folder=tmp_path) as server:
        done = run(tmp_path, files.url + PATH)
        server.until_ready()
        assert server.get("/models/churn")[1]["version"] == "1"

    assert done == (
        0,
        "published churn, version 1: models/churn/1/model.onnx\n",
        (
            f"triceps: note: {files.url}{PATH} states no SHA-256 of model.onnx, so only the size "
            "was compared: --sha256, or a file like model.onnx.sha256 beside it\n"
        ),
    )
    assert (tmp_path / "models/churn/1/model.onnx").read_bytes() == ONE


def test_an_unchanged_source_is_a_success(tmp_path, files):
    """An init container that starts again ends with 0."""
    url, pinned = files.url + PATH, ("--sha256", f"sha256:{digest(ONE)}")
    run(tmp_path, url, *pinned)

    assert run(tmp_path, url, *pinned) == (
        0,
        "unchanged: churn, version 1: models/churn/1/model.onnx\n",
        "",
    )


def test_a_source_that_went_back_is_a_note(tmp_path, files):
    """The repository has what it had, and the way out is an alias."""
    for files.content[PATH] in (ONE, TWO):
        run(tmp_path, files.url + PATH)
    files.content[PATH] = ONE

    code, out, err = run(tmp_path, files.url + PATH)

    assert (code, out) == (0, f"nothing newer: {files.url}{PATH} has the content of version 1\n")
    assert "to go back, name the older one: triceps alias churn stable VERSION" in err


def test_the_outcome_as_json(tmp_path, files):
    """It has the source, the version, and what was verified."""
    files.has_digests = True
    code, out, err = run(tmp_path, files.url + PATH, "--name", "mine", "--json")

    facts = json.loads(out)
    tag = facts["files"]["model.onnx"].pop("tag")
    assert (code, err, tag.startswith('"')) == (0, "", True)
    assert facts == {
        "outcome": "published",
        "name": "mine",
        "version": "1",
        "file": "models/mine/1/model.onnx",
        "source": files.url + PATH,
        "files": {
            "model.onnx": {"sha256": digest(ONE), "size": len(ONE), "verified": "sha256"},
        },
    }


def test_secrets_are_in_no_output_and_no_file(tmp_path, files):
    """Passwords and signatures of a URL go to its server alone."""
    files.account = "me:hidden"
    url = files.url.replace("//", "//me:hidden@") + PATH + "?sig=covert"
    files.troubles = [status(503), fine, fine, cut(5), fine]
    outputs = [*run(tmp_path, url, "--json")]
    files.troubles = [status(403)]
    files.content[PATH] = TWO
    outputs += run(tmp_path, url)
    files.troubles = [status(302, Location="http://127.0.0.1/?sig=covert")]
    outputs += run(tmp_path, url)

    written = [path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert [outputs[i] for i in (0, 3, 6)] == [0, 1, 1]
    for secret in ("hidden", "covert"):
        assert not any(secret in str(output) for output in outputs)
        assert not any(secret.encode() in content for content in written)
    assert all("sig=covert" in r["path"] for r in files.requests)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["models/churn"], 2, "received a path"),
        (["http://127.0.0.1:1/model.onnx"], 2, "--sha256 DIGEST makes sure of its content"),
        (["file:///nowhere/churn"], 1, "there is no such file or folder"),
        (["file:///nowhere/churn", "--name", "a/b"], 2, "model name: expected"),
        (["file:///nowhere/churn", "--sha256", "abc"], 2, "expected a SHA-256 of 64 digits"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, code, message):
    """It has the place, what was expected, what was received, and the way out."""
    received, out, err = run(tmp_path, *arguments)

    assert (received, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_missing_package_is_named_with_its_extra(tmp_path):
    """The message is the command that installs it."""
    program = f"import sys; sys.modules['obstore'] = None; {PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program, "pull", "s3://models/churn", "--into", "models"],
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "needs obstore, which is not installed: pip install '" in done.stderr
    assert "[stores]'" in done.stderr


def test_a_repository_that_is_one_model_is_refused(tmp_path):
    """There would be no place for another version."""
    small.put(tmp_path, "share", 1, ONE)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.onnx").write_bytes(ONE)

    code, _, err = run(tmp_path, f"file://{tmp_path}/share")

    assert code == 2
    assert "expected a folder of models, received one model" in err


def test_a_watching_pull_follows_its_source(tmp_path, files):
    """It publishes what is new, keeps what there is when the source fails, and ends with 0."""
    process = started(tmp_path, files.url + PATH, "--watch", "1")
    try:
        until(lambda: "churn/1/source.json" in visible(tmp_path / "models"))
        files.content[PATH] = b"no model"
        until(lambda: [*(tmp_path / "models").glob(".pull-*/state.json")])
        # The next look is after the refusal.
        looks = len(files.requests)
        until(lambda: len(files.requests) > looks + 3)
        files.content[PATH] = TWO
        until(lambda: "churn/2/source.json" in visible(tmp_path / "models"))
        # The next look is after the line about it.
        looks = len(files.requests)
        until(lambda: len(files.requests) > looks + 3)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        *("published churn, version 1", "published churn, version 2")
    ]
    assert "refused, " in err
    assert "Traceback" not in err


def test_a_pull_ends_at_once_and_goes_on_later(tmp_path, files):
    """A platform ends it in the midst of a download; what was received is kept."""
    files.troubles = [fine, fine, cut(700), *[status(503, Retry_After="60")] * 20]
    with started(tmp_path, files.url + PATH) as process:
        until(lambda: len(files.requests) == 4)
        until(lambda: [p for p in tmp_path.rglob("model.onnx") if p.stat().st_size == 700])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    files.troubles = []
    files.requests.clear()

    assert (process.returncode, "Traceback" in err) == (143, False)
    assert visible(tmp_path / "models") == []
    assert run(tmp_path, files.url + PATH)[0] == 0
    assert [r["Range"] for r in files.requests if "If-Range" in r] == ["bytes=700-"]


def test_a_download_has_a_line_at_a_terminal(tmp_path, files):
    """A person sees that something happens."""
    files.troubles = [fine, fine, cut(700)]
    (tmp_path / "ca.pem").write_text(certificates.A)

    done = terminal.run(
        ["pull", files.url + PATH, "--into", "models"],
        tmp_path,
        before=terminal.SOON,
        SSL_CERT_FILE=str(tmp_path / "ca.pem"),
    )

    assert done.code == 0
    assert "downloading model.onnx" in done.err


def test_the_service_imports_nothing_of_stores():
    """Only this command does, so the server holds no key of a cloud."""
    known = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "service").rglob("*.py")
        if "service.stores" in path.read_text() and path.parent.name != "stores"
    }

    assert known == {"service/commands/pull.py"}
    texts = {path.name: path.read_text() for path in (ROOT / "service").rglob("*.py")}
    assert [name for name, text in texts.items() if "import obstore" in text] == ["objects.py"]
