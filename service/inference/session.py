"""ONNX Runtime sessions, with their inputs and outputs as tensors of a signature."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import onnxruntime

from service import signature as signatures
from service.errors import ModelRefused, nearest
from service.inference import arena, training_mode
from service.inference.declared import free
from service.inference.runtime import NO_MEMORY, NO_ROOM
from service.signature import Tensor

if TYPE_CHECKING:
    import onnx

    from service.inference.execution import Execution

    # A session, and the settings that it was made with.
    Started = tuple[onnxruntime.InferenceSession, Execution]
    Ready = tuple[onnxruntime.InferenceSession, tuple[str, ...]]

# For each of ONNX Runtime's type names, the dtype of `signature.DTYPES` that it means.
DTYPES = {
    f"tensor({theirs})": ours
    for ours in signatures.DTYPES
    for theirs in [{"float32": "float", "float64": "double"}.get(ours, ours)]
}

# Matches the error code, path and C++ signature that precede ONNX Runtime's messages.
_IN_FRONT = re.compile(
    r"^(\[ONNXRuntimeError\] : \d+ : \w+ : )?"
    r"(Load model from .*? failed:)?(Exception during initialization: )?"
    r"(/\S+:\d+ .*?\) (?=[A-Z]))?"
)

# The end of the names of execution providers.
_PROVIDER = "ExecutionProvider"


def options_of(execution: Execution) -> onnxruntime.SessionOptions:
    """Return the options of every session: its threads, no log, and the arena that all share."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = execution.threads
    # A thread that spins while it has nothing to do takes a processor from the other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    arena.use(options)
    return options


def start(
    source: str | bytes,
    graph: onnx.ModelProto,
    execution: Execution,
    options: onnxruntime.SessionOptions | None = None,
) -> onnxruntime.InferenceSession:
    """Start a session.

    Args:
        source: the path of the graph's file, or its bytes.
        graph: the parsed graph.
        execution: the threads of one run, and the execution provider.
        options: the options of the session; by default those of `execution`.

    Raises:
        ModelRefused: ONNX Runtime cannot run the graph here or by that provider, or memory does
            not suffice.
    """
    known = onnxruntime.get_available_providers()
    if execution.provider not in known:
        # Compared without their common end, which would make any two names similar.
        bare = [name.removesuffix(_PROVIDER) for name in known]
        close = nearest(execution.provider.removesuffix(_PROVIDER), bare)
        close = close.replace("'?", f"{_PROVIDER}'?")
        message = (
            f"provider: expected one that this ONNX Runtime has, {' or '.join(known)}, received "
            f"{execution.provider!r}{close}"
        )
        raise ModelRefused(message)
    options = options or options_of(execution)
    more = {"disabled_optimizers": training_mode.OPTIMIZERS} if training_mode.find(graph) else {}
    try:
        # The fallback would be the CPU or the same provider again, and prints to standard output.
        session = onnxruntime.InferenceSession(
            source,
            options,
            providers=[(execution.provider, dict(execution.options))],
            enable_fallback=0,
            **more,
        )
    except Exception as error:  # ONNX Runtime's exceptions have no parent but Exception
        reason = first_line(error)
        if NO_ROOM.search(reason):
            raise ModelRefused(NO_MEMORY) from error
        where = "" if execution.is_cpu else f" on {execution}"
        message = f"ONNX Runtime {onnxruntime.__version__} cannot run it{where}: {reason}"
        raise ModelRefused(message) from error
    # ONNX Runtime goes on with the CPU in silence if it cannot set a provider up.
    if execution.provider not in session.get_providers():
        message = (
            f"provider: expected {execution}, which ONNX Runtime cannot set up here; it would run "
            f"the model on {', '.join(session.get_providers())}"
        )
        raise ModelRefused(message)
    return session


def first_line(error: Exception) -> str:
    """Return the first line of ONNX Runtime's message, without its code and C++ signature."""
    return _IN_FRONT.sub("", str(error).strip().split("\n", 1)[0])


def ready(session: onnxruntime.InferenceSession) -> Ready:
    """Return a session with the names of its inputs, which would be looked up for every run."""
    return session, tuple(value.name for value in session.get_inputs())


def tensor_of(what: str, value: onnxruntime.NodeArg, *, whole: bool) -> Tensor:
    """Return an input or output as a tensor.

    Args:
        what: "input" or "head", for the message.
        value: the input or output as ONNX Runtime describes it.
        whole: whether the tensor has all axes; if not, the first is its batch axis and left out.

    Raises:
        ModelRefused: the value is not a tensor, or has a dtype that no request can hold.
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
