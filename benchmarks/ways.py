"""The ways in which the rows of a cell are sent: the body, the path, the headers and the load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import checks, load, load_http2, models
from benchmarks.results import BINARY, GRPC, HTTP1, HTTP2, JSON
from tests.harness import protobuf

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load import Load
    from benchmarks.results import Cell
    from benchmarks.servers import Running

HEAD = "Inference-Header-Content-Length"
_MODEL = Path(models.FILE).stem


@dataclass(frozen=True)
class Way:
    """A way to send rows: the ending of the body's file, the path and the headers."""

    file: str
    path: str
    headers: Callable[[int], dict[str, str]]


WAYS = {
    JSON: Way("json", "/predict", lambda _: dict(load.JSON)),
    BINARY: Way(
        "bin", f"/v2/models/{_MODEL}/infer", lambda rows: {HEAD: str(models.binary(rows)[1])}
    ),
    HTTP1: Way("json", "/predict", lambda _: dict(load.JSON)),
    HTTP2: Way("json", "/predict", lambda _: dict(load.JSON)),
    GRPC: Way(
        "grpc", protobuf.INFER, lambda _: {"content-type": "application/grpc", "te": "trailers"}
    ),
}


def missing(cell: Cell) -> str:
    """Return what the load of a cell lacks, if anything."""
    needs_h2load = cell.way in (HTTP1, HTTP2, GRPC)
    return f"h2load; {load_http2.PACKAGE}" if needs_h2load and load_http2.find() is None else ""


def body(cell: Cell) -> Path:
    """Return the file of a cell's body."""
    return models.FOLDER / f"{cell.body}.{WAYS[cell.way].file}"


def loader(cell: Cell, running: Running) -> Callable[[float], Load]:
    """Return the load of a cell, which gets its seconds."""
    way, file = WAYS[cell.way], body(cell)
    given = (running.url(way.path), file, cell.connections)
    headers = way.headers(models.BODIES[cell.body])
    if cell.way == GRPC:
        size = len(protobuf.framed(checks.call(running, file.read_bytes())))
        return partial(load_http2.run, *given, headers=headers, answer=size)
    if cell.way in (HTTP1, HTTP2):
        return partial(load_http2.run, *given, headers=headers, over_http1=cell.way == HTTP1)
    return partial(load.run, *given, headers=headers)
