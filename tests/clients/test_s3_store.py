"""`triceps pull s3://…` from a real server of objects (moto), behind a proxy that cuts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from service.stores.store import Interrupted, StoreError
from tests.harness import small
from tests.harness.cutting_proxy import Proxy, answer
from tests.harness.stores import Puller, digest, visible
from tests.harness.waiting import until

ROOT = Path(__file__).parents[2]
ONE, TWO = small.three(), small.three(2.0)
# More than one request has.
LARGE = bytes(range(256)) * (40 * 2**10)


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory):
    """Yield the port of moto's server, which ends with the tests."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = (
        "import signal; signal.alarm(900); "
        f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    )
    log = (tmp_path_factory.mktemp("moto") / "log").open("wb")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
    try:
        until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
        yield port
    finally:
        process.terminate()
        process.wait(30)
        log.close()


@pytest.fixture(name="proxy")
def _proxy(server, monkeypatch):
    """Yield a proxy in front of the server, which the environment names as the store."""
    proxy = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "covert")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield proxy
    proxy.close()


@pytest.fixture(name="bucket")
def _bucket(server, proxy):
    """Yield a function that puts objects into a new bucket `models`."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server}")
    client.create_bucket(Bucket="models")

    def put(key, content):
        client.put_object(Bucket="models", Key=key, Body=content)

    yield put
    for entry in client.list_objects_v2(Bucket="models").get("Contents", ()):
        client.delete_object(Bucket="models", Key=entry["Key"])
    client.delete_bucket(Bucket="models")
    client.close()


@pytest.fixture(name="puller")
def _puller(bucket, tmp_path):
    """Return pulls of the model `churn`."""
    return Puller(tmp_path / "models", "s3://models/churn")


def test_the_newest_version_is_published_once(puller, bucket):
    """It has the number of its folder, and its files; a folder without a graph is not one yet."""
    bucket("churn/9/model.onnx", ONE)
    bucket("churn/10/", b"")
    bucket("churn/10/model.onnx", TWO)
    bucket("churn/10/weights/0.bin", LARGE)
    bucket("churn/11/weights/0.bin", LARGE)

    assert (puller.pull().version, puller.pull().outcome) == ("10", "unchanged")
    assert puller.content("10") == TWO
    assert (puller.models / "churn/10/weights/0.bin").read_bytes() == LARGE
    facts = json.loads((puller.models / "churn/10/source.json").read_text())
    assert (facts["source"], facts["version"]) == ("s3://models/churn", "10")
    assert {name: entry["sha256"] for name, entry in facts["files"].items()} == {
        "model.onnx": digest(TWO),
        "weights/0.bin": digest(LARGE),
    }


def test_a_folder_and_an_object_are_sources(bucket, tmp_path):
    """They have no numbers, so that each new content is the next version."""
    bucket("flat/model.onnx", ONE)
    bucket("best.onnx", ONE)
    bucket("best.onnx.sha256", digest(ONE).encode())
    best = Puller(tmp_path / "models", "s3://models/best.onnx")

    assert Puller(tmp_path / "models", "s3://models/flat").pull().version == "1"
    assert best.pull().files["model.onnx"].verified == "sha256"
    bucket("best.onnx", TWO)
    bucket("best.onnx.sha256", digest(TWO).encode())
    assert best.pull().version == "2"
    bucket("best.onnx", ONE)
    bucket("best.onnx.sha256", digest(ONE).encode())
    assert best.pull().outcome == "older"


def test_cuts_and_throttling_are_waited_for(puller, bucket, proxy):
    """What was received of an object is not asked for again."""
    bucket("churn/1/model.onnx", ONE)
    bucket("churn/1/weights.bin", LARGE)
    proxy.troubles = {
        "weights.bin": [9000, answer(429), 90_000],
        "list-type": [answer(503), 100],
    }

    assert puller.pull().outcome == "published"
    assert (puller.models / "churn/1/weights.bin").read_bytes() == LARGE
    assert len(puller.said) == 5


def test_a_server_that_always_fails_is_left(puller, bucket, proxy):
    """A bounded number of attempts is made."""
    proxy.troubles = {"": [answer(503)] * 99}

    with pytest.raises(Interrupted, match=r"s3://models/churn: .*503"):
        puller.pull()
    assert proxy.seen == 4


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "docs/pull.md says where credentials come from"), (400, "400")]
)
def test_a_refusal_is_final(puller, bucket, proxy, status, reason):
    """Another attempt would have the same outcome; no key is in the message."""
    proxy.troubles = {"": [answer(status)] * 99}

    with pytest.raises(StoreError, match=reason) as raised:
        puller.pull()
    assert proxy.seen == 1
    assert "covert" not in str(raised.value)


def test_an_object_that_is_replaced_half_way_is_read_anew(puller, bucket, proxy):
    """Its parts are asked for on the condition that the object is the same."""
    bucket("churn/1/model.onnx", ONE)
    bucket("churn/1/weights.bin", LARGE)
    store = puller.wanted.source.open()
    plain = store._range
    other = LARGE[::-1]

    def replace(entry, start, end):
        if start:
            store._range = plain
            bucket("churn/1/weights.bin", other)
        return plain(entry, start, end)

    store._range = replace

    assert puller.pull(store=store).outcome == "published"
    assert (puller.models / "churn/1/weights.bin").read_bytes() == other
    assert "replaced while it was read" in "".join(puller.said)


def test_what_there_is_not_is_named(puller, bucket, tmp_path):
    """An init container fails, and does not start a service without a model."""
    with pytest.raises(
        StoreError, match=r"expected model.onnx or <version>/model.onnx, found noth"
    ):
        puller.pull()
    with pytest.raises(StoreError, match="there is no such object"):
        Puller(tmp_path, "s3://models/none.onnx").pull()
    with pytest.raises(StoreError, match="404"):
        Puller(tmp_path, "s3://nowhere/churn").pull()
    assert visible(puller.models) == []


@pytest.mark.parametrize("key", ["churn/1/../../../x", "churn/1/a\\b", "churn/1//x"])
def test_a_key_that_leads_elsewhere_is_refused(puller, bucket, key):
    """A key may be any text."""
    bucket("churn/1/model.onnx", ONE)
    bucket(key, b"1")

    with pytest.raises(StoreError):
        puller.pull()
    assert visible(puller.models) == []


def test_the_command(bucket, tmp_path):
    """Its process loads the file after a client with threads has run in it."""
    bucket("churn/3/model.onnx", ONE)
    program = "from service.commands.pull import pull; pull()"

    done = subprocess.run(
        [sys.executable, "-c", program, "s3://models/churn", "--into", tmp_path / "models"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout) == (
        0,
        f"published churn, version 3: {tmp_path}/models/churn/3/model.onnx\n",
    )
    assert "covert" not in done.stderr
