"""The writer of a ModelInferResponse.

The bytes that describe the outputs depend on their names and shapes alone, and are kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import packed, unseen
from service.wire.dialect import Reply
from service.wire.grpc_status import CONTENT_TYPE
from service.wire.oip import binary
from service.wire.oip.answer import check_classes, classify
from service.wire.oip.grpc_contents import CONTENTS
from service.wire.oip.request import DATATYPES
from service.wire.protobuf import as_varint, delimited, tag_and_size
from service.wire.written import in_pieces, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.run import Part
    from service.signature import Signature
    from service.wire.oip.grpc_request import Query

    Shape = tuple[int, ...]

# The numbers of the fields of a ModelInferResponse, and of its outputs.
_MODEL_NAME, _MODEL_VERSION, _ID, _PARAMETERS, _OUTPUTS, _RAW = range(1, 7)
_NAME, _DATATYPE, _SHAPE, _, _CONTENTS = range(1, 6)
# An entry of a map, and the field of a parameter that is a text.
_KEY, _VALUE = 1, 2
_STRING = 3
_KEPT = 64

_FIELDS = packed.by_dtype(CONTENTS)


class Writer:
    """The writer of answers of one version."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        """Prepare the beginning of all answers."""
        self._beginning = delimited(_MODEL_NAME, name.encode()) + delimited(
            _MODEL_VERSION, version.encode()
        )
        self._heads = signature.heads
        # Whether the outputs are rows of numbers whose shape is known.
        self._in_rows = not signature.tensor and all(
            head.tensor.dtype != "string" and None not in head.tensor.shape
            for head in signature.heads.values()
        )
        self._describe_again = lru_cache(_KEPT)(self._describe)
        self._describe_rows = lru_cache(_KEPT)(self._describe_some)

    def write_part(self, query: Query, part: Part) -> Reply:
        """Return the answer to a message, from its part of a run.

        The outputs of a run become bytes once for all its requests.
        """
        run, start, end = part
        if not query.raw or query.classified or query.unseen or not self._in_rows:
            return self.write(query, part.outputs())
        contents = run.contents
        if contents is None:
            contents = run.contents = {h: output.tobytes() for h, output in run.outputs.items()}
        rows, own = run.rows, end - start
        parts = [self._beginning]
        if query.id is not None:
            parts.append(delimited(_ID, query.id.encode()))
        parts.append(self._describe_rows(query.heads, own))
        for head in query.heads:
            content = contents[head]
            size = len(content) // rows
            parts += (tag_and_size(_RAW, own * size), content[start * size : end * size])
        return Reply(b"".join(parts), CONTENT_TYPE)

    def write(self, query: Query, outputs: Mapping[str, NDArray[Any]]) -> Reply:
        """Return the answer to a message.

        Raises:
            BadRequest: it would have too many classes.
        """
        # Whatever has a buffer: arrays are copied once, into the answer.
        parts: list[Any] = [self._beginning]
        if query.id is not None:
            parts.append(delimited(_ID, query.id.encode()))
        if query.unseen:
            parts.append(_parameter("unseen", write(in_pieces(unseen.listed(query.unseen)))))
        if query.classified:
            outputs = self._classified(query, outputs)
        arrays = [outputs[head] for head in query.heads]
        if query.raw:
            shapes = tuple([array.shape for array in arrays])
            parts.append(self._describe_again(query.heads, shapes, _classes(query)))
            for array in arrays:
                content = (
                    binary.write(array) if array.dtype == object else np.ascontiguousarray(array)
                )
                size = len(content) if isinstance(content, bytes) else content.nbytes
                parts += (tag_and_size(_RAW, size), content)
        else:
            for head, array in zip(query.heads, arrays, strict=True):
                described = self._described(head, array.shape, is_class=array.dtype == object)
                contents = packed.write(_FIELDS[array.dtype], array)
                parts.append(delimited(_OUTPUTS, described + delimited(_CONTENTS, contents)))
        return Reply(b"".join(parts), CONTENT_TYPE)

    def _classified(
        self, query: Query, outputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Return the outputs, with those classes that are wanted in place of numbers."""
        replaced = dict(outputs)
        for wanted in query.wanted:
            if wanted.classes:
                array = outputs[wanted.head]
                check_classes(array, wanted)
                replaced[wanted.head] = classify(array, self._heads[wanted.head], wanted.classes)
        return replaced

    def _describe(
        self, heads: tuple[str, ...], shapes: tuple[Shape, ...], classes: tuple[str, ...]
    ) -> bytes:
        """Return the fields of raw outputs."""
        return b"".join(
            delimited(_OUTPUTS, self._described(head, shape, is_class=head in classes))
            for head, shape in zip(heads, shapes, strict=True)
        )

    def _describe_some(self, heads: tuple[str, ...], rows: int) -> bytes:
        """Return the fields of raw outputs that have so many rows."""
        shapes = tuple((rows, *self._axes(head)) for head in heads)
        return self._describe(heads, shapes, ())

    def _axes(self, head: str) -> tuple[int, ...]:
        return tuple(axis for axis in self._heads[head].tensor.shape if axis is not None)

    def _described(self, head: str, shape: Shape, *, is_class: bool) -> bytes:
        """Return the name, datatype and shape of an output."""
        datatype = "BYTES" if is_class else DATATYPES[self._heads[head].tensor.dtype]
        axes = delimited(_SHAPE, b"".join(map(as_varint, shape))) if shape else b""
        return delimited(_NAME, head.encode()) + delimited(_DATATYPE, datatype.encode()) + axes


def _classes(query: Query) -> tuple[str, ...]:
    """Return the heads whose classes are wanted."""
    if not query.classified:
        return ()
    return tuple(wanted.head for wanted in query.wanted if wanted.classes)


def _parameter(name: str, text: bytes) -> bytes:
    """Return a parameter of the answer that is a text."""
    value = delimited(_VALUE, delimited(_STRING, text))
    return delimited(_PARAMETERS, delimited(_KEY, name.encode()) + value)
