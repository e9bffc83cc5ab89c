"""JSON of megabytes, decoded a piece at a time.

    text ─▶ a window of it ─▶ whole values ─▶ the next window, from the first that was cut off

A call of the C decoder keeps the interpreter's lock to its end: of a body of megabytes that is long
enough for every other caller to notice.  Here no call sees more than a window, but for a single
text or number, and between two of them any other thread can run.  Values and errors are those that
`json` has for all of the text at once.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Pairs = list[tuple[str, Any]]

WINDOW = 2**18
# Of an object that is longer than a window; no input, and no table, has so many.
MOST_KEYS = 2**16
# Typeshed does not know it: json's own reader of a text, from behind its quotation mark.
_scan_text = json.decoder.scanstring  # type: ignore[attr-defined]
_BLANK = re.compile(r"[ \t\n\r]*")
# Neither opens nor closes anything.
_PLAIN = re.compile(r'[^\[\]{}"]*')
# Texts, and what is plain between them: one by one, millions take half a minute.
_TEXTS = re.compile(r'(?:(?:"[^"\\]*(?:\\.[^"\\]*)*"[ \t\n\r]*|[^\[\]{}",]+),[ \t\n\r]*)+')


class Pieces:
    """One text on its way to a value."""

    def __init__(
        self,
        text: str,
        once: Callable[[Pairs], dict[str, Any]],
        constant: Callable[[str], Any],
        too_many: Exception,
    ) -> None:
        """Prepare to decode `text`.

        Args:
            text: JSON.
            once: what makes an object of its pairs.
            constant: what makes a value of NaN and the infinities.
            too_many: raised where one object has more than `MOST_KEYS`.
        """
        self._text = text
        self._once = once
        self._too_many = too_many
        # A decoder forgets the keys it has seen from one call to the next, and each row has them.
        self._keys: dict[str, str] = {}
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=constant)
        self._start = 0
        self._window = text[:WINDOW]
        # To here, scalars are read one by one, since among them is one that is none.
        self._singly = 0

    def decode(self) -> Any:
        """The one value there is.

        Raises:
            json.JSONDecodeError: the text is no JSON, or goes on after it.
            RecursionError: it is nested too deeply.
            ValueError: an integer has more digits than Python converts.
        """
        value, end = self._value(self._skip(0))
        end = self._skip(end)
        if end != len(self._text):
            raise json.JSONDecodeError("Extra data", self._text, end)
        return value

    def _object(self, pairs: Pairs) -> dict[str, Any]:
        known = self._keys.setdefault
        return self._once([(known(name, name), value) for name, value in pairs])

    def _skip(self, place: int) -> int:
        blank = _BLANK.match(self._text, place)
        return place if blank is None else blank.end()

    def _value(self, place: int) -> tuple[Any, int]:
        """The value that begins here, and where it ends."""
        opening = self._text[place : place + 1]
        if opening not in ("[", "{"):
            return self._decoder.raw_decode(self._text, place)
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, place - self._start)
            except json.JSONDecodeError:
                # Broken, or cut off by the end of the window.
                if self._start == place:
                    break
                self._start, self._window = place, self._text[place : place + WINDOW]
            else:
                return value, self._start + end
        return self._list(place) if opening == "[" else self._pairs(place)

    def _list(self, place: int) -> tuple[list[Any], int]:
        """A list that is longer than a window, or broken."""
        values: list[Any] = []
        place = self._skip(place + 1)
        if self._text[place : place + 1] == "]":
            return values, place + 1
        while True:
            end = self._end_of_scalars(place)
            if end > place:
                try:
                    values += self._decoder.decode(f"[{self._text[place:end]}]")
                except json.JSONDecodeError:
                    # One by one, which finds the place of what is wrong.
                    self._singly = end
                    continue
            else:
                value, end = self._value(place)
                values.append(value)
            place, ended = self._after(end, "]")
            if ended:
                return values, place

    def _end_of_scalars(self, place: int) -> int:
        """Where some scalars in a list end, at a comma or at the list's end; `place` if at none."""
        if place < self._singly:
            return place
        text, most = self._text, place + WINDOW
        found = (_TEXTS if text[place : place + 1] == '"' else _PLAIN).match(text, place, most)
        if found is None:
            return place
        end = found.end()
        return end if text[end : end + 1] == "]" else max(place, text.rfind(",", place, end))

    def _pairs(self, place: int) -> tuple[dict[str, Any], int]:
        """An object that is longer than a window, or broken."""
        pairs: Pairs = []
        text = self._text
        place = self._skip(place + 1)
        if text[place : place + 1] == "}":
            return {}, place + 1
        while True:
            if text[place : place + 1] != '"':
                message = "Expecting property name enclosed in double quotes"
                raise json.JSONDecodeError(message, text, place)
            name, place = _scan_text(text, place + 1, True)
            place = self._skip(place)
            if text[place : place + 1] != ":":
                raise json.JSONDecodeError("Expecting ':' delimiter", text, place)
            value, place = self._value(self._skip(place + 1))
            pairs.append((name, value))
            if len(pairs) > MOST_KEYS:
                raise self._too_many
            place, ended = self._after(place, "}")
            if ended:
                return self._object(pairs), place

    def _after(self, place: int, closing: str) -> tuple[int, bool]:
        """Where to read on after a value, and whether what it was in has ended."""
        place = self._skip(place)
        character = self._text[place : place + 1]
        if character == closing:
            return place + 1, True
        if character != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, place)
        return self._skip(place + 1), False
