"""Servers that say anything at all: a pull ends with an error, and keeps its secrets."""

import io
import json
import socket
import tarfile
import threading
import time

import pytest

from service.stores import client, pace
from service.stores.source import WrongSource, parse
from service.stores.store import Interrupted, StoreError
from tests.harness import small
from tests.harness.saying import Said, saying
from tests.harness.stores import Puller, digest, visible

ONE = small.three()
TITLE = "org.opencontainers.image.title"
ZEROS = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _without_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def layer(content, title=None):
    """Return the entry of a layer in a manifest."""
    entry = {"digest": f"sha256:{digest(content)}", "size": len(content)}
    return entry if title is None else {**entry, "annotations": {TITLE: title}}


def registry(manifest, *blobs):
    """Return what a registry says that has one image."""
    known = {f"sha256:{digest(blob)}": blob for blob in blobs}

    def say(path):
        last = path.rpartition("/")[2]
        if "/manifests/" in path:
            return Said(manifest)
        return Said(known[last]) if last in known else Said(status=404)

    return say


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"layers": [{"digest": "%s", "size": 1e999}]}' % ZEROS.encode(),
        {"layers": [{"digest": 5, "size": 1}]},
        {"layers": [{"digest": ZEROS, "size": 1}] * 1001},
        {"layers": [{"digest": ZEROS, "size": 1, "annotations": {TITLE: "\ud800"}}]},
        {
            "manifests": [
                {"platform": {"architecture": 5}, "digest": ZEROS},
                {"platform": {"architecture": "other"}, "digest": ZEROS},
            ]
        },
    ],
    ids=["endless", "no digest", "many layers", "half a character", "mixed"],
)
def test_an_odd_manifest_is_refused(tmp_path, manifest):
    """Whatever it has in place of texts and numbers, before anything is downloaded."""
    with (
        saying(registry(manifest)) as server,
        pytest.raises(StoreError, match="expected"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:1").pull()
    assert not [path for path, _ in server.asked if "/blobs/" in path]


def test_an_artifact_without_a_graph_is_named(tmp_path):
    """It is not downloaded."""
    with (
        saying(registry({"layers": [layer(ONE, "4/model.onnx")]}, ONE)) as server,
        pytest.raises(StoreError, match=r"expected a file model.onnx, found 4/model.onnx"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:1").pull()
    assert not [path for path, _ in server.asked if "/blobs/" in path]


def test_a_very_long_number_is_refused(tmp_path):
    """No version after it could be noted."""
    with (
        saying(registry({"layers": [layer(ONE, "model.onnx")]}, ONE)) as server,
        pytest.raises(StoreError, match="fewer than 100 digits"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:{'9' * 100}").pull()
    assert visible(tmp_path) == []


def comments(kind, content):
    """Return the header of comments in an archive, with its content."""
    member = tarfile.TarInfo("comments")
    member.type, member.size = kind, len(content)
    return member.tobuf(tarfile.USTAR_FORMAT) + content.ljust(512, b"\0")


@pytest.mark.parametrize(
    "before",
    [
        comments(tarfile.GNUTYPE_LONGNAME, b"models/x") * 3000,
        comments(tarfile.XHDTYPE, b"12 path=abc\n") * 3000,
        comments(tarfile.XHDTYPE, b"23 GNU.sparse.size=abc\n"),
    ],
    ids=["names", "comments", "no number"],
)
def test_odd_headers_of_an_archive_are_damage(tmp_path, before):
    """Those that Python's reader follows without end, and those that it takes for numbers."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        member = tarfile.TarInfo("models/model.onnx")
        member.size = len(ONE)
        archive.addfile(member, io.BytesIO(ONE))
    content = before + written.getvalue()
    with (
        saying(registry({"layers": [layer(content)]}, content)) as server,
        pytest.raises(StoreError, match="a layer of the image is damaged"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:1").pull()


def test_only_the_registry_itself_may_ask_for_its_password(tmp_path):
    """Another server that it redirects to could name an address for tokens of its own."""

    def ask(path):
        challenge = f'Bearer realm="http://{thief.host}/token",service="x"'
        if path.startswith("/token"):
            return Said({"token": "granted"})
        return Said(status=401, headers=(("WWW-Authenticate", challenge),))

    def redirect(path):
        if "/manifests/" in path:
            return Said({"layers": [layer(ONE, "model.onnx")]})
        return Said(status=307, headers=(("Location", f"http://{thief.host}/blob"),))

    with saying(ask) as thief, saying(redirect) as server:
        (tmp_path / "docker").mkdir()
        known = {"auths": {server.host: {"username": "me", "password": "covert"}}}
        (tmp_path / "docker/config.json").write_text(json.dumps(known))
        with pytest.raises(StoreError, match="are for itself alone"):
            Puller(tmp_path / "models", f"oci://{server.host}/churn:1").pull()
    assert thief.asked == [("/blob", None)]


@pytest.mark.parametrize("realm", ["https://[::1", "http://[::1/token"])
def test_an_odd_address_of_tokens_is_refused(tmp_path, realm):
    """It is shown."""
    challenge = (("WWW-Authenticate", f'Bearer realm="{realm}"'),)
    with (
        saying(lambda _: Said(status=401, headers=challenge)) as server,
        pytest.raises(StoreError, match=r"expected an address of tokens.*\[::1"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:1").pull()


@pytest.mark.parametrize("place", ["https://[::1", f"http://{'a' * 70}.invalid/"])
def test_a_redirect_to_no_address_is_an_error(tmp_path, place):
    """It is no reason for another attempt."""
    with (
        saying(lambda _: Said(status=302, headers=(("Location", place),))) as server,
        pytest.raises(StoreError, match="the request cannot be sent"),
    ):
        Puller(tmp_path, f"oci://{server.host}/churn:1").pull()


def test_a_size_of_very_many_digits_is_none(tmp_path):
    """As the header that has it is none, the length is that of the answer."""
    headers = (("Content-Range", f"bytes 0-0/{'9' * 5000}"),)
    with (
        saying(lambda _: Said(b"a", 206, headers)) as server,
        pytest.raises(StoreError, match="expected the bytes from 0 of 1"),
    ):
        Puller(tmp_path, f"http://{server.host}/churn.onnx").pull()


def test_a_credential_with_a_line_break_is_not_shown(tmp_path, monkeypatch):
    """As a file has it that an editor has ended with one; the variable is named."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "covert\n")
    with pytest.raises(StoreError, match=r"line break.*MLFLOW_TRACKING_TOKEN") as caught:
        Puller(tmp_path, "mlflow:churn").pull()
    assert "covert" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("url", ["https://me:covert/x@h.example/m.onnx", "oci://me:covert#x@h/m"])
def test_a_password_that_is_not_escaped_is_not_shown(url):
    """A part of it is in the place of a port, then."""
    with pytest.raises(WrongSource, match="%2F") as caught:
        parse(url)
    assert "covert" not in str(caught.value)


SEARCH = {"model_versions": [{"version": "4"}]}


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("artifacts", {"files": None}),
        ("artifacts", {"files": "abc"}),
        ("artifacts", {"files": [1]}),
        ("search", {"model_versions": {"a": 1}}),
        ("search", {"model_versions": [{"version": "9" * 5000}]}),
        ("artifacts", {"files": [{"path": "9" * 5000, "is_dir": True}]}),
        ("uri", {"artifact_uri": "mlflow-artifacts://[x/a"}),
    ],
)
def test_an_odd_answer_of_mlflow_is_refused(tmp_path, monkeypatch, place, said):
    """Whatever it has in place of lists, texts and numbers."""
    usual = {
        "search": SEARCH,
        "uri": {"artifact_uri": "mlflow-artifacts:/a"},
        "artifacts": {"files": [{"path": "model.onnx", "file_size": 3}]},
    }

    def say(path):
        return next(Said(c) for p, c in {**usual, place: said}.items() if p in path.split("?")[0])

    with saying(say) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{server.host}")
        with pytest.raises(StoreError, match=r"expected|has no version"):
            Puller(tmp_path, "mlflow:churn").pull()
    assert visible(tmp_path) == []


def test_an_odd_address_of_mlflow_is_refused(tmp_path, monkeypatch):
    """It is not shown, since it may have a password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:covert@[::1")
    with pytest.raises(StoreError, match="MLFLOW_TRACKING_URI") as caught:
        Puller(tmp_path, "mlflow:churn").pull()
    assert "covert" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "drop"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"a"),
    ],
    ids=["patience", "headers", "body"],
)
def test_an_answer_that_drips_is_left(tmp_path, monkeypatch, before, drop):
    """Also within the headers, where each byte may take as long as a connection may stall."""
    monkeypatch.setattr(client, "WINDOW_SECONDS", 0.3)
    monkeypatch.setattr(pace, "WINDOW_SECONDS", 0.3)
    is_over = threading.Event()

    def drip(connection):
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(before)
                # Bounded all the same, since a test may fail.
                for _ in range(1000):
                    if is_over.wait(0.02):
                        return
                    connection.sendall(drop)
            except OSError:
                pass

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        puller = Puller(tmp_path, f"oci://127.0.0.1:{listener.getsockname()[1]}/churn:1")
        began = time.monotonic()
        try:
            with pytest.raises(Interrupted):
                puller.pull()
        finally:
            is_over.set()
            listener.shutdown(socket.SHUT_RDWR)
    # Four attempts; without the limit, the server drips for 20 s each time.
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("is_image", [False, True])
def test_a_digest_of_the_command_holds_for_what_is_here_already(tmp_path, is_image):
    """A version that was pulled without it is not taken for the one that it names."""
    content = ONE
    if is_image:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            member = tarfile.TarInfo("models/model.onnx")
            member.size = len(ONE)
            archive.addfile(member, io.BytesIO(ONE))
        content = written.getvalue()
    manifest = {"layers": [layer(content, None if is_image else "model.onnx")]}
    with saying(registry(manifest, content)) as server:
        source = f"oci://{server.host}/churn:1"
        assert Puller(tmp_path, source).pull().outcome == "published"
        assert Puller(tmp_path, source, sha256=digest(ONE)).pull().outcome == "unchanged"
        with pytest.raises(StoreError, match="expected the SHA-256"):
            Puller(tmp_path, source, sha256=digest(b"another")).pull()
