"""Messages of the gRPC protocols, written and read by protobuf itself."""

from __future__ import annotations

import base64
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from service.wire.messages import COMPILED, message_class
from tests.harness.forms import DATATYPES, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from service.wire.dialect import Reply

    Arrays = Mapping[str, NDArray[Any]]

InferRequest = message_class("inference.ModelInferRequest")
InferResponse = message_class("inference.ModelInferResponse")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")

# By dtype, the field of InferTensorContents, the DataType, and the field of TensorProto.
FIELDS = {
    "bool": ("bool_contents", 10, "bool_val"),
    "int8": ("int_contents", 6, "int_val"),
    "int16": ("int_contents", 5, "int_val"),
    "int32": ("int_contents", 3, "int_val"),
    "int64": ("int64_contents", 9, "int64_val"),
    "uint8": ("uint_contents", 4, "int_val"),
    "uint16": ("uint_contents", 17, "int_val"),
    "uint32": ("uint_contents", 22, "uint32_val"),
    "uint64": ("uint64_contents", 23, "uint64_val"),
    "float16": (None, 19, "half_val"),
    "float32": ("fp32_contents", 1, "float_val"),
    "float64": ("fp64_contents", 2, "double_val"),
    "object": ("bytes_contents", 7, "string_val"),
}


def _values(array: NDArray[Any]) -> list[Any]:
    """Return values as a field of protobuf takes them."""
    if array.dtype == object:
        return [text.encode() for text in array.ravel()]
    flat = array.ravel()
    return (flat.view(np.uint16) if array.dtype == np.float16 else flat).tolist()


def infer(arrays: Arrays, *, raw: bool, name: str = "three", **more: Any) -> Any:
    """Return a ModelInferRequest, with raw contents or with those of each input."""
    request = InferRequest(model_name=name, **more)
    for key, array in arrays.items():
        entry = request.inputs.add(name=key, datatype=DATATYPES[str(array.dtype)])
        entry.shape.extend(array.shape)
        if raw:
            request.raw_input_contents.append(raw_bytes(array))
        else:
            field, _, _ = FIELDS[str(array.dtype)]
            getattr(entry.contents, field).extend(_values(array))
    return request


def fill(tensor: Any, array: NDArray[Any], *, content: bool) -> None:
    """Write an array into a TensorProto, as its bytes or value by value."""
    _, tensor.dtype, field = FIELDS[str(array.dtype)]
    for axis in array.shape:
        tensor.tensor_shape.dim.add(size=axis)
    if content and array.dtype != object:
        tensor.tensor_content = array.tobytes()
    else:
        getattr(tensor, field).extend(_values(array))


def predict(arrays: Arrays, *, content: bool, name: str = "three") -> Any:
    """Return a PredictRequest, with the bytes of tensors or with values."""
    request = PredictRequest()
    request.model_spec.name = name
    for key, array in arrays.items():
        fill(request.inputs[key], array, content=content)
    return request


def inferred(content: bytes) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return a ModelInferResponse, and its outputs by name."""
    response = InferResponse.FromString(content)
    dtypes = {datatype: dtype for dtype, datatype in DATATYPES.items()}
    found = {}
    for i, output in enumerate(response.outputs):
        dtype = dtypes[output.datatype]
        if not response.raw_output_contents:
            values = list(getattr(output.contents, FIELDS[dtype][0]))
            flat = _array(values, dtype)
        elif dtype == "object":
            flat = _array(_texts(response.raw_output_contents[i]), dtype)
        else:
            flat = np.frombuffer(response.raw_output_contents[i], dtype)
        found[output.name] = flat.reshape(list(output.shape))
    return response, found


def _array(values: list[Any], dtype: str) -> NDArray[Any]:
    if dtype == "object":
        return np.array([value.decode() for value in values], object)
    return np.array(values, dtype)


def _texts(content: bytes) -> list[bytes]:
    texts = []
    while content:
        end = 4 + int.from_bytes(content[:4], "little")
        texts.append(content[4:end])
        content = content[end:]
    return texts


def predicted(content: bytes) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Return a PredictResponse, and its outputs by name."""
    response = PredictResponse.FromString(content)
    dtypes = {number: (dtype, field) for dtype, (_, number, field) in FIELDS.items()}
    found = {}
    for name, tensor in response.outputs.items():
        dtype, field = dtypes[tensor.dtype]
        values = list(getattr(tensor, field))
        if dtype == "float16":
            flat = np.array(values, np.uint16).view(np.float16)
        else:
            flat = _array(values, dtype)
        found[name] = flat.reshape([dim.size for dim in tensor.tensor_shape.dim])
    return response, found


@cache
def _without_maps(name: str) -> Any:
    """Return the class of a message whose maps are lists of entries, which have the same bytes.

    Protobuf for Python drops an entry of a map that has an unknown field, which its other
    implementations do not.  The inputs of TensorFlow are a map, and are read by its rules.
    """
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(COMPILED.read_bytes()).file:
        waiting = list(file.message_type)
        while waiting:
            each = waiting.pop()
            if file.package.startswith("tensorflow"):
                each.options.map_entry = False
            waiting += each.nested_type
        pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(name))


def canonical(name: str, content: bytes) -> bytes:
    """Return a message as protobuf writes it, without fields that it does not know.

    Raises:
        DecodeError: protobuf cannot read it.
    """
    read = _without_maps(name).FromString(content)
    read.DiscardUnknownFields()
    written: bytes = read.SerializeToString()
    return written


def status(reply: Reply) -> tuple[int, str, list[tuple[str, str]] | None]:
    """Return the code, the message and the field violations of an error."""
    assert (reply.content, reply.content_type) == (b"", "application/grpc")
    headers = dict(reply.headers)
    code, text = int(headers["grpc-status"]), unquote(headers["grpc-message"])
    details = headers.get("grpc-status-details-bin")
    if details is None:
        return code, text, None
    said = message_class("google.rpc.Status").FromString(base64.b64decode(details + "=="))
    assert (said.code, said.message) == (code, text)
    bad = message_class("google.rpc.BadRequest")()
    (detail,) = said.details
    assert detail.Unpack(bad)
    return code, text, [(each.field, each.description) for each in bad.field_violations]
