"""Checks that a signature fits its graph, and that its parts fit each other."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NoReturn

from service.errors import ModelRefused
from service.kinds import HEAD_KINDS, LABELLED, UNSEEN, label_count
from service.signature import LARGEST_TOLERANCE, holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.signature import Golden, Head, Input, Signature, Tensor


def in_graph(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the graph's tensor that an input names; refuse a name that the graph does not have."""
    if name not in tensors:
        disagree("input", name)
    return tensors[name]


def check_size(entry: Input) -> None:
    """Refuse a size, such as an image's, whose number of values is not that of a row."""
    values = entry.tensors[0].size
    if entry.size is not None and math.prod(entry.size) != values:
        message = f"input {entry.name!r} has the size {list(entry.size)} for {values} values a row"
        raise ModelRefused(message)


def check_features(entry: Input, tensors: Mapping[str, Tensor]) -> None:
    """Refuse features that share a name, fit no tensor of the graph, or have an unfit value."""
    names = [feature.name for feature in entry.features]
    if not names or len(set(names)) != len(names):
        message = f"input {entry.name!r} has the features {names}: expected different names"
        raise ModelRefused(message)
    for tensor in entry.tensors:
        actual = in_graph(tensor.name, tensors)
        if actual.shape != tensor.shape or (actual.dtype == "string") != (tensor.dtype == "string"):
            message = f"its input {tensor.name!r} is {actual} a row, and its features say {tensor}"
            raise ModelRefused(message)
    dtypes = {tensor.name: tensor.dtype for tensor in entry.tensors}
    for feature in entry.features:
        if feature.unseen not in UNSEEN:
            message = f"{entry.name}.{feature.name} has unseen {feature.unseen!r}, none of {UNSEEN}"
            raise ModelRefused(message)
        dtype = dtypes[feature.tensor]
        if feature.default is not None and not holds(dtype, feature.default):
            message = (
                f"{entry.name}.{feature.name} has the default {feature.default!r}, "
                f"which no {dtype} holds"
            )
            raise ModelRefused(message)


def check_head(head: Head) -> None:
    """Refuse a head whose kind, labels or threshold do not fit its values.

    Raises:
        ModelRefused: one of them does not; the message says which.
    """
    wrong = None
    if head.kind not in HEAD_KINDS:
        wrong = f"has the kind {head.kind!r}, which is none of {HEAD_KINDS}"
    elif head.kind != "tensor" and head.tensor.dtype == "string":
        wrong = f"is {head.kind}, and its values are texts"
    elif head.kind == "binary" and head.tensor.size != 1:
        wrong = f"is binary, and not one value but {head.tensor} a row"
    elif head.threshold is not None and not holds("float64", head.threshold):
        wrong = f"has the threshold {head.threshold!r}: expected a number"
    elif head.constant and len(head.constant) != head.tensor.size:
        wrong = f"has a constant of {len(head.constant)} values, and is {head.tensor} a row"
    elif head.labels is not None:
        wanted = label_count(head.kind, head.tensor.size)
        if head.kind not in LABELLED:
            wrong = f"is {head.kind}, and has labels"
        elif wanted is None:
            wrong = f"has labels, and no fixed number of classes: it is {head.tensor} a row"
        elif len(head.labels) != wanted:
            wrong = f"has {len(head.labels)} labels for {wanted} classes"
        elif len(set(head.labels)) != len(head.labels):
            wrong = f"has the labels {list(head.labels)}: expected each once"
    if wrong is not None:
        raise ModelRefused(f"head {head.name!r} {wrong}")


def check_names(note: dict[str, Any], signature: Signature, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a note that names something the graph does not have, or one tensor twice."""
    named = [t.name for entry in signature.inputs.values() for t in entry.tensors]
    for what, unknown in (
        ("input", {name for name, times in Counter(named).items() if times > 1}),
        ("head", set(note.get("heads", {})) - set(signature.heads)),
        ("head", {h for heads in signature.models.values() for h in heads} - set(signature.heads)),
        ("input", set(signature.golden.inputs if signature.golden else tensors) ^ set(tensors)),
        ("head", set(signature.golden.outputs if signature.golden else ()) - set(signature.heads)),
    ):
        if unknown:
            disagree(what, min(unknown))


def check_golden(golden: Golden | None) -> None:
    """Refuse golden rows that are empty, or not equally many for each tensor and head."""
    if golden is None:
        return
    columns: dict[str, Any] = {**golden.inputs, **golden.outputs}
    counts = {name: len(rows) if isinstance(rows, list) else 0 for name, rows in columns.items()}
    if not golden.outputs or len(set(counts.values())) != 1 or 0 in counts.values():
        message = f"its golden rows do not line up: expected as many of each, received {counts}"
        raise ModelRefused(message)
    for head, tolerance in golden.tolerances.items():
        if not holds("float64", tolerance) or not 0 <= tolerance <= LARGEST_TOLERANCE:
            message = (
                f"the tolerance of the golden rows of head {head!r} is {tolerance!r}: "
                f"expected a number from 0 to {LARGEST_TOLERANCE:g}"
            )
            raise ModelRefused(message)


def disagree(what: str, name: str) -> NoReturn:
    """Refuse a file whose signature and graph do not name the same inputs and heads."""
    raise ModelRefused(f"its signature and its graph disagree on the {what} {name!r}")
