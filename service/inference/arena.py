"""The arena of ONNX Runtime, in which the runs of all sessions of this process take memory.

    a run ─▶ its tensors, in the arena ─▶ free for the next run ─ a model is unloaded ─▶ system

A session keeps the memory that its largest run took.  With an arena for each session, every model
of a worker would hold such memory, and only one of them uses it at a time.  Weights are allocated
outside of the arena, so that unloading a model frees them.
"""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

log = logging.getLogger(__name__)


@cache
def share() -> None:
    """Register the arena; only sessions that start afterwards use it."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    # Registering twice does no harm.
    onnxruntime.create_and_register_allocator(memory, None)


def use(options: onnxruntime.SessionOptions) -> None:
    """Have a session with these options use the arena."""
    share()
    options.add_session_config_entry("session.use_env_allocators", "1")


def shrink() -> None:
    """Give the arena's memory that no run uses to the system; other runs may go on meanwhile."""
    options = onnxruntime.RunOptions()
    # ONNX Runtime does this at the end of a run, whichever session shares the arena.
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    try:
        _smallest().run(None, {"x": np.zeros(1, np.float32)}, options)
    except Exception:
        # The caller has more important work, and the memory is given back another time.
        log.exception("the memory of runs could not be given back")


@cache
def _smallest() -> onnxruntime.InferenceSession:
    """Return a session that does nothing."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    use(options)
    return onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
