"""Sessions: what the sessions of one process share."""

from __future__ import annotations

import subprocess
import sys

# Each model's run of 256 rows needs some megabytes beside its weights.
PROGRAM = """
import re
from pathlib import Path
import numpy as np
from onnx import TensorProto, helper
from service.inference.model import Model
from tests.harness import small

def written():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

F, node, wide = TensorProto.FLOAT, helper.make_node, 4096
content = small.model(
    [node("MatMul", ["x", "w"], ["wide"]), node("Relu", ["wide"], ["y"])],
    [("x", F, ["n", 4])], [("y", F, ["n", wide])], {"w": np.ones((4, wide), np.float32)},
).SerializeToString()
rows = {"x": np.ones((256, 4), np.float32)}
Model.load(content).predict(rows, ["y"])
models = [Model.load(content) for _ in range(20)]
before = written()
for model in models:
    model.predict(rows, ["y"])
print(written() - before)
"""


def test_models_share_the_memory_of_their_runs():
    """A session keeps what its largest run took, so twenty with one arena each took 170 MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )

    assert float(done.stdout) < 40


def test_another_user_of_onnx_runtime_may_have_registered_an_arena():
    """A program that embeds the service may use ONNX Runtime itself; its arena is shared then."""
    program = (
        "import onnxruntime as runtime\n"
        "kind = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR\n"
        "memory = runtime.OrtMemoryInfo('Cpu', kind, 0, runtime.OrtMemType.DEFAULT)\n"
        "runtime.create_and_register_allocator(memory, None)\n"
        "from service.inference.model import Model\n"
        "from tests.harness import small\n"
        "print(len(Model.load(small.three()).signature.heads))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "4\n"


UNLOADING = """
import re, shutil, sys
from pathlib import Path
import numpy as np
from onnx import helper
from service.repository.reloader import Library
from tests.harness import small

def written():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000

node, wide, models = helper.make_node, 65536, Path(sys.argv[1])
content = small.model(
    [
        node("MatMul", ["x", "w"], ["wide"]), node("Relu", ["wide"], ["positive"]),
        node("ReduceSum", ["positive", "last"], ["y"], keepdims=1),
    ],
    [("x", small.F, ["n", 4])], [("y", small.F, ["n", 1])],
    {"w": np.ones((4, wide), np.float32), "last": np.array([1])},
).SerializeToString()
small.put(models, "three", 1, small.three())
small.put(models, "wide", 1, content)
library = Library(models, "three")
library.refresh()
before = written()
library.find("wide").model.predict({"x": np.ones((256, 4), np.float32)}, ["y"])
ran = written() - before
shutil.rmtree(models / "wide")
library.refresh()
library.refresh()
print(ran, written() - before)
"""


def test_the_memory_of_large_runs_is_freed_once_their_model_is_unloaded(tmp_path):
    """One request with many rows does not cost a process that memory for ever."""
    done = subprocess.run(
        [sys.executable, "-c", UNLOADING, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ran, kept = map(float, done.stdout.split())

    assert ran > 50
    assert kept < 20
