"""httpx over HTTP/2 against a running service: what REST answers is the same as over HTTP/1.1."""

import asyncio
import contextlib
import json
import ssl

import httpx
import pytest

from tests.harness import certificates, forms, small, three, tokens
from tests.harness.serving import Server
from tests.harness.waiting import PATIENCE

# More bytes than the windows of a stream and of a connection that HTTP/2 begins with.
MANY = 4000
STREAMS = 100
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module", name="served", params=["plain", "TLS"])
def _served(tmp_path_factory, request):
    """Yield a service of the model `three`; stop it at the end."""
    folder = tmp_path_factory.mktemp("served")
    small.put(folder / "models", "three", 1, small.three())
    variables = {"TRICEPS_DEFAULT_MODEL": "three", "TRICEPS_CORS": "https://page.example"}
    with Server(folder=folder, environment=variables, encrypted=request.param == "TLS") as server:
        server.until_ready()
        yield server
        assert server.end()[0] == 0


def _options(server, *, http2):
    """Return the options of a client: prior knowledge without TLS, otherwise ALPN."""
    trust = ssl.create_default_context(cadata=certificates.A) if server.tls else True
    # With both allowed, httpx only speaks HTTP/2 if the handshake chose it.
    http1 = not http2 or server.tls is not None
    return {
        "base_url": f"{'https' if server.tls else 'http'}://localhost:{server.port}",
        "http1": http1,
        "http2": http2,
        "verify": trust,
        "timeout": PATIENCE,
        "trust_env": False,
    }


@pytest.fixture(name="new")
def _new(served):
    """Yield a client that speaks HTTP/2."""
    with httpx.Client(**_options(served, http2=True)) as client:
        yield client


@pytest.fixture(name="old")
def _old(served):
    """Yield a client that speaks HTTP/1.1."""
    with httpx.Client(**_options(served, http2=False)) as client:
        yield client


def _same(new, old, method, path, **options):
    """Send a request over both protocols, compare the answers, and return that of HTTP/2."""
    answers = [client.request(method, path, **options) for client in (new, old)]
    for answer in answers:
        assert answer.headers.pop("x-request-id")
        for name in ("date", "connection", "keep-alive"):
            answer.headers.pop(name, None)
    ours, other = answers
    assert (ours.http_version, other.http_version) == ("HTTP/2", "HTTP/1.1")
    assert ours.status_code == other.status_code
    assert dict(ours.headers) == dict(other.headers)
    assert ours.content == other.content
    return ours


@pytest.mark.parametrize("form", forms.FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("rows", [1, MANY])
def test_predictions(new, old, form, rows):
    """Every form of every dialect is answered with the same bytes."""
    arrays = forms.rows_of(3, rows)
    sent = form(arrays)

    answer = _same(new, old, "POST", sent.path, content=sent.body, headers=dict(sent.headers))

    assert answer.status_code == 200
    three.check(forms.outputs_of(answer.headers, answer.content).get, arrays)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/livez", "/models", "/models/three", "/models/three/example", "/openapi.json"),
        *("/v2", "/v2/models/three", "/v2/models/three/config", "/v1/models/three/metadata"),
        *("/models/nope", "/nowhere", "/models/three/versions/9/predict"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_pages(new, old, method, path):
    """Pages and errors have the same status, headers and content, by any method."""
    _same(new, old, method, path)


def test_wrong_bodies(new, old):
    """Errors of a body are the same."""
    for body in (b"", b"{", b'{"instances": [1]}', b'{"instances": []}', b"\xff" * 100_000):
        answer = _same(new, old, "POST", "/models/three/predict", content=body, headers=JSON)
        assert answer.status_code == 400


def test_origins(new, old):
    """A browser's preflight request has the same answer."""
    headers = {
        "Origin": "https://page.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }

    answer = _same(new, old, "OPTIONS", "/models/three/predict", headers=headers)

    assert answer.headers["access-control-allow-origin"] == "https://page.example"


def test_request_ids(new):
    """The ID of a request comes back."""
    answer = new.get("/models", headers={"X-Request-ID": "mine"})

    assert answer.headers["x-request-id"] == "mine"


def test_a_body_without_a_length(new):
    """A streamed body needs no length, since frames have theirs."""
    arrays = forms.rows_of(3, 500)
    sent = forms.native_rows(arrays)

    def pieces():
        for start in range(0, len(sent.body), 1000):
            yield sent.body[start : start + 1000]

    answer = new.post(sent.path, content=pieces(), headers=dict(sent.headers))

    assert answer.status_code == 200
    three.check(forms.outputs_of(answer.headers, answer.content).get, arrays)


def test_streams_of_one_connection(served):
    """A hundred requests at once on one connection each get their own answer."""

    async def ask():
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(**_options(served, http2=True), limits=limits) as client:
            await client.get("/livez")
            asked = [forms.rows_of(seed, 1 + seed % 7) for seed in range(STREAMS)]
            sent = [forms.native_columns(arrays) for arrays in asked]
            answers = await asyncio.gather(
                *(client.post(s.path, content=s.body, headers=dict(s.headers)) for s in sent)
            )
            for arrays, answer in zip(asked, answers, strict=True):
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                three.check(forms.outputs_of(answer.headers, answer.content).get, arrays)

    asyncio.run(ask())


def test_a_cancelled_request(served):
    """After requests that are given up at any moment, the client is answered as before."""
    sent = forms.native_rows(forms.rows_of(3, MANY))

    async def ask():
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(**_options(served, http2=True), limits=limits) as client:
            for seconds in (0.0, 0.001, 0.005, 0.02):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(client.post(sent.path, content=sent.body), seconds)
                # A client that is stopped within a write cannot go on with the connection.
                for _ in range(2):
                    with contextlib.suppress(httpx.TransportError):
                        answer = await client.get("/livez")
                        break
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")

    asyncio.run(ask())


def test_tokens(tmp_path):
    """A token is required and accepted as over HTTP/1.1."""
    small.put(tmp_path / "models", "three", 1, small.three())
    sent = forms.native_rows(forms.rows_of(3, 2))
    with Server("--workers", 1, folder=tmp_path, guarded=True) as server:
        server.until_ready()
        with httpx.Client(**_options(server, http2=True), headers=JSON) as client:
            refused = client.post(sent.path, content=sent.body)
            accepted = client.post(sent.path, content=sent.body, headers=tokens.header("predict"))
        assert server.end()[0] == 0

    assert (refused.status_code, accepted.status_code) == (401, 200)
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert json.loads(refused.content)["error"]


def test_http1_alone(tmp_path):
    """With `TRICEPS_PROTOCOLS=http1`, the handshake chooses HTTP/1.1."""
    small.put(tmp_path / "models", "three", 1, small.three())
    with Server(
        "--workers", 1, folder=tmp_path, encrypted=True, environment={"TRICEPS_PROTOCOLS": "http1"}
    ) as server:
        server.until_ready()
        with httpx.Client(**_options(server, http2=True)) as client:
            answer = client.get("/livez")
        assert server.end()[0] == 0

    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
