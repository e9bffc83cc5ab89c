"""The cost of one hostile body: the waiting time of other clients, and the memory of a worker.

    python -m benchmarks.bodies [--max-body BYTES] [--together CONNECTIONS] [WORD …]

One worker of `triceps serve` with default settings gets one body after another, in every dialect,
plain or as gzip, each as large as allowed.  Meanwhile, on their own connections, one client
requests `/livez` and another sends one row to a second model.  For each body, the program prints
the status, the seconds until it was answered, the longest wait of the two other clients in
milliseconds, and the most memory that the worker used for it.  WORDs select bodies by name.

With `--together`, several connections send the bodies at once, in random order, and the program
prints the most memory of the whole worker, beside the bound that docs/container.md gives.

The program needs Linux, since it reads memory from /proc.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks import processes
from service import metadata
from service.settings import Settings
from service.signature import Feature, Head, Signature, Tensor, tabular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
# The space that is left for the parts before and after the repeated piece.
ROOM = 1024
START_SECONDS = 20
ANSWER_SECONDS = 120
PAUSE_SECONDS = 0.002
# The bytes of a body that is read in the event loop, and the features of a wide table.
SMALL = 2**16
FEATURES = 300
# The limits for the waiting time of the two other clients, and for the memory of a body.
GOAL_MS = 250
GOAL_MB = 512


class Body(NamedTuple):
    """A body: its name, its path, its content and its headers."""

    name: str
    path: str
    content: bytes
    headers: dict[str, str]


def _write_models(folder: Path) -> None:
    """Write a model of each relevant shape, and a small one for the other client."""
    text, whole = TensorProto.STRING, TensorProto.INT64
    _write(folder, "small", _identity(TensorProto.FLOAT, [2]))
    _write(folder, "pixels", _matrix(784, 10))
    _write(folder, "wide", _matrix(1, 2000))
    _write(folder, "texts", _identity(text, [2]))
    _write(folder, "wholes", _identity(whole, [2]))
    _write(folder, "steps", _identity(TensorProto.FLOAT, ["steps"]))
    _write(folder, "truths", _identity(TensorProto.BOOL, ["steps"]))
    _write(folder, "deep", _identity(TensorProto.FLOAT, [2, 1, 3]))
    _write(folder, "table", _table(None))
    _write(folder, "defaults", _table(1.0))
    _write(folder, "columns", _columns())


def _identity(kind: int, shape: Sequence[int | str]) -> Any:
    return _model([helper.make_node("Identity", ["x"], ["y"])], (kind, shape), (kind, shape))


def _matrix(wide: int, out: int) -> Any:
    kernel = numpy_helper.from_array(np.ones((wide, out), np.float32), "kernel")
    node = helper.make_node("MatMul", ["x", "kernel"], ["y"])
    return _model([node], (TensorProto.FLOAT, [wide]), (TensorProto.FLOAT, [out]), [kernel])


def _model(nodes: Any, x: Any, y: Any, weights: Any = ()) -> Any:
    graph = helper.make_graph(
        nodes,
        "bodies",
        [helper.make_tensor_value_info("x", x[0], ["n", *x[1]])],
        [helper.make_tensor_value_info("y", y[0], ["n", *y[1]])],
        list(weights),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _table(default: float | None) -> Any:
    """Return a model of a table of many features."""
    model = _matrix(FEATURES, 1)
    features = [Feature(f"f{i}", "", default=default) for i in range(FEATURES)]
    head = Head("y", "regression", Tensor("y", "float32", (1,)))
    signature = Signature({"x": tabular("x", features)}, {"y": head})
    model.metadata_props.add(key=metadata.METADATA_KEY, value=metadata.dump(signature))
    return model


def _columns() -> Any:
    """Return a model of an input for each of many columns."""
    names = [f"x{i}" for i in range(FEATURES)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1]) for n in (*names, "y")]
    node = helper.make_node("Sum", names, ["y"])
    graph = helper.make_graph([node], "columns", values[:-1], values[-1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _write(folder: Path, name: str, model: Any) -> None:
    version = folder / name / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(model.SerializeToString())


def _filled(size: int, before: bytes, piece: bytes, after: bytes) -> bytes:
    """Return `before`, as many `piece`s as fit, and `after`; at most `size` bytes."""
    return before + piece * ((size - ROOM) // len(piece)) + piece.rstrip(b",\n") + after


# The pieces that are repeated in place of rows, or of values of one row.
PIECES = {
    "empty lists": b"[],",
    "empty objects": b"{},",
    "objects of a key": b'{"a":1},',
    "objects of the input": b'{"x":1},',
    "lists in lists": b"[[[[]]]],",
    "digits": b"1,",
    "fractions": b"0.5,",
    "long fractions": b"1.2345678901234567,",
    "texts": b'"a",',
    "longer texts": b'"some text",',
    "texts and digits": b'"a",1,',
    "escapes": rb'"\u00e9\n",',
    "nulls": b"null,",
    "NaN": b"NaN,",
    "numbers of 4000 digits": b"1" * 4000 + b",",
    "rows of a value": b"[1],",
    "rows of two values": b"[1,2],",
}
# For each dialect, a path, and the parts of a body before and after its rows.
AROUND = {
    "native": ("/models/{}/predict", b'{"instances":[', b"]}"),
    "native columns": ("/models/{}/predict", b'{"inputs":{"x":[', b"]}}"),
    "tfserving": ("/v1/models/{}:predict", b'{"instances":[', b"]}"),
    "tfserving columns": ("/v1/models/{}:predict", b'{"inputs":[', b"]}"),
    "oip": (
        "/v2/models/{}/infer",
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,784],"data":[',
        b"]}]}",
    ),
    "mlflow": ("/invocations", b'{"instances":[', b"]}"),
    "mlflow split": ("/invocations", b'{"dataframe_split":{"columns":["x"],"data":[', b"]}}"),
    "mlflow records": ("/invocations", b'{"dataframe_records":[', b"]}"),
    "unnamed route": ("/models/{}/predict?x=1", b'{"instances":[', b"]}"),
}
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


def bodies(size: int) -> Iterator[Body]:
    """Yield all bodies, each of at most `size` bytes."""
    for (dialect, (path, before, after)), (what, piece) in itertools.product(
        AROUND.items(), PIECES.items()
    ):
        content = _filled(size, before, piece, after)
        yield Body(f"{dialect}: {what}", path.format("pixels"), content, JSON)
    yield from _structures(size)
    yield from _missing(size)
    yield from _tables(size)
    yield from _answers(size)


def _structures(size: int) -> Iterator[Body]:
    native, oip = "/models/pixels/predict", "/v2/models/pixels/infer"
    keys = b",".join(b'"k%d":1' % i for i in range(size // 14))
    yield Body("native: keys", native, b"{" + keys + b"}", JSON)
    yield Body("native: keys of a row", native, b'{"instances":[{' + keys + b"}]}", JSON)
    yield Body("native: keys of inputs", native, b'{"inputs":{' + keys + b"}}", JSON)
    yield Body("oip: keys of an input", oip, b'{"inputs":[{' + keys + b"}]}", JSON)
    heads = _filled(size, b'{"instances":[[1]],"heads":[', b'"y",', b"]}")
    yield Body("native: heads", native, heads, JSON)
    shape = _filled(size, b'{"inputs":[{"name":"x","shape":[', b"1,", b"]}]}")
    yield Body("oip: axes of a shape", oip, shape, JSON)
    inputs = _filled(size, b'{"inputs":[', b'{"name":"x"},', b"]}")
    yield Body("oip: inputs", oip, inputs, JSON)
    for name, opening, closing in (("brackets", b"[", b"]"), ("objects", b'{"a":', b"}")):
        deep = opening * (size // 7) + b"1" + closing * (size // 7)
        yield Body(f"native: nested {name}", native, b'{"instances":' + deep + b"}", JSON)
    for name, value in (
        ("text", b'"' + b"x" * (size - ROOM) + b'"'),
        ("text of escapes", b'"' + rb"\u00e9" * ((size - ROOM) // 6) + b'"'),
        ("fraction", b"0." + b"3" * (size - ROOM)),
        ("integer", b"3" * (size - ROOM)),
        ("spaces", b" " * (size - ROOM) + b"1"),
    ):
        yield Body(f"native: one {name}", native, b'{"instances":[[' + value + b"]]}", JSON)
    text = "/v2/models/texts/infer"
    head = b'{"inputs":[{"name":"x","datatype":"BYTES","shape":[100000,2],"data":['
    yield Body("oip: texts", text, _filled(size, head, b'"ab",', b"]}]}"), JSON)
    yield Body("oip: too many texts as rows", text, _filled(size, head, b'["a"],', b"]}]}"), JSON)
    coded = _filled(size, b'{"instances":[', b'[{"b64":"YQ"},"a"],', b"]}")
    yield Body("tfserving: base64", "/v1/models/texts:predict", coded, JSON)
    whole = _filled(size, b'{"instances":[', b"[1.0,2],", b"]}")
    yield Body("tfserving: whole numbers", "/v1/models/wholes:predict", whole, JSON)
    # One row that fills the body; it is accepted, since its graph accepts any length.
    for dialect, path in (
        ("native", "/models/steps/predict"),
        ("tfserving", "/v1/models/steps:predict"),
    ):
        steps = _filled(size, b'{"instances":[[', b"1,", b"]]}")
        yield Body(f"{dialect}: one row of any length", path, steps, JSON)
    rows = _filled(size, b'{"instances":[', b"[[[1,2,3]],[[4,5,6]]],", b"]}")
    yield Body("native: nested rows", "/models/deep/predict", rows, JSON)
    yield from _binary(size)
    broken = _filled(size, b'{"instances":[', b"[1,2],", b"]!")
    yield Body("native: broken at its end", "/models/small/predict", broken, JSON)
    yield Body("tfserving: broken at its end", "/v1/models/small:predict", broken, JSON)


def _binary(size: int) -> Iterator[Body]:
    rows = min((size - ROOM) // 8, 2**17)
    entry = {"name": "x", "datatype": "FP32", "shape": [rows, 2]}
    header = json.dumps(
        {"inputs": [{**entry, "parameters": {"binary_data_size": 8 * rows}}]}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    yield Body("oip binary: rows", "/v2/models/small/infer", header + bytes(8 * rows), headers)
    for what in ("empty lists", "empty objects", "digits"):
        head = _filled(size, b'{"inputs":[', PIECES[what], b"]}")
        headers = {"Inference-Header-Content-Length": str(len(head))}
        yield Body(f"oip binary: head of {what}", "/v2/models/small/infer", head, headers)
    shape = [2**17, (size - ROOM) >> 17]
    entry = {"name": "x", "datatype": "BOOL", "shape": shape}
    number = shape[0] * shape[1]
    header = json.dumps(
        {"inputs": [{**entry, "parameters": {"binary_data_size": number}}]}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    yield Body(
        "oip binary: no booleans", "/v2/models/truths/infer", header + b"2" * number, headers
    )


def _missing(size: int) -> Iterator[Body]:
    """Yield bodies that miss many more values than they have bytes."""
    values = ",".join(f'"f{i}":1' for i in range(FEATURES)).encode()
    for model, (what, path, before, after) in itertools.product(
        ("table", "defaults", "columns"),
        (
            ("native: rows", "/models/{}/predict", b'{"instances":[', b"]}"),
            ("tfserving: rows", "/v1/models/{}:predict", b'{"instances":[', b"]}"),
            ("tfserving: examples", "/v1/models/{}:regress", b'{"examples":[', b"]}"),
            (
                "tfserving: a context",
                "/v1/models/{}:regress",
                b'{"context":{' + values + b'},"examples":[',
                b"]}",
            ),
        ),
    ):
        # As many rows as the event loop reads, and as many as a request may have.
        for length in (SMALL, min(size, 3 * 2**17)):
            content = _filled(length - len(before), before, b"{},", after)
            name = f"missing, {what} of {model}, {length} bytes"
            yield Body(name, path.format(model), content, JSON)


def _tables(size: int) -> Iterator[Body]:
    for name, content in (
        ("cells of a header", b"," * size),
        ("named cells of a header", b"ab," * (size // 3)),
        ("cells of a line", b"x\n" + b"12," * ((size - 2) // 3)),
        ("lines", b"x\n" + b"1\n" * ((size - 2) // 2)),
        ("blank lines", b"x\n" + b"\n" * (size - 2)),
        ("a quotation mark", b'x\n"' + b"1\n" * ((size - 3) // 2)),
        ("quoted cells", b"x\n" + b'"1",' * ((size - 2) // 4)),
        ("rows as lists", b"x\n" + b'"[1,2]"\n' * ((size - 2) // 8)),
    ):
        yield Body(f"csv: {name}", "/invocations", content[: size - 1], CSV)


def _answers(size: int) -> Iterator[Body]:
    """Yield bodies whose answers are much larger than they are."""
    del size
    rows = b"[1]," * 20_000
    for name, path, before, after in (
        ("native", "/models/wide/predict", b'{"instances":[', b"]}"),
        ("native columns", "/models/wide/predict", b'{"inputs":[', b"]}"),
        ("tfserving", "/v1/models/wide:predict", b'{"instances":[', b"]}"),
    ):
        yield Body(f"answer, {name}: 40 million", path, before + rows[:-1] + after, JSON)
        few = b"[1]," * 2_000
        accepts = {**JSON, "Accept-Encoding": "gzip"}
        yield Body(f"answer, {name}: 4 million", path, before + few[:-1] + after, JSON)
        yield Body(f"answer, {name}: 4 million, gzip", path, before + few[:-1] + after, accepts)
    for number in (2_000, 20_000):
        entry = {"name": "x", "datatype": "FP32", "shape": [number, 1], "data": [1] * number}
        request: dict[str, Any] = {"inputs": [entry]}
        what = f"{number * 2000 // 10**6} million"
        yield Body(
            f"answer, oip: {what}", "/v2/models/wide/infer", json.dumps(request).encode(), JSON
        )
        request["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
        yield Body(
            f"answer, oip binary: {what}",
            "/v2/models/wide/infer",
            json.dumps(request).encode(),
            JSON,
        )
        request["outputs"] = [{"name": "y", "parameters": {"classification": 2000}}]
        yield Body(
            f"answer, oip classes: {what}",
            "/v2/models/wide/infer",
            json.dumps(request).encode(),
            JSON,
        )
    many = json.dumps({"instances": [[1, 2]] * 2**17}).encode()
    for name, path in (
        ("native", "/models/small/predict"),
        ("tfserving", "/v1/models/small:predict"),
    ):
        yield Body(f"answer, {name}: rows", path, many, JSON)


class Caller(threading.Thread):
    """A client that repeats one request, and notes its longest wait in milliseconds."""

    def __init__(self, port: int, method: str, path: str, body: bytes = b"") -> None:
        """Prepare to send a request repeatedly until `end`."""
        super().__init__(daemon=True)
        self._asked = (port, method, path, body)
        self._ended = threading.Event()
        self.longest = 0.0

    def run(self) -> None:
        """Send requests until `end`."""
        port, method, path, body = self._asked
        connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
        while not self._ended.wait(PAUSE_SECONDS):
            started = time.perf_counter()
            connection.request(method, path, body or None, JSON)
            connection.getresponse().read()
            self.longest = max(self.longest, 1e3 * (time.perf_counter() - started))
        connection.close()

    def end(self) -> float:
        """Stop, and return the longest wait in milliseconds."""
        self._ended.set()
        self.join()
        return self.longest


def _send(port: int, body: Body, *, zipped: bool) -> tuple[int, float, int]:
    """Return the status, the seconds until the end of the answer, and its size in bytes."""
    headers, content = dict(body.headers), body.content
    if zipped:
        headers["Content-Encoding"] = "gzip"
        content = gzip.compress(content, 6)
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    started = time.perf_counter()
    connection.request("POST", body.path, content, headers)
    answer = connection.getresponse()
    length = len(answer.read())
    took = time.perf_counter() - started
    connection.close()
    return answer.status, took, length


def _memory(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _until_ready(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"not ready within {START_SECONDS} s")
        time.sleep(0.05)


@contextlib.contextmanager
def _worker(settings: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the port of a service and the process ID of its only worker."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        _write_models(Path(folder))
        command = [str(Path(sys.executable).with_name("triceps")), "serve", "--models", folder]
        command += [*settings, "--workers", "1", "--port", str(port), "--default-model", "pixels"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _until_ready(port)
            yield port, max(processes.tree(server.pid), key=lambda pid: _memory(pid, "VmRSS"))
        finally:
            server.terminate()
            server.wait(30)


def measure(words: Sequence[str], settings: Sequence[str], size: int) -> bool:
    """Print a line for each body, and return whether all were within the limits."""
    good = True
    with _worker(settings) as (port, worker):
        print(f"{'body':44s}   kB    status       s   cpu  livez  model    MB   answer")
        for body in bodies(size):
            if words and not any(word in body.name for word in words):
                continue
            for zipped in (False, True) if len(body.content) > 2**20 else (False,):
                good &= _measure_one(port, worker, body, zipped=zipped)
    return good


def measure_together(
    words: Sequence[str], settings: Sequence[str], size: int, connections: int
) -> bool:
    """Print the most memory of the worker while connections send bodies at once.

    Returns:
        Whether it was within the bound of docs/container.md for one worker.
    """
    chosen = [body for body in bodies(size) if not words or any(w in body.name for w in words)]
    statuses: Counter[int] = Counter()

    def send_all(port: int, seed: int) -> None:
        for body in random.Random(seed).sample(chosen, len(chosen)):
            with contextlib.suppress(OSError, http.client.HTTPException):
                statuses[_send(port, body, zipped=False)[0]] += 1

    with _worker(settings) as (port, worker):
        senders = [threading.Thread(target=send_all, args=(port, i)) for i in range(connections)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        most = _memory(worker, "VmHWM")
    bound = 70 + (25 * size + 2.5 * Settings().max_in_flight) / 1e6
    print(f"{connections} connections, statuses {dict(statuses)}:")
    print(f"{most:.0f} MB at most; docs/container.md allows {bound:.0f} MB for a worker")
    return most <= bound


def _measure_one(port: int, worker: int, body: Body, *, zipped: bool) -> bool:
    callers = [
        Caller(port, "GET", "/livez"),
        Caller(port, "POST", "/models/small/predict", b'{"instances":[[1,2]]}'),
    ]
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    before, used = _memory(worker, "VmRSS"), processes.cpu_of(worker)
    for caller in callers:
        caller.start()
    status, took, length = _send(port, body, zipped=zipped)
    live, model = (caller.end() for caller in callers)
    used = processes.cpu_of(worker) - used
    grown = _memory(worker, "VmHWM") - before
    bad = max(live, model) > GOAL_MS or grown > GOAL_MB
    name = f"{body.name}{', gzip' * zipped}"
    print(
        f"{name:44s} {len(body.content) // 1024:6d} {status:5d} {took:7.2f} "
        f"{used:5.2f} {live:6.0f} {model:6.0f} {grown:6.0f} {length:9d} {'<<<' * bad}",
        flush=True,
    )
    return not bad


def main() -> None:
    """Measure the bodies that the arguments select."""
    words = sys.argv[1:]
    size, settings = 16 * 2**20, []
    if "--max-body" in words:
        place = words.index("--max-body")
        size = int(words[place + 1])
        settings = ["--max-body", words[place + 1]]
        del words[place : place + 2]
    if "--together" in words:
        place = words.index("--together")
        connections = int(words[place + 1])
        del words[place : place + 2]
        sys.exit(not measure_together(words, settings, size, connections))
    sys.exit(not measure(words, settings, size))


if __name__ == "__main__":
    main()
