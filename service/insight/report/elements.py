"""Elements of HTML and SVG, by the standard library: what is written into them is escaped."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

LONGEST = 300  # characters of a text; labels and column names may have any length


def element(tag: str, *content: ET.Element | str, **attributes: str | float) -> ET.Element:
    """Return an element with its text or elements.

    Args:
        tag: the name of the element.
        content: elements, or one text alone; a text beyond `LONGEST` is cut.
        attributes: by name; `_` stands for `-`, and one at the end is dropped.
    """
    made = ET.Element(tag, {_name(key): str(value) for key, value in attributes.items()})
    for part in content:
        if isinstance(part, ET.Element):
            made.append(part)
        else:
            made.text = cut(part)
    return made


def figure(drawn: ET.Element, caption: str) -> ET.Element:
    """Return a drawing with its caption below it."""
    return element("figure", drawn, element("figcaption", caption))


def cut(text: str, most: int = LONGEST) -> str:
    """Return a text as one line of at most `most` characters, without control characters."""
    line = "".join(char if char.isprintable() else " " for char in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def rounded(value: float, digits: int = 3) -> str:
    """Return a number with about so many digits, as people write it."""
    if value == 0 or 1e-3 <= abs(value) < 1e9:  # noqa: PLR2004  (beyond, powers of ten)
        places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        comma = "," if abs(value) >= 1e4 else ""  # noqa: PLR2004  (four digits may be a year)
        text = f"{value:{comma}.{max(0, places)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def as_bytes(root: ET.Element, style: str) -> bytes:
    """Return the page as UTF-8, with its style sheet, which is not escaped."""
    root.find("head").append(_style(style))  # type: ignore[union-attr]  # every page has one
    return b"<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html").encode()


def size(root: ET.Element) -> int:
    """Return the number of bytes of an element in a page."""
    return len(ET.tostring(root, encoding="unicode", method="html").encode())


def _style(text: str) -> ET.Element:
    made = ET.Element("style")
    made.text = text
    return made


def _name(key: str) -> str:
    return key.removesuffix("_").replace("_", "-")
