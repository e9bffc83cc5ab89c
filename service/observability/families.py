"""The metrics that are counted in shared memory: names, labels, help texts and bounds."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

SECONDS = (
    *(50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3),
    *(10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5),
)
# As `insight.comparison.EDGES`.
DIFFERENCES = tuple(10.0**power for power in range(-9, 7))
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


# The labels of what is compared: the candidate, and the version that answers.
_PAIR = ("model", "version", "stable")


@dataclass(frozen=True)
class Family:
    """A metric: the series that differ only in the values of their labels."""

    name: str
    made_by: type[
        CounterMetricFamily | GaugeMetricFamily | SummaryMetricFamily | HistogramMetricFamily
    ]
    about: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """The count of numbers in a series; a histogram has one per bucket, and their sum."""
        if self.made_by in {CounterMetricFamily, GaugeMetricFamily}:
            return 1
        return 2 if self.made_by is SummaryMetricFamily else len(self.bounds) + 2


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "requests",
            CounterMetricFamily,
            "Requests by the status of their answer; 499 means that the client had closed the "
            'connection before.  A request that is no prediction has the dialect "other" and no '
            "model.  Numbers of workers other than the one that answers this request are at most "
            "a second old, here and in all metrics below.  Under triceps serve, all workers are "
            "counted; under another WSGI server, each process counts and reports only its own "
            "requests.",
            ("model", "version", "dialect", "status"),
        ),
        Family("rows", CounterMetricFamily, "Rows that were run.", ("model", "version")),
        Family(
            "batch_rows",
            HistogramMetricFamily,
            "Rows in a run, from all requests that it answered.",
            ("model", "version"),
            ROWS,
        ),
        Family(
            "stage_seconds",
            HistogramMetricFamily,
            "Time that requests answered with 200 spent in decode, queue, run (of all rows that "
            "ran together) and encode.",
            ("model", "version", "stage"),
            SECONDS,
        ),
        Family(
            "head_labels",
            CounterMetricFamily,
            "Rows to which a head gave a label; a multilabel head may give several to a row.",
            ("model", "version", "head", "label"),
        ),
        Family(
            "head_score",
            SummaryMetricFamily,
            "Scores of a head, one per row: the score of the likeliest label for a multiclass "
            "head; else the mean of the row's values, if there are several.  NaN and infinity are "
            "left out.",
            ("model", "version", "head"),
        ),
        Family(
            "imputed",
            CounterMetricFamily,
            "Missing values that were replaced by the feature's default.",
            ("model", "version", "feature"),
        ),
        Family(
            "unseen",
            CounterMetricFamily,
            "Values of a categorical feature that training never saw.",
            ("model", "version", "feature"),
        ),
        Family(
            "queue_seconds",
            GaugeMetricFamily,
            "Seconds of work that wait for a model, at its recent speed; or the time for which "
            "requests have waited without any run, if that is longer.  The maximum over the "
            "workers.",
            ("model",),
        ),
        Family(
            "shadow_sampled_rows",
            CounterMetricFamily,
            "Rows that were chosen for the candidate after they had been answered, by outcome: "
            "compared; failed, since the candidate had no answer; or dropped, since there was no "
            "time for them.",
            (*_PAIR, "outcome"),
        ),
        Family(
            "shadow_rows",
            CounterMetricFamily,
            "Rows whose answers were compared, by whether the labels differ: yes, no, or none for "
            "a head without labels.",
            (*_PAIR, "head", "differs"),
        ),
        Family(
            "shadow_difference",
            HistogramMetricFamily,
            "Differences between the numbers of both answers, one per row: the largest among the "
            "values.  Differences that are no finite numbers are left out.",
            (*_PAIR, "head"),
            DIFFERENCES,
        ),
        Family(
            "shadow_largest_difference",
            GaugeMetricFamily,
            "The largest of these differences.",
            (*_PAIR, "head"),
        ),
        Family(
            "shadow_run_seconds",
            SummaryMetricFamily,
            "Processor time of rows that both versions ran in the process of the shadow, to "
            "compare their speed: the seconds, and the number of rows.",
            (*_PAIR, "of"),
        ),
        Family(
            "shadow_since_timestamp_seconds",
            GaugeMetricFamily,
            "The time since when a candidate is compared; 0 once another pair has taken its place.",
            _PAIR,
        ),
        Family(
            "shadow_stopped",
            GaugeMetricFamily,
            "1 if a candidate is not run any more, for the reason that the label names.",
            (*_PAIR, "reason"),
        ),
        Family(
            "access_log_dropped",
            CounterMetricFamily,
            "Lines of the access log that were dropped, since their reader was too slow.",
            (),
        ),
        Family(
            "samples_dropped",
            CounterMetricFamily,
            "Sampled rows that were dropped, since they could not be written, or not fast enough.",
            (),
        ),
    )
}
