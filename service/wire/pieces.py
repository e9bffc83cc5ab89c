"""Decoding of large JSON, a piece at a time.

    text ─▶ a window of it ─▶ whole values ─▶ the next window, from the first value that was cut off

A call of the C decoder holds the interpreter's lock until it returns, which for megabytes of JSON
noticeably delays all other requests.  Here no call decodes more than a window, except for a single
text or number, and other threads can run between the calls.  Values and errors are the same as if
`json` decoded the whole text at once.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Pairs = list[tuple[str, Any]]

# Characters.
WINDOW = 2**18
# Keys of an object that is longer than a window; no input, and no table, has that many.
MOST_KEYS = 2**16
# json's own function to read a string, from behind its quotation mark; typeshed lacks it.
_scan_text = json.decoder.scanstring  # type: ignore[attr-defined]
_BLANK = re.compile(r"[ \t\n\r]*")
# Characters that open and close nothing.
_PLAIN = re.compile(r'[^\[\]{}"]*')
# Texts, and plain characters between them: to read millions one by one takes half a minute.
_TEXTS = re.compile(r'(?:(?:"[^"\\]*(?:\\.[^"\\]*)*"[ \t\n\r]*|[^\[\]{}",]+),[ \t\n\r]*)+')


class Pieces:
    """A decoder for one text."""

    def __init__(
        self,
        text: str,
        once: Callable[[Pairs], dict[str, Any]],
        constant: Callable[[str], Any],
        too_many: Exception,
        size: int = WINDOW,
    ) -> None:
        """Prepare to decode `text`.

        Args:
            text: JSON.
            once: turns the key-value pairs of an object into a dictionary.
            constant: returns the value of NaN or of an infinity.
            too_many: the error to raise if an object has more than `MOST_KEYS` keys.
            size: the characters of a window.
        """
        self._text = text
        self._size = size
        self._too_many = too_many
        # The decoder shares equal keys only within a call, and each row repeats the same keys.
        known: dict[str, str] = {}

        def object_of(pairs: Pairs) -> dict[str, Any]:
            return once([(known.setdefault(name, name), value) for name, value in pairs])

        # No method of this decoder, which would refer to itself then, and keep the text in memory
        # until cycles are looked for.
        self._object = object_of
        self._decoder = json.JSONDecoder(object_pairs_hook=object_of, parse_constant=constant)
        self._start = 0
        self._window = text[:size]
        # Up to here, scalars are read one by one, since one of them is not valid.
        self._singly = 0

    def decode(self) -> Any:
        """Decode the whole text, which is one value.

        Raises:
            json.JSONDecodeError: the text is not JSON, or continues after the value.
            RecursionError: the text is nested too deeply.
            ValueError: an integer has more digits than Python converts.
        """
        value, end = self._value(self._skip(0))
        end = self._skip(end)
        if end != len(self._text):
            raise json.JSONDecodeError("Extra data", self._text, end)
        return value

    def _skip(self, place: int) -> int:
        blank = _BLANK.match(self._text, place)
        return place if blank is None else blank.end()

    def _value(self, place: int) -> tuple[Any, int]:
        """Return the value that begins at `place`, and the place where it ends."""
        opening = self._text[place : place + 1]
        if opening not in ("[", "{"):
            return self._decoder.raw_decode(self._text, place)
        while True:
            try:
                value, end = self._decoder.raw_decode(self._window, place - self._start)
            except json.JSONDecodeError:
                # The value is invalid, or cut off by the end of the window.
                if self._start == place:
                    break
                self._start, self._window = place, self._text[place : place + self._size]
            else:
                return value, self._start + end
        return self._list(place) if opening == "[" else self._pairs(place)

    def _list(self, place: int) -> tuple[list[Any], int]:
        """Return a list that is longer than a window, or invalid, and the place where it ends."""
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
                    # Read them one by one, to find the place of the mistake.
                    self._singly = end
                    continue
            else:
                value, end = self._value(place)
                values.append(value)
            place, ended = self._after(end, "]")
            if ended:
                return values, place

    def _end_of_scalars(self, place: int) -> int:
        """Return where a series of scalars in a list ends; `place` if there is none.

        A series ends at a comma, or at the end of the list.
        """
        if place < self._singly:
            return place
        text, most = self._text, place + self._size
        scalars = (_TEXTS if text[place : place + 1] == '"' else _PLAIN).match(text, place, most)
        if scalars is None:
            return place
        end = scalars.end()
        return end if text[end : end + 1] == "]" else max(place, text.rfind(",", place, end))

    def _pairs(self, place: int) -> tuple[dict[str, Any], int]:
        """Return an object that is longer than a window, or invalid, and where it ends."""
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
        """Return where to read on after a value, and whether its list or object has ended."""
        place = self._skip(place)
        character = self._text[place : place + 1]
        if character == closing:
            return place + 1, True
        if character != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", self._text, place)
        return self._skip(place + 1), False
