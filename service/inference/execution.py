"""The execution of a graph: the settings that its session is made with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

CPU = "CPUExecutionProvider"
# The largest difference from the CPU's answers, absolute below 1 and relative above.
FULL, REDUCED = 1e-4, 1e-2
# An option that asks for fewer digits than float32 has: precision = "FP16", trt_bf16_enable = "1".
_FEWER = re.compile(r"fp16|bf16|tf32|float16|half|\bf16\b", re.IGNORECASE)
_OFF = frozenset({"0", "false", "off", "no", ""})


@dataclass(frozen=True)
class Execution:
    """The settings of a session; if they change, a new session is needed."""

    threads: int = 1
    """The threads that compute one run."""
    auto: bool = False
    """True if a long run that is alone in the service is computed by all processors."""
    provider: str = CPU
    """The execution provider, as ONNX Runtime spells it."""
    options: tuple[tuple[str, str], ...] = ()
    """The options of the provider, as ONNX Runtime takes them."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return the execution of its `vars`, which may have been JSON."""
        return cls(**{**values, "options": tuple(map(tuple, values["options"]))})

    @property
    def is_cpu(self) -> bool:
        """True if the CPU provider runs the graph."""
        return self.provider == CPU

    @property
    def tolerance(self) -> float:
        """The largest difference from the answers of the CPU provider, by the asked precision."""
        asked = (
            _FEWER.search(value) or (_FEWER.search(key) and value.lower() not in _OFF)
            for key, value in self.options
        )
        return REDUCED if any(asked) else FULL

    def __str__(self) -> str:
        """Return the provider with its options, for a message."""
        options = ", ".join(f"{key} = {value!r}" for key, value in self.options)
        return f"{self.provider} ({options})" if options else self.provider


PLAIN = Execution()
