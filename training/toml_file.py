"""Reading of a TOML file key by key, so that all problems of a file are reported at once.

    read ──▶ bytes ── parse ──▶ TomlTable ── take, text, whole, ... ──▶ values, and Problems

The meaning of the keys is in `spec`, `input_spec` and `head_spec`.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

from service.errors import nearest
from service.names import NAME, NAMES
from training.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LARGEST = 4 * 2**20  # bytes of a file; the names of 100,000 columns have room
TABLES = (".csv", ".csv.gz", ".csv.xz")

# The rules for names, each as a pattern and as text.  A node (an input, layer or head) has no dot
# in its name, since a dot separates an input from its column in `after` and `target`.
NODE_NAME = (
    re.compile(r"[A-Za-z_][A-Za-z0-9_-]*"),
    "a letter or underscore, then letters, digits, _ or -",
)
MODEL_NAME = (NAME, NAMES)
_LONGEST = 60


class Problems:
    """The problems of one file, gathered so that all are reported at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def add(self, at: str, text: str) -> None:
        """Note a problem at the path of a key."""
        self.lines.append(f"{self.path}: {at}: {text}")

    def raise_any(self) -> None:
        """Raise a `SpecError` of one line for each problem, if there are any."""
        if self.lines:
            raise SpecError("\n".join(self.lines))


class TomlTable:
    """One TOML table, its place in the file, and the keys that have been read so far.

    A method that reads a wrong value notes the problem and returns the default, so that reading
    goes on.  `close` notes the keys that were never read.
    """

    def __init__(
        self, problems: Problems, at: str, values: dict[str, Any], at_name: str = ""
    ) -> None:
        self.problems = problems
        self.at = at
        self.at_name = at_name
        self.values = values
        self.asked: list[str] = []

    def key(self, key: str) -> str:
        """Return the path of `key` in the file."""
        return f"{self.at}.{key}" if self.at else key

    def problem(self, key: str, text: str) -> None:
        """Note a problem at `key`."""
        self.problems.add(self.key(key), text)

    def wrong(self, key: str, expected: str, received: object, tail: str = "") -> None:
        """Note that `key` holds something other than what was expected."""
        self.problem(key, f"expected {expected}, received {show(received)}{tail}")

    def take(
        self, key: str, expected: str, fits: Callable[[Any], bool], *, required: bool = False
    ) -> Any:
        """Return the value of `key`, or `None` if it is missing or does not fit, which is noted."""
        self.asked.append(key)
        if key not in self.values:
            if required:
                self.problem(key, f"missing; expected {expected}")
            return None
        value = self.values[key]
        if fits(value):
            return value
        self.wrong(key, expected, value)
        return None

    def text(self, key: str, expected: str = "a text", *, required: bool = False) -> str | None:
        """Return a string that is not blank."""
        value: str | None = self.take(key, expected, is_text, required=required)
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """Return one of `choices`."""
        expected = f"one of {', '.join(choices)}"
        value = self.text(key, expected)
        if value is None:
            return default
        if value not in choices:
            self.wrong(key, expected, value, nearest(value, choices))
            return default
        return value

    def texts(self, key: str, expected: str, *, required: bool = False) -> tuple[str, ...] | None:
        """Return an array of distinct strings, at least one."""
        value = self.take(key, expected, is_texts, required=required)
        if value is None:
            return None
        return self.distinct(key, value)

    def one_or_more(self, key: str, expected: str) -> tuple[str, ...]:
        """Return a string or an array of distinct strings as a tuple, empty if missing or wrong."""
        value = self.take(
            key,
            f"{expected}, or an array of them",
            lambda value: is_text(value) or is_texts(value),
            required=True,
        )
        if value is None:
            return ()
        return self.distinct(key, [value] if isinstance(value, str) else value)

    def distinct(self, key: str, values: list[str]) -> tuple[str, ...]:
        """Return each of `values` once, and note the first of those that come twice."""
        counts = Counter(values)
        twice = sorted(value for value, times in counts.items() if times > 1)
        if twice:
            self.problem(key, f"{show(twice[0])} is there {counts[twice[0]]} times")
        return tuple(dict.fromkeys(values))

    def whole(self, key: str, default: int | None = None) -> int | None:
        """Return a whole number from 1."""
        value = self.take(key, "a whole number, 1 or more", lambda value: is_whole(value, 1))
        return default if value is None else int(value)

    def number(self, key: str, expected: str, fits: Callable[[float], bool]) -> float | None:
        """Return a number that `fits`."""
        value = self.take(key, expected, lambda value: is_number(value) and fits(value))
        return None if value is None else float(value)

    def table(self, key: str) -> TomlTable:
        """Return the table below `key`, which is empty if missing or wrong."""
        value = self.take(key, "a table", lambda value: isinstance(value, dict))
        return TomlTable(self.problems, self.key(key), value or {})

    def tables(
        self, key: str, rule: tuple[re.Pattern[str], str] = NODE_NAME, *, required: bool = False
    ) -> Iterator[TomlTable]:
        """Yield the named tables below `key`, and check each name against `rule`."""
        tables = self.table(key)
        if required and not tables.values and isinstance(self.values.get(key, {}), dict):
            self.problem(key, f"missing; expected at least one table [{key}.<name>]")
        for name, values in tables.values.items():
            if not isinstance(values, dict):
                tables.wrong(name, "a table", values)
                continue
            tables.check_name(name, name, rule)
            yield TomlTable(self.problems, tables.key(name), values, name)

    def check_name(self, key: str, name: str, rule: tuple[re.Pattern[str], str]) -> None:
        """Note a `name` at `key` that does not follow `rule`."""
        pattern, text = rule
        if not pattern.fullmatch(name):
            self.wrong(key, f"a name ({text})", name)

    def close(self) -> None:
        """Note every key that was never read."""
        for key in self.values:
            if key not in self.asked:
                tail = nearest(key, self.asked) or f"; known: {', '.join(self.asked)}"
                self.problem(key, f"no such key{tail}")


