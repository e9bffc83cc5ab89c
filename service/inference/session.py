"""An ONNX Runtime session: started for one thread, with its inputs and outputs in our words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnxruntime

from service import signature as signatures
from service.errors import ModelRefused
from service.inference import training_mode
from service.inference.declared import free
from service.inference.runtime import NO_MEMORY, NO_ROOM
from service.signature import Tensor

if TYPE_CHECKING:
    import onnx

    Ready = tuple[onnxruntime.InferenceSession, tuple[str, ...]]

# ONNX Runtime's names for the types that have a numpy equivalent; `signature.DTYPES` in its words.
DTYPES = {
    f"tensor({theirs})": ours
    for ours in signatures.DTYPES
    for theirs in [{"float32": "float", "float64": "double"}.get(ours, ours)]
}

# What ONNX Runtime says before it says what is wrong.
_IN_FRONT = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"(Load model from .*? failed:)?(Exception during initialization: )?"
    r"(/\S+:\d+ .*?\) (?=[A-Z]))?"
)


def start(source: str | bytes, graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Start a session of one thread.

    Args:
        source: the graph's file, or its bytes.
        graph: the same, parsed.

    Raises:
        ModelRefused: ONNX Runtime cannot run it here.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    more = {"disabled_optimizers": training_mode.OPTIMIZERS} if training_mode.find(graph) else {}
    try:
        # The fallback would be the same provider once more, and prints to standard output.
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], enable_fallback=0, **more
        )
    except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
        reason = first_line(error)
        if NO_ROOM.search(reason):
            raise ModelRefused(NO_MEMORY) from error
        message = f"ONNX Runtime {onnxruntime.__version__} cannot run it: {reason}"
        raise ModelRefused(message) from error


def first_line(error: Exception) -> str:
    """What ONNX Runtime says, without its code and its C++ signature in front."""
    return _IN_FRONT.sub("", str(error).strip().split("\n", 1)[0])


def ready(session: onnxruntime.InferenceSession) -> Ready:
    """A session and its inputs' names, which it would look up anew for every run."""
    return session, tuple(value.name for value in session.get_inputs())


def tensor_of(what: str, value: onnxruntime.NodeArg, *, whole: bool) -> Tensor:
    """Return an input or output as a tensor, without its batch axis unless it is taken `whole`.

    Raises:
        ModelRefused: it is no tensor, or of a dtype that no request can hold.
    """
    dtype = DTYPES.get(value.type)
    if dtype is None:
        message = (
            f"{what} {value.name!r} is a {value.type}: expected a tensor of one of "
            f"{', '.join(signatures.DTYPES)}"
        )
        if value.type.startswith("seq(map("):
            message += " (skl2onnx makes tensors of it with options={'zipmap': False})"
        raise ModelRefused(message)
    axes = value.shape if whole else value.shape[1:]
    return Tensor(value.name, dtype, free(axes))
