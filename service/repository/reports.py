"""The report of a version: the page `report.html` that training publishes beside the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import ModelRefused, NotFound
from service.host.files import read_file
from service.repository.loader import check_place
from service.repository.publish import FILE, REPORT

if TYPE_CHECKING:
    from service.repository.repository import Repository

MAX_FILE = 2**20  # of training, it has at most 300 kB
_WAY_OUT = (
    "triceps train alone publishes one, with the version that it trains and unless it gets "
    "--no-report; triceps report MODEL --on FILE.csv --out FILE.html makes one of rows with targets"
)


def read(repository: Repository, name: str, version: str) -> bytes:
    """Return the report of a version, whether or not the version is loaded.

    Raises:
        NotFound: there is no such version, or it has no report that can be read.
        NotReady: the model is refused as a whole.
    """
    owner, _ = repository.key(name, version)
    what = f"model {name!r}, version {version!r}"
    if owner != name:
        # A token for the view need not permit to see the other heads of the model.
        raise NotFound(f"{what}: a view has no report; the model that it belongs to may have one")
    found = repository.catalog.scan.by_name.get(name, {}).get(version)
    if found is None:
        repository.find(name, version)  # raises the error that says why
        raise NotFound(f"{what}: its folder is gone")
    file = Path(found.path).with_name(REPORT)
    if Path(found.path).name != FILE:
        raise NotFound(f"{what}: it is a single file, and no report beside it is taken for its own")
    try:
        check_place(file, found.root or str(file.parent))
        return read_file(file, MAX_FILE)
    except FileNotFoundError:
        raise NotFound(f"{what}: it has no {REPORT}; {_WAY_OUT}") from None
    except ModelRefused:
        raise NotFound(f"{what}: its {REPORT} is a link that leads out of the repository") from None
    except OSError as error:
        raise NotFound(f"{what}: its {REPORT} cannot be read: {error.strerror}") from None


def versions(repository: Repository, name: str) -> list[str]:
    """Return the versions of a model that have a report, whether or not it can be read."""
    found = repository.catalog.scan.by_name.get(name, {})
    return [v for v, file in found.items() if Path(file.path).with_name(REPORT).is_file()]
