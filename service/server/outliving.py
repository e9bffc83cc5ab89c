"""Versions that outlive their files: some workers serve on what no worker can load any more.

    a file is replaced by one that cannot serve ─┬─ workers that have the version loaded: serve on
                                                 └─ all others, and successors: answer with 503

If a file, or a setting of its session, is replaced and cannot serve, the version that was loaded
from it before keeps serving; but only where it is loaded.  A worker that has not loaded it must not
answer by an older version meanwhile, since another worker has answered by this one.  So each
proposal names the versions that were *replaced*: one that is, and that a worker cannot load, stays
selected there, and its requests are answered with 503.  Whether a worker serves such a version is
no part of the outcome that has to be equal in all workers.

Once no worker has it loaded any more, the leader proposes the same files again without the name.
From the generation on that comes of it, an older version answers in all workers, or none.

Between the moment when a file is replaced and the leader's next look, nobody loads it: neither what
it was nor what it is (see `loader.load`).
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from service.repository.model_settings import DEFAULTS
from service.repository.scan import is_replaced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.repository.catalog import Catalog, Key
    from service.repository.declarations import Declared
    from service.repository.scan import Scan, Version

# Of a word that workers share; its sign is not used.
_BITS = 63
ALL = 2**_BITS - 1
"""The mask of any versions."""


def mask(keys: Iterable[Key]) -> int:
    """Return a mask with a bit for each version; few versions have a bit in common."""
    bits = 0
    for key in keys:
        bits |= 1 << zlib.crc32("/".join(key).encode()) % _BITS
    return bits


def replaced(scan: Scan, declared: Declared, before: Catalog, outliving: int) -> frozenset[Key]:
    """Return the versions that some worker may have loaded from a file that is there no more.

    Args:
        scan: the files of the next generation.
        declared: what the files beside the versions declare in the next generation.
        before: the catalog of the committed generation.
        outliving: the mask of the versions that outlive their files in some worker.
    """
    tuned = declared.settings.keys() | before.settings.keys()
    otherwise = {
        name
        for name in tuned
        if declared.settings.get(name, DEFAULTS).execution(before.provider)
        != before.execution(name)
    }

    def is_new(key: Key) -> bool:
        return key[0] in otherwise or _found(scan, key) != _found(before.scan, key)

    # A version that was not selected could not serve, or does not outlive its file.
    keys = {key for key in before.selected if is_new(key)}
    keys |= {key for key in before.replaced if mask([key]) & outliving}
    return frozenset(key for key in keys if _found(scan, key) is not None)


def _found(scan: Scan, key: Key) -> Version | None:
    return scan.by_name.get(key[0], {}).get(key[1])


def replaced_since(scan: Scan) -> frozenset[Key]:
    """Return the versions whose files have been replaced since a scan."""
    return frozenset(found.key for found in scan.versions if is_replaced(found))
