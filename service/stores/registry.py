"""oci://: an image or an artifact of an OCI registry, whose parts are named by their SHA-256.

reference ─▶ (index ─▶) manifest ─▶ layers: files with a title, or archives with /models in them
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin

from service.repository.publish import FILE
from service.stores import layers
from service.stores.client import Client, split
from service.stores.credentials import docker_authorization
from service.stores.folders import MOST_FILES
from service.stores.store import Entry, Offer, Reading, StoreError, as_sha256, check_path
from service.wire.body import listing

if TYPE_CHECKING:
    from pathlib import Path

    from service.stores.client import Answer
    from service.stores.download import Room

_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join((*_MANIFESTS, *_INDEXES))
# The registries' own limit for a manifest.
_MOST_MANIFEST = 4 * 2**20
_TITLE = "org.opencontainers.image.title"
_UNPACK = "io.deis.oras.content.unpack"
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_UNAUTHORIZED = frozenset({401})


class Registry:
    """An image or an artifact in a repository of a registry."""

    def __init__(
        self, host: str, path: str, reference: str, shown: str, number: str | None
    ) -> None:
        """Keep the place, without a request.

        Args:
            host: the registry, with its port if it has one.
            path: the repository in it.
            reference: a tag, or a digest.
            shown: the source, for messages.
            number: the number of the version, if the tag is one.
        """
        # As other programs do: a registry on this machine has no certificate.
        self._scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
        self._host, self._path, self._reference = host, path, reference
        self._shown, self._number = shown, number
        self._client = Client(
            shown,
            "those for the registry in ~/.docker/config.json, or in the folder that DOCKER_CONFIG "
            "names",
        )
        self._authorization = ""

    def look(self) -> Offer:
        """Return what the reference names now."""
        manifest, digest = self._manifest(self._reference)
        if "manifests" in manifest:
            manifest, digest = self._manifest(self._chosen(manifest["manifests"]))
        try:
            parts = [(str(part["digest"]), int(part["size"]), part) for part in manifest["layers"]]
            titles = [(part.get("annotations") or {}).get(_TITLE) for *_, part in parts]
            if any((part.get("annotations") or {}).get(_UNPACK) == "true" for *_, part in parts):
                raise StoreError(
                    f"{self._shown}: expected files, received a packed folder: push the files "
                    "themselves"
                )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._no_manifest(error) from error
        if len(parts) > MOST_FILES:
            raise self._no_manifest(f"more than {MOST_FILES} layers")
        if parts and all(isinstance(title, str) for title in titles):
            named = zip(map(str, titles), parts, strict=True)
            files = [self._entry(check_path(title), *part[:2]) for title, part in named]
            if FILE not in titles:
                there = listing(sorted(map(str, titles)))
                raise StoreError(f"{self._shown}: expected a file {FILE}, found {there}")
            return Offer(self._number, tuple(files), digest)
        files = [self._entry(f"layer-{n}", *part[:2]) for n, part in enumerate(parts)]
        unpack = partial(_unpack, [entry.name for entry in files])
        return Offer(self._number, tuple(files), digest, unpack)

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of a part from `start` on."""
        asked = {"Range": f"bytes={start}-"} if start else {}
        answer = self._ask(f"blobs/{entry.key}", asked)
        is_rest = answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        is_part = answer.status == HTTPStatus.PARTIAL_CONTENT and is_rest
        return Reading(start if is_part else 0, self._client.pieces(answer))

    def _entry(self, name: str, digest: str, size: int) -> Entry:
        sha256 = as_sha256(digest) if digest.startswith("sha256:") else None
        if sha256 is None or size < 0:
            raise self._no_manifest(f"the digest {digest[:80]!r}, the size {size}")
        return Entry(name, digest, size, digest, sha256)

    def _manifest(self, reference: str) -> tuple[dict[str, Any], str]:
        """Return a manifest or an index, and its digest, which names all that is in it."""
        answer = self._ask(f"manifests/{reference}", {"Accept": _ACCEPT})
        content = self._client.whole(answer, _MOST_MANIFEST)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if ":" in reference and reference != digest:
            raise StoreError(f"{self._shown}: expected the digest {reference}, received {digest}")
        try:
            manifest = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._no_manifest(error) from error
        if not isinstance(manifest, dict) or not {"manifests", "layers"} & set(manifest):
            raise self._no_manifest("something else")
        return manifest, digest

    def _chosen(self, manifests: Any) -> str:
        """Return the digest of an image for this machine; of the only one, whatever it is for."""
        machine = platform.machine()
        ours = _ARCHITECTURES.get(machine, machine)
        try:
            images = {
                _architecture(entry): entry["digest"]
                for entry in manifests
                # Statements about images have no platform of their own.
                if (entry.get("platform") or {}).get("os") != "unknown"
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise self._no_manifest(error) from error
        chosen = images.get(ours) or (next(iter(images.values())) if len(images) == 1 else None)
        if not isinstance(chosen, str) or not chosen.startswith("sha256:"):
            there = ", ".join(sorted(images)) or "none"
            raise StoreError(f"{self._shown}: expected an image for {ours}, found {there}")
        return chosen

    def _ask(self, what: str, headers: dict[str, str]) -> Answer:
        """Send a request, with a token once the registry has asked for one."""
        url = f"{self._scheme}://{self._host}/v2/{self._path}/{what}"
        answer = self._client.ask(url, headers, self._authorization, _UNAUTHORIZED)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            return answer
        challenge = answer.headers.get("WWW-Authenticate", "")
        answer.close()
        if split(answer.url)[:2] != (self._scheme, self._host):
            # Else whoever the registry keeps its files with would get its password.
            raise StoreError(
                f"{self._shown}: the registry has sent the request to another server, which asks "
                "for credentials: those for the registry are for itself alone"
            )
        self._authorization = self._granted(challenge)
        return self._client.ask(url, headers, self._authorization)

    def _granted(self, challenge: str) -> str:
        """Return the authorization that a registry asks for."""
        ours = docker_authorization(self._host)
        kind, _, rest = challenge.partition(" ")
        if kind.lower() != "bearer":
            return ours
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.pop("realm", "")
        place = split(realm)
        is_local = _LOOPBACK.fullmatch(place.netloc) and self._scheme == "http"
        if place.scheme != "https" and not is_local:
            raise StoreError(
                f"{self._shown}: expected an address of tokens with https, received {realm[:200]!r}"
            )
        query = urlencode(
            {key: value for key, value in asked.items() if key in ("service", "scope")}
        )
        answer = self._client.ask(urljoin(realm, f"?{query}"), {}, ours)
        try:
            granted = json.loads(self._client.whole(answer, _MOST_MANIFEST))
            token = granted.get("token") or granted["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self._shown}: expected a token, received none") from error
        return f"Bearer {token}"

    def _no_manifest(self, received: object) -> StoreError:
        return StoreError(
            f"{self._shown}: expected the manifest of an image or an artifact, received {received}"
        )


def _architecture(entry: dict[str, Any]) -> str:
    """Return the architecture that an image is for; empty if that is not said."""
    return str(entry["platform"]["architecture"]) if "platform" in entry else ""


def _unpack(names: list[str], source: Path, target: Path, room: Room) -> Path:
    return layers.unpack([source / name for name in names], target, room)
