"""The threads of one run of a slow model: a lone request, and many at the same time.

    python -m benchmarks.threads [--rounds N] [--seconds N] [--write]

A picture model that takes about 150 ms on one processor is served by one worker for each
processor.  Its `settings.toml` is changed while it is served, so that each way is measured in turns
on the same service: `threads = 1`, `threads = 2` and `threads = "auto"`.  The goals are those of
"auto" on two processors: a lone request at least 1.7 times as fast as with one thread, and no fewer
answers when 16 connections ask.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks import processes, report

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parent / "THREADS.md"
WAYS = ("1", "2", '"auto"')
SIDE = 224
WIDTHS = (64, 128, 256, 512)
BLOCKS = 4
CONNECTIONS = 16
LONE = 10
GOAL_LONE, GOAL_MANY = 1.7, 1.0


def picture() -> bytes:
    """Return a model of sixteen convolutions over a picture, and a dense layer."""
    nodes, weights, source, channels = [], [], "x", 3
    random = np.random.default_rng(0)
    for number, width in enumerate(width for width in WIDTHS for _ in range(BLOCKS)):
        scale = (2 / (9 * channels)) ** 0.5
        kernel = (random.normal(size=(width, channels, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        strides = [2, 2] if number % BLOCKS == 0 else [1, 1]
        made = [source, f"w{number}"], [f"c{number}"]
        nodes.append(helper.make_node("Conv", *made, pads=[1, 1, 1, 1], strides=strides))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        source, channels = f"r{number}", width
    dense = (random.normal(size=(channels, 10)) / channels**0.5).astype(np.float32)
    weights.append(numpy_helper.from_array(dense, "dense"))
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "dense"], ["y"]))
    shape: list[Any] = ["batch", 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "picture",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def request() -> tuple[bytes, dict[str, str]]:
    """Return one picture as the body of a binary request, and its headers."""
    pixels = np.random.default_rng(1).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}
    tensor["parameters"] = {"binary_data_size": len(pixels)}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + pixels, {"Inference-Header-Content-Length": str(len(head))}


@dataclass
class Way:
    """The measurements of one way."""

    lone: list[float] = field(default_factory=list)
    """The seconds of each request of a lone client."""
    many: list[float] = field(default_factory=list)
    """The answers a second to many clients, by round."""
    cost: list[float] = field(default_factory=list)
    """The processor time of such an answer in seconds, which other work hardly changes."""


def ask(port: int, seconds: float, most: int) -> list[float]:
    """Ask one request after another over one connection, and return the seconds of each."""
    body, headers = request()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end and len(taken) < most:
        began = time.perf_counter()
        connection.request("POST", "/v2/models/picture/infer", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status == http.HTTPStatus.OK:
            taken.append(time.perf_counter() - began)
    connection.close()
    return taken


def measure(port: int, pid: int, way: Way, seconds: float) -> None:
    """Add a lone client's requests and those of many clients to the measurements of a way."""
    ask(port, 60, 3)
    way.lone += ask(port, 60, LONE)
    answers: list[int] = []
    clients = [
        threading.Thread(target=lambda: answers.append(len(ask(port, seconds, 10**6))))
        for _ in range(CONNECTIONS)
    ]
    began, spent = time.perf_counter(), processes.cpu_seconds(pid)
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    way.many.append(sum(answers) / (time.perf_counter() - began))
    way.cost.append((processes.cpu_seconds(pid) - spent) / sum(answers))


def choose(port: int, file: Path, threads: str) -> None:
    """Change the threads of the served model, and wait until all workers have them."""
    file.write_text(f"threads = {threads}\nqueue = 60\n")
    wanted = {"queue": 60, **({} if threads == "1" else {"threads": json.loads(threads)})}
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/models/picture")
        page = json.loads(connection.getresponse().read())
        connection.close()
        if page.get("settings") == wanted:
            return
        time.sleep(0.1)


@contextlib.contextmanager
def served(models: Path) -> Iterator[tuple[int, int]]:
    """Serve a repository with a worker for each processor; yield the port and the process ID."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "from service.commands.main import main; main()"
    options = ["serve", "--models", str(models), "--port", str(port), "--watch", "0.1"]
    with subprocess.Popen([sys.executable, "-c", program, *options]) as process:
        try:
            while True:
                with contextlib.suppress(OSError):
                    ask(port, 60, 1)
                    break
                time.sleep(0.2)
            yield port, process.pid
        finally:
            process.terminate()


def table(ways: dict[str, Way]) -> report.Table:
    """Return the medians of the ways, beside those of one thread."""
    base, rows = ways[WAYS[0]], []
    for threads, way in ways.items():
        faster = median(base.lone) / median(way.lone)
        share = median(way.many) / median(base.many)
        lone, many = f"{median(way.lone) * 1e3:.0f}", f"{median(way.many):.2f}"
        cost = f"{median(way.cost) * 1e3:.0f}"
        rows.append([f"threads = {threads}", lone, f"{faster:.2f}", many, f"{share:.2f}", cost])
    rows.append(["goal of auto", "", f"≥ {GOAL_LONE}", "", f"≥ {GOAL_MANY:.2f}", ""])
    header = ("setting", "lone request, ms", "times as fast", "16 connections, answers/s")
    header = (*header, "share", "processor time of an answer, ms")
    return report.Table("Threads of one run", header, rows)


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=8, show_default=True)
@click.option("--write", "writes", is_flag=True, help=f"Write benchmarks/{PAGE.name}.")
def main(rounds: int, seconds: int, *, writes: bool) -> None:
    """Measure, print a table, and write it if asked to."""
    ways = {threads: Way() for threads in WAYS}
    with TemporaryDirectory() as folder:
        models = Path(folder)
        version = models / "picture" / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(picture())
        with served(models) as (port, pid):
            for _ in range(rounds):
                for threads, way in ways.items():
                    choose(port, models / "picture" / "settings.toml", threads)
                    measure(port, pid, way, seconds)
    made = table(ways)
    report.show(made, report.console())
    if writes:
        how = (
            f"the medians of {rounds} rounds of {LONE} lone requests, and of {CONNECTIONS} "
            f"connections for {seconds:g} s, with one worker for each core"
        )
        report.write_page(PAGE, "Threads of one run", [made], how=how)


if __name__ == "__main__":
    main()
