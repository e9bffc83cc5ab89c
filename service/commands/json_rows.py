"""Rows of a JSON file: JSON Lines, a list, or the body of a request, read a piece at a time."""

from __future__ import annotations

import json
import re
from typing import IO, TYPE_CHECKING, Any, NoReturn

from service.commands.row_files import Row, RowsError, not_utf8
from service.errors import BadRequest
from service.wire.body import DECODER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
READ_AT_ONCE = 1 << 20
# The longest token that stops being a value if it is cut is -Infinity; this leaves some room.
_LONGEST_TOKEN = 16
_SAMPLE_BEGINS = '{"time":"'
_SAMPLE = {"time", "model", "version", "request_id", "row", "instance", "answers"}
_BLANK = re.compile(r"[ \t\r\n]*")


class _HalfSampleError(Exception):
    """A file of samples ends within a line, since its service or its disk came to an end."""


def read_json(
    path: Path, file: IO[str], piece: int = READ_AT_ONCE, notes: list[str] | None = None
) -> Iterator[Row]:
    """Yield the instances of a file: JSON Lines, a list, the body of a request, or samples.

    Args:
        path: the path of the file, for messages.
        file: the file, opened as text.
        piece: the least number of characters to read at once.
        notes: takes a message if the last sample is incomplete, which is left out.

    Raises:
        RowsError: the file is not JSON in UTF-8.
    """
    text = _Text(path, file, piece)
    try:
        for place, value in _json_values(text):
            if isinstance(value, dict) and isinstance(value.get("instances"), list):
                for name in value:
                    if name != "instances":
                        raise RowsError(
                            f"{place}: expected 'instances' alone, received {name!r} too"
                            f"{': say --heads' if name == 'heads' else ''}"
                        )
                for i, instance in enumerate(value["instances"]):
                    yield Row(f"{path}, instances[{i}]", instance)
            elif _is_sample(value):
                yield Row(place, value["instance"], sample=value)
            else:
                yield Row(place, value)
    except _HalfSampleError:
        if notes is not None:
            notes.append(f"{path}, line {text.line}: left out, since it is incomplete")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    except BadRequest as error:  # an object has a key twice
        raise RowsError(f"{path}, line {text.line}: {error}") from error


def _is_sample(value: Any) -> bool:
    """Return whether a value is a line of samples, which `triceps serve` writes."""
    return (
        isinstance(value, dict) and value.keys() == _SAMPLE and isinstance(value["instance"], dict)
    )


def _json_values(text: _Text) -> Iterator[tuple[str, Any]]:
    """Yield the values of one list, or consecutive values, each with its place."""
    if text.peek() != "[":
        while text.peek():
            place = f"{text.path}, line {text.line}"
            yield place, text.value()
        return
    text.skip()
    row = 0
    while text.peek() != "]":
        if row:
            if text.peek() != ",":
                text.fail("expected ',' or the end of the list")
            text.skip()
            text.peek()
        row += 1
        yield f"{text.path}, row {row}", text.value()
    text.skip()
    if text.peek():
        text.fail("something follows the list of rows")


class _Text:
    """The text of a file, of which only the part that is being read is in memory."""

    def __init__(self, path: Path, file: IO[str], piece: int) -> None:
        self.path = path
        self.line = 1
        self._text = ""
        self._position = 0
        self._file = file
        self._piece = piece
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._position)
            self._go(blank.end() if blank else self._position)
            if self._position < len(self._text) or self._ended:
                return self._text[self._position : self._position + 1]
            self._read()

    def skip(self) -> None:
        """Skip the character that `peek` returned."""
        self._go(self._position + 1)

    def value(self) -> Any:
        """Read the JSON value that begins here."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # An incomplete value fails at its end, and an incomplete string at its beginning.
                cut_off = len(self._text) - error.pos < _LONGEST_TOKEN or "Unterm" in error.msg
                if self._ended or not cut_off:
                    if cut_off and self._text.startswith(_SAMPLE_BEGINS, self._position):
                        raise _HalfSampleError from error
                    self._go(error.pos)
                    self.fail(error.msg[:1].lower() + error.msg[1:])
            except RecursionError:
                self.fail("brackets are nested too deeply")
            except ValueError:  # Python converts no integers of more digits
                self.fail("a number has more than 4,300 digits")
            else:
                # A number may continue in the next piece if the text ends right after it, or after
                # `e+`.
                if self._ended or len(self._text) - end > len("e+"):
                    self._go(end)
                    return value
            self._read()

    def fail(self, message: str) -> NoReturn:
        """Raise an error about this place in the file."""
        known = self.path.suffix.lower() in JSON_SUFFIXES
        hint = "" if known else " (rows that are a CSV come in a file whose name ends in .csv)"
        raise RowsError(f"{self.path}, line {self.line}: not JSON: {message}{hint}")

    def _go(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _read(self) -> None:
        # Twice as much each time, so that a huge value is not parsed too often.
        piece = self._file.read(max(self._piece, len(self._text) - self._position))
        self._ended = not piece
        self._text, self._position = self._text[self._position :] + piece, 0
