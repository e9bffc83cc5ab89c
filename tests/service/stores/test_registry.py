"""oci://: artifacts of oras and images as KServe mounts them, in a real registry where it is."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.stores.store import StoreError
from tests.harness import programs, small
from tests.harness.cutting_proxy import Proxy, answer
from tests.harness.stores import Puller, digest, visible
from tests.harness.waiting import until

ONE, TWO = small.three(), small.three(2.0)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
# The password `covert`, as the registry keeps it.
COVERT = "$2y$04$vddP/oEh5rP3PZL1OPs61.V3.wiJsE7xB2Ks/g4qxkY7IFBRP1qYe"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@contextlib.contextmanager
def running(folder, more=""):
    """Yield the address of a registry, Debian's package of the reference implementation."""
    program, limit = programs.program("docker-registry"), programs.program("timeout")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\n"
        f"http: {{addr: '{address}'}}\n{more}"
    )
    process = subprocess.Popen(
        [limit, "600", program, "serve", folder / "registry.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        host, port = address.split(":")
        until(lambda: socket.create_connection((host, port)).close() is None)
        yield address
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(name="registry", scope="module")
def _registry(tmp_path_factory):
    """Yield the address of a registry that lets everybody push."""
    with running(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def request(method, url, content=None, **headers):
    """Send a request; return the answer's headers."""
    sent = urllib.request.Request(url, content, method=method)
    for name, value in headers.items():
        sent.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(sent, timeout=30) as answer:
        return answer.headers


def push_blob(registry, path, content):
    """Push a blob, and return its descriptor."""
    place = request("POST", f"http://{registry}/v2/{path}/blobs/uploads/", b"")["Location"]
    name = f"sha256:{digest(content)}"
    request("PUT", f"{place}&digest={name}", content, Content_Type="application/octet-stream")
    return {"mediaType": LAYER, "digest": name, "size": len(content)}


def push(registry, path, tag, manifest, kind=MANIFEST):
    """Push a manifest or an index, and return its descriptor."""
    content = json.dumps({"schemaVersion": 2, "mediaType": kind, **manifest}).encode()
    tag = tag or f"sha256:{digest(content)}"
    request("PUT", f"http://{registry}/v2/{path}/manifests/{tag}", content, Content_Type=kind)
    return {"mediaType": kind, "digest": f"sha256:{digest(content)}", "size": len(content)}


def archive(*members, packed=True):
    """Return a layer of (name, content) or (name, type, link)."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, *rest in members:
            member = tarfile.TarInfo(name)
            if isinstance(rest[0], bytes) and len(rest) == 1:
                member.size = len(rest[0])
                tar.addfile(member, io.BytesIO(rest[0]))
            else:
                member.type, member.linkname = rest
                tar.addfile(member)
    return gzip.compress(written.getvalue()) if packed else written.getvalue()


def image(registry, path, tag, *layers):
    """Push an image of layers, and return its descriptor."""
    config = push_blob(registry, path, b"{}") | {
        "mediaType": "application/vnd.oci.image.config.v1+json"
    }
    parts = [push_blob(registry, path, layer) for layer in layers]
    return push(registry, path, tag, {"config": config, "layers": parts})


def test_an_artifact_of_oras_is_published(registry, tmp_path, monkeypatch):
    """Its files are named by their digests, and a tag that is a number is the version's."""
    (tmp_path / "model.onnx").write_bytes(ONE)
    (tmp_path / "report.html").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    pushed = programs.run(
        *("oras", "push", "--plain-http", f"{registry}/team/churn:7"),
        *("model.onnx:application/onnx", "report.html"),
    )
    assert pushed.returncode == 0, pushed.stderr
    puller = Puller(tmp_path / "models", f"oci://{registry}/team/churn:7")

    assert (puller.pull().outcome, puller.pull().outcome) == ("published", "unchanged")
    assert visible(puller.models) == [
        *("churn", "churn/7", "churn/7/model.onnx", "churn/7/report.html", "churn/7/source.json")
    ]
    facts = json.loads((puller.models / "churn/7/source.json").read_text())
    assert facts["files"]["model.onnx"]["verified"] == "sha256"
    assert facts["digest"].startswith("sha256:")


def test_an_image_is_published_as_platforms_mount_it(registry, tmp_path):
    """Files of later layers replace and remove those of earlier ones; others are left out."""
    image(
        registry,
        "cars",
        "latest",
        archive(
            ("bin/sh", b"no"), ("models/model.onnx", TWO), ("models/old.bin", b"1"), ("etc/x", b"1")
        ),
        archive(("./models/model.onnx", ONE), ("models/.wh.old.bin", b""), packed=False),
        archive(("models/w/0.bin", b"1"), ("models/.hidden", b"1")),
    )
    puller = Puller(tmp_path / "models", f"oci://{registry}/cars")

    assert (puller.pull().outcome, puller.pull().outcome) == ("published", "unchanged")
    assert puller.content("1") == ONE
    assert visible(puller.models) == [
        *("cars", "cars/1", "cars/1/model.onnx", "cars/1/source.json", "cars/1/w", "cars/1/w/0.bin")
    ]
    assert [path.name for path in puller.models.iterdir()] == ["cars"]


def test_a_cut_download_goes_on_where_it_was(registry, tmp_path):
    """The registry is asked for the rest of a layer."""
    weights = random.Random(7).randbytes(2**20)
    layer = archive(("models/model.onnx", ONE), ("models/weights.bin", weights))
    image(registry, "cut", "latest", layer)
    proxy = Proxy(int(registry.partition(":")[2]))
    proxy.troubles = {"/blobs/": [300_000, answer(503), 400_000], "/manifests/": [answer(429), 500]}
    try:
        puller = Puller(tmp_path / "models", f"oci://127.0.0.1:{proxy.port}/cut")
        assert puller.pull().outcome == "published"
    finally:
        proxy.close()

    assert (puller.models / "cut/1/weights.bin").read_bytes() == weights
    assert len(puller.said) == 5
    ranges = [line for line in proxy.ranges if line]
    assert len(ranges) == 3
    assert all(int(line.partition("bytes=")[2].rstrip("-")) > 200_000 for line in ranges)


def test_another_image_under_the_tag_is_the_next_version(registry, tmp_path):
    """An older one that comes back is not."""
    puller = Puller(tmp_path / "models", f"oci://{registry}/moving:stable")
    image(registry, "moving", "stable", archive(("models/model.onnx", ONE)))
    assert puller.pull().version == "1"
    image(registry, "moving", "stable", archive(("models/a/model.onnx", TWO)))
    assert puller.pull().version == "2"
    image(registry, "moving", "stable", archive(("models/model.onnx", ONE)))
    assert puller.pull().outcome == "older"
    assert (puller.content("1"), puller.content("2")) == (ONE, TWO)


def test_a_digest_names_one_image(registry, tmp_path):
    """It is compared, whatever the registry answers."""
    pushed = image(registry, "pinned", "a", archive(("models/model.onnx", ONE)))

    puller = Puller(tmp_path / "a", f"oci://{registry}/pinned:a@{pushed['digest']}")
    assert puller.pull().outcome == "published"
    with pytest.raises(StoreError, match="received 404"):
        Puller(tmp_path / "b", f"oci://{registry}/pinned@sha256:{'0' * 64}").pull()


def test_an_index_leads_to_the_image_for_this_machine(registry, tmp_path):
    """Statements about images are none."""
    ours = image(registry, "many", "", archive(("models/model.onnx", ONE)))
    other = image(registry, "many", "", archive(("models/model.onnx", TWO)))
    for one, two in (("amd64", "riscv"), ("riscv", "arm64")):
        manifests = [
            ours | {"platform": {"os": "linux", "architecture": one}},
            other | {"platform": {"os": "linux", "architecture": two}},
            other | {"platform": {"os": "unknown", "architecture": "unknown"}},
        ]
        push(registry, "many", one, {"manifests": manifests}, INDEX)
    machine = os.uname().machine
    if machine == "x86_64":
        assert Puller(tmp_path, f"oci://{registry}/many:amd64").pull().outcome == "published"
        assert Puller(tmp_path, f"oci://{registry}/many:amd64").content("1") == ONE
        with pytest.raises(StoreError, match="expected an image for amd64, found arm64, riscv"):
            Puller(tmp_path, f"oci://{registry}/many:riscv").pull()
    push(registry, "many", "one", {"manifests": [ours]}, INDEX)
    assert Puller(tmp_path / "b", f"oci://{registry}/many:one").pull().outcome == "published"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("models/../../x", b"1")], "expected paths of files like"),
        ([("models/a/../../../x", b"1")], "expected paths of files like"),
        ([("models/model.onnx", tarfile.SYMTYPE, "/etc/passwd")], "expected a regular file"),
        ([("models/model.onnx", tarfile.LNKTYPE, "etc/passwd")], "expected a regular file"),
        ([("models/model.onnx", tarfile.FIFOTYPE, "")], "expected a regular file"),
        ([("models/.wh...", b"")], "expected paths of files like"),
        ([("model.onnx", ONE)], "expected one model.onnx below /models of the image, found none"),
        ([("models/1/model.onnx", ONE), ("models/2/model.onnx", ONE)], "found 1/model.onnx, 2/"),
    ],
)
def test_a_layer_that_leads_elsewhere_is_refused(registry, tmp_path, members, message):
    """Nothing is written outside the hidden folder, and nothing is published."""
    name = f"evil{hashlib.sha256(repr(members).encode()).hexdigest()[:8]}"
    image(registry, name, "latest", archive(*members))
    puller = Puller(tmp_path / "below" / "models", f"oci://{registry}/{name}")

    with pytest.raises(StoreError, match=message):
        puller.pull()
    assert visible(puller.models) == []
    assert sorted(p.name for p in (tmp_path / "below").iterdir()) == ["models"]


