"""The meter: counts of the answers of one version of a model in one dialect.

Noting an answer only appends to a list.  Hundreds of noted answers are then counted at once, and
added to the worker's region of shared memory.
"""

from __future__ import annotations

import weakref
from collections import Counter
from logging import getLogger
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.observability.families import ROWS, SECONDS
from service.observability.head_counts import MAX_VALUES, HeadCounts
from service.observability.notes import take
from service.observability.timing import STAGES, moments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.observability.shared_memory import Region
    from service.observability.timing import Times
    from service.repository.loader import Servable
    from service.signature import Signature
    from service.wire.body import Imputed, Unseen

log = getLogger(__name__)

# The number of answers that are noted before they are counted: counting hundreds costs little more
# than counting one.  The outputs of runs are noted too, so their values are bounded as well.
_ANSWERS = 512
_ROWS_AT_ONCE = 64
# Missing and unseen values that are kept until they are counted, with the place of each.
_NOTES = 4096
_VALUES = 2**14
_pack = Struct("6d").pack
_SINCE, _UNTIL = map(list, zip(*STAGES.values(), strict=True))


class Meter:
    """The counts of the answers of one version of a model in one dialect."""

    def __init__(self, region: Region, servable: Servable, dialect: str) -> None:
        """Prepare the series of a version; callers use `Metrics.meter` instead."""
        # A weak reference suffices: a request that is still to be counted holds its version.
        self.signature = weakref.ref(servable.signature)
        self._region = region
        self._name = (servable.name, servable.version, dialect)
        # Noted, and not counted yet.
        self._moments: list[bytes] = []
        self._failures: list[int] = []
        self._runs: list[int] = []
        # Rows among those of `_runs` that were run for explanations, and answer nobody.
        self._perturbed: list[int] = []
        self._imputed: list[Imputed] = []
        self._unseen: list[Unseen] = []
        self._has_failed = False
        self._series: _Series | None = None
        signature = servable.signature
        values = sum(head.tensor.size or _VALUES for head in signature.heads.values())
        self._most_runs = max(1, min(_ANSWERS, _VALUES // values))

    def _place_series(self) -> _Series | None:
        """Place the series of the version and return them; `None` if none can be counted.

        A version has a hundred series or more, so they wait for its first answer: a repository may
        have a thousand models that nobody asks.
        """
        try:
            signature = self.signature()
            if signature is not None:  # whoever counts a request holds its version
                with self._region.writing():
                    self._series = self._place(signature)
        except Exception as error:  # noqa: BLE001  it is logged, once
            self._log_once(error)
        return self._series

    def _place(self, signature: Signature) -> _Series:
        """Find the place of each series in the region, or add the series with the value zero."""
        region, version = self._region, self._name[:2]
        features = {
            f"{entry.name}.{feature.name}": feature
            for entry in signature.inputs.values()
            for feature in entry.features
        }
        stages = [region.place("stage_seconds", *version, stage) for stage in STAGES]
        return _Series(
            requests=region.place("requests", *self._name, "200"),
            rows=region.place("rows", *version),
            batches=_Histograms(ROWS, [region.place("batch_rows", *version)]),
            stages=_Histograms(SECONDS, stages),
            heads=[
                HeadCounts(region, version, head)
                for head in signature.heads.values()
                if head.tensor.dtype != "string" and 0 < (head.tensor.size or 0) <= MAX_VALUES
            ],
            imputed={
                name: region.place("imputed", *version, name)
                for name, feature in features.items()
                if feature.default is not None
            },
            unseen={
                name: region.place("unseen", *version, name)
                for name, feature in features.items()
                if feature.vocabulary is not None
            },
        )

    def answered(
        self, times: Times, imputed: Sequence[Imputed], unseen: Sequence[Unseen] = ()
    ) -> None:
        """Note an answer with status 200.

        Args:
            times: the moments of the request, by `perf_counter`, and its run.
            imputed: the missing values that defaults stood in for.
            unseen: the texts that training never saw.
        """
        run = times[2]
        series = self._series or self._place_series()
        if series is None:
            return
        self._moments.append(_pack(*moments(times)))
        noted = imputed or unseen
        if noted:
            self._imputed.extend(imputed)
            self._unseen.extend(unseen)
        if not run.counted:
            run.counted = True
            self._runs.append(run.rows)
            for head in series.heads:
                head.note(run.outputs)
            if run.rows > _ROWS_AT_ONCE or len(self._runs) >= self._most_runs:
                self.flush()
        elif len(self._moments) >= _ANSWERS:
            self.flush()
        if noted and len(self._imputed) + len(self._unseen) >= _NOTES:
            self.flush()

    def explained(self, perturbed: int) -> None:
        """Note the rows of a run that explain others, just before the answer to those is noted."""
        if self._series or self._place_series():
            self._perturbed.append(perturbed)

    def failed(self, status: int) -> None:
        """Count a request that was answered with another status, or not at all (499)."""
        self._failures.append(status)
        if len(self._failures) >= _ANSWERS:
            self._count_failures()

    def flush(self) -> None:
        """Count what has been noted, and drop what cannot be counted.

        This raises nothing: an error in one model's metrics must not cost those of other models,
        or a request.
        """
        try:
            self._count()
        except Exception as error:  # noqa: BLE001  it is logged, once
            for notes in (self._moments, self._runs, self._imputed, self._unseen, self._perturbed):
                notes.clear()
            self._log_once(error)

    def _log_once(self, error: Exception) -> None:
        """Log why some answers are not counted, the first time only."""
        if not self._has_failed:
            self._has_failed = True
            message = "%s, version %s: not all answers are counted"
            log.error(message, *self._name[:2], exc_info=error)

    def _count(self) -> None:
        if self._failures:
            self._count_failures()
        series = self._series
        if series is None or not self._moments:
            return
        # Scores may be infinite or NaN; those are left out, and numpy need not warn of them.
        with self._region.writing() as numbers, np.errstate(all="ignore"):
            columns = np.frombuffer(b"".join(take(self._moments))).reshape(-1, 6).T
            rows = np.array(take(self._runs), np.float64)
            numbers[series.requests] += columns.shape[1]
            numbers[series.rows] += rows.sum() - sum(take(self._perturbed))
            series.stages.add(numbers, columns[_UNTIL] - columns[_SINCE])
            series.batches.add(numbers, rows[None])
            for feature, times in Counter(note.feature for note in take(self._imputed)).items():
                numbers[series.imputed[feature]] += times
            for feature, times in Counter(note.feature for note in take(self._unseen)).items():
                numbers[series.unseen[feature]] += times
            self._count_heads(series.heads, numbers)

    def _count_heads(self, heads: Sequence[HeadCounts], numbers: NDArray[np.float64]) -> None:
        for head in heads:
            try:
                head.add(numbers)
            except Exception as error:  # noqa: BLE001  it is logged, once
                # A graph may answer in another shape than it declares.
                self._log_once(error)

    def _count_failures(self) -> None:
        # `take` comes after the region is locked, since any thread may call this.
        with self._region.writing() as numbers:
            for status, times in Counter(take(self._failures)).items():
                numbers[self._region.place("requests", *self._name, str(status))] += times


class _Series(NamedTuple):
    """The places of a version's series in the region; `imputed` and `unseen` by feature."""

    requests: int
    rows: int
    batches: _Histograms
    stages: _Histograms
    heads: Sequence[HeadCounts]
    imputed: Mapping[str, int]
    unseen: Mapping[str, int]


class _Histograms:
    """Several histograms with the same bounds."""

    def __init__(self, bounds: tuple[float, ...], places: list[int]) -> None:
        self._bounds = np.array(bounds)
        self._width = len(bounds) + 2
        self._first = self._width * np.arange(len(places))[:, None]
        self._places = np.array(places)[:, None] + np.arange(self._width)

    def add(self, numbers: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add row i of `values`, [histograms, values], to histogram i."""
        # A value belongs to the bucket of the first bound that is not below the value.
        buckets = self._bounds.searchsorted(values) + self._first
        counts = np.bincount(buckets.ravel(), minlength=self._places.size)
        added = counts.reshape(-1, self._width).astype(np.float64)
        added[:, -1] = values.sum(axis=1)
        numbers[self._places] += added
