"""Parsing of a JSON body for all dialects, and the messages about it."""

from __future__ import annotations

import asyncio
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
_MOST_BITS = 2**12  # of a whole number that is shown by its digits, which Python limits
_LONGEST_NAME = 200
# An empty row is only three bytes, but takes microseconds: a body of some megabytes would take
# seconds, in which no other request is answered.
MOST_ROWS = 2**17
# Lists and objects in a body that is read value by value: a row may be a list, or an object of
# several lists.
MOST_OPENED = 5 * MOST_ROWS
# Missing values in one body, and unseen ones; the answer names each of them.
MOST_IMPUTED = MOST_UNSEEN = 2 * MOST_ROWS
# Values that take no bytes of a body, which a reader in an event loop reads: two bytes are a row
# that misses a thousand.
MISSING_AT_ONCE = 2**12
# Characters of JSON that are decoded in one call, which takes some milliseconds at most.
DECODED_AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class Imputed:
    """A missing value: its place in the body, the default that replaces it, and its feature."""

    at: str
    value: float | str
    feature: str
    """The full name of the feature, with its input: `insurance.age`."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A text that training never saw: its place in the body, the text, and its feature."""

    at: str
    received: str
    """The text; of a long one, the beginning."""
    feature: str
    """The full name of the feature, with its input: `customer.city`."""


class LongReadError(Exception):
    """A body that takes too long to read in an event loop, however small it is."""


class Notes:
    """The notes that a reader takes of one body: mistakes, missing values and unseen ones."""

    def __init__(self, most_missing: int | None = None) -> None:
        """Start without notes, and take so many missing values; by default those of a body."""
        self.count = 0
        self._missing = 0
        at_once = MISSING_AT_ONCE if is_in_loop() else MOST_IMPUTED
        self._most_missing = at_once if most_missing is None else most_missing
        self.imputed: list[Imputed] = []
        self.unseen: list[Unseen] = []
        self._first: list[Problem] = []

    def add(self, at: str, expected: str, received: str) -> None:
        """Note one more mistake."""
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append(Problem(at, expected, received))

    @property
    def full(self) -> bool:
        """True if further mistakes need only be counted, since no message would show them."""
        return self.count >= SHOWN

    def impute(self, at: str, value: float | str, feature: str) -> None:
        """Note a missing value and the default that replaces it.

        Raises:
            BadRequest, LongReadError: as `miss` does.
        """
        self.miss(at)
        self.imputed.append(Imputed(at, value, feature))

    def miss(self, at: str, number: int = 1, noun: str = "missing values") -> None:
        """Count values that take no bytes of the body: missing ones, or those that rows share.

        Raises:
            BadRequest: the body has more than `MOST_IMPUTED` of them; the error has the mistakes so
                far, if there are any.
            LongReadError: the body has too many of them to be read in an event loop.
        """
        self._missing += number
        if self._missing > self._most_missing:
            if self._most_missing < MOST_IMPUTED:
                raise LongReadError
            self.stop()
            received = "one more" if number == 1 else f"{self._missing}"
            raise wrong(at, f"at most {MOST_IMPUTED} {noun} in one request", received)

    def add_unseen(self, at: str, text: str, feature: str) -> None:
        """Note a text that training never saw; of a long one, keep only the beginning.

        Raises:
            BadRequest: the body has more than `MOST_UNSEEN` such texts.
        """
        if len(self.unseen) == MOST_UNSEEN:
            raise wrong(at, f"at most {MOST_UNSEEN} unseen values in one request", "one more")
        self.unseen.append(Unseen(at, _shorten(text, _LONGEST_NAME), feature))

    def stop(self) -> None:
        """Raise all noted mistakes as one error.

        Raises:
            BadRequest: there are mistakes.
        """
        if self.count:
            raise BadRequest(self._first, self.count)