def read(path: Path) -> bytes:
    """Return the bytes of the file at `path`.

    Raises:
        SpecError: there is no such file, it cannot be read, it is a table, or it is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        there = sorted(entry.name for entry in path.parent.glob("*.toml"))
        text = f"{path}: no such file{nearest(path.name, there)}"
        raise SpecError(text) from error
    except OSError as error:
        text = f"{path}: expected a spec (a TOML file), but: {error.strerror}"
        raise SpecError(text) from error
    if path.name.lower().endswith(TABLES):
        way_out = f"this writes one for it: triceps init {shlex.quote(str(path))} --head COLUMN"
        raise SpecError(f"{path}: expected a spec (a TOML file), received a table; {way_out}")
    if len(content) > LARGEST:
        raise SpecError(f"{path}: expected a spec of at most {LARGEST:,} bytes, received more")
    return content


def parse(path: Path, content: bytes) -> dict[str, Any]:
    """Parse the content of a file into dictionaries.

    Raises:
        SpecError: the content is not TOML; the message names the line.
    """
    try:
        # Editors on Windows begin a file with a byte order mark, which TOML does not have.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = (
            f"{path}: line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        )
        raise SpecError(text) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: {_explain(str(error))}") from error
    except RecursionError as error:
        raise SpecError(f"{path}: brackets are nested too deeply") from error
    except ValueError as error:  # Python refuses to convert more digits
        raise SpecError(f"{path}: a number has more than 4,300 digits") from error


def _explain(message: str) -> str:
    """Return tomllib's message with the line first, and in our words for a name given twice."""
    place = re.fullmatch(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message)
    text, line = (place[1], place[2]) if place else (message, None)
    where = f"line {line}" if line else "at the end"
    twice = re.fullmatch(r"Cannot declare \((.*)\) twice", text)
    if twice:
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        return f"{where}: a second [{name}]; every name is given once"
    if text == "Cannot overwrite a value":
        return f"{where}: a key that is given twice; every key is given once"
    return f"{where}: not TOML: {text}"


def show(value: object) -> str:
    """Return a value for a message, as it is spelled in the file."""
    if isinstance(value, dict):
        return "a table"
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def is_text(value: object) -> bool:
    """Return whether a value is a string that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def is_texts(value: object) -> bool:
    """Return whether a value is an array of strings, at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_text, value))


def is_whole(value: object, least: int) -> bool:
    """Return whether a value is a whole number of at least `least`; `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> bool:
    """Return whether a value is a number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # `isfinite` raises for a whole number that no float holds.
    return abs(value) <= sys.float_info.max
