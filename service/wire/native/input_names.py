"""The names of inputs in a native body, and the hint for a feature that stands in their place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from service.wire.body import show
from service.wire.column_names import ColumnNames
from service.wire.columns import Names

if TYPE_CHECKING:
    from collections.abc import Collection

    from service.signature import Signature


def names_of(signature: Signature, needed: Collection[str]) -> Names:
    """Return the names that the inputs of a body may have, and those that are needed."""
    return Names(tuple(signature.inputs), needed, partial(_hint, signature))


def _hint(signature: Signature, name: str) -> str:
    """Return where a feature belongs, by its bare or full name; empty for any other name."""
    meanings = ColumnNames.of(signature).meanings(name)
    features = [(entry, step) for entry, step in meanings if isinstance(step, str)]
    if not features:
        return ""
    noun = "input" if len(features) == 1 else "inputs"
    inputs = " and ".join(show(entry.name) for entry, _ in features)
    entry, feature = features[0]
    place = f"{{{show(entry.name)}: {{{show(feature)}: …}}}}"
    return f"{show(name)} is a feature of {noun} {inputs}: send {place}"
