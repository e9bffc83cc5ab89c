"""Hostile requests: refused within limits of time and memory, and the next request answered."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from service.http.timeouts import Timeouts
from tests.harness import small
from tests.harness.served import BODY, JSON, Served, post

MB = 2**20
MAX_BODY = 12 * MB
# In orders of magnitude: an attack takes hundredths of a second on a machine that is not busy.
SECONDS = 60.0
# The body as it is sent, as one piece, as text, and a Python object for each few bytes of it.
MEMORY = 24 * MAX_BODY // MB

ROWS = b'{"instances":'
DIALECTS = {
    "native": "/models/three/predict",
    "oip": "/v2/models/three/infer",
    "predict": "/v1/models/three:predict",
    "classify": "/v1/models/three:classify",
    "regress": "/v1/models/three:regress",
    "mlflow": "/invocations",
}
# By dialect, the text before and after a value that belongs to the model.
AROUND = {
    "native": (b'{"heads":["size"],"instances":[{"fruit":[1,', b"]}]}"),
    "oip": (
        b'{"outputs":[{"name":"size"}],"inputs":[{"name":"fruit","datatype":"FP32","shape":[1,2],"data":[1,',
        b"]}]}",
    ),
    "predict": (b'{"instances":[{"fruit":[1,', b"]}]}"),
    "classify": (b'{"signature_name":"digits","examples":[{"digit":[1,2,3,', b"]}]}"),
    "regress": (b'{"examples":[{"weight":', b"}]}"),
    "mlflow": (b'{"instances":[{"fruit":[1,', b"]}]}"),
}
CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    for name in ("three", "ragged", "scalar"):
        small.put(models, name, 1, small.every()[name])
    small.put(models, "ragged_twice", 1, small.same(small.F, (None, None)))
    served = Served(models, default_model="three", max_body=MAX_BODY)
    yield served
    served.stop()


def _memory(what: str) -> float:
    """Return the MB of this process: now (VmRSS), or the peak since the last reset (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


@contextlib.contextmanager
def bounded(served: Served, seconds: float = SECONDS, memory: float = MEMORY) -> Any:
    """Check that the block keeps within the limits, and that the next good request is answered."""
    # Without this file in /proc, only the time is checked.
    is_measured = Path("/proc/self/clear_refs").exists()
    if is_measured:
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds
    if is_measured:
        assert _memory("VmHWM") - before < memory
    assert served.ask("POST", "/predict", BODY, JSON)[0] == 200


def send(served: Served, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send the pieces, and return the answer; the service may close before the last piece."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as sock:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                sock.sendall(piece)
                time.sleep(pause)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := sock.recv(65536):
                answer += piece
        return answer


def refused(answer: bytes, status: int = 400) -> None:
    """Check that there is one answer, a refusal in JSON, and that it closes the connection."""
    assert answer.count(b"HTTP/1.1 ") == 1, answer[:500]
    block, _, content = answer.partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:500]
    assert b"connection: close" in block
    assert json.loads(content)


# Bodies.


def _around(dialect: str, value: bytes) -> bytes:
    before, after = AROUND[dialect]
    return before + value + after


MANY = 10**6
VALUES = {
    "a million brackets": b"[" * MANY + b"]" * MANY,
    "a million brackets and no end": b"[" * MANY,
    "a million objects": b'{"a":' * MANY + b"1" + b"}" * MANY,
    "10 MB of an integer": b"9" * (10 * MB),
    "10 MB of an exponent": b"1e" + b"9" * (10 * MB),
    "integers of 4,299 digits": b",".join([b"9" * 4299] * 2000),
    "10 MB of text": b'"' + b"x" * (10 * MB) + b'"',
    "10 MB of text without an end": b'"' + b"x" * (10 * MB),
    "10 MB of escapes": b'"' + rb"\u00e9" * (10 * MB // 6) + b'"',
    "a key of 10 MB": b'{"' + b"age" * (10 * MB // 3) + b'":1}',
    "a million empty lists": b"[" + b"[]," * MANY + b"[]]",
    "invalid UTF-8": b'"' + b"\xff" * (10 * MB) + b'"',
    "half a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "a key twice": b'{"x":1,"x":1}',
    "NUL": b"\x00",
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("value", VALUES)
def test_hostile_values_are_refused_in_every_dialect(served, dialect, value):
    """A hostile value is refused where a number belongs."""
    body = _around(dialect, VALUES[value])

    with bounded(served):
        status, headers, content = served.ask("POST", DIALECTS[dialect], body, JSON)

    assert status == 400, content[:500]
    assert headers["content-type"] == "application/json"
    assert len(content) < 64 * 1024
    assert json.loads(content)


WHOLE = {
    "a million brackets": b"[" * MANY,
    "10 MB of spaces": b" " * (10 * MB),
    "10 MB of zeros": bytes(10 * MB),
    "10 MB of digits": b"1" * (10 * MB),
    "a key of 10 MB": b'{"' + b"instance" * (10 * MB // 8) + b'":1}',
    "half a million keys": b"{" + b",".join(b'"k%d":1' % i for i in range(MANY // 2)) + b"}",
    "half a million keys inside": b'{"inputs":{'
    + b",".join(b'"k%d":[1]' % i for i in range(MANY // 2))
    + b"}}",
    "one key half a million times": b"{" + b",".join([b'"inputs":1'] * (MANY // 2)) + b"}",
    "a hundred thousand inputs": b'{"inputs":['
    + b",".join([b'{"name":"x"}'] * (MANY // 10))
    + b"]}",
    "half a million heads": b'{"instances":[{}],"heads":['
    + b",".join([b'"size"'] * (MANY // 2))
    + b"]}",
    "JSON after JSON": BODY + BODY,
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("body", WHOLE)
def test_hostile_bodies_are_refused_in_every_dialect(served, dialect, body):
    """A body that is hostile as a whole is refused."""
    with bounded(served):
        status, _, content = served.ask("POST", DIALECTS[dialect], WHOLE[body], JSON)

    assert status == 400, content[:500]
    assert len(content) < 64 * 1024


def test_numbers_of_many_digits_are_read(served):
    """A fraction may have any number of digits; it costs what its length costs."""
    body = _around("native", b"0." + b"3" * (10 * MB))

    with bounded(served):
        status, _, content = served.ask("POST", "/predict", body, JSON)

    assert status == 200
    assert json.loads(content)["predictions"][0]["size"]["value"] == pytest.approx(4 / 3)


CELLS = {
    "10 MB of a header": b"x" * (10 * MB) + b"\n1\n",
    "a million columns": b"," * MANY + b"\n" + b"," * MANY + b"\n",
    "a quotation mark that never ends": b'fruit.weight\n"' + b"1\n" * (5 * MB),
    "a cell of brackets": b"digit\n" + b"[" * MANY + b"\n",
    "a million lines of another length": b"fruit.weight\n" + b"1,2\n" * MANY,
    "NUL": b"fruit.weight\n\x00\n",
}


@pytest.mark.parametrize("body", CELLS)
def test_hostile_tables_are_refused(served, body):
    """The reader of CSV has limits of its own."""
    with bounded(served):
        status, _, content = served.ask(
            "POST", "/invocations", CELLS[body], {"Content-Type": "text/csv"}
        )

    assert status == 400, content[:500]
    assert len(content) < 64 * 1024


SHAPES = [
    [10**9, 2],
    [10**10, 4],
    [2**63 - 1, 2],
    [2**63, 2],
    [2**64 + 1, 2],
    [10**400, 2],
    [-1, 2],
    [1, -2],
    [-1, -2],
    [0, 2],
    [1.0, 2],
    [1e300, 2],
    ["1", 2],
    [[[[1]]], 2],
    [1, 2] * 1000,
    [],
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:20])
@pytest.mark.parametrize("by", ["data", "bytes"])
def test_shapes_are_checked_against_the_data(served, shape, by):
    """No memory is allocated for rows that are announced and not sent."""
    entry: dict[str, Any] = {"name": "fruit", "datatype": "FP32", "shape": shape, "data": [1, 2]}
    if by == "bytes":
        rows = shape[0] if shape and isinstance(shape[0], int) else 1
        del entry["data"]
        entry["parameters"] = {"binary_data_size": abs(8 * rows)}
    body = json.dumps({"inputs": [entry], "outputs": [{"name": "size"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))} if by == "bytes" else {}

    with bounded(served, memory=50):
        status, _, content = served.ask("POST", DIALECTS["oip"], body, headers)

    assert status == 400, content


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        pytest.param("ragged", [10**9, 0, 2], id="a billion rows of nothing"),
        pytest.param("ragged_twice", [1, 0, 2**62], id="more of nothing than an array may have"),
        pytest.param("ragged_twice", [2**62, 0, 2**62], id="and of rows"),
        pytest.param("ragged_twice", [1, 2**62, 2**62], id="more than there are addresses"),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_the_number_of_empty_rows_has_a_bound(served, model, shape, binary):
    """Empty rows cost their sender no byte, but each of them has an answer."""
    entry: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": shape, "data": []}
    if binary:
        del entry["data"]
        entry["parameters"] = {"binary_data_size": 0}
    body = json.dumps({"inputs": [entry]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))} if binary else {}

    with bounded(served, memory=50):
        status, _, content = served.ask("POST", f"/v2/models/{model}/infer", body, headers)

    assert status == 400, content


@pytest.mark.parametrize("size", [-1, 2**63, 2**64, 10**400, 1e9, "8", 10**12])
def test_the_sizes_of_binary_tensors_are_checked(served, size):
    """The size of a tensor that follows the JSON is checked against the body."""
    entry = {
        "name": "fruit",
        "datatype": "FP32",
        "shape": [1, 2],
        "parameters": {"binary_data_size": size},
    }
    body = json.dumps({"inputs": [entry], "outputs": [{"name": "size"}]}).encode()

    with bounded(served, memory=50):
        status, _, content = served.ask(
            "POST",
            DIALECTS["oip"],
            body + bytes(8),
            {"Inference-Header-Content-Length": str(len(body))},
        )

    assert status == 400, content


@pytest.mark.parametrize("length", ["-1", "+1", "1e3", "9" * 400, "0x10", "1, 1", "\xb2"])
def test_the_length_of_the_json_before_binary_tensors_is_checked(served, length):
    """The header says where the binary tensors begin, and may say anything."""
    with bounded(served, memory=50):
        answer = send(
            served,
            post(
                BODY,
                b"Connection: close",
                b"Inference-Header-Content-Length: " + length.encode("latin-1"),
                path=DIALECTS["oip"].encode(),
            ),
        )

    refused(answer)


def _bomb(megabytes: int, kind: int) -> bytes:
    packer = zlib.compressobj(9, wbits=kind)
    piece = bytes(MB)
    return b"".join([*(packer.compress(piece) for _ in range(megabytes)), packer.flush()])


GZIP, ZLIB = zlib.MAX_WBITS | 16, zlib.MAX_WBITS


@pytest.mark.parametrize("path", DIALECTS.values())
@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        pytest.param(_bomb(1000, GZIP), "gzip", 413, id="1 GB as 1 MB of gzip"),
        pytest.param(_bomb(1000, ZLIB), "deflate", 413, id="1 GB as 1 MB of deflate"),
        pytest.param(gzip.compress(_bomb(1000, GZIP)), "gzip", 400, id="a bomb of a bomb"),
        pytest.param(zlib.compress(_bomb(1000, ZLIB)), "deflate", 400, id="in deflate"),
        pytest.param(gzip.compress(_bomb(1000, GZIP)), "gzip, gzip", 415, id="announced as twice"),
        pytest.param(gzip.compress(BODY) * 1000, "gzip", 400, id="a thousand pieces"),
        pytest.param(gzip.compress(BODY) + bytes(10 * MB), "gzip", 400, id="10 MB after it"),
        pytest.param(_bomb(5, GZIP)[:-9], "gzip", 400, id="cut"),
        pytest.param(gzip.compress(BODY)[:-8] + bytes(8), "gzip", 400, id="a wrong checksum"),
        pytest.param(_bomb(5, GZIP), "deflate", 400, id="another encoding"),
        pytest.param(bytes(1000), "gzip", 400, id="no gzip"),
    ],
)
def test_a_compression_bomb_is_refused(served, path, body, encoding, status):
    """No more than a body's limit is ever inflated."""
    with bounded(served):
        got, _, _ = served.ask("POST", path, body, {**JSON, "Content-Encoding": encoding})

    assert got == status


# Paths.


@pytest.mark.parametrize("method", [b"GET", b"POST", b"DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        *(b"/../../etc/passwd", b"/models/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd"),
        *(b"/models/%2e%2e%2f%2e%2e%2fetc/predict", b"/models/..%2f..%2fetc", b"/models/..\\.."),
        *(b"/models/three/versions/..%2f1/predict", b"/models/three/versions/../1/predict"),
        *(b"/models/three%00/predict", b"/models/three%0d%0aX-Evil:%201/predict", b"/models/%ff"),
        *(
            b"/v2/models/..%2fthree/infer",
            b"/v1/models/..%2fthree:predict",
            b"/v2/models/%00/ready",
        ),
        *(b"/v2/repository/models/..%2f..%2fx/load", b"/models/%c0%ae%c0%ae/predict"),
        *(
            b"/models/\x00three",
            b"/models/\x01",
            b"/models/\x7f",
            b"/models/\xff",
            b"/a\tb",
            b"/a b",
        ),
        *(b"//", b"/%", b"/%zz", b"http://", b"*", b"x", b"/models/" + b"%41" * 20_000),
        b"/models/" + b"a/" * 30_000,
    ],
    ids=lambda path: repr(path[:30]),
)
def test_hostile_paths_lead_nowhere(served, method, path):
    """A name in a path is looked up among the names of models, and never in a folder."""
    rest = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
    with bounded(served, memory=50):
        answer = send(served, method + b" " + path + rest + b"\r\n{}")

    status = int(answer.split(b" ", 2)[1])
    # An incomplete URL, or a path of slashes alone, means the home page.
    home = method == b"GET" and path in (b"http://", b"//") and status == 200
    assert 400 <= status < 500 or home, answer[:300]
    lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    assert not any(line.startswith(b"x-evil") for line in lines)
    assert b"root:" not in answer


# Header blocks.

BLOCKS = {
    "no HTTP": b"\x00\xff" * 1000,
    "a name with NUL": b"POST /predict HTTP/1.1\r\nHost: x\r\nA\x00B: c\r\n\r\n",
    "a name with a control character": b"POST /predict HTTP/1.1\r\nHost: x\r\nA\x01: c\r\n\r\n",
    "a name with a space": b"POST /predict HTTP/1.1\r\nHost: x\r\nA : c\r\n\r\n",
    "no name": b"POST /predict HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n",
    "no colon": b"POST /predict HTTP/1.1\r\nHost: x\r\nA\r\n\r\n",
    "a value with NUL": b"POST /predict HTTP/1.1\r\nHost: x\r\nA: c\x00d\r\n\r\n",
    "a value with a control character": b"POST /predict HTTP/1.1\r\nHost: x\r\nA: c\x01\r\n\r\n",
    "a value with a bare CR": b"POST /predict HTTP/1.1\r\nHost: x\r\nA: c\rX: d\r\n\r\n",
    "a folded line": b"POST /predict HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "two lengths": b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "two lengths in one": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n",
    "a signed length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
    "a negative length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "a hexadecimal length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n",
    "a length of many digits": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: "
    + b"9" * 30
    + b"\r\n\r\n",
    "an empty length": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
    "a length, and chunks": b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks, and a length": b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "chunks that are not the last coding": b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "almost chunks": b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks behind a vertical tab": b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/0.9 by name": b"GET / HTTP/0.9\r\n\r\n",
    "HTTP/2.0 by name": b"GET / HTTP/2.0\r\nConnection: keep-alive\r\n\r\n",
    "a prediction in HTTP/2.0": post(BODY, b"Connection: keep-alive", version=b"2.0"),
    "almost HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a tunnel": b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a tunnel to a path": b"CONNECT /predict HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a chunk of more than 64 bits": CHUNKED + b"F" * 17 + b"\r\n",
    "a chunk of a negative size": CHUNKED + b"-1\r\n",
    "a chunk of a size in C's notation": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"1\r\nhello\r\n0\r\n\r\n",
    "chunks with bare ends": CHUNKED + b"5\nhello\n0\n\n",
}


@pytest.mark.parametrize("block", BLOCKS)
def test_hostile_header_blocks_are_refused(served, block):
    """The connection is closed, since it is not clear where the next request would begin."""
    with bounded(served, memory=50):
        # The bytes behind it must not be taken for a request.
        answer = send(served, BLOCKS[block], post(BODY), pause=0.02)

    refused(answer)


def _pieces(piece: bytes, megabytes: int) -> list[bytes]:
    return [piece * (MB // 4 // len(piece))] * (4 * megabytes)


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param(
            [b"GET / HTTP/1.1\r\nHost: x\r\n", *_pieces(b"a: b\r\n", 20)], 431, id="one header"
        ),
        pytest.param(
            [b"GET / HTTP/1.1\r\nHost: x\r\na: ", *_pieces(b"x", 20)], 431, id="a long header"
        ),
        pytest.param([b"GET /", *_pieces(b"x", 20)], 431, id="a long target"),
        pytest.param(_pieces(b"X", 20), 400, id="a long method"),
        pytest.param(
            [CHUNKED, *_pieces(b"2000\r\n" + b" " * 8192 + b"\r\n", 20)], 413, id="chunks"
        ),
        pytest.param(
            [CHUNKED, b"7FFFFFFFFFFFFFFF\r\n", *_pieces(b" ", 20)], 413, id="a chunk of 8 EB"
        ),
        pytest.param([CHUNKED, b"2;", *_pieces(b"x", 20)], 400, id="a chunk's extension"),
        pytest.param([CHUNKED, *_pieces(b"1;a=b;c=d;e=f\r\n \r\n", 20)], 400, id="extensions"),
        pytest.param([CHUNKED, *_pieces(b"0", 20)], 400, id="zeros of a chunk's size"),
        pytest.param([CHUNKED, b"2\r\n{}\r\n0\r\n", *_pieces(b"a: b\r\n", 20)], 400, id="trailers"),
        pytest.param(
            [CHUNKED, b"2\r\n{}\r\n0\r\na: ", *_pieces(b"x", 20)], 400, id="a long trailer"
        ),
    ],
)
def test_a_request_without_end_is_cut_off(served, pieces, status):
    """It is cut off long before it fills the memory."""
    with bounded(served):
        answer = send(served, *pieces)

    # A client that still sends when the connection is closed may lose the answer to a reset.
    if answer:
        refused(answer, status)


def test_a_refusal_names_chunk_framing(served):
    """A body whose chunks are nearly all framing is refused with the reason."""
    chunk = b"1;%s\r\n \r\n" % (b"x" * 10_000)

    answer = send(served, CHUNKED, *[chunk] * 12, pause=0.02)

    refused(answer)
    assert b"received over 65536 bytes of chunk framing" in answer


def test_a_tunnel_is_refused_as_not_supported(served):
    """The answer to CONNECT says that there are no tunnels."""
    answer = send(served, BLOCKS["a tunnel"])

    refused(answer)
    assert b"received CONNECT, which is not supported" in answer


def test_trailers_change_nothing(served):
    """Trailers behind a body do not replace the headers before it."""
    trailers = b"Content-Type: text/plain\r\nX-Request-Timeout: nonsense\r\n"
    block = CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close")

    answer = send(served, block, b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(BODY), BODY, trailers))

    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_chunks_of_one_byte_are_read(served):
    """Chunks of one byte are strange, but no attack."""
    block = CHUNKED.replace(b"Host: x", b"Host: x\r\nConnection: close")
    body = BODY + b" " * 50_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)

    with bounded(served):
        assert send(served, block, chunks, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_the_end_of_a_header_block_may_come_with_a_long_body(served):
    """The limit of a header block counts its own bytes alone."""
    body = BODY + b" " * 250_000
    request = post(body, b"Connection: close")

    answer = send(served, request[:20], request[20:], pause=0.05)

    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_thousands_of_requests_may_come_at_once(served):
    """Each request is answered; those that wait are not read until there is room."""
    number = 3000
    with bounded(served):
        answer = send(served, post(BODY) * number, post(BODY, b"Connection: close"))

    assert answer.count(b"HTTP/1.1 200 OK") == number + 1


def test_garbage_behind_a_request_is_refused_after_its_answer(served):
    """The garbage is a request of its own, and a malformed one."""
    with bounded(served, memory=50):
        answer = send(served, post(BODY) + b"\x00\xff" * 1000)

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


# Lengths, and the time that they take.


@pytest.mark.parametrize("more", [b'{"instances":[]}', b" ", b"\x00", b"GET"])
def test_bytes_beyond_the_content_length_do_not_belong_to_the_body(served, more):
    """The bytes after a body are neither part of it nor another request."""
    with bounded(served, memory=50):
        answer = send(served, post(BODY) + more + b"\r\n\r\n")

    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


HALVES = {
    "no byte of a request": b"",
    "half a line": b"POST /predi",
    "half a header block": post(BODY)[:60],
    "no byte of a body": post(BODY)[: -len(BODY)],
    "half a body": post(BODY)[:-10],
    "half a chunk": CHUNKED + b"20\r\n{",
    "no last chunk": CHUNKED + b"2\r\n{}\r\n",
    "half a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nA: ",
    "a chunk of 8 EB": CHUNKED + b"7FFFFFFFFFFFFFFF\r\n{}",
}


@pytest.mark.parametrize("part", HALVES)
def test_half_requests_time_out(served, part):
    """A client that has begun a request gets a 408; one that sent nothing gets no answer."""
    with served.within(Timeouts(request=0.5, idle=0.5)), bounded(served, memory=50):
        answer = send(served, HALVES[part])

    if HALVES[part]:
        refused(answer, 408)
    else:
        assert answer == b""


@pytest.mark.parametrize("request_", [post(BODY), CHUNKED + b"1\r\n \r\n" * 50])
def test_slow_senders_time_out(served, request_):
    """A byte now and then does not extend the time of a request."""
    with served.within(Timeouts(request=0.5)), bounded(served, memory=50):
        answer = send(served, *(bytes([byte]) for byte in request_), pause=0.03)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_hundreds_of_slow_senders_harm_no_other_client(served):
    """Nor do they when they close their connections in the middle of a request."""
    with bounded(served), contextlib.ExitStack() as stack:
        for i in range(300):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            sock.sendall([*HALVES.values()][i % len(HALVES)])
        started = time.monotonic()
        assert served.ask("POST", "/predict", BODY, JSON)[0] == 200
        assert time.monotonic() - started < 10
    deadline = time.monotonic() + SECONDS
    while served.front.connections.open and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(served.front.connections.open) == 0
    assert served.front.connections.bodies.held == 0
