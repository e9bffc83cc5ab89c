"""The requests and the models for the comparison of the answers of two checkouts.

The requests have every dialect, page, spelling, method, encoding and token, right and wrong.  Their
bodies and the models are those of `tests/corpus`, so that no change of the code or of its tests
changes them.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/corpus"
SHIPPED = ROOT / "models/triceps/1/model.onnx"
# The model has two versions; the older one is loaded on demand, and has an alias.
MODEL = "three"

_PATHS = {
    "native": "/models/{}/predict",
    "oip": "/v2/models/{}/infer",
    "predict": "/v1/models/{}:predict",
    "classify": "/v1/models/{}:classify",
    "regress": "/v1/models/{}:regress",
    # This protocol has no model in its paths.
    "mlflow": "/invocations",
}
_LENGTH = "Inference-Header-Content-Length"
_JSON = {"Content-Type": "application/json"}
_ROW = {
    "insurance": {"age": 47, "smoker": "no", "bmi": 31.5},
    "fruit": [1, 2],
    "digit": [0, 1, 2, 3],
}
_GOOD = json.dumps({"instances": [_ROW]}).encode()
# Above the size from which answers are compressed.
_MANY = json.dumps({"instances": 40 * [_ROW]}).encode()
_WRONG = b'{"instances":[{"insurance":{"age":"x"},"fruit":[1]}],"heads":["siz"]}'
# Bodies in addition to the corpus: defaults, heads and forms of requests.
_BODIES = {
    "defaults": {"instances": [{"insurance": {"bmi": 20}, "digit": [1, 2, 3, 4]}]},
    "one head": {"instances": [_ROW], "heads": ["size"]},
    "no heads": {"instances": [_ROW], "heads": []},
    "no rows": {"instances": []},
    "explained": {"instances": [_ROW], "explain": True},
    "explained wrongly": {"instances": [_ROW], "explain": {"method": "shap", "heads": ["tags"]}},
    "columns": {"inputs": {name: [value] for name, value in _ROW.items()}},
    "both forms": {"instances": [_ROW], "inputs": {}},
    "unequal columns": {"inputs": {**{n: [v] for n, v in _ROW.items()}, "fruit": [[1, 2], [3, 4]]}},
    "many problems": {"instances": 5 * [{"insurance": {"ag": "x"}, "fruits": 1, "digit": [None]}]},
}
_EXTREMES = (
    b'{"instances":[{"insurance":[-1e38,"no",3.4028235e+38],"fruit":[1e-45,-0.0],'
    b'"digit":[0,0,0,0]}]}'
)


@dataclass(frozen=True)
class Request:
    """An HTTP/1.1 request as bytes, and its name."""

    name: str
    content: bytes
    # Whether only `triceps serve` gets the request, because it tests the HTTP parser.
    ours: bool = False


def request(
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    called: str = "",
) -> Request:
    """Build a request.

    Args:
        method: the method.
        target: the target, as it is sent.
        body: the body; `None` for a request without one.
        headers: the headers; by default, the content type JSON if there is a body.
        called: a name that tells the request from others of the same method and target.
    """
    if headers is None:
        headers = {} if body is None else _JSON
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    name = f"{method} {target[:100]}{f' ({called})' if called else ''}"
    return Request(name, "\r\n".join([*lines, "", ""]).encode() + (body or b""))


def write_models(folder: Path) -> None:
    """Write a repository with all models, including a broken one and the included one."""
    for path in sorted((CORPUS / "models").glob("*.onnx")):
        _put(folder, path.stem, "1", path)
    _put(folder, MODEL, "2", CORPUS / f"models/{MODEL}.onnx")
    (folder / MODEL / "aliases.json").write_text('{"stable": "1"}')
    _put(folder, "triceps", "1", SHIPPED)
    broken = folder / "broken/1/model.onnx"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no model")


def _put(folder: Path, name: str, version: str, source: Path) -> None:
    target = folder / name / version / "model.onnx"
    target.parent.mkdir(parents=True)
    shutil.copyfile(source, target)


def requests() -> list[Request]:
    """Return all requests for a service without tokens."""
    return [
        *_corpus(),
        *_bodies(),
        *_pages(),
        *_spellings(),
        *_methods(),
        *_encodings(),
        *_headers(),
        *_framing(),
    ]


def _corpus() -> Iterator[Request]:
    for path in sorted(CORPUS.glob("*/*.body")):
        head, _, body = path.read_bytes().partition(b"\n\n")
        first, *lines = head.decode().split("\n")
        form, model = first.split(" ")
        if form not in _PATHS:
            # The messages of gRPC come over HTTP/2 alone.
            continue
        headers = dict(line.split(": ", 1) for line in lines)
        kind = "application/octet-stream" if _LENGTH in headers else "application/json"
        headers = {"Content-Type": kind, **headers}
        called = f"{path.parent.name}/{path.stem}"
        yield request("POST", _PATHS[form].format(model), body, headers, called)


def _bodies() -> Iterator[Request]:
    for name, said in _BODIES.items():
        yield request("POST", f"/models/{MODEL}/predict", json.dumps(said).encode(), called=name)
    yield request("POST", f"/models/{MODEL}/predict", _EXTREMES, called="extreme numbers")
    yield request("POST", "/predict", _MANY, called="forty rows")
    for path in (
        *("/models/none/predict", "/models/thre/predict", "/models/broken/predict"),
        *(f"/models/{MODEL}/versions/{version}/predict" for version in ("1", "2", "3", "x", "01")),
        *(f"/models/{MODEL}/aliases/{alias}/predict" for alias in ("stable", "stabel", "1")),
        *(
            "/v1/models/none:predict",
            f"/v1/models/{MODEL}:generate",
            f"/v1/models/{MODEL}:explain",
            "/v1/models/broken:predict",
        ),
        *(
            f"/v1/models/{MODEL}/{which}:{verb}"
            for verb in ("predict", "classify", "regress", "explain")
            for which in ("versions/1", "versions/9", "labels/stable", "labels/none")
        ),
        *("/v2/models/none/infer", "/v2/models/broken/infer", f"/v2/models/{MODEL}/generate"),
        *(f"/v2/models/{MODEL}/versions/{v}/infer" for v in ("1", "9")),
        *("/predict", "/invocations", "/nothing", "/models/triceps/predict"),
        *("/models/risky/predict", "/v1/models/risky:predict", "/v2/models/fruity/infer"),
    ):
        yield request("POST", path, _GOOD)
        yield request("POST", path, _WRONG, called="wrong")
    # Rows are independent wherever they are; whole tensors follow rules of their own.
    yield request("POST", "/models/brittle/predict", b'{"inputs":{"x":[[1]],"place":[7]}}')
    yield request("POST", "/models/deep/predict", b'{"instances":[[[[1,2,3]],[[4,5,6]]]]}')


def _pages() -> Iterator[Request]:
    names = [*sorted(path.stem for path in (CORPUS / "models").glob("*.onnx")), "triceps"]
    models = (*names, "risky", "none", "broken", "", "thre", "%C3%A9", "a%20b")
    versions = ("versions/1", "versions/2", "versions/9", "versions/x")
    for path in (
        *("/", "/livez", "/readyz", "/ping", "/health", "/healthz", "/version", "/openapi.json"),
        *("/models", "/v1/models", "/v2", "/v2/models", "/v2/health/live", "/v2/health/ready"),
        *("/favicon.ico", "/v1", "/v3", "/v2/nothing", "/v1/nothing", "/invocations/none"),
        *(f"/models/{name}" for name in models),
        *(f"/models/{name}/compare" for name in models),
        *(f"/models/{name}/example" for name in models),
        *(f"/v1/models/{name}" for name in models),
        *(f"/v1/models/{name}/metadata" for name in models),
        *(f"/v2/models/{name}" for name in models),
        *(f"/v2/models/{name}/ready" for name in models),
        *(f"/v2/models/{name}/config" for name in models),
        *(f"/models/{MODEL}/{which}" for which in (*versions, "aliases/stable", "aliases/no")),
        *(
            f"/models/{MODEL}/{which}/{page}"
            for which in versions
            for page in ("example", "report")
        ),
        *(f"/v1/models/{MODEL}/{which}" for which in (*versions, "labels/stable", "labels/no")),
        *(f"/v1/models/{MODEL}/{which}/metadata" for which in (*versions, "labels/stable")),
        *(f"/v2/models/{MODEL}/{which}" for which in versions),
        *(f"/v2/models/{MODEL}/{which}/ready" for which in versions),
        *(f"/v2/models/{MODEL}/{which}/config" for which in versions),
        *("/v2/models/none/stats", f"/v2/models/{MODEL}/versions/9/stats"),
        *(
            f"/models/{name}/example?dialect={dialect}"
            for name in (MODEL, "deep", "scalar", "string")
            for dialect in ("native", "oip", "tfserving", "classify", "regress", "mlflow", "x", "")
        ),
    ):
        yield request("GET", path)
    for content in (b"", b"{}", b'{"ready":true}', b'{"ready":1}', b"[]", b"{"):
        yield request("POST", "/v2/repository/index", content, called=content.decode())


def _spellings() -> Iterator[Request]:
    for method, path in (
        *(("POST", path.format(MODEL)) for path in dict.fromkeys(_PATHS.values())),
        *(("POST", f"/models/{MODEL}/versions/1/predict"), ("POST", "/predict")),
        *(("GET", "/models"), ("GET", f"/v2/models/{MODEL}"), ("GET", "/readyz")),
    ):
        body = _GOOD if method == "POST" else None
        last = path.rpartition("/")[2]
        for spelled in dict.fromkeys(
            (
                *(
                    f"{path}?x=1",
                    f"{path}?",
                    f"{path}/",
                    f"{path}//",
                    f"{path}/?a=b&c=/",
                    f"/{path}",
                ),
                *(f"/%{ord(path[1]):02x}{path[2:]}", "/" + path[1:].replace("/", "%2F")),
                *(path.replace("/", "//"), f"{path}%3Fx=1", f"{path}%00", f"{path}%ff", f"{path}%"),
                *(f"{path};x=1", path.upper(), f"/models/..{path}", f"/.{path}", f"{path}/.."),
                *(f"http://anywhere:80{path}", f"{path}#x", f"{path}?{'x' * 3000}", f"{path}x"),
                *(path.replace(last, last.replace("e", "%2565")), path[1:], "*"),
            )
        ):
            yield request(method, spelled, body, called=f"of {path}, {len(spelled)} long")


def _methods() -> Iterator[Request]:
    predictions = [path.format(MODEL) for path in dict.fromkeys(_PATHS.values())]
    pages = [
        "/",
        "/livez",
        "/models",
        f"/models/{MODEL}",
        "/v2",
        "/v2/repository/index",
        "/nothing",
    ]
    loading = [f"/v2/repository/models/{MODEL}/{verb}" for verb in ("load", "unload")]
    for path in (*predictions, *pages, *loading, "/models/none", "/openapi.json"):
        for method in ("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND"):
            yield request(method, path, called="method")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            if (method, path) != ("POST", "/v2/repository/index"):
                yield request(method, path, _GOOD, called="method")


def _encodings() -> Iterator[Request]:
    path = f"/models/{MODEL}/predict"
    packed = gzip.compress(_MANY, mtime=0)
    for encoding, body in (
        *(
            ("gzip", packed),
            ("x-gzip", packed),
            ("GZIP", packed),
            ("deflate", zlib.compress(_MANY)),
        ),
        *(("gzip", _MANY), ("gzip", packed[:-9]), ("gzip", packed + b"x"), ("gzip", b"")),
        *(("gzip", packed + packed), ("gzip, gzip", gzip.compress(packed, mtime=0))),
        *(("br", b"x"), ("identity", _MANY), ("", _MANY), ("deflate", packed), ("zstd", b"")),
        *(
            ("gzip", gzip.compress(b" " * (17 << 20), mtime=0)),
            ("gzip", gzip.compress(_WRONG, mtime=0)),
        ),
    ):
        called = f"{encoding}, {sha256(body).hexdigest()[:6]}"
        yield request("POST", path, body, {**_JSON, "Content-Encoding": encoding}, called)
    for accepted in (
        *(
            "gzip",
            "gzip;q=0",
            "*",
            "*;q=0",
            "identity",
            "gzip;q=0.5, identity",
            "br",
            "deflate, gzip",
        ),
        *("gzip;q=x", "", "GZIP"),
    ):
        headers = {**_JSON, "Accept-Encoding": accepted}
        for called, body in (("one", _GOOD), ("forty", _MANY), ("wrong", _WRONG)):
            yield request("POST", path, body, headers, f"{called}, accepts {accepted}")
        for page in ("/openapi.json", "/models", "/livez", "/nothing"):
            yield request("GET", page, None, {"Accept-Encoding": accepted}, f"accepts {accepted}")
    for kind in (
        *("", "application/json; charset=utf-8", "application/json; charset=latin-1", "text/csv"),
        *(
            "text/plain",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "APPLICATION/JSON",
        ),
        *("application/jsonlines", "application/vnd.api+json", "text/csv; header=absent", ";", "é"),
    ):
        for target in (
            path,
            "/invocations",
            f"/v2/models/{MODEL}/infer",
            f"/v1/models/{MODEL}:predict",
        ):
            yield request("POST", target, _GOOD, {"Content-Type": kind}, f"type {kind}")


def _headers() -> Iterator[Request]:
    for name, values in {
        "X-Request-Timeout": ("5", "0.2", "0", "-1", "nan", "inf", "x", "", "1e400", "5, 5"),
        "X-Request-ID": ("mine", "mine ", "a" * 128, "a" * 129, "a b", '"', "é", ""),
        "traceparent": (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        "X-Server-Timing": ("1", "0", "x"),
        "Origin": ("https://example.org", "null"),
        "Accept": ("application/json", "text/html", "*/*;q=0", "x"),
        "Authorization": ("Bearer x", "Basic eDp4", "x", ""),
        "Cookie": ("a=b",),
        "X-Forwarded-Proto": ("https",),
    }.items():
        for value in values:
            called = f"{name}: {value}"
            for path in (f"/models/{MODEL}/predict", f"/v2/models/{MODEL}/infer"):
                yield request("POST", path, _GOOD, {**_JSON, name: value}, called)
            for path in ("/models", "/nothing"):
                yield request("GET", path, None, {name: value}, called)


def _framing() -> Iterator[Request]:
    """Yield requests with a framing that no client library writes."""
    post = f"POST /models/{MODEL}/predict HTTP/1.1\r\n".encode()
    host = b"Host: localhost\r\n"
    close = b"Connection: close\r\n"
    kind = b"Content-Type: application/json\r\n"
    sized = b"Content-Length: %d\r\n\r\n" % len(_GOOD)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"
    last = b"GET / HTTP/1.1\r\n" + host + close + b"\r\n"
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_GOOD), _GOOD)
    by_name = {
        "chunked": post + host + close + kind + chunked + whole,
        "chunks with trailers": post + host + close + kind + chunked + whole[:-2] + b"a: b\r\n\r\n",
        "wrong chunk": post + host + close + kind + chunked + b"xyz\r\n",
        "chunked and sized": post + host + close + kind + sized[:-2] + chunked + whole,
        "expect": post + host + close + kind + b"Expect: 100-continue\r\n" + sized + _GOOD,
        "expect what": post + host + close + kind + b"Expect: 200-ok\r\n" + sized + _GOOD,
        "no length": post + host + close + kind + b"\r\n",
        "negative length": post + host + close + kind + b"Content-Length: -1\r\n\r\n",
        "length of letters": post + host + close + kind + b"Content-Length: x\r\n\r\n",
        "two lengths": post
        + host
        + close
        + kind
        + sized[:-2]
        + b"Content-Length: 3\r\n\r\n"
        + _GOOD,
        "too large": post + host + close + kind + b"Content-Length: 99999999\r\n\r\n",
        "no host": post + close + kind + sized + _GOOD,
        "two hosts": post + host + host + close + kind + sized + _GOOD,
        "empty host": post + b"Host:\r\n" + close + kind + sized + _GOOD,
        "HTTP/1.0": post.replace(b"1.1", b"1.0") + kind + sized + _GOOD,
        "HTTP/2.0": post.replace(b"1.1", b"2.0") + host + kind + sized + _GOOD,
        "HTTP/0.9": b"GET /\r\n\r\n",
        "another protocol": post.replace(b"HTTP/1.1", b"RTSP/1.0") + host + kind + sized + _GOOD,
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        "a header too large": post
        + host
        + close
        + b"a: "
        + 70_000 * b"x"
        + b"\r\n"
        + sized
        + _GOOD,
        "headers too many": post + host + close + 2000 * b"a: b\r\n" + kind + sized + _GOOD,
        "a folded header": post + host + close + b"a: b\r\n c\r\n" + kind + sized + _GOOD,
        "a blank before the colon": post + host + close + b"a : b\r\n" + kind + sized + _GOOD,
        "NUL in a header": post + host + close + b"a: \x00\r\n" + kind + sized + _GOOD,
        "line ends of LF": (post + host + close + kind + sized).replace(b"\r\n", b"\n") + _GOOD,
        "a long target": b"GET /" + 70_000 * b"x" + b" HTTP/1.1\r\n" + host + close + b"\r\n",
        "upgrade": post
        + host
        + b"Connection: upgrade\r\nUpgrade: h2c\r\n"
        + kind
        + sized
        + _GOOD
        + last,
        "two in a row": 2 * (post + host + kind + sized + _GOOD) + last,
        "a tab in the type": post
        + host
        + close
        + b"Content-Type:\tapplication/json\t\r\n"
        + sized
        + _GOOD,
    }
    for name, content in by_name.items():
        yield Request(f"framing: {name}", content, ours=True)


# The tokens are derived from their names, since they protect nothing.
_SCOPES = {
    "all": ("predict", "admin", "metrics"),
    "predict": ("predict",),
    "metrics": ("metrics",),
    "some": ("predict",),
}


def write_tokens(file: Path) -> None:
    """Write a tokens file; the token `some` is for a single model."""
    tables = [
        f'[[tokens]]\nname = "{name}"\nhash = "sha256:{sha256(_secret(name)).hexdigest()}"\n'
        f"scopes = {list(scopes)}\n" + (f'models = ["{MODEL}"]\n' if name == "some" else "")
        for name, scopes in _SCOPES.items()
    ]
    file.write_text("\n".join(tables))
    file.chmod(0o600)


def _secret(name: str) -> bytes:
    return f"{name}.{sha256(name.encode()).hexdigest()}".encode()


def guarded() -> list[Request]:
    """Return all requests for a service with tokens; the last ones unload a model."""
    bearers = {name: f"Bearer {_secret(name).decode()}" for name in _SCOPES}
    bearers |= {"none": "", "unknown": "Bearer x", "basic": "Basic eDp4"}
    pages = (
        *("/", "/livez", "/readyz", "/ping", "/v2", "/v2/health/ready", "/models", "/openapi.json"),
        *(f"/models/{MODEL}", "/models/plant", "/models/none", f"/v2/models/{MODEL}", "/nothing"),
        *("/v1/models/plant", f"/models/{MODEL}/aliases/stable"),
    )
    every = []
    for name, bearer in bearers.items():
        token = {"Authorization": bearer} if bearer else {}
        every += [request("GET", path, None, token, f"token {name}") for path in pages]
        every += [
            request("POST", path, _GOOD, {**_JSON, **token}, f"token {name}")
            for path in (
                *("/predict", "/invocations", f"/models/{MODEL}/predict", "/models/plant/predict"),
                *(f"/v1/models/{MODEL}:predict", f"/v2/models/{MODEL}/infer", "/models//predict"),
                *("/v2/models/none/infer", "/v2/repository/models/none/load"),
            )
        ]
    headers = {**_JSON, "Authorization": bearers["all"]}
    for number, (verb, body) in enumerate(
        (("unload", b""), ("unload", b"{}"), ("load", b"{}"), ("load", b"["), ("reload", b"{}"))
    ):
        path = f"/v2/repository/models/plant/{verb}"
        every.append(request("POST", path, body, headers, f"step {number}"))
        every += [
            request("GET", page, None, headers, f"after step {number}")
            for page in ("/models", "/models/plant", "/v2/models/plant/ready", "/v1/models/plant")
        ]
    return every
