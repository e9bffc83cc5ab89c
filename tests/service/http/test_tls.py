"""TLS, by real handshakes on uvloop: versions, changed files and wrong ones."""

import asyncio
import concurrent.futures
import logging
import os
import socket
import ssl
import threading
import warnings

import pytest
import uvloop

from service.errors import SettingsError
from service.http import tls
from service.http.tls import Tls
from tests.harness import certificates


@pytest.fixture
def files(tmp_path):
    """Return the paths of a certificate and its key."""
    paths = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(paths, certificates.A, certificates.A_KEY)
    return paths


def put(paths, certificate=None, key=None):
    """Replace the certificate, its key, or both."""
    for path, text in zip(paths, (certificate, key), strict=True):
        if text is not None:
            fresh = path.with_suffix(".fresh")
            fresh.write_text(text)
            fresh.chmod(0o600)
            fresh.replace(path)


class Echo(asyncio.Protocol):
    """A protocol that sends back all that it receives."""

    def connection_made(self, transport):
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data):
        """Send the data back."""
        self.transport.write(data)


class Served:
    """An event loop that takes accepted sockets as a worker does, on uvloop."""

    def __init__(self, options):
        """Start the loop; `options` returns the TLS options of each new connection."""
        self.options = options
        self.loop = uvloop.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def connect(self):
        """Return a client's socket, and the future of the handshake at the server's end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        theirs.setblocking(False)
        handshake = self.loop.connect_accepted_socket(Echo, theirs, **self.options())
        return ours, asyncio.run_coroutine_threadsafe(handshake, self.loop)

    def stop(self):
        """Stop the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def serve():
    """Yield a function that starts servers; they are stopped at the end."""
    started = []

    def start(options):
        started.append(Served(options))
        return started[-1]

    yield start
    for served in started:
        served.stop()


def trusting(certificate):
    """Return a client's context that trusts one certificate."""
    return ssl.create_default_context(cadata=certificate)


def greet(served, context):
    """Shake hands, exchange a message, and return the TLS version that was agreed on."""
    ours, handshake = served.connect()
    with context.wrap_socket(ours, server_hostname="localhost") as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        handshake.result(10)
        return client.version()


def test_a_new_pair_of_files_serves_new_connections(files, serve):
    """No restart is needed, and an open connection goes on with the old pair."""
    pair = Tls(*files)
    served = serve(pair.options)
    ours, handshake = served.connect()
    with trusting(certificates.A).wrap_socket(ours, server_hostname="localhost") as open_before:
        handshake.result(10)
        assert greet(served, trusting(certificates.A)) == "TLSv1.3"
        put(files, certificates.B, certificates.B_KEY)
        pair.look_again()

        assert greet(served, trusting(certificates.B)) == "TLSv1.3"
        with pytest.raises(ssl.SSLCertVerificationError):
            greet(served, trusting(certificates.A))
        open_before.sendall(b"still here")
        assert open_before.recv(10) == b"still here"


@pytest.mark.parametrize(
    ("least", "most", "agreed"),
    [
        pytest.param(ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "TLSv1.2", id="1.2"),
        pytest.param(ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1, None, id="1.1"),
        pytest.param(ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, None, id="1.0"),
    ],
)
def test_a_tls_version_older_than_1_2_is_refused(files, serve, least, most, agreed):
    """The service refuses it, and not only the client's own settings."""
    served = serve(Tls(*files).options)
    context = trusting(certificates.A)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = least, most
    # OpenSSL's default level forbids these versions at both ends; the test is about the service's.
    context.set_ciphers("ALL:@SECLEVEL=0")
    if agreed is not None:
        assert greet(served, context) == agreed
        return
    ours, handshake = served.connect()
    with ours, pytest.raises(ssl.SSLError):
        context.wrap_socket(ours, server_hostname="localhost")
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake.result(10)


def test_a_client_that_also_offers_http2_uses_http1(files, serve):
    """The protocol is agreed on in the handshake, before the first request."""
    served = serve(Tls(*files).options)
    context = trusting(certificates.A)
    context.set_alpn_protocols(["h2", "http/1.1"])
    ours, _ = served.connect()
    with context.wrap_socket(ours, server_hostname="localhost") as client:
        assert client.selected_alpn_protocol() == "http/1.1"


def test_a_client_that_completes_no_handshake_is_cut_off(files, serve):
    """The handshake ends with an error after its timeout, or at once if something else arrives."""
    pair = Tls(*files)
    pair.handshake_seconds = 0.1
    served = serve(pair.options)
    ours, handshake = served.connect()
    with ours, pytest.raises(ConnectionAbortedError):
        handshake.result(10)
    ours, handshake = served.connect()
    ours.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with ours, pytest.raises(ssl.SSLError):
        handshake.result(10)
    ours, handshake = served.connect()
    ours.close()
    with pytest.raises(ConnectionResetError):
        handshake.result(10)

    assert greet(served, trusting(certificates.A)) == "TLSv1.3"


