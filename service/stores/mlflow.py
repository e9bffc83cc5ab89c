"""mlflow: a version of a registered model, by its number, its alias, or the newest.

registry ─▶ number, artifact URI ─▶ the server's own artifacts, or another store
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode

from service.errors import printable
from service.repository.publish import VERSION
from service.stores import folders
from service.stores.client import Client, split
from service.stores.credentials import basic
from service.stores.folders import Listed
from service.stores.objects import Objects
from service.stores.store import Entry, Offer, Reading, StoreError
from service.stores.web import Web

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.stores.store import Store

# The server, and its credentials, by the variables of MLflow's own programs.
_SERVERS = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_MOST_ANSWER = 4 * 2**20
_WRONG = frozenset({400, 404})


class Mlflow:
    """A version of a registered model."""

    def __init__(self, model: str, which: str, shown: str) -> None:
        """Keep the place, without a request.

        Args:
            model: the registered model.
            which: a number or an alias; empty for the newest version.
            shown: the source, for messages.
        """
        server = next(filter(None, map(os.environ.get, _SERVERS)), "")
        if split(server).scheme not in ("http", "https"):
            raise StoreError(
                f"{shown}: expected the address of a server in MLFLOW_TRACKING_URI, received "
                f"{'nothing' if not server else 'something else'}"
            )
        self._server = _Server(server.rstrip("/"), shown)
        self._model, self._which, self._shown = model, which, shown
        self._files: Store

    def look(self) -> Offer:
        """Return the version that is named now, under its number."""
        version = self._version()
        number, status = version.get("version"), version.get("status")
        if not isinstance(number, str) or not VERSION.fullmatch(number):
            raise StoreError(f"{self._shown}: expected the number of a version, received none")
        if status not in (None, "READY"):
            raise StoreError(f"{self._shown}: version {number} is not ready: {status}")
        query = {"name": self._model, "version": number}
        answer = self._server.ask(f"{_API}/model-versions/get-download-uri", query)
        self._files = self._opened(str(answer.get("artifact_uri")))
        return replace(self._files.look(), number=number)

    def read(self, entry: Entry, start: int) -> Reading:
        """Return the bytes of a file from `start` on."""
        return self._files.read(entry, start)

    def _version(self) -> dict[str, Any]:
        if VERSION.fullmatch(self._which):
            query = {"name": self._model, "version": self._which}
            found = self._server.ask(f"{_API}/model-versions/get", query)
        elif self._which:
            query = {"name": self._model, "alias": self._which}
            found = self._server.ask(f"{_API}/registered-models/alias", query)
        else:
            name = self._model.replace("'", "''")
            query = {"filter": f"name='{name}'", "order_by": "version_number DESC"}
            versions = self._server.ask(
                f"{_API}/model-versions/search", query | {"max_results": "1"}
            ).get("model_versions")
            if not versions or not isinstance(versions, list):
                raise StoreError(f"{self._shown}: the model has no version")
            found = {"model_version": versions[0]}
        version = found.get("model_version")
        return version if isinstance(version, dict) else {}

    def _opened(self, place: str) -> Store:
        """Return the store of the files, which the server has itself or names."""
        url = split(place)
        if url.scheme == "mlflow-artifacts" and url.netloc in ("", self._server.host):
            return _Artifacts(self._server, url.path.strip("/"), self._shown)
        if url.scheme == "s3":
            return Objects(f"s3://{url.netloc}", url.path.strip("/"), place, None)
        # A path would be one of this machine, whose files are not those of the server.
        raise StoreError(
            f"{self._shown}: expected files of the server itself or of s3://, received "
            f"{printable(place)[:200]}"
        )


class _Server:
    """The server, and what it answers."""

    def __init__(self, url: str, shown: str) -> None:
        parts = split(url)
        self.host = parts.netloc.rpartition("@")[2]
        self.url = parts._replace(netloc=self.host).geturl()
        self._shown = shown
        self._client = Client(shown, _CREDENTIALS)
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            self.authorization = f"Bearer {token}"
        elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
            self.authorization = basic(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        elif parts.username:
            self.authorization = basic(unquote(parts.username), unquote(parts.password or ""))
        else:
            self.authorization = ""

    def ask(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """Return the object that the server answers with."""
        url = f"{self.url}{path}?{urlencode(query)}"
        answer = self._client.ask(url, {}, self.authorization, _WRONG)
        content = self._client.whole(answer, _MOST_ANSWER)
        is_wrong = answer.status != HTTPStatus.OK
        try:
            said = json.loads(content)
        except (ValueError, RecursionError):
            said = None
        if is_wrong or not isinstance(said, dict):
            message = said.get("message") if isinstance(said, dict) else None
            reason = printable(str(message or f"received {answer.status}, and no object"))
            raise StoreError(f"{self._shown}: {reason[:300]}")
        return said


class _Artifacts:
    """The files of a folder that the server has itself, each read as one of a web server."""

    def __init__(self, server: _Server, path: str, shown: str) -> None:
        self._server, self._path, self._shown = server, path, shown

    def look(self) -> Offer:
        return folders.offer(self, self._shown, None)

    def list(self, path: str) -> Listed:
        listed: tuple[list[str], list[Entry]] = ([], [])
        place = "/".join(part for part in (self._path, path) if part)
        found = self._server.ask(_ARTIFACTS, {"path": place}).get("files", [])
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise StoreError(f"{self._shown}: expected a list of files, received something else")
        for entry in found:
            name = str(entry.get("path", "")).rpartition("/")[2]
            if entry.get("is_dir"):
                listed[0].append(name)
            else:
                url = f"{self._server.url}{_ARTIFACTS}/{quote(f'{place}/{name}')}"
                listed[1].append(Entry(name, url, entry.get("file_size"), ""))
        return Listed(*listed)

    def walk(self, path: str) -> Iterator[Entry]:
        yield from self._below(path, "")

    def _below(self, path: str, prefix: str) -> Iterator[Entry]:
        listed = self.list(f"{path}/{prefix}".strip("/"))
        for entry in listed.files:
            # The list has no tags, without which a replaced file would not be noticed.
            [found] = self._file(entry).look().files
            yield replace(found, name=prefix + entry.name)
        for name in listed.folders:
            yield from self._below(path, f"{prefix}{name}/")

    def small(self, entry: Entry) -> bytes:
        return b"".join(self.read(entry, 0).pieces)

    def read(self, entry: Entry, start: int) -> Reading:
        return self._file(entry).read(entry, start)

    def _file(self, entry: Entry) -> Web:
        return Web(entry.key, f"{self._shown}, {entry.name}", None, self._server.authorization)
