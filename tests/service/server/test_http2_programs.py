"""curl, nghttp and h2load against a running service: HTTP/2 as others have written it."""

import json
import re

import pytest

from tests.harness import certificates, forms, small, three
from tests.harness.programs import program, run
from tests.harness.serving import Server

# More rows than fit into a frame, or into the windows that HTTP/2 begins with.
MANY = 4000


@pytest.fixture(scope="module", name="served", params=["plain", "TLS"])
def _served(tmp_path_factory, request):
    """Yield a service of the model `three`; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    small.put(folder / "models", "three", 1, small.three())
    with Server(folder=folder, encrypted=request.param == "TLS") as server:
        server.until_ready()
        yield server
        assert server.end()[0] == 0


@pytest.fixture(name="options")
def _options(served):
    """Return the options of curl: prior knowledge without TLS, otherwise ALPN."""
    return ["--http2-prior-knowledge"] if served.tls is None else ["--http2"]


@pytest.fixture(name="root")
def _root(tmp_path):
    """Return the path of the certificate to trust."""
    file = tmp_path / "root.pem"
    file.write_text(certificates.A)
    return file


@pytest.fixture(name="rows", params=[1, MANY])
def _rows(request, tmp_path):
    """Return rows, the request that has them, and the file of its body."""
    arrays = forms.rows_of(5, request.param)
    sent = forms.native_columns(arrays)
    file = tmp_path / "body.json"
    file.write_bytes(sent.body)
    return arrays, sent, file


def _url(served, path):
    # The certificate is for localhost.
    return f"{served.url.replace(served.host, 'localhost')}{path}"


def _needs_http2(name):
    """Skip the test if curl was built without HTTP/2."""
    program(name)
    if "HTTP2" not in run(name, "--version").stdout:
        pytest.skip(f"this {name} was built without HTTP/2")


def _curl(root, *arguments):
    """Run curl; return the version of HTTP, the status and the content."""
    _needs_http2("curl")
    done = run(
        "curl", "-sS", "--cacert", root, "-w", "\n%{http_version} %{response_code}", *arguments
    )
    assert done.returncode == 0, done.stderr
    content, _, last = done.stdout.rpartition("\n")
    version, status = last.split()
    return version, int(status), content


def test_curl_predicts(served, options, root, rows):
    """Curl sends a body over HTTP/2, and gets the answer."""
    arrays, sent, file = rows

    version, status, content = _curl(
        *(root, *options, "-H", "Content-Type: application/json"),
        *("--data-binary", f"@{file}", _url(served, sent.path)),
    )

    assert (version, status) == ("2", 200)
    three.check(forms.outputs_of({}, content).get, arrays)


def test_curl_sends_a_body_without_a_length(served, options, root, rows):
    """Curl does not know the length of what it reads from a pipe."""
    arrays, sent, file = rows

    version, status, content = _curl(
        *(root, *options, "-H", "Content-Type: application/json"),
        *("-X", "POST", "-T", file, "-H", "Content-Length:", _url(served, sent.path)),
    )

    assert (version, status) == ("2", 200)
    three.check(forms.outputs_of({}, content).get, arrays)


def test_curl_reads_pages_and_errors(served, options, root):
    """Pages and errors are as over HTTP/1.1, and HEAD has no content."""
    for path, expected in (("/models/three", 200), ("/models/nope", 404), ("/livez?x=1", 200)):
        version, status, content = _curl(root, *options, _url(served, path))
        old = _curl(root, "--http1.1", _url(served, path))
        assert (version, status) == ("2", expected)
        assert old == ("1.1", expected, content)
        assert _curl(root, *options, "--head", "-o", "/dev/null", _url(served, path)) == (
            *("2", expected, ""),
        )


def test_curl_asks_many_at_once(served, options, root):
    """Requests that share a connection are all answered."""
    urls = [_url(served, f"/models/three?n={n}") for n in range(200)]
    _needs_http2("curl")
    done = run(
        *("curl", "-sS", "--cacert", root, *options, "--parallel", "--parallel-max", 100),
        *("-w", "%{http_version} %{response_code}\\n", "-o", "/dev/null"),
        *(part for url in urls for part in ("-o", "/dev/null", url)),
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["2 200"] * len(urls)


@pytest.mark.parametrize("served", ["plain"], indirect=True)
def test_curl_does_not_upgrade(served, root):
    """An upgrade from HTTP/1.1, which RFC 9113 has removed, is not taken."""
    version, status, _ = _curl(root, "--http2", _url(served, "/livez"))

    assert (version, status) == ("1.1", 200)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="plainly"),
        pytest.param(["--padding=200"], id="padded"),
        pytest.param(["--window-bits=16", "--connection-window-bits=16"], id="small windows"),
        pytest.param(["--trailer=x-end: 1"], id="trailers"),
        pytest.param(["--header-table-size=0"], id="no header table"),
        pytest.param(["--header-table-size=65536"], id="a large header table"),
        pytest.param(["--max-concurrent-streams=1", "--no-push"], id="no push"),
        pytest.param(["--expect-continue"], id="Expect: 100-continue"),
        pytest.param(["--no-dep", "--weight=1"], id="no dependencies"),
        pytest.param(["--encoder-header-table-size=0"], id="no table of its own"),
    ],
)
def test_nghttp_predicts(served, rows, options):
    """Nghttp sends the body in ways that few clients use, and gets the answer."""
    arrays, sent, file = rows

    done = run(
        *("nghttp", "--timeout=20", *options, "-H", "content-type: application/json"),
        *("--data", file, _url(served, sent.path)),
    )

    assert done.returncode == 0, done.stderr
    # A certificate that nobody trusts is only worth a line to it.
    content = done.stdout[done.stdout.index('{"') :]
    three.check(forms.outputs_of({}, content).get, arrays)


def test_nghttp_is_told_of_a_header_block_that_is_too_large(served):
    """A header block of 24 kB, in CONTINUATION frames, ends the connection with its reason."""
    done = run("nghttp", "--verbose", "--continuation", _url(served, "/livez"))

    assert "error_code=ENHANCE_YOUR_CALM" in done.stdout
    assert "header block: expected at most 16384 bytes" in done.stdout


def test_nghttp_asks_many_at_once(served):
    """A hundred requests of one connection are all answered, and the frames are as they should."""
    done = run("nghttp", "--stat", "--null-out", "--multiply=100", _url(served, "/models/three"))

    assert done.returncode == 0, done.stderr
    statuses = re.findall(r"^ *\d+ +\S+ +\S+ +\S+ +(\d+) ", done.stdout, re.MULTILINE)
    assert statuses == ["200"] * 100


@pytest.mark.parametrize(("count", "size", "streams"), [(2000, 1, 20), (200, 300, 2)])
def test_h2load_gets_every_answer(served, tmp_path, count, size, streams):
    """H2load counts an answer for each request, on streams of many connections."""
    sent = forms.native_columns(forms.rows_of(5, size))
    file = tmp_path / "body.json"
    file.write_bytes(sent.body)

    done = run(
        *("h2load", f"--requests={count}", "--clients=10", f"--max-concurrent-streams={streams}"),
        *("-H", "content-type: application/json", "--data", file, _url(served, sent.path)),
    )

    assert done.returncode == 0, done.stderr
    assert f"{count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert f"status codes: {count} 2xx" in done.stdout


def test_the_log_of_the_service_has_no_errors(served):
    """None of these programs made the service log an error."""
    entries = [json.loads(line) for line in served.said().splitlines() if line.startswith("{")]

    assert [one for one in entries if one.get("level") in {"error", "critical"}] == []