def test_a_layer_that_inflates_without_end_is_left(registry, tmp_path):
    """A thousandth of its size is sent."""
    image(
        registry,
        "bomb",
        "latest",
        archive(("etc/zeros", bytes(30 * 2**20)), ("models/model.onnx", ONE)),
    )

    with pytest.raises(StoreError, match=r"at most 1000000 bytes \(--max-bytes\), inflated"):
        Puller(tmp_path, f"oci://{registry}/bomb", most=10**6).pull()


def test_a_damaged_layer_is_refused(registry, tmp_path):
    """The digest is right, and the archive is not."""
    for number, layer in enumerate((archive(("models/model.onnx", ONE))[:-30], b"no archive" * 99)):
        image(registry, "damaged", f"v{number}", layer)
        with pytest.raises(StoreError, match="a layer of the image is damaged"):
            Puller(tmp_path, f"oci://{registry}/damaged:v{number}").pull()


def test_what_there_is_not_is_named(registry, tmp_path):
    """Neither an image nor a registry."""
    with pytest.raises(StoreError, match="received 404"):
        Puller(tmp_path, f"oci://{registry}/nothing").pull()


def test_a_registry_with_passwords(tmp_path):
    """The credentials are those of docker's file."""
    (tmp_path / "htpasswd").write_text(f"me:{COVERT}\n")
    auth = f"auth: {{htpasswd: {{realm: test, path: {tmp_path}/htpasswd}}}}\n"
    with running(tmp_path, auth) as address:
        puller = Puller(tmp_path / "models", f"oci://{address}/churn:1")
        with pytest.raises(StoreError, match=r"received 401: it needs credentials.*DOCKER_CONFIG"):
            puller.pull()
        (tmp_path / "docker").mkdir()
        stated = base64.b64encode(b"me:covert").decode()
        (tmp_path / "docker/config.json").write_text(
            json.dumps({"auths": {address: {"auth": stated}}})
        )
        with pytest.raises(StoreError, match="received 404"):
            puller.pull()


class _Tokens(BaseHTTPRequestHandler):
    """A service of tokens, which asks for a password itself."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        content = b'{"token": "granted"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing."""


def test_a_registry_with_tokens(tmp_path):
    """A token is asked for where the registry says, for what it says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        realm = f"http://127.0.0.1:{server.server_port}/token"
        with (
            running(tmp_path, f"auth: {{silly: {{realm: '{realm}', service: here}}}}\n") as address,
            pytest.raises(StoreError, match="received 404"),
        ):
            Puller(tmp_path / "models", f"oci://{address}/churn:1").pull()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert server.asked == [("/token?service=here&scope=repository%3Achurn%3Apull", None)]
