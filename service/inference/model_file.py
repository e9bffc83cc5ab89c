"""An ONNX file: read whole, with the weights that lie in other files beside it.

model.onnx ─ read ─▶ graph ─ weights_beside ─▶ places in other files ─ fetch ─▶ the same graph
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError, Message

from service.errors import ModelRefused
from service.inference.runtime import NO_MEMORY, NO_ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    # A tensor, and the file, offset and length of its values.
    Weights = tuple[onnx.TensorProto, Path, int, int]

# What protobuf can hold; a graph with more weights than that has them beside it.
MAX_FILE = 2**31 - 1
NOT_WHOLE = "it is not an ONNX file, or not the whole of one"

# The fields of an ONNX file, by name, below which there may be a tensor.
HOLDERS = frozenset(
    {
        *("graph", "functions", "training_info", "initialization", "algorithm"),
        *("node", "initializer", "sparse_initializer", "values", "indices", "attribute"),
        *("attribute_proto", "t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"),
    }
)


def read(source: Path | bytes) -> onnx.ModelProto:
    """Read a graph from its file, or from the bytes of one; weights beside it stay where they are.

    Raises:
        ModelRefused: it cannot be read, or is no ONNX model with outputs.
    """
    try:
        graph = onnx.load_from_string(source if isinstance(source, bytes) else content(source))
    except DecodeError as error:
        raise ModelRefused(NO_MEMORY if NO_ROOM.search(str(error)) else NOT_WHOLE) from error
    except OSError as error:
        message = f"it cannot be read: {error.strerror}"
        raise ModelRefused(message) from error
    if not graph.graph.output:
        message = "it is not an ONNX model: it has no outputs"
        raise ModelRefused(message)
    return graph


def content(path: Path) -> bytes:
    """The bytes of a file, of a size that it says before they are read.

    Raises:
        OSError: it cannot be read.
        ModelRefused: it is no file, or none that protobuf could read.
    """
    # A pipe with nobody at its other end would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  it is open already
        seen = os.fstat(descriptor)
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(seen.st_mode):
            raise ModelRefused("it is no file: expected one, received a pipe or a device")
        if seen.st_size > MAX_FILE:
            message = (
                f"it has {seen.st_size} bytes, and an ONNX file at most {MAX_FILE}: "
                "larger weights lie beside it, as external data"
            )
            raise ModelRefused(message)
        return file.read(seen.st_size)


def weights_beside(graph: onnx.ModelProto, folder: Path) -> list[Weights]:
    """The weights that lie in other files of the model's folder, none of which is read yet.

    Raises:
        ModelRefused: there are none where the graph says, or they are not in the folder.
    """
    home = folder.resolve()
    return [
        _weights(tensor, home)
        for tensor in tensors_in(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]


def tensors_in(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph, wherever it stands: in a node, a branch or a function."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        # Only these have tensors somewhere inside; to look at every node's names takes long.
        if field.name not in HOLDERS:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            yield from tensors_in(part)


def _weights(tensor: onnx.TensorProto, home: Path) -> Weights:
    said = {entry.key: entry.value for entry in tensor.external_data}
    where = f"its weights {tensor.name!r} are in {said.get('location', '')!r}"
    try:
        path = (home / said["location"]).resolve(strict=True)
        if not path.is_relative_to(home):
            raise ModelRefused(f"{where}, which is outside of its folder")
        size = path.stat().st_size if path.is_file() else -1
        offset = int(said.get("offset", "0"))
        length = int(said.get("length", size - offset))
    except OSError as error:
        raise ModelRefused(f"{where}, which cannot be read: {error.strerror}") from error
    except (KeyError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError
        raise ModelRefused(f"{where}, which says no place in a file: {error!r}") from error
    if size < 0:
        raise ModelRefused(f"{where}, which is no file")
    if min(offset, length) < 0 or offset + length > size:
        raise ModelRefused(f"{where}, bytes {offset} to {offset + length}, and that has {size}")
    return tensor, path, offset, length


def fetch(weights: list[Weights]) -> None:
    """Read the weights into their graph: a cut is made in memory, so they have to be there too."""
    for tensor, path, offset, length in weights:
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
