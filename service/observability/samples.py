"""Samples: rows of some answered requests, with their answers, as lines of JSON in files.

    take ─▶ copies of a few rows ─ a thread ─▶ <folder>/<model>/<time>-<process>.jsonl

    {"time": "2026-01-31T12:00:00.000Z", "model": "triceps", "version": "1", "request_id": "…",
     "row": 0, "instance": {"insurance": {"age": 47}}, "answers": {"o1": {"value": 0.93, …}}}

An instance is a row as native requests have it, with `null` for a missing value, and without what
the settings of its model call private.  The thread alone waits for the disk: what it cannot take is
dropped and counted.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from random import random
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

import numpy as np

from service.errors import SettingsError
from service.observability.logs import hide, moment
from service.observability.sample_files import SampleFiles
from service.repository.model_settings import EVERYTHING
from service.wire import limits, native
from service.wire.numbers import Numbers
from service.wire.paths import row_of
from service.wire.written import plain, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from service.observability.metrics import Metrics
    from service.repository.loader import Servable
    from service.run import Part
    from service.settings import Settings
    from service.wire.body import Imputed
    from service.wire.dialect import Query

log = logging.getLogger(__name__)

# The first rows of a request that are sampled.
MOST_ROWS = 100
# The bytes of rows and answers that wait for the disk, in one process.
MOST_BYTES = 2**22
# The versions whose private parts are remembered.
_REMEMBERED = 1024
# The time in which the last rows have to be written.
CLOSE_SECONDS = 0.5
_REQUEST_ID = re.compile(rb"^x-request-id: ([^\r\n]+)", re.MULTILINE)


def check(settings: Settings) -> None:
    """Make the folder for samples, if there are to be any.

    Raises:
        SettingsError: nothing can be written there.
    """
    if not settings.sample:
        return
    folder = Path(settings.sample_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        message = f"TRICEPS_SAMPLE_DIR: expected a folder to write to, received {folder}: {reason}"
        raise SettingsError(message)


class SampledRows(NamedTuple):
    """A few rows of a request, and their answers."""

    servable: Servable
    moment: float
    request_id: str
    private: frozenset[str]
    arrays: Mapping[str, NDArray[Any]]
    heads: tuple[str, ...]
    outputs: Mapping[str, NDArray[Any]]
    imputed: Sequence[Imputed]
    size: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.outputs[self.heads[0]])


class Sampler:
    """The samples of one worker; its event loop alone calls this."""

    def __init__(self, folder: Path, share: float, metrics: Metrics) -> None:
        """Write a share of requests into files of a folder."""
        self._share = share
        self._metrics = metrics
        self._files = SampleFiles(folder)
        self._handed: SimpleQueue[SampledRows | None] = SimpleQueue()
        # The private inputs of each version that was sampled.
        self._known: dict[tuple[str, str], tuple[ref[Servable], frozenset[str] | None]] = {}
        # Bytes and rows so far; the thread alone changes the last two.
        self._added = 0
        self._refused = 0
        self._done = 0
        self._failed = 0
        self._counted = 0
        metrics.count_dropped("samples_dropped", 0)
        threading.Thread(target=self._write_all, name="samples", daemon=True).start()

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Sampler | None:
        """Return the sampler of the settings; `None` if they have none."""
        if not settings.sample:
            return None
        return cls(Path(settings.sample_dir), settings.sample, metrics)

    def take(self, servable: Servable, query: Query, part: Part, lines: bytes) -> None:
        """Sample the first rows of an answered request, if it is its turn.  This raises nothing.

        Args:
            servable: the model.
            query: the decoded request.
            part: its rows of a run.
            lines: the header lines of the answer.
        """
        if random() >= self._share:  # noqa: S311  nobody gains by a guess
            return
        try:
            self._take(servable, query, part, lines)
        except Exception:
            if not self._refused:
                log.exception("a sample could not be taken")
            self._refused += 1

    def look(self) -> None:
        """Count what was dropped, and have old files removed; to be called once a second."""
        if self._handed.empty():
            self._handed.put(None)
        dropped = self._refused + self._failed
        if dropped != self._counted:
            self._metrics.count_dropped("samples_dropped", dropped - self._counted)
            self._counted = dropped

    def close(self) -> None:
        """Have the last rows written."""
        until = time.monotonic() + CLOSE_SECONDS
        while self._done < self._added and time.monotonic() < until:
            time.sleep(0.005)
        self.look()

    def _take(self, servable: Servable, query: Query, part: Part, lines: bytes) -> None:
        private = self._private(servable)
        if servable.signature.tensor or private is None:
            return
        rows = min(MOST_ROWS, part.end - part.start)
        whole = query.arrays.make() if isinstance(query.arrays, Numbers) else query.arrays
        arrays = {name: array[:rows] for name, array in whole.items()}
        outputs = {name: array[:rows] for name, array in part.outputs().items()}
        size = sum(map(_size, (*arrays.values(), *outputs.values())))
        size += limits.held_by_notes(query)
        if self._added - self._done + size > MOST_BYTES:
            self._refused += rows
            return
        # Others of the run would be kept with it.
        arrays = {name: array.copy() for name, array in arrays.items()}
        outputs = {name: array.copy() for name, array in outputs.items()}
        match = _REQUEST_ID.search(lines)
        request_id = "" if match is None else hide(match[1].decode("latin-1"))
        self._added += size
        self._handed.put(
            SampledRows(
                *(servable, time.time(), request_id, private),
                *(arrays, query.heads, outputs),
                imputed=query.imputed,
                size=size,
            )
        )

    def _private(self, servable: Servable) -> frozenset[str] | None:
        """Return the private inputs and features; `None` if nothing may be sampled."""
        name = servable.name, servable.version
        known = self._known.get(name)
        if known is None or known[0]() is not servable:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = ref(servable), _private_of(servable)
        return known[1]

    def _write_all(self) -> None:
        while True:
            sampled = self._handed.get()
            try:
                if sampled is None:
                    self._files.look()
                else:
                    self._files.write(sampled.servable.name, b"".join(_lines(sampled)))
            except Exception as error:
                if sampled is not None:
                    if not self._failed:
                        log.error("samples cannot be written", exc_info=error)  # noqa: TRY400
                    self._failed += sampled.rows
            if sampled is not None:
                self._done += sampled.size


def _private_of(servable: Servable) -> frozenset[str] | None:
    """Return the private inputs and features of a version; `None` if nothing may be sampled.

    That is so if a name is not known, since it may be a misspelled one.
    """
    private = frozenset(servable.settings.private)
    if EVERYTHING in private:
        return None
    known = set(servable.model.signature.inputs)
    for entry in servable.model.signature.inputs.values():
        known.update(f"{entry.name}.{feature.name}" for feature in entry.features)
    if unknown := sorted(private - known):
        log.warning(
            "%s, version %s: not sampled, since private in settings.toml names %r, and it has no "
            "such input or feature",
            *(servable.name, servable.version, unknown[0]),
        )
        return None
    return private


def _lines(sampled: SampledRows) -> Iterator[bytes]:
    """Yield the line of each row."""
    signature, private = sampled.servable.signature, sampled.private
    answers = native.predictions(sampled.heads, signature, sampled.outputs)
    common = {
        "time": moment(sampled.moment),
        "model": sampled.servable.name,
        "version": sampled.servable.version,
        "request_id": sampled.request_id,
    }
    columns = {name: plain(array) for name, array in sampled.arrays.items()}
    missing = {(note.feature, row_of(note.at)) for note in sampled.imputed}
    for row, answer in enumerate(answers):
        instance: dict[str, Any] = {}
        for name, entry in signature.inputs.items():
            if name in private or any(tensor.name not in columns for tensor in entry.tensors):
                continue
            if not entry.features:
                # JSON has no NaN and no infinity, and a row of pixels has no missing ones.
                if _is_finite(sampled.arrays[entry.tensors[0].name][row]):
                    instance[name] = columns[entry.tensors[0].name][row]
                continue
            features = {
                feature.name: None
                if (full, row) in missing
                else columns[feature.tensor][row][feature.column]
                for feature in entry.features
                if (full := f"{name}.{feature.name}") not in private
            }
            if features:
                instance[name] = features
        yield write({**common, "row": row, "instance": instance, "answers": answer}) + b"\n"


def _is_finite(values: Any) -> bool:
    return np.asarray(values).dtype.kind != "f" or bool(np.isfinite(values).all())


def _size(array: NDArray[Any]) -> int:
    if array.dtype == object:
        return sum(len(text) for text in array.ravel()) + array.nbytes
    return int(array.nbytes)
