"""A running service behind nginx: gRPC by `grpc_pass`, and REST from clients of HTTP/2."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.harness import certificates, forms, protobuf, small, three, tokens
from tests.harness.programs import program, run
from tests.harness.serving import HOST, Server, free_port
from tests.harness.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = 4000
# One process without rights of its own, whose files are all in its folder.
CONFIGURATION = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream triceps {{ server {host}:{served}; keepalive 8; }}
    server {{
        listen {host}:{port}{tls};
        http2 on;
        {certificate}
        {forwarded}
    }}
}}
"""
GRPC = """\
location /inference. { grpc_pass SCHEME://triceps; }
        location /grpc.health. { grpc_pass SCHEME://triceps; }
"""
REST = """\
location / { proxy_pass http://triceps; proxy_http_version 1.1; proxy_set_header Connection ""; }
"""
# nginx passes any request on by HTTP/2 that way, also one that is no call.
REST_BY_HTTP2 = "location / { grpc_pass SCHEME://triceps; }"


@contextlib.contextmanager
def _nginx(folder: Path, served: Server, forwarded: str, *, tls: bool = False) -> Iterator[int]:
    """Run nginx in front of a service, and yield its port."""
    port = free_port()
    home = folder / "nginx"
    home.mkdir()
    certificate = ""
    if tls:
        (home / "certificate.pem").write_text(certificates.A)
        (home / "key.pem").write_text(certificates.A_KEY)
        certificate = f"ssl_certificate {home}/certificate.pem; ssl_certificate_key {home}/key.pem;"
    configuration = home / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(
            folder=home,
            host=HOST,
            port=port,
            served=served.port,
            tls=" ssl" if tls else "",
            certificate=certificate,
            forwarded=forwarded.replace("SCHEME", "grpc" if served.tls is None else "grpcs"),
        )
    )
    # A user without rights reads no folder of root's.
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    command = [program("nginx"), "-p", str(home), "-e", str(home / "error.log"), *user]
    process = subprocess.Popen([*command, "-c", str(configuration)], stderr=subprocess.PIPE)
    try:

        def is_listening() -> bool:
            assert process.poll() is None, process.communicate()[1].decode()
            with socket.create_connection((HOST, port), 1):
                return True

        until(is_listening)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.communicate()
    said = (home / "error.log").read_text()
    assert "[error]" not in said, said


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory):
    """Return a folder with the model `three`."""
    folder = tmp_path_factory.mktemp("models")
    small.put(folder, "three", 1, small.three())
    return folder


@pytest.fixture(name="served", params=["plain", "TLS"])
def _served(models, tmp_path, request):
    """Yield a service with tokens; stop it at the end."""
    program("nginx")
    encrypted = request.param == "TLS"
    with Server("--models", models, folder=tmp_path, guarded=True, encrypted=encrypted) as server:
        server.until_ready()
        yield server
        assert server.end()[0] == 0


def _holding(name: str) -> list[tuple[str, str]]:
    return [(key.lower(), value) for key, value in tokens.header(name).items()]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("rows", [1, MANY])
def test_calls_pass_through_nginx(served, tmp_path, tls, rows):
    """Calls, their errors and their metadata go through, with TLS on either side or none."""
    arrays = three.rows(rows)
    message = protobuf.infer_request("three", arrays)
    trust = grpc.ssl_channel_credentials(certificates.A.encode())

    with _nginx(tmp_path, served, GRPC, tls=tls) as port:
        address = f"localhost:{port}"
        with (
            grpc.secure_channel(address, trust) if tls else grpc.insecure_channel(address)
        ) as channel:
            infer = channel.unary_unary(protobuf.INFER)
            for _ in range(3):
                content, call = infer.with_call(
                    message, timeout=PATIENCE, metadata=[*_holding("all"), ("x-request-id", "7")]
                )
                three.check(protobuf.infer_response(content).get, arrays)
                assert dict(call.initial_metadata())["x-request-id"] == "7"
            calls = [
                infer.future(message, timeout=PATIENCE, metadata=_holding("all")) for _ in range(20)
            ]
            for call in calls:
                three.check(protobuf.infer_response(call.result()).get, arrays)
            with pytest.raises(grpc.RpcError) as caught:
                infer(message, timeout=PATIENCE)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError) as caught:
                infer(protobuf.infer_request("thre", arrays), metadata=_holding("all"), timeout=9)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND
            assert "did you mean 'three'" in caught.value.details()
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE)
            assert dict(protobuf.fields(next(watch))) == {1: 1}
            watch.cancel()


@pytest.mark.parametrize("forwarded", [REST, REST_BY_HTTP2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("rows", [1, MANY])
def test_rest_passes_through_nginx(models, tmp_path, forwarded, rows):
    """Nginx speaks HTTP/2 with curl, and either version with the service."""
    sent = forms.native_columns(arrays := forms.rows_of(5, rows))
    (tmp_path / "body.json").write_bytes(sent.body)
    with Server("--models", models, folder=tmp_path) as server:
        server.until_ready()
        with _nginx(tmp_path, server, forwarded) as port:
            url = f"http://{HOST}:{port}"
            options = ["-sS", "--http2-prior-knowledge", "-w", "\n%{http_version} %{response_code}"]
            done = run(
                *("curl", *options, "-H", "Content-Type: application/json"),
                *("--data-binary", f"@{tmp_path}/body.json", f"{url}{sent.path}"),
            )
            missing = run("curl", *options, f"{url}/models/nope")
        assert server.end()[0] == 0

    content, _, last = done.stdout.rpartition("\n")
    assert last == "2 200", done.stderr
    three.check(forms.outputs_of({}, content).get, arrays)
    content, _, last = missing.stdout.rpartition("\n")
    assert last == "2 404", missing.stderr
    assert json.loads(content)["error"]


# The lines of docs/security.md, which hold for each location.
TELL = """\
{0}_set_header X-Forwarded-For $proxy_add_x_forwarded_for; {0}_set_header Forwarded "";
"""


@pytest.mark.parametrize(
    ("forwarded", "how"), [(REST, "proxy"), (REST_BY_HTTP2, "grpc")], ids=["HTTP/1.1", "HTTP/2"]
)
def test_the_access_log_has_the_clients_of_a_trusted_proxy(models, tmp_path, forwarded, how):
    """The client is behind another proxy, whose list nginx extends by the address of that one."""
    environment = {"TRICEPS_ACCESS_LOG": "on", "TRICEPS_TRUSTED_PROXIES": HOST}
    headers = ("-H", "X-Forwarded-For: 192.0.2.1", "-H", "Forwarded: for=192.0.2.9")
    told = forwarded.replace("location / {", "location / { " + TELL.format(how))
    with Server("--models", models, folder=tmp_path, environment=environment) as server:
        server.until_ready()
        with _nginx(tmp_path, server, told) as port:
            done = run("curl", "-sS", *headers, f"http://{HOST}:{port}/models")
            assert json.loads(done.stdout)["default"] == "three"
        lines = [json.loads(line) for line in server.end()[2].splitlines()]

    (line,) = [line for line in lines if line["path"] == "/models"]
    assert line["remote"] == "192.0.2.1"
