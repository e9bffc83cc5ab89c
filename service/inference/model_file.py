"""The reader of ONNX files, and of the weights that lie in other files beside them.

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

# The most bytes that protobuf can hold; a graph with more weights has them in other files.
MAX_FILE = 2**31 - 1
NOT_WHOLE = "it is not an ONNX file, or not the whole of one"

# The names of the protobuf fields that may contain a tensor at some depth.
HOLDERS = frozenset(
    {
        *("graph", "functions", "training_info", "initialization", "algorithm"),
        *("node", "initializer", "sparse_initializer", "values", "indices", "attribute"),
        *("attribute_proto", "t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"),
    }
)


def read(source: Path | bytes) -> onnx.ModelProto:
    """Read a graph, without the weights that lie in other files.

    Args:
        source: the path of the file, or its bytes.

    Raises:
        ModelRefused: the file cannot be read, or is not an ONNX model with outputs.
    """
    if not isinstance(source, bytes):
        _check_path(source)
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


def _check_path(path: Path) -> None:
    """Check that ONNX Runtime can open a path.

    Raises:
        ModelRefused: the path is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        message = "its path is not UTF-8, and ONNX Runtime opens no other: rename it"
        raise ModelRefused(message) from error


def content(path: Path) -> bytes:
    """Return the bytes of a regular file, whose size is checked before it is read.

    Raises:
        OSError: the file cannot be read.
        ModelRefused: the path is a pipe or a device, or the file is larger than `MAX_FILE`.
    """
    # Without O_NONBLOCK, a pipe without a writer would block here.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  it is open already
        seen = os.fstat(descriptor)
        if stat.S_ISDIR(seen.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(seen.st_mode):
            raise ModelRefused("it is not a file: expected one, received a pipe or a device")
        if seen.st_size > MAX_FILE:
            message = (
                f"it has {seen.st_size} bytes, and an ONNX file at most {MAX_FILE}: "
                "larger weights lie beside it, as external data"
            )
            raise ModelRefused(message)
        return file.read(seen.st_size)


def weights_beside(graph: onnx.ModelProto, folder: Path) -> list[Weights]:
    """Return the places of the weights in other files of the model's folder, without reading them.

    Raises:
        ModelRefused: a place is not in the folder, does not exist or cannot be read.
    """
    home = folder.resolve()
    return [
        _weights(tensor, home)
        for tensor in tensors_in(graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]


def tensors_in(message: Message) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph, including those in nodes, branches and functions."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        # Skipping the others saves time: most fields are names.
        if field.name not in HOLDERS:
            continue
        for part in (value,) if isinstance(value, Message) else value:
            yield from tensors_in(part)


def _weights(tensor: onnx.TensorProto, home: Path) -> Weights:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"its weights {tensor.name!r} are in {entries.get('location', '')!r}"
    try:
        path = (home / entries["location"]).resolve(strict=True)
        if not path.is_relative_to(home):
            raise ModelRefused(f"{where}, which is outside of its folder")
        size = path.stat().st_size if path.is_file() else -1
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", size - offset))
    except OSError as error:
        raise ModelRefused(f"{where}, which cannot be read: {error.strerror}") from error
    except (KeyError, RuntimeError, ValueError) as error:  # a loop of links is a RuntimeError
        raise ModelRefused(f"{where}, which names no place in a file: {error!r}") from error
    if size < 0:
        raise ModelRefused(f"{where}, which is no file")
    if min(offset, length) < 0 or offset + length > size:
        raise ModelRefused(f"{where}, bytes {offset} to {offset + length}, and that has {size}")
    return tensor, path, offset, length


def fetch(weights: list[Weights]) -> None:
    """Read the weights into their graph, since sub-graphs are cut out of it in memory."""
    for tensor, path, offset, length in weights:
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
