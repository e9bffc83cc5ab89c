"""The meter of a version: its answered rows, counted by the cells of its reference.

    answered ─▶ notes of rows ─ some hundred at once ─▶ Layout.count ─▶ the worker's vector

Nothing here may cost an answer: what cannot be counted is left out, and the reason is logged once.
"""

from __future__ import annotations

import threading
import time
import weakref
import zlib
from collections import Counter
from logging import getLogger
from random import choices, random
from typing import TYPE_CHECKING

import numpy as np

from service.insight.drift.counting import Layout
from service.insight.serving import windows
from service.insight.serving.notes import NONE, Notes
from service.wire.paths import row_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.insight.drift.counting import Place
    from service.insight.serving.sampling import Share
    from service.observability.shared_memory import Region
    from service.repository.loader import Servable
    from service.run import Part, Run
    from service.signature import Signature, Tensor
    from service.wire.body import Imputed

log = getLogger(__name__)

# The cells that are counted while serving; with all that goes with them, they take less than 1 MB.
# Further quantities are left out.
MOST_CELLS = 2000
# The bytes of rows that wait to be counted.
HEAD_BYTES, FEATURE_BYTES = 2**17, 2**18
# The missing values of one request that are looked at: some milliseconds of work.
MOST_NOTES = 2**12
# The numbers in front of the cells: rows answered, rows whose answers were counted, and those whose
# features were.
ROWS, HEADS, FEATURES = range(3)
FRONT = 3
KIND = "drift"


