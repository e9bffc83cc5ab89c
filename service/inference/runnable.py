"""The graph of a file as it is run: read, with its weights, and rewritten where that is not safe.

model.onnx ─ read ─▶ graph ─ rewrite ─▶ Runnable ─ source ─▶ a session
                                           └─ whole ─▶ sub-graphs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx

from service.errors import ModelRefused
from service.host.watched import stamp
from service.inference import integer_division, model_file, training_mode

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service.inference.model_file import Weights


class Runnable(NamedTuple):
    """A graph that is safe to run, and the place of its weights."""

    file: Path | bytes
    graph: onnx.ModelProto
    weights: list[Weights]
    """The weights that lie in other files, and that have not been read into the graph."""
    is_rewritten: bool

    @property
    def source(self) -> str | bytes:
        """The path of the file, or the bytes of the graph, that a session is made of."""
        if self.is_rewritten:
            return self.graph.SerializeToString()
        return self.file if isinstance(self.file, bytes) else str(self.file)

    def outline(self) -> onnx.ModelProto:
        """Return a copy of the graph without its weights."""
        outline = onnx.ModelProto()
        outline.graph.node.extend(self.graph.graph.node)
        outline.functions.extend(self.graph.functions)
        outline.opset_import.extend(self.graph.opset_import)
        return outline

    def whole(self) -> onnx.ModelProto:
        """Return the graph with all of its weights."""
        model_file.fetch(self.weights)
        return self.graph

    def files(self) -> list[Path]:
        """Return the file and those of its weights; none for bytes."""
        if isinstance(self.file, bytes):
            return []
        return [self.file, *sorted({path for _, path, _, _ in self.weights})]


class Cuttable(NamedTuple):
    """The graph that sub-graphs are cut out of, which may be read only once one is needed."""

    read: Callable[[], onnx.ModelProto | None]
    """Returns the whole graph; `None` if its file has changed."""
    size: int
    """The approximate size of its weights, in bytes."""


def open_file(file: Path | bytes) -> Runnable:
    """Read a graph, and rewrite it where it is not safe to run.

    Args:
        file: the path of a `model.onnx`, or its bytes.

    Raises:
        ModelRefused: the file or its weights cannot be read, or the graph cannot be made safe.
    """
    graph = model_file.read(file)
    weights = [] if isinstance(file, bytes) else model_file.weights_beside(graph, file.parent)
    # Not `or`: both rewrite the graph in place where they have to.
    is_rewritten = training_mode.separate(graph) | integer_division.make_safe(graph)
    if is_rewritten:
        model_file.fetch(weights)
        weights = []
    return Runnable(file, graph, weights, is_rewritten)


def read_again(runnable: Runnable) -> Callable[[], onnx.ModelProto | None]:
    """Return a function that reads the graph from its files again, if they have not changed.

    Raises:
        OSError: the files cannot be looked at.
    """
    stamps = {path: stamp(path) for path in runnable.files()}
    file = runnable.file

    def read() -> onnx.ModelProto | None:
        try:
            graph = open_file(file).whole()
            same = all(stamp(path) == before for path, before in stamps.items())
        except (ModelRefused, OSError):
            return None
        return graph if same else None

    return read
