"""One pull: the version that a source has now becomes one of the repository, if it is a new one.

look ─▶ known? ─▶ download ─▶ look again ─▶ known? ─▶ check ─▶ source.json ─▶ publish
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.host import progress
from service.host.files import sync_folder
from service.repository.publish import FILE, MAX_DIGITS, last, publish_folder, versions
from service.stores import checking, claims, provenance
from service.stores.download import NEW, STATE, download, room
from service.stores.provenance import Provenance
from service.stores.store import Interrupted, Offer, Replaced, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from service.settings import Settings
    from service.stores.backoff import Backoff
    from service.stores.provenance import Stored
    from service.stores.source import Source
    from service.stores.store import Store


# A source whose files are replaced so often within one pull is left for the next one.
_LOOKS = 5
# The files of archives, beside the archives themselves.
UNPACKED = "unpacked"
PUBLISHED, UNCHANGED, OLDER = "published", "unchanged", "older"


class Refused(StoreError):
    """The version was downloaded, and could not serve."""


@dataclass(frozen=True)
class Wanted:
    """What is to be pulled."""

    source: Source
    name: str
    sha256: str | None
    """The SHA-256 that the graph has to have."""
    most: int | None
    """The most bytes of a version."""


@dataclass(frozen=True)
class Pulled:
    """The outcome of a pull."""

    outcome: str
    """`published`, `unchanged`, or `older`: what the source has is not newer than what is here."""
    version: str
    """The version that was published, or that has the content of the source."""
    files: Mapping[str, Stored]
    offer: Offer


def pull(
    wanted: Wanted, store: Store, settings: Settings, backoff: Backoff, seen: Offer | None = None
) -> Pulled | None:
    """Publish what a source has now, if that is new.

    Args:
        wanted: what is to be pulled.
        store: the opened source.
        settings: those that the version is checked with; its `models` is the repository.
        backoff: the pauses between attempts.
        seen: the offer of the pull before; the same again is not looked into.

    Returns:
        The outcome; `None` if the offer is the one that was seen before.

    Raises:
        StoreError: nothing can be pulled now; the repository is as it was.
        PublishError: the repository cannot be written.
    """
    offer = _look(wanted, store, backoff)
    if offer == seen and offer.can_be_known:
        return None
    models = settings.models
    # Most looks find nothing new, and need no lock.
    if (known := _known(wanted, offer, models / wanted.name)) is not None:
        return known
    try:
        with claims.claimed(models, wanted.source.shown, wanted.name, backoff.tell) as folder:
            return _pull_into(folder, wanted, store, settings, backoff)
    except OSError as error:
        where = error.filename or models
        raise StoreError(f"{where}: cannot be written: {error.strerror or error}") from error


def _pull_into(
    folder: Path, wanted: Wanted, store: Store, settings: Settings, backoff: Backoff
) -> Pulled:
    model = settings.models / wanted.name
    files: Mapping[str, Stored] = {}
    place = folder / NEW
    for _ in range(_LOOKS):
        offer = _look(wanted, store, backoff)
        if (known := _known(wanted, offer, model)) is not None:
            break
        try:
            files = download(store, offer, folder, wanted.most, backoff)
        except Replaced as error:
            backoff.tell(f"{error}; looking again")
            continue
        # The graph and the weights of one version may be replaced one after the other.
        if _look(wanted, store, backoff) == offer:
            if offer.unpack is not None:
                place = offer.unpack(folder / NEW, folder / UNPACKED, room(folder, wanted.most))
                files = _unpacked(place, wanted)
            known = _same(offer, files, model)
            break
        backoff.tell(f"{wanted.source.shown}: was replaced while it was read; looking again")
    else:
        raise Interrupted(f"{wanted.source.shown}: is replaced faster than it can be read")
    if known is None:
        _check(place, wanted, offer, settings)
        # What is noted of the files is no longer true once they are moved.
        (folder / STATE).unlink(missing_ok=True)
        known = _publish(place, wanted, offer, files, settings.models)
    claims.clear(folder)
    return known


def _look(wanted: Wanted, store: Store, backoff: Backoff) -> Offer:
    offer = backoff.result(store.look)
    if offer.number is not None and len(offer.number) >= MAX_DIGITS:
        raise StoreError(
            f"{wanted.source.shown}: expected the number of a version with fewer than "
            f"{MAX_DIGITS} digits, received {offer.number[:20]}…"
        )
    if wanted.sha256 is None:
        return offer
    pinned = (
        replace(entry, sha256=wanted.sha256) if entry.name == FILE else entry
        for entry in offer.files
    )
    return replace(offer, files=tuple(pinned))


def _known(wanted: Wanted, offer: Offer, model: Path) -> Pulled | None:
    """Return the outcome that is certain without a download, if any is."""
    there = provenance.all_of(model)
    if offer.number is not None:
        if offer.number in there and _is_of(offer, there[offer.number], wanted):
            return Pulled(UNCHANGED, offer.number, there[offer.number].files, offer)
        if int(offer.number) not in versions(model) and int(offer.number) <= last(model):
            return Pulled(OLDER, offer.number, {}, offer)
        return None
    newest = last(model)
    for number, known in there.items():
        if _is_of(offer, known, wanted):
            outcome = UNCHANGED if int(number) == newest else OLDER
            return Pulled(outcome, number, known.files, offer)
    return None


def _is_of(offer: Offer, known: Provenance, wanted: Wanted) -> bool:
    """Return whether a version is certainly the one that a source has now."""
    if offer.digest is not None:
        graph = known.files.get(FILE)
        is_wanted = wanted.sha256 is None or (graph is not None and graph.sha256 == wanted.sha256)
        return known.digest == offer.digest and is_wanted
    if {entry.name for entry in offer.files} != set(known.files):
        return False
    stored = [(entry, known.files[entry.name]) for entry in offer.files]
    if all(entry.sha256 is not None for entry, _ in stored):
        return all(entry.sha256 == file.sha256 for entry, file in stored)
    is_same = known.source == wanted.source.shown and all(
        entry.tag and entry.tag == file.tag and entry.size in (None, file.size)
        for entry, file in stored
    )
    return is_same and all(entry.sha256 in (None, file.sha256) for entry, file in stored)


def _same(offer: Offer, files: Mapping[str, Stored], model: Path) -> Pulled | None:
    """Return the outcome if a version has the downloaded content already.

    Raises:
        StoreError: the version of that number has another content.
    """
    if offer.number is not None:
        if int(offer.number) not in versions(model):
            return None
        if provenance.holds(model / offer.number, files):
            return Pulled(UNCHANGED, offer.number, files, offer)
        raise StoreError(
            f"{model.name}, version {offer.number}: the source has another content under this "
            "number, and a version never changes: give it a higher number there"
        )
    number = provenance.same_content(model, files)
    if number is None:
        return None
    outcome = UNCHANGED if int(number) == last(model) else OLDER
    return Pulled(outcome, number, files, offer)


def _unpacked(place: Path, wanted: Wanted) -> dict[str, Stored]:
    """Return the files that were unpacked, once they are all on the disk."""
    files = provenance.stored_in(place)
    received = files[FILE].sha256
    if wanted.sha256 not in (None, received):
        raise StoreError(f"{FILE}: expected the SHA-256 {wanted.sha256}, received {received}")
    for inner in [place, *(path for path in place.rglob("*") if path.is_dir())]:
        sync_folder(inner)
    return files


def _check(folder: Path, wanted: Wanted, offer: Offer, settings: Settings) -> None:
    """Load the downloaded version as the service would.

    Raises:
        Refused: it could not serve.
    """
    number = offer.number or str(last(settings.models / wanted.name) + 1)
    with progress.shown(f"loading {wanted.name}"):
        reason = checking.reason(folder, wanted.name, number, settings)
    if reason is not None:
        raise Refused(f"{wanted.source.shown}: refused, {reason}; nothing was published")


def _publish(
    folder: Path, wanted: Wanted, offer: Offer, files: Mapping[str, Stored], models: Path
) -> Pulled:
    found = Provenance(wanted.source.shown, offer.number, files, offer.digest)
    provenance.write(folder, found)
    sync_folder(folder)
    version = publish_folder(models, wanted.name, folder, offer.number)
    if version is None:
        raise Interrupted(f"{wanted.name}, version {offer.number}: was published meanwhile")
    return Pulled(PUBLISHED, version, files, offer)
