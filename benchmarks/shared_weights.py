"""The memory of a service with a large model: with a copy of the weights in each worker, and one.

    python -m benchmarks.shared_weights [--workers 2,8] [--models mlp,conv] [--write]

Each model is served with TRICEPS_CACHE=off and with a cache, which is empty at the first start.
Memory is the sum over all processes of the service, in which shared pages count once (PSS), once
every worker has answered.  The last table has the moment of a swap, when two versions are loaded,
and a model of which clients ask one small head, which is cut out of the graph.

The folder has to be on a disk.  The program ends with 1 if a goal is missed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks import processes, report, servers
from benchmarks.bench import Names
from service.repository.publish import publish

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx

    from benchmarks.servers import Running

# A large model costs at most this part of its file, and this many megabytes for each worker.
PART, EACH = 1.15, 60
# Runs of shared weights take at most this much longer.
SLOWER = 1.05
REQUESTS = 40
ROWS = 3
LOADED_SECONDS = 60
PAGE = Path(__file__).parent / "SHARED_WEIGHTS.md"
TITLE = (
    "With TRICEPS_CACHE off and on: memory (PSS), "
    "and the seconds until ready (on: the first time, and again)"
)
_HEADERS = {"Content-Type": "application/json"}


class _Graph:
    """A graph that is made layer by layer."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.heads: list[onnx.ValueInfoProto] = []
        self.shape = [*shape]

    def weight(self, *shape: int) -> str:
        scale = np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])  # noqa: PLR2004
        values = (self.random.standard_normal(shape) / scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        made = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], **attributes))
        return made

    def head(self, name: str, value: str, width: int) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        shape = ["rows", width]
        self.heads.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def content(self) -> bytes:
        given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *self.shape])
        graph = helper.make_graph(self.nodes, "large", [given], self.heads, self.weights)
        opsets = [helper.make_opsetid("", 18)]
        content: bytes = helper.make_model(
            graph, opset_imports=opsets, ir_version=9
        ).SerializeToString()
        return content


def mlp(layers: int = 10, width: int = 3200, small: int = 0) -> bytes:
    """Return a model of dense layers of 41 MB each, with a second, small head if `small` is set."""
    graph = _Graph([width])
    last = "x"
    for _ in range(layers):
        last = graph.add("Gemm", last, graph.weight(width, width), graph.weight(width))
        last = graph.add("Relu", last)
    graph.head("y", last, width)
    if small:
        graph.head("z", graph.add("MatMul", "x", graph.weight(width, small)), small)
    return graph.content()


def conv(layers: int = 19, channels: int = 512) -> bytes:
    """Return a model of convolutions of 9 MB each, with normalizations that are fused into them."""
    graph = _Graph([3, 4, 4])
    last, before = "x", 3
    for _ in range(layers):
        last = graph.add("Conv", last, graph.weight(channels, before, 3, 3), pads=[1, 1, 1, 1])
        statistics = [graph.weight(channels) for _ in range(3)]
        variance = numpy_helper.from_array(np.ones(channels, np.float32), f"v{len(graph.weights)}")
        graph.weights.append(variance)
        last = graph.add("BatchNormalization", last, *statistics, variance.name)
        last, before = graph.add("Relu", last), channels
    graph.head("y", graph.add("Flatten", graph.add("GlobalAveragePool", last)), channels)
    return graph.content()


MODELS = {"mlp": mlp, "conv": conv}


@dataclass(frozen=True)
class Served:
    """A service that has answered in every worker."""

    ready: float
    """The seconds until it was ready."""
    megabytes: float
    answer: str


@contextlib.contextmanager
def service(models: Path, workers: int, cache: str) -> Iterator[Running]:
    """Run a service that looks for new versions ten times a second."""

    def command(_: str, model: str, port: str) -> list[str]:
        triceps = str(Path(sys.executable).with_name("triceps"))
        options = ["--port", port, "--workers", str(workers), "--grace", "0", "--watch", "0.1"]
        return [triceps, "serve", "--models", model, *options]

    server = servers.Server("shared", "triceps", "", command, environment={"TRICEPS_CACHE": cache})

    def check(running: Running) -> None:
        servers.ask(running.url("/readyz"))

    with servers.run(server, sys.executable, models, check) as running:
        yield running