def test_a_new_certificate_waits_for_its_key(files, serve, caplog):
    """A renewal writes two files in turn: a mismatch is logged once, and then the pair is used."""
    caplog.set_level(logging.INFO)
    pair = Tls(*files)
    served = serve(pair.options)
    put(files, certificate=certificates.B)
    for _ in range(3):
        pair.look_again()
        assert greet(served, trusting(certificates.A))
    half = caplog.messages[:]
    put(files, key=certificates.B_KEY)
    pair.look_again()

    assert greet(served, trusting(certificates.B))
    assert half == [
        (
            f"TRICEPS_TLS_KEY: expected the key of {files[0]}, received another's: {files[1]}; "
            "the previous certificate stays in use"
        )
    ]
    assert caplog.messages[1:] == [f"{files[0]}: has changed, and is used from now on"]


def test_missing_files_change_nothing(files, serve, caplog):
    """The loaded certificate stays in use, and the reason is logged once."""
    pair = Tls(*files)
    served = serve(pair.options)
    files[1].unlink()
    for _ in range(2):
        pair.look_again()
        assert greet(served, trusting(certificates.A))

    assert caplog.messages == [
        (
            f"TRICEPS_TLS_KEY: {files[1]} cannot be read: No such file or directory; "
            "the previous certificate stays in use"
        )
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["certificate", "key"])
def test_a_pipe_in_place_of_a_file_changes_nothing(files, serve, caplog, which):
    """The service does not wait for a writer at the other end of the pipe."""
    pair = Tls(*files)
    served = serve(pair.options)
    files[which].unlink()
    os.mkfifo(files[which])
    pair.look_again()

    assert greet(served, trusting(certificates.A))
    assert "cannot be read: expected a file of at most 1048576 bytes" in caplog.text


def test_tls_files_are_looked_at_once_a_second(files):
    """The number of connections makes no difference, and unchanged files are not read again."""
    pair = Tls(*files)
    first = pair.context()
    put(files, certificates.B, certificates.B_KEY)
    assert {pair.context() for _ in range(9)} == {first}
    pair.look_again()
    second = pair.context()
    pair.look_again()

    assert second != first
    assert pair.context() == second


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        pytest.param(
            certificates.A,
            certificates.B_KEY,
            "TRICEPS_TLS_KEY: expected the key of {0}, received another's: {1}",
            id="no pair",
        ),
        pytest.param(
            "junk",
            certificates.A_KEY,
            "TRICEPS_TLS_CERTIFICATE: expected a certificate in PEM, received something else: {0}",
            id="no certificate",
        ),
        pytest.param(
            certificates.A_KEY,
            certificates.A,
            "TRICEPS_TLS_KEY: expected a key in PEM, received a file without one: {1}",
            id="swapped",
        ),
        pytest.param(
            certificates.A,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "TRICEPS_TLS_KEY: expected the key of {0}, received something else: {1}",
            id="a damaged key",
        ),
        pytest.param(
            certificates.A,
            certificates.A_KEY_LOCKED,
            "TRICEPS_TLS_KEY: expected a key without a passphrase: {1}",
            id="a passphrase, which the service cannot ask for",
        ),
        pytest.param(
            None,
            certificates.A_KEY,
            "TRICEPS_TLS_CERTIFICATE: {0} cannot be read: No such file or directory",
            id="no file",
        ),
        pytest.param(
            certificates.A,
            None,
            "TRICEPS_TLS_KEY: {1} cannot be read: No such file or directory",
            id="no file of the key",
        ),
    ],
)
def test_wrong_files_stop_the_start(tmp_path, certificate, key, message):
    """The error names the setting and the file."""
    paths = tmp_path / "tls.crt", tmp_path / "tls.key"
    put(paths, certificate, key)

    with pytest.raises(SettingsError) as raised:
        Tls(*paths)

    assert str(raised.value) == message.format(*paths)


def test_a_folder_is_no_certificate(tmp_path, files):
    """The error repeats the reason of the operating system."""
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        Tls(tmp_path, files[1])


def test_the_settings_turn_tls_on(files, serve):
    """A certificate turns TLS on; its file may hold the key too. A key alone is an error."""
    both = files[0].with_name("both.pem")
    put((both, both), certificates.A + certificates.A_KEY)

    assert tls.of("", "") is None
    assert greet(serve(tls.of(str(both), "").options), trusting(certificates.A)) == "TLSv1.3"
    assert tls.of(*map(str, files)) is not None
    with pytest.raises(SettingsError) as raised:
        tls.of("", str(files[1]))
    assert str(raised.value) == (
        "TRICEPS_TLS_KEY: expected TRICEPS_TLS_CERTIFICATE beside it, received none"
    )


def test_a_key_that_all_can_read_causes_a_warning(files, caplog):
    """Anyone with the key can impersonate the service."""
    files[1].chmod(0o644)
    Tls(*files)

    assert caplog.messages == [
        f"{files[1]}: expected a mode such as 0600, received 0644: all may read it"
    ]


def test_simultaneous_handshakes_succeed(files, serve):
    """Sixteen clients that connect at once complete their handshakes."""
    served = serve(Tls(*files).options)
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        versions = [threads.submit(greet, served, trusting(certificates.A)) for _ in range(16)]

    assert {version.result() for version in versions} == {"TLSv1.3"}
