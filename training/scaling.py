"""Features of large numbers that no layer brings to a scale of about 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.signature import Input, Statistics
    from training.spec import Spec

# Ages and percentages are below this; pixels, incomes and years are not.
LARGE = 100.0
SHOWN = 3  # features of an input in a message, after the largest
# Keras' layers after which a value is about 1, or is no number any more.
SCALING = frozenset(
    {
        *("BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization"),
        *("RMSNormalization", "Rescaling", "UnitNormalization"),
        *("CategoryEncoding", "Discretization", "Embedding", "Hashing", "IntegerLookup"),
        *("Log", "PiecewiseLinear"),
    }
)


@dataclass(frozen=True)
class Unscaled:
    """An input with large numbers that reach a head without being scaled.

    `features` has them with their largest absolute value, the largest first; an image has one
    entry, with an empty name.
    """

    input: str
    features: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        """Return the largest features, how large they get, and how many others there are."""
        (name, largest), *rest = self.features
        what = f"{self.input}.{name}" if name else self.input
        others = [f", {f'{self.input}.{more}'!r} as {size:,.7g}" for more, size in rest[:SHOWN]]
        if len(rest) > SHOWN:
            others.append(f" (and {len(rest) - SHOWN} more of {self.input!r})")
        return f"{what!r} gets as large as {largest:,.7g}{''.join(others)}"


def unscaled(spec: Spec, inputs: Mapping[str, Input]) -> list[Unscaled]:
    """Return the inputs with features over `LARGE` that no layer scales on a way to a head."""
    problems = []
    for name, entry in inputs.items():
        columns = [(feature.name, feature.statistics) for feature in entry.features]
        sizes = {text: _size(seen) for text, seen in [*columns, ("", entry.statistics)] if seen}
        large = [
            pair
            for pair in sizes.items()
            if pair[1] > LARGE and _reaches_head(spec, _node(spec, name, pair[0]))
        ]
        if large:
            problems.append(Unscaled(name, tuple(sorted(large, key=lambda pair: -pair[1]))))
    return problems


def advice(spec: Spec, inputs: Mapping[str, Input]) -> str:
    """Return the likely cause of an answer that differs, and its cure; empty if all is scaled."""
    found = unscaled(spec, inputs)
    if not found:
        return ""
    first = found[0].input
    node = _node(spec, first, found[0].features[0][0])
    readers = " and ".join(_readers(spec, node))
    return (
        f".  The likely cause: {'; '.join(map(str, found))}, and no layer scales it, so that"
        f" float32 loses the last digits of sums.  The cure: [layers.{first}_scaled] with"
        f' after = "{node}" and Normalization = {{}}, and "{first}_scaled" in place of "{node}"'
        f" in the after of {readers}"
    )


def _size(statistics: Statistics) -> float:
    return max(abs(statistics.min), abs(statistics.max))


def _node(spec: Spec, name: str, feature: str) -> str:
    """Return the node that has a feature: its own, if a layer or head reads it by name."""
    node = f"{name}.{feature}"
    return node if any(_readers(spec, node)) else name


def _readers(spec: Spec, node: str) -> Iterator[str]:
    """Yield the places of the layers and heads that read a node, as keys of the spec."""
    yield from (f"layers.{name}" for name, layer in spec.layers.items() if node in layer.after)
    yield from (f"heads.{name}" for name, head in spec.heads.items() if node in head.after)


def _reaches_head(spec: Spec, node: str) -> bool:
    """Return whether a way leads from a node to a head without a layer that scales."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if any(node in head.after for head in spec.heads.values()):
            return True
        seen.add(node)
        waiting += [
            name
            for name, layer in spec.layers.items()
            if node in layer.after and name not in seen and layer.kind not in SCALING
        ]
    return False