class DriftMeter:
    """The counts of one version of a model in one process."""

    def __init__(
        self, region: Region, servable: Servable, heads: Share, features: Share | None
    ) -> None:
        """Prepare to count; the cells are laid out by the first answer.

        Args:
            region: the vectors of this worker.
            servable: the version, whose signature has a reference.
            heads: the share of rows whose answers are counted.
            features: that of rows whose features are; `None` if they are not counted.
        """
        # A weak reference suffices: a request that is still to be counted holds its version.
        self.signature = weakref.ref(servable.signature)
        self._region = region
        self.version = servable.name, servable.version
        self._shares = heads, features
        self._lock = threading.Lock()
        self._cells: _Cells | None = None
        self._has_failed = False

    def answered(self, part: Part, imputed: Sequence[Imputed]) -> None:
        """Note the rows of an answered request, all those of its run with the first of them.

        Args:
            part: the rows of a run.
            imputed: their missing values, for which defaults stood in.
        """
        try:
            with self._lock:
                cells = self._cells or self._lay_out()
                if cells is None:
                    return
                if part.run.taken is None and cells.note(part.run):
                    cells.flush(self._region, everything=False)
                if imputed:
                    cells.note_missing(part, imputed)
        except Exception as error:  # noqa: BLE001  it is logged, once
            part.run.taken = NONE
            self._log_once(error)

    def flush(self) -> None:
        """Count what has been noted, and drop what cannot be counted.  This raises nothing."""
        try:
            with self._lock:
                if self._cells is not None:
                    self._cells.flush(self._region, everything=True)
        except Exception as error:  # noqa: BLE001  it is logged, once
            self._log_once(error)

    def cells(self) -> tuple[Layout, tuple[str, ...]] | None:
        """Return the cells of the version and the name of its vectors, unless it is unloaded."""
        with self._lock:
            cells = self._lay_out()
        return None if cells is None else (cells.layout, cells.name)

    def _lay_out(self) -> _Cells | None:
        signature = self.signature()
        if self._cells is None and signature is not None:
            self._cells = _Cells(self.version, signature, *self._shares)
        return self._cells

    def _log_once(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            message = "%s, version %s: not all rows are counted for drift"
            log.error(message, *self.version, exc_info=error)


class _Cells:
    """The cells of a version, and its rows that wait to be counted into them."""

    def __init__(
        self,
        version: tuple[str, str],
        signature: Signature,
        heads: Share,
        features: Share | None,
    ) -> None:
        self.layout = layout = Layout(signature, MOST_CELLS)
        # Another reference has vectors of its own.
        cells = [(place.quantity.name, place.reference) for place in layout.places]
        self.name = KIND, *version, f"{zlib.crc32(repr(cells).encode()):08x}"
        tensors = {head.tensor.name: head.tensor for head in signature.heads.values()}
        places = [place for place in layout.places if place.quantity.is_head]
        # Heads come first.
        self._size = places[-1].stop if places else 0
        self._heads = _notes(places, tensors, heads, HEAD_BYTES)
        self._features: Notes | None = None
        self._kinds = [(HEADS, self._heads, heads)]
        self._defaults: dict[str, tuple[int, int]] = {}
        if features is not None:
            inputs = signature.inputs.values()
            tensors = {tensor.name: tensor for entry in inputs for tensor in entry.tensors}
            places = [place for place in layout.places if not place.quantity.is_head]
            self._size = layout.size
            self._features = _notes(places, tensors, features, FEATURE_BYTES)
            self._kinds.append((FEATURES, self._features, features))
            self._defaults = _defaults(signature, layout)
        self._missing: Counter[str] = Counter()

    def note(self, run: Run) -> bool:
        """Note the rows of a run, as many as its outputs have: one that explains runs more.

        Returns:
            Whether all rows that wait are to be counted now.
        """
        rows = len(next(iter(run.outputs.values())))
        heads, features = self._heads, self._features
        heads.take(run.outputs, rows)
        if features is None:
            run.taken = NONE
            return heads.is_full
        run.taken = features.take(run.inputs or {}, rows)
        return heads.is_full or features.is_full

    def note_missing(self, part: Part, imputed: Sequence[Imputed]) -> None:
        """Note the missing values of a request, as far as their rows are taken."""
        run, start, end = part
        taken = run.taken
        if not taken:
            return
        chosen, weight = imputed, 1
        if taken.step > 1:
            # A body may miss a quarter of a million values, so some stand for all of them; they are
            # chosen at random, since the features of a row take turns.
            weight = -(-len(imputed) // MOST_NOTES)
            if weight > 1:
                chosen = choices(imputed, k=len(imputed) // weight)  # noqa: S311  no secret
            chosen = [note for note in chosen if _is_taken(note, start, taken)]
        # An estimate may be too large.
        most = sum(1 for row in taken if start <= row < end) if weight > 1 else len(chosen)
        for feature, rows in Counter(note.feature for note in chosen).items():
            self._missing[feature] += min(weight * rows, most)

    def flush(self, region: Region, *, everything: bool) -> None:
        """Count into the vector of the version what has been noted, or only where that is much."""
        numbers = np.zeros(FRONT + self._size)
        cells = numbers[FRONT:]
        for place, notes, share in self._kinds:
            if not (notes.answered if everything else notes.is_full):
                continue
            if place == HEADS:
                numbers[ROWS] = notes.answered
            numbers[place] = notes.taken
            began = time.thread_time()
            with np.errstate(all="ignore"):  # numbers that are not finite need no warning
                for arrays in notes.drain():
                    cells += self.layout.count(arrays, {})[: self._size]
            share.spend(time.thread_time() - began)
        if everything or numbers[FEATURES]:
            self._move_missing(cells)
        if not numbers.any():
            return
        with region.writing():
            vector = region.vector(self.name, windows.width(len(numbers)))
            if vector is not None:
                windows.add(vector, numbers, time.time(), time.monotonic())

    def _move_missing(self, cells: NDArray[np.float64]) -> None:
        """Count as missing what was counted as the default that stood in for it."""
        missing, self._missing = self._missing, Counter()
        for feature, rows in missing.items():
            if feature in self._defaults:
                absent, default = self._defaults[feature]
                cells[absent] += rows
                cells[default] -= rows


def _is_taken(note: Imputed, start: int, taken: range) -> bool:
    """Return whether the row of a missing value, of a request from `start` on, is taken."""
    row = row_of(note.at)
    if row is None:
        # Of lines of a CSV, whose rows are not known, as many as there are rows that are taken.
        return random() * taken.step < 1  # noqa: S311  no secret
    return start + row in taken


def _notes(
    places: Sequence[Place], tensors: Mapping[str, Tensor], share: Share, most_bytes: int
) -> Notes:
    names = dict.fromkeys(place.quantity.tensor for place in places)
    return Notes([tensors[name] for name in names], len(places), share, most_bytes)


def _defaults(signature: Signature, layout: Layout) -> dict[str, tuple[int, int]]:
    """Return for each feature with a default the cells of missing values and of the default."""
    places = {p.quantity.name: p for p in layout.places if not p.quantity.is_head}
    found = {}
    for entry in signature.inputs.values():
        for feature in entry.features:
            place = places.get(f"{entry.name}.{feature.name}")
            if place is not None and feature.default is not None:
                dtype = entry.dtypes[feature.tensor]
                value = np.array([feature.default], object if dtype == "string" else dtype)
                found[place.quantity.name] = place.start, layout.cell(place, value)
    return found
