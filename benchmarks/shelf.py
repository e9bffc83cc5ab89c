"""A changing repository of models, and the versions that may answer at any moment.

The models are those of the tests.  The answers of two versions always differ, so that an answer
identifies its version even if it does not name it.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import servers
from service.inference.model import Model  # first, since it turns off ONNX Runtime's telemetry
from service.repository import aliases
from service.repository.publish import publish, versions
from tests.attack import repository
from tests.harness import small

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

import onnxruntime

# A service that has not noticed a change after this time breaks a promise; it scans twice a second.
LAG_SECONDS = 10.0
WATCH = "0.5"
KEPT = 4
# Each version multiplies a constant of `small.three` by its number and this factor, so that all
# versions of all models differ.
SWAPPED = {"three": 0.0, "other": 0.25, "lent": 0.5}
ALIASES = ("stable", "canary")
ASIDE = ("three", "unproven", "brittle", "logs", "alone", "alone_ragged")


@dataclass
class Span:
    """A version that answers from a moment between `began` and `done`; `None` for no version."""

    version: str | None
    began: float
    done: float = math.inf


@dataclass
class Published:
    """A version that was published, and perhaps removed."""

    good: bool
    began: float
    done: float = math.inf
    removed: float = math.inf


class Shelf:
    """The repository and its history; one thread changes it, and many send requests."""

    def __init__(self, models: Path) -> None:
        """Publish the first versions."""
        self.models = models
        self.history: dict[tuple[str, str], list[Span]] = {}
        self.published: dict[tuple[str, str], Published] = {}
        self.sorts = {n: content for n, content in small.every().items() if n not in ASIDE}
        self.sorts |= {name: repository.joint(name) for name in repository.JOINT}
        self.changes: dict[str, int] = {}
        for name, content in self.sorts.items():
            publish(models, name, content)
        for name in SWAPPED:
            self.swap(name)
        for alias in ALIASES:
            self.point("other", alias, "1")

    def possible(self, name: str, alias: str, start: float, end: float) -> list[str | None]:
        """Return the versions that may answer a request in that time; `alias` is "" for none."""
        spans = self.history[name, alias]
        following = [*(span.done for span in spans[1:]), math.inf]
        return [
            span.version
            for span, until in zip(spans, following, strict=True)
            if span.began <= end and until + LAG_SECONDS >= start
        ]

    def late(self, name: str, alias: str, version: str | None, start: float) -> float:
        """Return for how many seconds the version of an answer had been superseded at `start`."""
        spans = self.history[name, alias]
        places = [i for i, span in enumerate(spans[:-1]) if span.version == version]
        last = spans[-1].version == version
        return 0.0 if last or not places else max(0.0, start - spans[places[-1] + 1].done)

    def statuses(self, name: str, version: str, start: float, end: float) -> set[int]:
        """Return the statuses that a request for a version by its number may have."""
        it = self.published[name, version]
        allowed = {200} if it.good else {503}
        if start < it.done + LAG_SECONDS:
            allowed.add(404)
        if it.removed <= end:
            allowed |= {404, 503}
            if start > it.removed + LAG_SECONDS:
                allowed.discard(200)
        return allowed

    def versions_of(self, name: str) -> list[str]:
        """Return the versions to request by number: the newest, even if broken or removed."""
        return [version for owner, version in list(self.published) if owner == name][-8:]

    def swap(self, name: str) -> None:
        """Publish a version whose answers differ from all others."""
        version = self._next(name)
        content = small.three(_scale(name, version))
        self._answer(name, "", version, lambda: self._publish(name, version, content, good=True))

    def spoil(self, name: str) -> None:
        """Publish a broken version: half a file, or one with wrong golden rows."""
        version = self._next(name)
        content = small.three(_scale(name, version))
        if int(version) % 2:
            content = content[: len(content) // 2]
        else:
            # The answers recorded with its golden rows are wrong.
            content = content.replace(b'"risk":[[0.5]', b'"risk":[[0.6]', 1)
        self._publish(name, version, content, good=False)

    def point(self, name: str, alias: str, version: str = "") -> None:
        """Point an alias to a version; by default, to the oldest good one."""
        there = set(map(str, versions(self.models / name)))
        good = [v for v in self.versions_of(name) if v in there and self.published[name, v].good]
        version = version or good[0]

        def change() -> None:
            with aliases.changing(self.models / name) as named:
                named[alias] = version

        self._answer(name, alias, version, change)

    def prune(self, name: str) -> None:
        """Remove all versions except the newest."""
        there = set(map(str, versions(self.models / name)))
        began = time.monotonic()
        named = {self.history[name, alias][-1].version for alias in ALIASES if name == "other"}
        newest = sorted(map(int, there))[-KEPT:]
        for version in there - set(map(str, newest)) - named:
            # A removed version may be the newest good one, which stays loaded: a request for it may
            # then be answered or refused.
            self.published[name, version].removed = began
        triceps("prune", name, "--keep", str(KEPT), "--models", str(self.models))
        for version in map(str, versions(self.models / name)):
            self.published[name, version].removed = math.inf

    def lend(self, port: int, token: str, *, back: bool) -> None:
        """Unload the model `lent`, or load it again."""
        newest = next(
            v for v in reversed(self.versions_of("lent")) if self.published["lent", v].good
        )
        verb = "load" if back else "unload"
        url = f"http://{servers.HOST}:{port}/v2/repository/models/lent/{verb}"
        headers = {"Authorization": f"Bearer {token}"}

        def change() -> None:
            request = urllib.request.Request(url, b"", headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                json.load(answer)

        self._answer("lent", "", newest if back else None, change)

    def _next(self, name: str) -> str:
        return str(max(versions(self.models / name), default=0) + 1)

    def _publish(self, name: str, version: str, content: bytes, *, good: bool) -> None:
        self.published[name, version] = Published(good, time.monotonic())
        made = publish(self.models, name, content)
        if made != version:
            raise AssertionError(f"{name}: expected to publish {version}, published {made}")
        self.published[name, version].done = time.monotonic()

    def _answer(
        self, name: str, alias: str, version: str | None, change: Callable[[], None]
    ) -> None:
        """Make a change, during which the version may answer and after which it must."""
        span = Span(version, time.monotonic())
        self.history.setdefault((name, alias), []).append(span)
        change()
        span.done = time.monotonic()


def triceps(*arguments: str) -> str:
    """Run `triceps`, and return what it prints."""
    command = [str(Path(sys.executable).with_name("triceps")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def expected(name: str, version: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return ONNX Runtime's own answers for a version of a model that is swapped."""
    return _run(_session_of(_scale(name, version)), arrays)


def expected_of(content: bytes, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return ONNX Runtime's own answers for a model file."""
    return _run(_session(content), arrays)


@lru_cache(64)
def model_of(content: bytes) -> Model:
    """Return the loaded model of a file, for its signature."""
    return Model.load(content)


def _run(session: onnxruntime.InferenceSession, arrays: Arrays) -> dict[str, NDArray[Any]]:
    names: Sequence[str] = [output.name for output in session.get_outputs()]
    wanted = {entry.name for entry in session.get_inputs()}
    given = {name: array for name, array in arrays.items() if name in wanted}
    return dict(zip(names, session.run(names, given), strict=True))


@lru_cache(32)
def _session_of(scale: float) -> onnxruntime.InferenceSession:
    return _open(small.three(scale))


@lru_cache(64)
def _session(content: bytes) -> onnxruntime.InferenceSession:
    return _open(content)


def _open(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _scale(name: str, version: str) -> float:
    return int(version) + SWAPPED[name]
