"""The writer of a PredictResponse.

The bytes in front of a head's floats depend on its name and shape alone, and are kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from service.wire import packed
from service.wire.dialect import Reply
from service.wire.grpc_status import CONTENT_TYPE
from service.wire.messages import POOL
from service.wire.protobuf import FIXED32, FIXED64, VARINT, as_varint, delimited, tag_and_size
from service.wire.tfserving.grpc_values import VALUES
from service.wire.tfserving.metadata import data_type
from service.wire.tfserving.request import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.signature import Signature
    from service.wire.tfserving.request import Query

# The numbers of the fields of a PredictResponse, of its map of outputs, of a ModelSpec, of a
# TensorProto, of its shape and of an axis.
_OUTPUTS, _MODEL_SPEC = 1, 2
_KEY, _VALUE = 1, 2
_NAME, _VERSION, _SIGNATURE_NAME = 1, 2, 3
_DTYPE, _SHAPE = 1, 2
_DIM = 2
# The tag of the number in an Int64Value, in an axis and in a dtype.
_NUMBER = as_varint(1 << 3 | VARINT)
_MOST_VERSION = 2**63 - 1
_KEPT = 64

_FIELDS = packed.by_dtype(VALUES)
_FIXED = (FIXED32, FIXED64)
_TYPES = POOL.FindEnumTypeByName("tensorflow.DataType").values_by_name


class Writer:
    """The writer of answers of one version."""

    def __init__(self, name: str, version: str, signature: Signature) -> None:
        """Prepare the end of all answers."""
        spec = delimited(_NAME, name.encode())
        if version.isdigit() and int(version) <= _MOST_VERSION:
            spec += delimited(_VERSION, _number(int(version)))
        spec += delimited(_SIGNATURE_NAME, SIGNATURE.encode())
        self._end = delimited(_MODEL_SPEC, spec)
        self._heads = signature.heads
        self._before_again = lru_cache(_KEPT)(self._before)

    def write(self, query: Query, outputs: Mapping[str, NDArray[Any]]) -> Reply:
        """Return the answer to a message."""
        # Whatever has a buffer: floats are copied once, into the answer.
        parts: list[Any] = []
        for head in query.heads:
            array = outputs[head]
            field = _FIELDS[array.dtype]
            if field.kind in _FIXED and array.size:
                values = np.ascontiguousarray(array)
                parts += (self._before_again(head, array.shape, field.number, array.nbytes), values)
            else:
                content = packed.write(field, array)
                parts += (self._before(head, array.shape, 0, len(content)), content)
        parts.append(self._end)
        return Reply(b"".join(parts), CONTENT_TYPE)

    def _before(self, head: str, shape: tuple[int, ...], number: int, size: int) -> bytes:
        """Return the bytes of a head in front of its values.

        Args:
            head: the name of the head.
            shape: its shape.
            number: the number of the field that its values are packed in; 0 if the values are
                fields already.
            size: the bytes of the values.
        """
        dtype = _TYPES[data_type(self._heads[head].tensor.dtype)].number
        axes = b"".join(delimited(_DIM, _number(axis)) for axis in shape)
        tensor = _number(dtype) + delimited(_SHAPE, axes)
        if number:
            tensor += tag_and_size(number, size)
        name = delimited(_KEY, head.encode())
        value = tag_and_size(_VALUE, len(tensor) + size)
        entry = tag_and_size(_OUTPUTS, len(name) + len(value) + len(tensor) + size)
        return b"".join((entry, name, value, tensor))


def _number(value: int) -> bytes:
    """Return the field 1 with a whole number from 0; as in protobuf, nothing for 0."""
    return _NUMBER + as_varint(value) if value else b""
