"""ONNX Runtime's errors: whether a failed run is the client's fault, and the reason in one line.

    [ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running TopK node. Name:''
    Status Message: k argument [3] should not be greater than specified axis dim value [2]
        ─▶  TopK: k argument [3] should not be greater than specified axis dim value [2] (x [1, 2])

If the message begins with a place in the runtime's own source, the place is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FAILURES = (Fail, InvalidArgument, RuntimeException)
"""The exceptions of a run that may be due to shapes or values that a node does not accept."""

NO_ROOM = re.compile(r"bad_alloc|Failed to allocate memory|Arena alloc failed")
"""The messages of ONNX Runtime and protobuf for an allocation that failed."""

NO_MEMORY = "it needs more memory than there is"

_NODE = re.compile(r"while running (\w+) node")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
# A place in the runtime's source: a file and line, a function, and the condition that failed.
_PLACE = re.compile(r"^\S+\.(?:h|hpp|cc|cpp):\d+ (?:.*? was false\. ?|.*?\) (?=[A-Z])|\w+ )")
_PATH = re.compile(r"(?:/[\w.+-]+){2,}(?::\d+)?")
_LONGEST = 200
_LONGEST_NAME = 40
_MOST_INPUTS = 8


def is_callers(error: Exception) -> bool:
    """Return whether a node failed at its values or their shapes, and not for lack of memory."""
    text = str(error)
    by_node = isinstance(error, InvalidArgument) or _NODE.search(text) is not None
    return by_node and NO_ROOM.search(text) is None


def reason(error: Exception, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the operator that failed, the reason, and the shapes of the inputs, in one line."""
    text = str(error)
    nodes = _NODE.findall(text)
    status = _CODE.split(text.rpartition("Status Message: ")[2])[-1].strip().partition("\n")[0]
    status = _PATH.sub("…", _PLACE.sub("", status)).strip() or "it fails"
    shapes = [
        f"{_plain(name, _LONGEST_NAME)} {list(array.shape)}"
        for name, array in list(arrays.items())[:_MOST_INPUTS]
    ]
    more = ", …" if len(arrays) > _MOST_INPUTS else ""
    return f"{': '.join((*nodes[-1:], _plain(status, _LONGEST)))} ({', '.join(shapes)}{more})"


def _plain(text: str, longest: int) -> str:
    """Return a string of a graph or of the runtime in one line, printable and cut at `longest`."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:longest])
    return shown if len(text) <= longest else f"{shown}…"
