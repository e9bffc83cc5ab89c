"""`triceps pull az://…` from Azurite, Microsoft's stand-in for Azure, where it is installed."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import urllib.request
from datetime import UTC, datetime

import pytest

from service.stores.store import StoreError
from tests.harness import small
from tests.harness.stores import Puller
from tests.harness.waiting import until

ONE, TWO = small.three(), small.three(2.0)
LARGE = bytes(range(256)) * (40 * 2**10)
# The account and the key that every Azurite has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@pytest.fixture(scope="module", name="port")
def _port(tmp_path_factory):
    """Yield the port of a server, which ends with the tests."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("found no azurite-blob: npm install --global azurite")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", ".", "--silent")
    process = subprocess.Popen(
        ["timeout", "600", program, *options, "--skipApiVersionCheck", "--disableTelemetry"],
        cwd=tmp_path_factory.mktemp("azurite"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, 60)
        _put(port, "models", b"", "restype=container")
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(name="put")
def _put_blob(port, monkeypatch):
    """Return a function that puts blobs into the container `models`, which the environment has."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"http://127.0.0.1:{port}/{ACCOUNT}")

    def put(path, content):
        _put(port, f"models/{path}", content, "", ("x-ms-blob-type", "BlockBlob"))

    return put


def _put(port, path, content, query, *more):
    """Send a request with the signature that Azure asks for."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = dict([("x-ms-date", now), ("x-ms-version", "2021-08-06"), *more])
    kind = "application/octet-stream"
    listed = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    place = f"/{ACCOUNT}/{ACCOUNT}/{path}" + (f"\n{query.replace('=', ':')}" if query else "")
    text = f"PUT\n\n\n{len(content) or ''}\n\n{kind}\n\n\n\n\n\n\n{listed}{place}"
    signed = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    headers["Content-Type"] = kind
    url = f"http://127.0.0.1:{port}/{ACCOUNT}/{path}?{query}"
    request = urllib.request.Request(url, content, headers, method="PUT")
    urllib.request.urlopen(request, timeout=30).close()


def test_the_newest_version_is_published_once(put, tmp_path):
    """It has the number of its folder, and its files."""
    put("churn/9/model.onnx", ONE)
    put("churn/10/model.onnx", TWO)
    put("churn/10/weights.bin", LARGE)
    puller = Puller(tmp_path, "az://models/churn")

    assert (puller.pull().version, puller.pull().outcome) == ("10", "unchanged")
    assert puller.content("10") == TWO
    assert (tmp_path / "churn/10/weights.bin").read_bytes() == LARGE


def test_a_blob_that_is_replaced_half_way_is_read_anew(put, tmp_path):
    """Its parts are asked for on the condition that the blob is the same."""
    put("half/1/model.onnx", ONE)
    put("half/1/weights.bin", LARGE)
    puller = Puller(tmp_path, "az://models/half")
    store = puller.wanted.source.open()
    plain = store._range

    def replace(entry, start, end):
        if start:
            store._range = plain
            put("half/1/weights.bin", LARGE[::-1])
        return plain(entry, start, end)

    store._range = replace

    assert puller.pull(store=store).outcome == "published"
    assert (tmp_path / "half/1/weights.bin").read_bytes() == LARGE[::-1]


def test_what_there_is_not_is_named(put, tmp_path):
    """Neither a blob, nor a folder, nor a container."""
    for source in ("az://models/none.onnx", "az://models/none", "az://nowhere/none"):
        with pytest.raises(StoreError, match=source):
            Puller(tmp_path, source).pull()
