"""Checks of the graph of a spec's inputs, layers and heads: no clashes, circles or dead ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import nearest
from training.toml_file import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from training.toml_file import Problems

NODE = "the name of an input, layer or head, or of an input's column (input.column)"


def check_names(problems: Problems, sections: Mapping[str, Iterable[str]]) -> bool:
    """Note nodes whose names clash, and return whether no two have the same name."""
    seen: dict[str, str] = {}
    distinct = True
    for section, names in sections.items():
        for name in names:
            at = f"{section}.{name}"
            other = seen.setdefault(name.lower(), at)
            if other.partition(".")[2] != name:
                problems.add(at, f"differs from {other} in case alone; rename one of them")
            elif other != at:
                problems.add(at, f"{other} has that name too; rename one of them")
                distinct = False
    return distinct


def check_shares(problems: Problems, shares: Mapping[str, str | None]) -> None:
    """Note layers that share the weights of no layer with weights of its own.

    Args:
        problems: the problems of the spec so far.
        shares: by layer, the one whose weights it uses, or `None`.
    """
    owners = [name for name, share in shares.items() if share is None]
    for name, share in shares.items():
        if share is None:
            continue
        at = f"layers.{name}.share"
        if share not in shares:
            tail = nearest(share, owners) or f"; layers: {', '.join(owners)}"
            text = f"expected the name of a layer, received {show(share)}{tail}"
            problems.add(at, text)
        elif shares[share] is not None:
            text = (
                f"{share!r} itself shares {shares[share]!r}; name a layer with a class of its own"
            )
            problems.add(at, text)


def check_graph(
    problems: Problems,
    inputs: Mapping[str, bool],
    layers: Mapping[str, tuple[str, ...]],
    heads: Mapping[str, tuple[str, ...]],
) -> None:
    """Note names in `after` that are not nodes, circles, and nodes that lead to no head.

    Args:
        problems: the problems of the spec so far.
        inputs: by input, whether it is an image, which has no columns to take by name.
        layers: by layer, the nodes that it follows.
        heads: by head, the nodes that it follows.
    """
    sections = {**dict.fromkeys(layers, "layers"), **dict.fromkeys(heads, "heads")}
    edges, sound = _edges(problems, inputs, sections, {**layers, **heads})
    cycle = _cycle(edges)
    if cycle:
        # `after` points backwards; the message shows the circle in the direction of the data.
        round_trip = " → ".join(reversed(cycle))
        problems.add(f"{sections[cycle[0]]}.{cycle[0]}.after", f"goes in a circle: {round_trip}")
    elif sound and heads:
        _check_dead_ends(problems, inputs, layers, heads, edges)


def _edges(
    problems: Problems,
    inputs: Mapping[str, bool],
    sections: Mapping[str, str],
    after: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, tuple[str, ...]], bool]:
    """Return by node the existing nodes that it follows, and whether all of them exist."""
    nodes = [*inputs, *sections]
    edges: dict[str, tuple[str, ...]] = {}
    sound = True
    for name, texts in after.items():
        sources = []
        for text in texts:
            source, dot, _ = text.partition(".")
            at = f"{sections[name]}.{name}.after"
            if source not in nodes or (dot and source not in inputs):
                near = nearest(text, nodes) or f"; known: {', '.join(nodes)}"
                expected = "the name of an input, layer or head"
                problems.add(at, f"expected {expected}, received {show(text)}{near}")
                sound = False
            elif dot and inputs[source]:
                problems.add(at, f"{source!r} is an image; it has no columns to take by name")
            else:
                sources.append(source)
        sound = sound and bool(texts)
        edges[name] = tuple(sources)
    return edges, sound


def _cycle(edges: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a path along `edges` that ends where it began, or an empty one."""
    done: set[str] = set()
    path: list[str] = []
    # Iterators over the nodes still to visit: over all, and over those of each node of the path.
    waiting = [iter(edges)]
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            done.update(path[-1:])
            del path[-1:]
        elif node in path:
            return [*path[path.index(node) :], node]
        elif node not in done:
            path.append(node)
            waiting.append(iter(edges.get(node, ())))
    return []


def _check_dead_ends(
    problems: Problems,
    inputs: Iterable[str],
    layers: Iterable[str],
    heads: Iterable[str],
    edges: Mapping[str, tuple[str, ...]],
) -> None:
    reached: set[str] = set()
    waiting = list(heads)
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += edges.get(node, ())
    for name in inputs:
        if name not in reached:
            problems.add(f"inputs.{name}", "no head reads it; name it in an after, or remove it")
    for name in layers:
        if name not in reached:
            problems.add(f"layers.{name}", "leads to no head; name it in an after, or remove it")
