"""The preparation of large models, whose weights all workers then share, and their trial.

    a large file ─▶ in the cache? ─ yes ─▶ a trial with the prepared model ─▶ verdict
                          │ no
                          ▼
                        trial ─▶ prepare, compare ─▶ into the cache ─▶ a second trial ─▶ verdict

The keeper does all that touches a disk in child processes, since a disk may not answer.  A child
that reads a model's file writes into a hidden folder of its own; another one, which reads no model,
computes digests and gives the folder its name.

Whatever fails here leaves a model as it is without: each worker has its own copy of the weights.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import shutil
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnx import helper

from service.host import child, disk, memory
from service.host.files import write_file
from service.inference import prepared
from service.inference.model import Model
from service.inference.model_file import tensors_in
from service.inference.runnable import open_file
from service.inference.session import start
from service.repository import cache, file_trial
from service.repository.cache import CacheError, Entry
from service.repository.file_trial import MB, Way
from service.repository.reasons import plain

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from service.inference.execution import Execution
    from service.repository.file_trial import Verdict

log = logging.getLogger(__name__)

# The least weights for which preparing is worthwhile: at this size it takes 0.3 s, once, and spares
# each worker but one 8 MB, or 16 MB if the weights are those of convolutions.
LEAST_BYTES = 8 * MB
# The disk space of a prepared model: the weights as they were, and packed; twice as much, if
# they are float16, which become float32; and a margin.
TIMES, MOST_TIMES = 2, 4
MARGIN = 64 * MB
_NOT_MAPPED = (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)


@dataclass
class Preparations:
    """The preparations of one keeper."""

    setting: str
    """The folder of the cache, or "off"."""
    workers: int
    """The number of processes that load each model."""
    _said: set[str] = field(default_factory=set)

    def attempt(
        self,
        path: str,
        stamp: str,
        free: int | None,
        alive: socket.socket | None,
        execution: Execution,
    ) -> Verdict:
        """Try a file as `file_trial.attempt` does, with prepared weights if it is large.

        Returns:
            The verdict, with the entry of the cache that workers have to use, if any.
        """
        # Other providers keep their weights where they compute.
        files = self._files(path) if execution.is_cpu else {}
        if not files:
            return file_trial.attempt(path, stamp, free, alive, Way(execution))
        entry = self._find(path, alive)
        if entry is not None:
            verdict = file_trial.attempt(path, stamp, free, alive, Way(execution, entry.folder))
            if verdict.reason is None:
                verdict.entry = entry
                return verdict
            if verdict.needs is None:
                self._remove(entry, alive)
        verdict = file_trial.attempt(path, stamp, free, alive, Way(execution))
        if verdict.reason is not None:
            return verdict
        entry = self._prepare(path, files, partial(_prepare, path, execution, free), alive)
        if entry is None:
            return verdict
        again = file_trial.attempt(path, stamp, free, alive, Way(execution, entry.folder))
        if again.reason is not None:
            self._tell(path, again.reason)
            return verdict
        again.entry = entry
        return again

    def _files(self, path: str) -> dict[str, tuple[int, ...]]:
        """Return the files of a version, with stamps; empty if it cannot be a large one."""
        if self.setting == cache.OFF:
            return {}
        try:
            files = cache.files_of(Path(path))
        except OSError:
            return {}
        return files if cache.size_of(files) >= LEAST_BYTES else {}

    def _find(self, path: str, alive: socket.socket | None) -> Entry | None:
        """Return the entry of the cache for a file."""
        try:
            found = _run(partial(_find, self.setting, path), alive)
        except child.ChildError:
            return None  # said by the preparation, which fails too, or makes the entry
        if found["damaged"]:
            log.warning("the prepared model of %s is damaged, and is made anew", path)
        return _entry(found["entry"])

    def _prepare(
        self,
        path: str,
        files: Mapping[str, tuple[int, ...]],
        prepare: Callable[[str, str], dict[str, Any] | None],
        alive: socket.socket | None,
    ) -> Entry | None:
        """Prepare a model, and return its entry of the cache; log why there is none."""
        name = uuid.uuid4().hex
        try:
            small = _run(partial(prepare, self.setting, name), alive)
            if small is not None:
                if small["unusable"]:
                    self._tell_once(path, small["unusable"], small["bytes"])
                return None
            return _entry(_run(partial(_finish, self.setting, name, path, files), alive))
        except child.ChildError as error:
            self._tell(path, str(error))
        finally:
            self._clean(name, alive)
        return None

    def _clean(self, name: str, alive: socket.socket | None) -> None:
        try:
            _run(partial(_clean, self.setting, name), alive)
        except child.ChildError as error:
            log.debug("a hidden folder of the cache stays: %s", error)

    def _remove(self, entry: Entry, alive: socket.socket | None) -> None:
        try:
            _run(partial(cache.remove, Path(entry.folder)), alive)
        except child.ChildError as error:
            log.debug("a prepared model that cannot be loaded stays: %s", error)

    def _tell(self, path: str, reason: str) -> None:
        log.warning(
            "%s is not prepared: %s; each worker has a copy of its weights", path, plain(reason)
        )

    def _tell_once(self, path: str, reason: str, size: int) -> None:
        """Log, once, what a cache would save."""
        if reason in self._said:
            return
        self._said.add(reason)
        log.warning(
            "no cache for prepared models: %s. Each of %d workers has a copy of the %d MB of "
            "weights of %s; a folder on a disk, named by TRICEPS_CACHE, would let them share one",
            reason,
            self.workers,
            size // MB,
            path,
        )


def _run(work: Callable[[], Any], alive: socket.socket | None) -> Any:
    try:
        return child.run(work, file_trial.WALL_SECONDS, alive)
    except OSError as error:
        raise child.ChildError(f"{error.strerror or error}") from error


def _entry(found: list[Any] | None) -> Entry | None:
    if found is None:
        return None
    folder, stamps = found
    return Entry(folder, tuple(tuple(stamp) for stamp in stamps))


def _find(setting: str, path: str) -> dict[str, Any]:
    """Return the entry of a file, in a child process that reads digests alone."""
    try:
        folder = cache.open_folder(setting)
    except CacheError:
        return {"entry": None, "damaged": 0}
    cache.sweep(folder)
    entry, damaged = cache.find(folder, Path(path))
    return {"entry": entry, "damaged": damaged}


def _prepare(
    path: str, execution: Execution, free: int | None, setting: str, name: str
) -> dict[str, Any] | None:
    """Prepare a model, in a child process with the limits of a trial.

    Returns:
        `None` if it is prepared; or its size, and why there is no cache, if that is the reason.
    """
    file_trial.limit(free)
    runnable = open_file(Path(path))
    size = sum(file.stat().st_size for file in runnable.files())
    if _weights(runnable.graph) < LEAST_BYTES:
        return {"unusable": "", "bytes": size}
    try:
        folder = cache.open_folder(setting)
    except CacheError as error:
        return {"unusable": str(error), "bytes": size}
    room = disk.free(folder) - MARGIN
    if room < TIMES * size:
        raise CacheError(
            f"it takes {TIMES * size // MB} MB of the disk of {folder}: "
            f"expected at most {max(0, room) // MB} MB, which are free"
        )
    available = memory.available()
    if available is not None and size > available:
        # A file may have holes, which take no room on a disk, and time to read.
        raise CacheError("its files are larger than the free memory")
    _limit_files(min(room, MOST_TIMES * size + MARGIN))
    home = Path(path).parent.resolve()
    listed = [str(file.relative_to(home)) for file in runnable.files()[1:]]
    source, outline = runnable.source, runnable.outline()
    # The next steps take as much memory as a trial, beside which there is no room for weights.
    del runnable
    place = cache.begin(folder, name)
    prepared.write(source, outline, execution, place)
    file_trial.allow_mapping(place)
    model = Model.load(Path(path), execution, place)
    prepared.compare(start(source, outline, execution), model)
    write_file(place / cache.BESIDE, json.dumps(listed).encode())
    return None


def _weights(graph: onnx.ModelProto) -> int:
    """Return the size of all weights in bytes, whether they are initializers or constants."""
    return sum(
        math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in tensors_in(graph)
        if tensor.data_type not in _NOT_MAPPED
    )


def _limit_files(most: int) -> None:
    """Limit the size of each file that this process writes; Python ignores the signal."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


def _finish(setting: str, name: str, path: str, files: Mapping[str, tuple[int, ...]]) -> Entry:
    """Take what was written into the cache, in a child process that reads digests alone."""
    folder = cache.open_folder(setting)
    return cache.finish(folder, folder / f"{cache.HIDDEN}{name}", Path(path), files)


def _clean(setting: str, name: str) -> None:
    try:
        folder = cache.open_folder(setting)
    except CacheError:
        return
    shutil.rmtree(folder / f"{cache.HIDDEN}{name}", ignore_errors=True)
