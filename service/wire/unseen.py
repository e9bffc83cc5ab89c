"""Texts that training never saw: those outside of the vocabulary of their feature.

The model answers them, and the answer lists them; or its signature says that they are mistakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import SHOWN, nearest
from service.signature import fold
from service.wire.body import Notes, show
from service.wire.scalars import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from service.signature import Feature, Signature
    from service.wire.body import Unseen

# A text of the vocabulary that differs by more than case and blanks is suggested only for the first
# mistake in a body, and if there are at most _FEW texts, none of them of more than _SHORT
# characters: to compare with so many may take some 10 ms.
_FEW = 64
_SHORT = 32


def categorical(signature: Signature) -> dict[str, Feature]:
    """Return by tensor the features that have a vocabulary."""
    return {
        tensor: feature
        for entry in signature.inputs.values()
        for tensor, feature in entry.categorical.items()
    }


def checked(features: Mapping[str, Feature], tensor: str, needed: Container[str]) -> Feature | None:
    """Return the feature whose texts in a tensor are to be checked; `None` if there is none.

    If no requested head needs the tensor, the answer lists none of its unseen texts.

    Args:
        features: by tensor, the features that have a vocabulary.
        tensor: the name of the tensor.
        needed: the names of the tensors that a requested head needs.
    """
    feature = features.get(tensor)
    if feature is None or (feature.unseen == "answer" and tensor not in needed):
        return None
    return feature


def listed(unseen: Sequence[Unseen]) -> list[dict[str, str]]:
    """Return unseen texts in the form of an answer: the place of each, and the text."""
    return [{"at": entry.at, "received": entry.received} for entry in unseen]


def note_all(
    feature: Feature, values: Sequence[Any], at: Callable[[int], str], notes: Notes
) -> None:
    """Note those of `values` that are texts and not in the vocabulary.

    Args:
        feature: a feature with a vocabulary.
        values: JSON values; those that are no texts are mistakes, which are noted elsewhere.
        at: returns the path of the n-th value.
        notes: as for `note`.
    """
    if set(map(type, values)) == {str} and feature.known.issuperset(values):
        return
    for i, value in enumerate(values):
        if is_unseen(feature, value):
            note(feature, value, at(i), notes)


def is_unseen(feature: Feature, value: Any) -> bool:
    """Return whether a JSON value is a text that is not in the vocabulary."""
    return type(value) is str and value not in feature.known and fits(value, "string")


def note(feature: Feature, text: str, at: str, notes: Notes) -> None:
    """Note a text that is not in the vocabulary, for the answer or as a mistake.

    Args:
        feature: a feature with a vocabulary.
        text: the received value.
        at: its path.
        notes: takes the mistakes and the unseen values.
    """
    if feature.unseen == "answer":
        notes.add_unseen(at, text, feature.tensor)
    elif notes.full:
        notes.count += 1
    else:
        close = _near(feature, text, first=not notes.count)
        notes.add(at, f"{_expected(feature)}{close}", show(text))


def _expected(feature: Feature) -> str:
    vocabulary = feature.vocabulary or ()
    shown = ", ".join(map(show, vocabulary[:SHOWN]))
    more = f", … ({len(vocabulary)} in all)" if len(vocabulary) > SHOWN else ""
    return f"one of {shown}{more} for {feature.name}"


def _near(feature: Feature, text: str, *, first: bool) -> str:
    """Return the end of the message: the text of the vocabulary that may be meant, if any is."""
    meant = feature.folded.get(fold(text))
    if meant is not None:
        return f" (did you mean {meant!r}?)"
    vocabulary = feature.vocabulary or ()
    if not first or len(vocabulary) > _FEW or max(map(len, (text, *vocabulary))) > _SHORT:
        return ""
    return nearest(text, vocabulary)
