"""Names for the inputs, layers and heads of a spec, from those of files and columns."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def node_names(texts: Iterable[str], taken: Iterable[str], default: str) -> list[str]:
    """Return for each text a name that a node of a spec may have, all different in any case.

    Letters of other alphabets and signs become `_`; accents are removed.  A text that is a name
    keeps it, and others that become the same have a number.
    """
    used = {name.lower() for name in taken}
    plain = [(text, _plain(text, default)) for text in texts]
    names = {}
    for place in sorted(range(len(plain)), key=lambda place: len(set(plain[place]))):
        base = name = plain[place][1]
        number = 2
        while name.lower() in used:
            name, number = f"{base}_{number}", number + 1
        used.add(name.lower())
        names[place] = name
    return [names[place] for place in range(len(plain))]


def _plain(text: str, default: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", plain).strip("_-") or default
    return plain[:60] if plain[0].isalpha() else f"{default}_{plain}"[:60]
