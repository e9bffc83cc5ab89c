"""An operator: a service of their own, its clients, and the commands that they run beside it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.harness import customers
from tests.harness.exposition import samples
from tests.harness.serving import LIFE, PROGRAM, ROOT, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

NAME = "customers"
COMMAND_SECONDS = 120
PAUSE_SECONDS = 0.01
SETTINGS = {
    "TRICEPS_POLICY": "pinned",
    "TRICEPS_DRIFT": "features",
    "TRICEPS_SAMPLE": "1",
    "TRICEPS_SAMPLE_DIR": "samples",
    "TRICEPS_ACCESS_LOG": "on",
}
_TO_A_FILE = ["sh", "-c", 'exec "$@" > access.log', "sh", sys.executable, "-c", LIFE + PROGRAM]


class Operator:
    """A folder with models, and a service of it once it is started."""

    def __init__(self, folder: Path) -> None:
        """Begin without any model.

        Args:
            folder: where commands run, and where samples and the access log are.
        """
        self.folder = folder
        self.answered: Counter[tuple[str, str]] = Counter()
        """The requests so far, by their ID and the version that answered."""
        self.rows = 0
        """Their rows."""
        self._lock = threading.Lock()
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """The service."""
        assert self._server is not None
        return self._server

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve with two workers."""
        with Server(
            *("--workers", 2, "--watch", 0.1),
            folder=self.folder,
            command=[*_TO_A_FILE, "serve"],
            environment=SETTINGS,
        ) as self._server:
            self._server.until_ready()
            yield

    def run(self, *words: object) -> str:
        """Run a command as a process of its own, which has to succeed; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **SETTINGS},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def facts(self, *words: object) -> Any:
        """Return the JSON that a command prints."""
        return json.loads(self.run(*words, "--json"))

    def publish(self, version: int, *options: str) -> None:
        """Sign a file from elsewhere as the next version."""
        file = self.folder / f"{version}.onnx"
        file.write_bytes(customers.model(version))
        said = self.run(
            *("sign", file.name, "--name", NAME, *options),
            *("--features", f"customer={','.join(customers.FEATURES)}"),
            *("--labels", "churn=stays,leaves", "--kind", "value=regression"),
        )
        assert f"published {NAME}, version {version}:" in said

    def page(self, path: str = "") -> Any:
        """Return a page about the model."""
        status, content = self.server.get(f"/models/{NAME}{path}")
        assert status == 200, content
        return content

    def share(self, *options: object) -> None:
        """Change the shares of the model, and wait until the service has them."""
        shares = self.facts("traffic", NAME, *options)["traffic"]

        def has_them(page: Any) -> bool:
            told = page.get("traffic", {})
            return {kind: (one["version"], one["share"]) for kind, one in told.items()} == {
                kind: (one["version"], one["share"]) for kind, one in shares.items()
            }

        self.page_with(has_them)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Return the samples of /metrics."""
        return samples(self.server.ask("GET", "/metrics")[2].decode())

    def until(self, true: Callable[[], object]) -> None:
        """Wait until a condition is true while the service runs."""
        self.server.until(true)

    def page_with(self, true: Callable[[Any], object], path: str = "") -> Any:
        """Wait until a condition of a page is true, and return that page."""
        found = []

        def is_true() -> object:
            found[:] = [self.page(path)]
            return true(*found)

        self.until(is_true)
        return found[0]

    def sampled(self) -> int:
        """Return the number of rows in the samples."""
        files = (self.folder / "samples" / NAME).glob("*.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files)

    def ask(self, requests: Iterable[tuple[str, list[dict[str, float]]]]) -> dict[str, str]:
        """Send requests over a connection, all of which have to be answered.

        Args:
            requests: their IDs and rows.

        Returns:
            The version that answered, by the ID of the request.
        """
        versions = {}
        with contextlib.closing(self.server.connect()) as connection:
            for name, rows in requests:
                body = json.dumps({"instances": [{"customer": row} for row in rows]})
                told = {"Content-Type": "application/json", "X-Request-ID": name}
                connection.request("POST", f"/models/{NAME}/predict", body, told)
                answer = connection.getresponse()
                content = json.loads(answer.read())
                assert answer.status == 200, content
                assert len(content["predictions"]) == len(rows)
                versions[name] = content["version"]
                with self._lock:
                    self.answered[name, content["version"]] += 1
                    self.rows += len(rows)
        return versions

    @contextlib.contextmanager
    def visited(self) -> Iterator[None]:
        """Have a client ask all the time, over one connection; it has to be answered each time."""
        end = threading.Event()

        def requests() -> Iterator[tuple[str, list[dict[str, float]]]]:
            for number in count():
                if end.wait(PAUSE_SECONDS):
                    return
                yield f"client-{number}", customers.rows(1, number)

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self.ask, requests())
            try:
                yield
            finally:
                end.set()
        asking.result()
