"""Prepared models: a graph that is optimised already, and packed weights that processes can share.

    model.onnx ─ ONNX Runtime optimises and packs ─▶ model.onnx, weights ─ mapped ─▶ each session

A session of an ordinary file has its own copy of the weights, arranged for this processor.  A
prepared model has them in a file in that arrangement.  Each session maps that file, so that the
weights are in memory once for all processes.  ONNX Runtime answers with the same bits.

If a mapped file is truncated, the process ends; if it is overwritten, its answers change.  So only
files are mapped that nobody else writes: those of `repository.cache`.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from service.errors import ModelRefused
from service.inference import session as sessions
from service.inference.runtime import NO_MEMORY, NO_ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import Any

    import onnx
    from numpy.typing import NDArray

    from service.inference.execution import Execution
    from service.inference.model import Model

    Arrays = Mapping[str, NDArray[Any]]

GRAPH, WEIGHTS = "model.onnx", "weights"
FILES = (GRAPH, WEIGHTS)
# Smaller tensors stay in the graph's file.
LEAST_TENSOR = 1024
SEED = 0


class Hold:
    """A hold on a prepared model that keeps it from being removed, for as long as this object."""

    def __init__(self, folder: Path) -> None:
        """Take the hold.

        Raises:
            OSError: the prepared model is not there, or is being removed.
        """
        descriptor = os.open(folder / WEIGHTS, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        weakref.finalize(self, os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


def write(
    source: str | bytes, outline: onnx.ModelProto, execution: Execution, folder: Path
) -> None:
    """Prepare a model for this processor and this version of ONNX Runtime.

    Args:
        source: the path of the graph's file, or its bytes.
        outline: the graph, which needs no weights.
        execution: the threads of one run.
        folder: an empty folder, which gets the files `FILES`.

    Raises:
        ModelRefused: ONNX Runtime cannot run the graph here, memory does not suffice, a file
            cannot be written, or no weights can be mapped.
    """
    options = sessions.options_of(execution)
    options.optimized_model_filepath = str(folder / GRAPH)
    for name, value in (
        ("optimized_model_external_initializers_file_name", WEIGHTS),
        ("optimized_model_external_initializers_min_size_in_bytes", str(LEAST_TENSOR)),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{name}", value)
    sessions.start(source, outline, execution, options)
    if not (folder / WEIGHTS).exists():
        raise ModelRefused("ONNX Runtime keeps its weights in the graph, which cannot be mapped")


def start(
    folder: Path, graph: onnx.ModelProto, execution: Execution
) -> onnxruntime.InferenceSession:
    """Start a session of a prepared model.

    Args:
        folder: the folder that `write` has written.
        graph: the graph that was prepared.
        execution: the threads of one run.

    Raises:
        ModelRefused: the prepared model cannot be run.
    """
    options = sessions.options_of(execution)
    # It is optimised already, and a weight that is changed once more could not be shared.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return sessions.start(str(folder / GRAPH), graph, execution, options)


def compare(session: onnxruntime.InferenceSession, model: Model) -> None:
    """Compare the answers of a prepared model with those of its file, bit by bit.

    Args:
        session: a session of the file.
        model: the model, loaded from its prepared form.

    Raises:
        ModelRefused: an answer or a shape differs, or neither answers anything that is known.
    """
    if len(session.get_inputs()) > len(model.session.get_inputs()):
        raise ModelRefused("no head needs some of its inputs, so it is cut down, to a copy")
    if _described(session) != _described(model.session):
        raise ModelRefused("its inputs or heads are not the same once it is prepared")
    heads = list(model.signature.heads)
    compared = 0
    for arrays in _questions(model):
        ours, theirs = (_answers(each, heads, arrays) for each in (session, model.session))
        if ours is None and theirs is None:
            continue
        if ours is None or theirs is None or not all(map(_same_bits, ours, theirs)):
            raise ModelRefused("its answers are not the same once it is prepared")
        compared += 1
    if not compared:
        raise ModelRefused("no rows are known that it answers, so its answers cannot be compared")


def _described(session: onnxruntime.InferenceSession) -> list[tuple[Any, ...]]:
    values = [*session.get_inputs(), *session.get_outputs()]
    return [(value.name, value.type, value.shape) for value in values]


def _questions(model: Model) -> Iterator[Arrays]:
    """Yield golden rows, zeros and random numbers, in numbers of rows that the graph takes."""
    most = model.signature.batch
    if golden := model.golden_arrays():
        yield {name: array[:most] for name, array in golden.items()}
    if model.tried is None:
        return
    generator = np.random.default_rng(SEED)
    counts: list[tuple[int, ...]] = [()] if model.signature.tensor else [(most or 3,), (1,)]
    for rows in counts:
        zeros = model.zeros(model.tried, rows)
        yield zeros
        yield {
            name: generator.standard_normal(array.shape).astype(array.dtype)
            if array.dtype.kind == "f"
            else array
            for name, array in zeros.items()
        }


def _answers(
    session: onnxruntime.InferenceSession, heads: list[str], arrays: Arrays
) -> list[NDArray[Any]] | None:
    """Return the answers of a session; `None` if it has none."""
    try:
        return list(session.run(heads, dict(arrays)))
    except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
        if NO_ROOM.search(str(error)):
            raise ModelRefused(NO_MEMORY) from error
        return None


def _same_bits(ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return False
    if ours.dtype == object:
        return bool(ours.tolist() == theirs.tolist())
    return ours.tobytes() == theirs.tobytes()
