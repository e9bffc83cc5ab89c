"""The default model, which answers a request that names none, as the files of a repository say.

    <models>/<name>/default        an empty file: the model is the default

Without such a file, the only model is the default, or else the model that is called `triceps`.  A
model that has become the default stays it when others join: publishing a second model writes the
file for the first, and a running service remembers it.  The setting takes precedence over all this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.repository.publish import DEFAULT, NAMESAKE
from service.repository.scan import Refused

if TYPE_CHECKING:
    from service.repository.scan import Scan


def of_files(scan: Scan) -> str | None:
    """Return the default model of a repository; `None` if its files do not say."""
    marked = scan.defaults & scan.by_name.keys()
    if len(marked) == 1:
        return next(iter(marked))
    if len(scan.by_name) == 1:
        return next(iter(scan.by_name))
    return NAMESAKE if NAMESAKE in scan.by_name else None


def choose(scan: Scan, before: str | None) -> str | None:
    """Return the default model of a repository, whose default model was `before`, if any."""
    return of_files(scan) or (before if before in scan.by_name else None)


def contradictions(scan: Scan) -> list[Refused]:
    """Return the refusal of each mark, if several models are marked as the default."""
    marked = sorted(scan.defaults & scan.by_name.keys())
    if len(marked) < 2:  # noqa: PLR2004
        return []
    reason = (
        f"the file {DEFAULT} is to mark one model as the default, and marks {len(marked)}: "
        f"{', '.join(marked)}; until one is left, none counts"
    )
    return [Refused(name, None, reason) for name in marked]
