"""A signature in the form that TensorFlow Serving's metadata has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.wire import tensors

if TYPE_CHECKING:
    from service.signature import Signature, Tensor

# The dtypes whose TensorFlow names are not their own in capitals
# (tensorflow/core/framework/types).
_DTYPES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}


def signature_def(signature: Signature) -> dict[str, Any]:
    """Return a signature as TensorFlow Serving does (api_rest.md, Model Metadata API).

    It has all input and output tensors with their dtypes, and their shapes with the batch axis.
    """
    rows = () if signature.tensor else (None,)
    outputs = [head.tensor for head in signature.heads.values()]
    return {
        "inputs": {
            name: _info(tensor, rows) for name, tensor in tensors.by_name(signature).items()
        },
        "outputs": {tensor.name: _info(tensor, rows) for tensor in outputs},
        "method_name": "tensorflow/serving/predict",
    }


def _info(tensor: Tensor, rows: tuple[None, ...]) -> dict[str, Any]:
    axes = (*rows, *tensor.shape)
    dims = [{"size": str(-1 if axis is None else axis), "name": ""} for axis in axes]
    return {
        "dtype": data_type(tensor.dtype),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": tensor.name,
    }


def data_type(dtype: str) -> str:
    """Return TensorFlow's name for a dtype."""
    return _DTYPES.get(dtype, f"DT_{dtype.upper()}")
