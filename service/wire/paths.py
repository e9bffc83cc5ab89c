"""The paths of values in a body, as messages and notes have them: `instances[3].insurance.age`."""

from __future__ import annotations

import re

STEP = r'\.[^.\[\]]+|\["(?:[^"\\]|\\.)*(?:"\]|…\]?)'
"""A step of a path: a name, or one in quotation marks, whose end may be cut off."""
_TO_ROW = re.compile(rf"[^.\[\]]*(?:{STEP})*\[(\d+)\]")


def row_of(path: str) -> int | None:
    """Return the number of the row that a path leads into; `None` for a line of a CSV."""
    match = _TO_ROW.match(path)
    return None if match is None else int(match[1])