def is_in_loop() -> bool:
    """Return whether the calling thread runs an event loop, in which other requests wait."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name in unique if times[name] > 1)
        # JSON readers differ on which of the two values counts, so the body is refused.
        raise wrong("body", "each key of an object once", f"{show(twice)} twice")
    return unique


class Spelled(float):
    """A NaN or an infinity that a body spells out, as distinct from a number that is too large."""

    __slots__ = ()


# These are created once, since a body may have millions of them.
_spelled = {word: Spelled(word) for word in ("NaN", "Infinity", "-Infinity")}.__getitem__

DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_spelled)
"""The JSON decoder of all readers: repeated keys are errors, NaN and infinities are `Spelled`."""


def parse_object(body: bytes, holding: str) -> dict[str, Any]:
    """Parse a body that has to be a JSON object.

    Args:
        body: the body of the request.
        holding: the expected content of the object, for messages.

    Raises:
        BadRequest: as `parse`, or the JSON value is not an object.
    """
    value = parse(body, f"a JSON object with {holding}")
    if not isinstance(value, dict):
        raise wrong("body", f"an object with {holding}", show(value))
    return value


def parse(body: bytes, expected: str = "JSON") -> Any:
    """Parse a body that is one JSON value, as defined by RFC 8259, in UTF-8.

    NaN, Infinity and -Infinity are not part of RFC 8259, but are returned as `Spelled`: only the
    reader of a protocol knows their places, and whether its protocol allows them.

    Args:
        body: the body of the request.
        expected: the expectation in the message about an empty body.

    Raises:
        BadRequest: the body is empty, not UTF-8, not JSON, nested too deeply or repeats a key.
    """
    if not body.strip():
        raise wrong("body", expected, "no body")
    if body.startswith(codecs.BOM_UTF8):
        raise wrong("body", "JSON in UTF-8 without a byte order mark", "one that begins with it")
    try:
        text = body.decode()
        if len(text) <= DECODED_AT_ONCE:
            return DECODER.decode(text)
        # Count before anything is built: an empty list takes three bytes of a body, and sixty of
        # memory.
        opened = text.count("[") + text.count("{")
        if opened > MOST_OPENED:
            raise wrong(
                "body", f"at most {MOST_OPENED} lists and objects", count(opened, "bracket")
            )
        too_many_keys = wrong("body", f"objects of at most {MOST_KEYS} keys", "one of more")
        return Pieces(text, _unique_keys, _spelled, too_many_keys).decode()
    except UnicodeDecodeError as error:
        received = f"the byte 0x{body[error.start]:02x} at offset {error.start}"
        raise wrong("body", "JSON in UTF-8", received) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        received = f"something else at {place} ({error.msg})"
        raise wrong("body", "JSON", received) from error
    except RecursionError as error:
        raise wrong("body", "JSON of a few levels", "brackets nested too deeply") from error
    except ValueError as error:  # an integer with more digits than Python converts
        raise wrong("body", "numbers of at most 4,300 digits", "a longer one") from error


def too_many(rows: int, at: str, notes: Notes) -> bool:
    """Note more rows than one request may have; return whether there are more."""
    if rows <= MOST_ROWS:
        return False
    notes.add(at, f"at most {MOST_ROWS} rows in one request", count(rows, "row"))
    return True


def wrong(at: str, expected: str, received: str) -> BadRequest:
    """Return the error for a body with only one problem."""
    return BadRequest([Problem(at, expected, received)])


def refuse_unknown(
    keys: Iterable[str], what: str, names: Collection[str], at: str, notes: Notes
) -> None:
    """Note each of `keys` that is not among `names`, and suggest the closest name.

    Args:
        keys: the keys of an object in the body.
        what: the noun for a key, for messages.
        names: the known keys.
        at: the path of the object.
        notes: takes the unknown keys.
    """
    for name in keys:
        if name in names:
            continue
        if notes.full:
            notes.count += 1
            continue
        place = f"{at}{key(name)}".removeprefix(".")
        expected = f"one of {listing(names)}{nearest(name, names)}"
        notes.add(place, expected, f"the unknown {what} {show(name)}")


def key(name: str) -> str:
    """Return the step of a path that leads into an object, as in JavaScript."""
    if _PLAIN_KEY.fullmatch(name):
        return f".{_shorten(name, _LONGEST_NAME)}"
    return f"[{_shorten(_quote(name), _LONGEST_NAME)}]"


def show(value: Any) -> str:
    """Return a JSON value as a message shows it: short, and distinct from similar values."""
    if isinstance(value, dict):
        return f"an object with {count(len(value), 'key')}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return f"{'-' if value < 0 else ''}Infinity, or a number too large for any float"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a whole number of {value.bit_length()} bits"
    return _shorten(_quote(value), _LONGEST_TEXT)


def _quote(value: Any) -> str:
    """Return a value as legible JSON; a lone surrogate, which UTF-8 cannot hold, stays escaped."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 row, 2 rows."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listing(names: Collection[str]) -> str:
    """Return names as a list for a message, shortened if there are many."""
    shown = ", ".join(itertools.islice(names, SHOWN))
    return f"{shown}, … ({len(names)} in all)" if len(names) > SHOWN else shown
