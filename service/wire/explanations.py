"""The request for explanations, and the explanations of a head, in the dialects that have them.

    "explain": true | {"heads": ["o1"], "method": "shapley", "samples": 64}  ─▶  Explain
    Explained  ─▶  {"label": "yes", "reference": 0.21, "answer": 0.93, "parts": {"age": 0.5, …}}

They are computed elsewhere (`insight.explanations`); this module reads and writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import nearest
from service.wire.body import listing, refuse_unknown, show
from service.wire.rows import MISSING
from service.wire.written import in_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.signature import Head, Signature
    from service.wire.body import Notes

KEY = "explain"
ANSWER_KEY = "explanations"
ABOUT_KEY = "explained"
METHODS = ("occlusion", "shapley")
# The orders of the features that Shapley values are averaged over, unless all can be considered.
SAMPLES = 64
MOST_SAMPLES = 1024
_KEYS = ("heads", "method", "samples")
# The names in `heads` for each head that exists; a longer list is refused unread.
_MOST_NAMED = 64
# Reasons why heads cannot be explained, in one message.
_MOST_REASONS = 3


class Explain(NamedTuple):
    """A request for explanations of some heads."""

    heads: tuple[str, ...]
    method: str = METHODS[0]
    samples: int = SAMPLES


class Explained(NamedTuple):
    """The explanation of one head for each row.

    `labels` is empty for a head without labels.  `parts` is [rows, features], in the order of
    `features`.
    """

    features: Sequence[str]
    labels: Sequence[str | None]
    references: NDArray[Any]
    answers: NDArray[Any]
    parts: NDArray[Any]


class Explanations(NamedTuple):
    """The explanations of all rows by head, and how they were computed."""

    heads: Mapping[str, Explained]
    about: Mapping[str, Any]


def objections(signature: Signature) -> dict[str, str]:
    """Return for each head why it cannot be explained; "" if it can be.

    A head can be if it has one value, or labels of which one is right, and if each feature that it
    needs has a reference, which is its default or its mean in training.
    """
    without: dict[str, str] = {}
    for entry in signature.inputs.values():
        for feature in entry.features:
            no_mean = feature.vocabulary is not None or feature.statistics is None
            if feature.default is None and no_mean:
                name = f"{entry.name}.{feature.name}"
                way = f"`triceps sign FILE --default {name}=VALUE` records one"
                without.setdefault(entry.name, f"{name} has neither a default nor a mean; {way}")
    return {
        head.name: _objection_to_values(head)
        or next((without[name] for name in head.inputs if name in without), "")
        for head in signature.heads.values()
    }


def _objection_to_values(head: Head) -> str:
    """Return why the values of a head cannot be explained, whatever its inputs; "" if they can."""
    if head.tensor.dtype == "string":
        return "its values are texts"
    one_is_right = head.kind == "multiclass" and head.labels is not None
    return "" if head.tensor.size == 1 or one_is_right else "it has several numbers"


def read(value: Any, heads: tuple[str, ...], signature: Signature, notes: Notes) -> Explain | None:
    """Return the request for explanations; `None` if there is none.

    Args:
        value: the value of `explain`, or `MISSING`.
        heads: the requested heads.
        signature: the signature of the model or view.
        notes: takes the mistakes; if there are any, the result is meaningless.
    """
    if value is MISSING or value is False:
        return None
    if signature.tensor:
        expected = f"no such key, since this model takes no rows: {signature.tensor}"
        notes.add(KEY, expected, show(value))
        return None
    if value is True:
        value = {}
    if not isinstance(value, dict):
        notes.add(KEY, f"true, or an object with some of {listing(_KEYS)}", show(value))
        return None
    refuse_unknown(value, "key", _KEYS, KEY, notes)
    method = value.get("method", METHODS[0])
    if method not in METHODS:
        close = nearest(method, METHODS) if isinstance(method, str) else ""
        notes.add(f"{KEY}.method", f"one of {listing(METHODS)}{close}", show(method))
    samples = value.get("samples", SAMPLES)
    if type(samples) is not int or not 1 <= samples <= MOST_SAMPLES:
        notes.add(f"{KEY}.samples", f"a whole number from 1 to {MOST_SAMPLES}", show(samples))
    chosen = _read_heads(value.get("heads", MISSING), heads, signature, notes)
    return Explain(chosen, method, samples)


def _read_heads(
    value: Any, heads: tuple[str, ...], signature: Signature, notes: Notes
) -> tuple[str, ...]:
    if not heads:
        return ()  # which is a mistake already
    reasons = objections(signature)
    able = tuple(name for name in heads if not reasons[name])
    if not able:
        named = value if isinstance(value, list) else []
        about = [name for name in heads if name in named] or heads
        why = "; ".join(
            f"{name} cannot be, since {reasons[name]}" for name in about[:_MOST_REASONS]
        )
        received = f"none: {why}"
        notes.add(KEY, f"a head that can be explained among {listing(heads)}", received)
        return ()
    if value is MISSING:
        return able
    at = f"{KEY}.heads"
    if not isinstance(value, list) or not value or len(value) > _MOST_NAMED * len(heads):
        notes.add(at, f"a list of some of {listing(able)}, or no such key", show(value))
        return ()
    chosen: list[str] = []
    for i, name in enumerate(value):
        if name in chosen:
            notes.add(f"{at}[{i}]", "each head once", f"{show(name)} again")
        elif isinstance(name, str) and name in able:
            chosen.append(name)
        elif notes.full:
            notes.count += 1
        else:
            known = isinstance(name, str)
            reason = f", which cannot be, since {reasons[name]}" if known and name in heads else ""
            close = nearest(name, able) if known and not reason else ""
            expected = f"one of {listing(able)}, the requested heads that can be explained{close}"
            notes.add(f"{at}[{i}]", expected, show(name) + reason)
    return tuple(chosen)


def written(explanations: Explanations) -> dict[str, Any]:
    """Return the keys of an answer whose explanations are a list, for `write`."""
    return {ANSWER_KEY: in_pieces(listed(explanations)), ABOUT_KEY: dict(explanations.about)}


def listed(explanations: Explanations) -> list[dict[str, dict[str, Any]]]:
    """Return for each row its explanations by head, for `write`."""
    by_head = {name: _of_head(explained) for name, explained in explanations.heads.items()}
    return [dict(zip(by_head, row, strict=True)) for row in zip(*by_head.values(), strict=True)]


def _of_head(explained: Explained) -> list[dict[str, Any]]:
    features, labels, references, answers, parts = explained
    return [
        {
            **({"label": labels[i]} if labels else {}),
            # As numbers of their own dtype, they are written with the digits of that dtype.
            "reference": references[i],
            "answer": answers[i],
            "parts": dict(zip(features, row, strict=True)),
        }
        for i, row in enumerate(parts.tolist())
    ]
