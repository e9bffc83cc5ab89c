"""s3:// and az://: the objects of a bucket, by ranges that are of one and the same object.

The clients are those of obstore, which find credentials in the environment.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from service.errors import printable
from service.repository.publish import FILE
from service.stores import folders
from service.stores.folders import Listed
from service.stores.store import Entry, Interrupted, Offer, Reading, Replaced, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The bytes of one request.  The timeout is for all of a request, its answer included, so that a
# request for a whole file would fail where the network is slow.
_RANGE = 8 * 2**20
_TIMEOUT = timedelta(seconds=60)
_SMALL = 4096
# The stores in place of those of the clouds, by the scheme of a source.
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT"}
# What messages of clients have beside the reason: queries of URLs, in which signatures are.
_QUERY = re.compile(r"(https?://[^\s?\"']*)\?[^\s\"']*")
# Statuses after which another attempt has the same outcome; 408 and 429 may pass.
_DENIED = re.compile(r"status code: 40[13]")
_FINAL = re.compile(r"status code: (?!408|429)[34]\d\d|redirect without LOCATION|builder error")


class Objects:
    """The objects below a prefix of a bucket, or one object."""

    def __init__(self, bucket: str, path: str, shown: str, number: str | None) -> None:
        """Open the bucket, without a request.

        Args:
            bucket: its URL, such as `s3://models`, or `az://models` for a container.
            path: the prefix, or the object; it has no slash at its ends.
            shown: the source, for messages.
            number: the number of the version, if the source names it.
        """
        import obstore
        from obstore import exceptions, store

        self._obstore: Any = obstore
        self._errors: Any = exceptions
        # What is not there is an error of Python itself.
        self._failures = (exceptions.BaseError, OSError, ValueError, NotImplementedError)
        self._path, self._shown, self._number = path, shown, number
        endpoint = _ENDPOINTS[bucket.partition("://")[0]]
        try:
            self._store: Any = store.from_url(
                bucket,
                client_options={
                    "timeout": _TIMEOUT,
                    "connect_timeout": timedelta(seconds=10),
                    # Only where the user has chosen such a store, as in a network of their own.
                    "allow_http": os.environ.get(endpoint, "").startswith("http://"),
                },
                # The pauses between attempts are those of all stores.
                retry_config={"max_retries": 0, "retry_timeout": _TIMEOUT},
            )
        except self._failures as error:
            raise StoreError(f"{shown}: {_reason(error)}") from error

    def look(self) -> Offer:
        """Return the version that the bucket has now."""
        try:
            if self._path.endswith(".onnx"):
                return Offer(self._number, (self._one(),))
            return folders.offer(self, self._shown, self._number)
        except self._failures as error:
            raise self._failed(error) from error

    def _one(self) -> Entry:
        """Return the object that is the source, which becomes a version's graph."""
        entry = self._entry(self._obstore.head(self._store, self._path), FILE)
        try:
            beside = self._obstore.head(self._store, self._path + folders.DIGEST)
        except (FileNotFoundError, self._errors.PermissionDeniedError):
            # A key that may read one object gets either answer for another one.
            return entry
        digest = folders.digest(self, self._entry(beside, beside["path"]))
        return Entry(entry.name, entry.key, entry.size, entry.tag, digest)

    def list(self, path: str) -> Listed:
        """Return the entries of a folder."""
        place = _joined(self._path, path)
        found = self._obstore.list_with_delimiter(self._store, place or None)
        names = [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]
        files = [self._entry(meta, meta["path"].rpartition("/")[2]) for meta in found["objects"]]
        return Listed(names, files)

    def walk(self, path: str) -> Iterator[Entry]:
        """Yield all objects below a folder."""
        place = _joined(self._path, path)
        for page in self._obstore.list(self._store, place or None):
            for meta in page:
                name = meta["path"].removeprefix(place).removeprefix("/")
                # Programs that show buckets as folders put an empty object in place of each.
                if name and not (meta["size"] == 0 and meta["path"].endswith("/")):
                    yield self._entry(meta, name)

    def small(self, entry: Entry) -> bytes:
        """Return the content of a small object."""
        return self._range(entry, 0, min(_SMALL, entry.size or 0))

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of an object from `start` on."""
        return Reading(start, self._pieces(entry, start))

    def _pieces(self, entry: Entry, start: int) -> Iterator[bytes]:
        size = entry.size or 0
        for place in range(start, size, _RANGE):
            yield self._range(entry, place, min(place + _RANGE, size))

    def _range(self, entry: Entry, start: int, end: int) -> bytes:
        if start == end:
            return b""
        try:
            options: dict[str, Any] = {"range": (start, end)}
            if entry.tag:
                options["if_match"] = f'"{entry.tag}"'
            answer = self._obstore.get(self._store, entry.key, options=options)
            # Not all stores compare the tag.
            if _tag(answer.meta) != entry.tag or answer.meta["size"] != entry.size:
                raise Replaced(f"{self._shown}: {entry.name} was replaced while it was read")
            return bytes(answer.bytes())
        except self._failures as error:
            raise self._failed(error) from error

    def _entry(self, meta: Mapping[str, Any], name: str) -> Entry:
        return Entry(name, meta["path"], meta["size"], _tag(meta))

    def _failed(self, error: Exception) -> StoreError:
        """Return the error for one of a client, which says whether another attempt may help."""
        of = self._errors
        reason = f"{self._shown}: {_reason(error)}"
        if isinstance(error, of.PreconditionError):
            return Replaced(f"{self._shown}: an object was replaced while it was read")
        if isinstance(error, FileNotFoundError):
            return StoreError(f"{self._shown}: there is no such object: {_reason(error)}")
        denied = (of.PermissionDeniedError, of.UnauthenticatedError)
        if isinstance(error, denied) or _DENIED.search(str(error)):
            return StoreError(f"{reason}; docs/pull.md says where credentials come from")
        if isinstance(error, (of.InvalidPathError, ValueError, NotImplementedError)):
            return StoreError(reason)
        return StoreError(reason) if _FINAL.search(str(error)) else Interrupted(reason)


def _joined(path: str, below: str) -> str:
    return "/".join(part for part in (path, below) if part)


def _tag(meta: Mapping[str, Any]) -> str:
    """Return the ETag of an object, without the quotes, which not all lists have."""
    return str(meta.get("e_tag") or "").strip('"')


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the queries of URLs."""
    first = str(error).strip().partition("\n")[0]
    return printable(_QUERY.sub(r"\1?…", first))[:400]
