"""What every JSON dialect starts with: bytes to one JSON value, and words for what is wrong."""

from __future__ import annotations

import codecs
import itertools
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.errors import SHOWN, BadRequest, Problem, nearest
from service.wire.pieces import MOST_KEYS, Pieces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST_TEXT = 40
_LONGEST_NAME = 200
# A row of nothing is three bytes, and takes microseconds all the same: of a body of some megabytes
# that would be seconds, in which nobody else is answered.
MOST_ROWS = 2**17
# Lists and objects of a body that is read value by value: a row may be a list, or an object of
# some of them.
MOST_OPENED = 5 * MOST_ROWS
# Missing values of one body, each of which its answer names.
MOST_IMPUTED = 2 * MOST_ROWS
# Characters of JSON that are decoded in one go, which takes some milliseconds at most.
AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class Imputed:
    """A missing value's place, the default that stands in for it, and of which feature it is."""

    at: str
    value: float | str
    feature: str
    """After its input: `insurance.age`."""


class Notes:
    """What a reader of one body notes as it goes: what is wrong, and what was missing."""

    def __init__(self) -> None:
        """Start with nothing noted."""
        self.count = 0
        self.imputed: list[Imputed] = []
        self._first: list[Problem] = []

    def add(self, at: str, expected: str, received: str) -> None:
        """Note one more thing that is wrong."""
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(Problem(at, expected, received))

    @property
    def full(self) -> bool:
        """Whether more need only be counted: no words of theirs would be shown."""
        return self.count >= SHOWN

    def impute(self, at: str, value: float | str, feature: str) -> None:
        """Note a default that stands in for a missing value."""
        if len(self.imputed) == MOST_IMPUTED:
            raise wrong(at, f"at most {MOST_IMPUTED} missing values in one request", "one more")
        self.imputed.append(Imputed(at, value, feature))

    def stop(self) -> None:
        """Raise what is wrong.

        Raises:
            BadRequest: something is.
        """
        if self.count:
            raise BadRequest(self._first, self.count)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in made if times[name] > 1)
        # Which of the two counts differs between JSON readers, so neither does.
        raise wrong("body", "each key of an object once", f"{show(twice)} twice")
    return made


class Spelled(float):
    """NaN or an infinity that a body spells out, told apart from a number too large for any."""

    __slots__ = ()


# A body may have millions of them.
_spelled = {word: Spelled(word) for word in ("NaN", "Infinity", "-Infinity")}.__getitem__

DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_spelled)
"""JSON as every reader here takes it: no key twice, and NaN and infinities as `Spelled`."""


def parse_object(body: bytes, holding: str) -> dict[str, Any]:
    """One JSON object, as `parse` reads it.

    Args:
        body: that.
        holding: what it is to hold, for messages.

    Raises:
        BadRequest: as `parse`; or the body is JSON, and no object.
    """
    said = parse(body, f"a JSON object with {holding}")
    if not isinstance(said, dict):
        raise wrong("body", f"an object with {holding}", show(said))
    return said


def parse(body: bytes, expected: str = "JSON") -> Any:
    """One JSON value, as RFC 8259 has it, in UTF-8.

    NaN, Infinity and -Infinity, which it has not, are let through as `Spelled`: the reader that
    comes to one knows its place, and what its protocol says of it.

    Args:
        body: that.
        expected: what the message for an empty one says.

    Raises:
        BadRequest: the body is empty, not UTF-8, not JSON, nested too deeply or repeats a key.
    """
    if not body.strip():
        raise wrong("body", expected, "no body")
    if body.startswith(codecs.BOM_UTF8):
        raise wrong("body", "JSON in UTF-8 without a byte order mark", "one that begins with it")
    try:
        text = body.decode()
        if len(text) <= AT_ONCE:
            return DECODER.decode(text)
        # Before it is built: an empty list is three bytes of a body, and sixty of memory.
        opened = text.count("[") + text.count("{")
        if opened > MOST_OPENED:
            raise wrong(
                "body", f"at most {MOST_OPENED} lists and objects", count(opened, "bracket")
            )
        many = wrong("body", f"objects of at most {MOST_KEYS} keys", "one of more")
        return Pieces(text, _once, _spelled, many).decode()
    except UnicodeDecodeError as error:
        received = f"the byte 0x{body[error.start]:02x} at offset {error.start}"
        raise wrong("body", "JSON in UTF-8", received) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        received = f"something else at {place} ({error.msg})"
        raise wrong("body", "JSON", received) from error
    except RecursionError as error:
        raise wrong("body", "JSON of a few levels", "brackets nested too deeply") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise wrong("body", "numbers of at most 4,300 digits", "a longer one") from error


def too_many(rows: int, at: str, notes: Notes) -> bool:
    """Whether there are more rows than one request may have, which is noted if so."""
    if rows <= MOST_ROWS:
        return False
    notes.add(at, f"at most {MOST_ROWS} rows in one request", count(rows, "row"))
    return True


def wrong(at: str, expected: str, received: str) -> BadRequest:
    """The error for a body with just one problem."""
    return BadRequest([Problem(at, expected, received)])


def refuse_unknown(
    given: Iterable[str], what: str, names: Collection[str], at: str, notes: Notes
) -> None:
    """Note each of the keys `given` that is none of `names`, with the one that it is nearest to."""
    for name in given:
        if name in names:
            continue
        if notes.full:
            notes.count += 1
            continue
        place = f"{at}{key(name)}".removeprefix(".")
        expected = f"one of {listing(names)}{nearest(name, names)}"
        notes.add(place, expected, f"the unknown {what} {show(name)}")


def key(name: str) -> str:
    """The step of a path into an object, as JavaScript would write it."""
    if _PLAIN_KEY.fullmatch(name):
        return f".{_shorten(name, _LONGEST_NAME)}"
    return f"[{_shorten(_quote(name), _LONGEST_NAME)}]"


def show(value: Any) -> str:
    """A JSON value as a message shows it: short, and told apart from others of its look."""
    if isinstance(value, dict):
        return f"an object with {count(len(value), 'key')}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return f"{'-' if value < 0 else ''}Infinity, or a number too large for any float"
    return _shorten(_quote(value), _LONGEST_TEXT)


def _quote(value: Any) -> str:
    """A JSON value as JSON, legible; a lone surrogate, which no UTF-8 can hold, stays escaped."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def count(number: int, noun: str) -> str:
    """A number and its noun: 1 row, 2 rows."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(names: Collection[str]) -> str:
    """Names in a sentence, not too many of them."""
    shown = ", ".join(itertools.islice(names, SHOWN))
    return f"{shown}, … ({len(names)} in all)" if len(names) > SHOWN else shown
