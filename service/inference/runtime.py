"""What ONNX Runtime says of a run that fails: whose fault it is, and the reason in one line.

    [ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running TopK node. Name:''
    Status Message: k argument [3] should not be greater than specified axis dim value [2]
        ─▶  TopK: k argument [3] should not be greater than specified axis dim value [2] (x [1, 2])

Where the message begins with a place in the runtime's own source, that is left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FAILURES = (Fail, InvalidArgument, RuntimeException)
"""What a run raises for shapes or values that a node of the graph cannot do with, among others."""

NO_ROOM = re.compile(r"bad_alloc|Failed to allocate memory|Arena alloc failed")
"""How ONNX Runtime and protobuf say that they got no memory."""

NO_MEMORY = "it needs more memory than there is"

_NODE = re.compile(r"while running (\w+) node")
_CODE = re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : ")
# A place in the source of the runtime: a file and line, a function, and the condition that failed.
_PLACE = re.compile(r"^\S+\.(?:h|hpp|cc|cpp):\d+ (?:.*? was false\. ?|.*?\) (?=[A-Z])|\w+ )")
_PATH = re.compile(r"(?:/[\w.+-]+){2,}(?::\d+)?")
_LONGEST = 200
_LONGEST_NAME = 40
_MOST_INPUTS = 8


def is_callers(error: Exception) -> bool:
    """Whether a node has failed at its values or their shapes, and not for lack of memory."""
    text = str(error)
    by_node = isinstance(error, InvalidArgument) or _NODE.search(text) is not None
    return by_node and NO_ROOM.search(text) is None


def reason(error: Exception, arrays: Mapping[str, NDArray[Any]]) -> str:
    """The operator that failed and why, and the inputs that it was given with their shapes."""
    text = str(error)
    nodes = _NODE.findall(text)
    said = _CODE.split(text.rpartition("Status Message: ")[2])[-1].strip().partition("\n")[0]
    said = _PATH.sub("…", _PLACE.sub("", said)).strip() or "it fails"
    shapes = [
        f"{_plain(name, _LONGEST_NAME)} {list(array.shape)}"
        for name, array in list(arrays.items())[:_MOST_INPUTS]
    ]
    more = ", …" if len(arrays) > _MOST_INPUTS else ""
    return f"{': '.join((*nodes[-1:], _plain(said, _LONGEST)))} ({', '.join(shapes)}{more})"


def _plain(text: str, longest: int) -> str:
    """A text of a graph's or the runtime's, in one line, short and legible."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:longest])
    return shown if len(text) <= longest else f"{shown}…"
