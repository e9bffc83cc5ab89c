"""The differences between two descriptions of models, each with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from service.repository.loader import Servable

# The entries of a description that say which model it is, or repeat others.
_NAMING = ("name", "version", "example")
# The key of the names of an input's features, in the order of its columns.
_ORDER = "columns"


class _Absent:
    """The value of a fact that one of two models does not have."""

    def __repr__(self) -> str:
        return "–"  # noqa: RUF001  (a dash)


ABSENT = _Absent()


class Change(NamedTuple):
    """A fact that differs: its place, and its value in either model, or `ABSENT`."""

    at: str
    first: Any
    second: Any

    def as_json(self) -> dict[str, Any]:
        """Return the change for JSON, without the value that one of them does not have."""
        sides = {"first": self.first, "second": self.second}
        return {"at": self.at, **{k: v for k, v in sides.items() if v is not ABSENT}}


def changes(first: Servable, second: Servable) -> list[Change]:
    """Return what differs between two models, as `/models/<name>` describes them."""
    facts, others = _facts(first), _facts(second)
    _leave_out_orders(facts["inputs"], others["inputs"])
    return [*_compare("", facts, others)]


def _facts(servable: Servable) -> dict[str, Any]:
    from service.api.descriptions import describe, in_force

    described = {**describe(servable), **in_force(servable)}
    facts = {key: value for key, value in described.items() if key not in _NAMING}
    facts["inputs"] = {name: _by_feature(entry) for name, entry in facts["inputs"].items()}
    for head in facts["heads"].values():
        del head["value"]  # a sentence about the kind and the labels
    return facts


def _by_feature(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input with its features by name, and their order."""
    if "features" not in entry:
        return dict(entry)
    features = {feature["name"]: {**feature} for feature in entry["features"]}
    for feature in features.values():
        del feature["name"]
    rest = {key: value for key, value in entry.items() if key != "features"}
    return {**rest, "features": features, _ORDER: [*features]}


def _leave_out_orders(
    first: Mapping[str, dict[str, Any]], second: Mapping[str, dict[str, Any]]
) -> None:
    """Leave out the order of an input's features unless both models have the same features.

    Features that only one of them has are changes by themselves.
    """
    for name in first.keys() & second.keys():
        entries = first[name], second[name]
        of_first, of_second = ({*entry.get(_ORDER, ())} for entry in entries)
        if of_first != of_second:
            for entry in entries:
                entry.pop(_ORDER, None)


def _compare(at: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the changes between two objects at a place, and between objects inside of them."""
    for key in dict.fromkeys([*first, *second]):
        place = f"{at}.{key}" if at else key
        values = first.get(key, ABSENT), second.get(key, ABSENT)
        if values[0] == values[1]:
            continue
        if isinstance(values[0], dict) and isinstance(values[1], dict):
            yield from _compare(place, *values)
        else:
            yield Change(place, *values)