class Caller:
    """A client with a connection to each worker of a service."""

    def __init__(self, running: Running, workers: int, body: bytes) -> None:
        """Open the connections, which the service gives to the workers in turn."""
        self._body = body
        self._connections = [
            http.client.HTTPConnection(servers.HOST, running.port, timeout=60)
            for _ in range(workers)
        ]
        for connection in self._connections:
            connection.connect()
        self.times: list[float] = []
        self.answers: set[str] = set()

    def ask(self, worker: int) -> None:
        """Send a request, and note its time and its answer."""
        connection = self._connections[worker]
        started = time.perf_counter()
        connection.request("POST", "/models/m/predict", self._body, _HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        self.times.append(1e3 * (time.perf_counter() - started))
        if answer.status != http.HTTPStatus.OK:
            raise servers.NotReadyError(
                f"expected 200, received {answer.status}: {content[:200]!r}"
            )
        self.answers.add(json.dumps(json.loads(content)["predictions"]))


def ask(running: Running, workers: int, body: bytes) -> str:
    """Ask every worker twice, and return their only answer."""
    caller = Caller(running, workers, body)
    for number in range(2 * workers):
        caller.ask(number % workers)
    if len(caller.answers) != 1:
        raise servers.NotReadyError("expected one answer of all workers, received several")
    return caller.answers.pop()


def body_of(shape: Sequence[int], *heads: str) -> bytes:
    """Return a request for some rows."""
    rows = np.random.default_rng(1).standard_normal((ROWS, *shape)).astype(np.float32)
    wanted = {"heads": list(heads)} if heads else {}
    return json.dumps({"instances": [{"x": row.tolist()} for row in rows], **wanted}).encode()


def serve(models: Path, workers: int, cache: str, body: bytes) -> Served:
    """Start a service, ask all of its workers, and measure it."""
    with service(models, workers, cache) as running:
        answer = ask(running, workers, body)
        return Served(running.ready_seconds, processes.memory(running.pid), answer)


def speed(models: Path, cache: str, body: bytes) -> tuple[float, float]:
    """Return the median milliseconds of a request, with the cache off and on.

    Two services are asked in turn, so that what else the machine does slows both down.
    """
    with service(models, 1, "off") as off, service(models, 1, cache) as on:
        callers = [Caller(running, 1, body) for running in (off, on)]
        for _ in range(REQUESTS):
            for caller in callers:
                caller.ask(0)
    own, shared = (median(caller.times) for caller in callers)
    return own, shared


def goal(megabytes: float, workers: int) -> float:
    """Return the most memory for models of so many megabytes."""
    return PART * megabytes + EACH * workers


def compare(
    name: str, folder: Path, counts: Sequence[int], times: list[list[str]], missed: list[str]
) -> Iterator[list[str]]:
    """Yield a row for each number of workers, and note times, and the goals that are missed."""
    models, cache = folder / "models", folder / "cache"
    shape = [3200] if name == "mlp" else [3, 4, 4]
    content = MODELS[name]()
    publish(models, "m", content)
    size, body = len(content) / 1e6, body_of(shape)
    del content
    for workers in counts:
        own = serve(models, workers, "off", body)
        first = serve(models, workers, str(cache), body)
        shared = serve(models, workers, str(cache), body)
        most = goal(size, workers)
        same = own.answer == first.answer == shared.answer
        what = f"{name}, {workers} workers"
        missed += [f"{what}: {shared.megabytes:,.0f} MB"] * (shared.megabytes > most)
        missed += [f"{what}: other answers"] * (not same)
        yield [
            f"{name}, {size:,.0f} MB",
            str(workers),
            f"{own.megabytes:,.0f}",
            f"{shared.megabytes:,.0f}",
            f"{most:,.0f}",
            "same" if same else "other",
            f"{own.ready:.1f}",
            f"{first.ready:.1f}, {shared.ready:.1f}",
        ]
        if workers != counts[-1]:
            shutil.rmtree(cache)
    off, on = speed(models, str(cache), body)
    missed += [f"{name}: {on / off:.2f} x the time"] * (on > SLOWER * off)
    times.append([f"{name}, {size:,.0f} MB", f"{off:,.1f}", f"{on:,.1f}", f"{on / off:.2f}"])
    shutil.rmtree(cache)
    shutil.rmtree(models)


def swap(folder: Path, workers: int) -> Iterator[tuple[str, float, float]]:
    """Yield the memory and its goal for one small head, and for two versions at once."""
    models = folder / "models"
    content = mlp(5, small=64)
    size = len(content) / 1e6
    publish(models, "m", content)
    with service(models, workers, str(folder / "cache")) as running:
        # The weights of the small head: each worker has a copy of them.
        ask(running, workers, body_of([3200], "z"))
        yield "one small head of two", processes.memory(running.pid), goal(size, workers)
        publish(models, "m", mlp(5, small=65))
        _until(running, "2")
        ask(running, workers, body_of([3200], "z"))
        yield "two versions in a swap", processes.memory(running.pid), goal(2 * size, workers)
    shutil.rmtree(models)


def _until(running: Running, version: str) -> None:
    end = time.monotonic() + LOADED_SECONDS
    while json.loads(servers.ask(running.url("/models/m")))["version"] != version:
        if time.monotonic() > end:
            raise servers.NotReadyError(f"version {version} does not serve")
        time.sleep(0.1)


@click.command()
@click.option("--workers", "counts", default="2,8", show_default=True)
@click.option("--models", "names", type=Names(tuple(MODELS)), default=list(MODELS))
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("build/bench"),
    show_default=True,
    help="A folder on a disk, for the models and the cache.",
)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(counts: str, names: list[str], folder: Path, *, writes: bool) -> None:
    """Measure, print the tables, write them if asked to, and end with 1 if a goal is missed."""
    servers.stop_when_told()
    numbers = [int(number) for number in counts.split(",")]
    missed: list[str] = []
    times: list[list[str]] = []
    console = report.console()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        measure = partial(
            compare, folder=Path(made).resolve(), counts=numbers, times=times, missed=missed
        )
        rows = [row for name in names for row in measure(name)]
        header = (*("model", "workers", "off, MB", "on, MB", "goal", "bits", "off, s", "on, s"),)
        tables = [report.Table(TITLE, header, rows)]
        header = ("model", "off, ms", "on, ms", f"ratio, goal {SLOWER:g}")
        tables.append(report.Table("A request, with one worker", header, times))
        rows = []
        for workers in numbers:
            for what, megabytes, most in swap(Path(made).resolve(), workers):
                rows.append([what, str(workers), f"{megabytes:,.0f}", f"{most:,.0f}"])
                missed += [f"{what}, {workers} workers: {megabytes:,.0f} MB"] * (megabytes > most)
        tables.append(report.Table("With a cache", ("mlp", "workers", "on, MB", "goal"), rows))
    for one in tables:
        report.show(one, console)
    if writes:
        report.write_page(PAGE, "One copy of the weights", tables)
    for line in missed:
        console.print(f"missed: {line}")
    if missed:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
