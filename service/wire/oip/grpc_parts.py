"""The parts of a ModelInferRequest: its header, and the places of its ID and of the values.

message ─ split ─▶ Parts
message that fits a `Mold` ─▶ the same Parts, without looking for fields
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from service.wire import packed
from service.wire.oip.grpc_contents import BY_NUMBER
from service.wire.protobuf import delimited, fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.wire.packed import Places
    from service.wire.raw import Buffer

# The tags of fields of a ModelInferRequest, and of an input: numbers, with the kind DELIMITED.
ID, _INPUT, _RAW = (number << 3 | 2 for number in (3, 5, 7))
_CONTENTS = 5 << 3 | 2

Span = tuple[int, int, int]
"""The places where a field begins, and where its content starts and stops."""


class Parts(NamedTuple):
    """The parts of a message: its header, and the places of its ID and of the values.

    `raw` has the places of raw contents.  If there are none, `contents` has for each input those of
    its values by their fields.
    """

    header: bytes
    ids: list[Span]
    raw: list[Span]
    contents: list[Places]

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """The sizes of the raw contents; `None` if there are none."""
        return tuple(stop - start for _, start, stop in self.raw) or None


class Mold(NamedTuple):
    """A message without its raw contents, which messages of the same client and size share."""

    fixed: tuple[tuple[int, int, bytes], ...]
    """The bytes between its contents, with the places where they begin and end."""
    parts: Parts

    def fits(self, message: Buffer) -> bool:
        """Return whether a message of the same size has these bytes."""
        return all(message[start:stop] == fixed for start, stop, fixed in self.fixed)


def split(message: Buffer, most: int) -> Parts:
    """Return the parts of a message, by looking for its fields.

    Args:
        message: the message.
        most: the number of fields that it, and each of its inputs, may have.

    Raises:
        BadRequest: it is no message, or has too many fields.
    """
    ids: list[Span] = []
    inputs: list[Span] = []
    raw: list[Span] = []
    lists = {ID: ids, _INPUT: inputs, _RAW: raw}
    for tag, begin, start, stop in fields(message, 0, len(message), most):
        if tag in lists:
            lists[tag].append((begin, start, stop))
    if raw:
        return Parts(_without(message, 0, len(message), (*ids, *raw)), ids, raw, [])
    pieces = [_without(message, 0, len(message), (*ids, *inputs))]
    contents = []
    collector = packed.Collector(message, BY_NUMBER)
    for _, start, stop in inputs:
        places: Places = {}
        cut: list[Span] = []
        for tag, begin, inner, end in fields(message, start, stop, most):
            if tag == _CONTENTS:
                cut.append((begin, inner, end))
                collector.collect(inner, end, places)
        pieces.append(delimited(_INPUT >> 3, _without(message, start, stop, cut)))
        contents.append(places)
    return Parts(b"".join(pieces), ids, [], contents)


def _without(message: Buffer, start: int, stop: int, cut: Iterable[Span]) -> bytes:
    """Return the bytes of a message from `start` to `stop`, without some fields."""
    kept = []
    for begin, _, end in sorted(cut):
        if begin > start:
            kept.append(message[start:begin])
        start = end
    kept.append(message[start:stop])
    return b"".join(kept)


def mold(parts: Parts, message: Buffer) -> Mold:
    """Return the mold of a message that has raw contents."""
    fixed, at = [], 0
    for _, start, stop in sorted(parts.raw, key=itemgetter(1)):
        fixed.append((at, start, bytes(message[at:start])))
        at = stop
    fixed.append((at, len(message), bytes(message[at:])))
    return Mold(tuple(fixed), parts)
