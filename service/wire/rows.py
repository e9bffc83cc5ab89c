"""The rows of an input as they stand in a body: JSON values, and the path of each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from service.wire.body import show

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from service.signature import Feature

MISSING: Any = object()
"""The mark of a value that a row does not have; `null` is `None`."""


class Rows(NamedTuple):
    """The rows of an input, each a JSON value or `MISSING`; `at` returns the path of row i.

    `feature` is set in the rows of a tensor whose texts are to be checked (`unseen.checked`).
    """

    values: Sequence[Any]
    at: Callable[[int], str]
    feature: Feature | None = None


class Table(NamedTuple):
    """The columns of a tabular input, each with a JSON value for each row.

    `columns` has those that the body has, by feature; `path` is the path of the table.
    """

    columns: Mapping[str, Sequence[Any]]
    rows: int
    path: str


def shown(value: Any) -> str:
    """Return the text that a message shows for a received value."""
    return "nothing" if value is MISSING else show(value)
