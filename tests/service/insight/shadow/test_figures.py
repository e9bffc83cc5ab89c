"""Tests of the figures of a pair: what is added to shared memory is read from it."""

from __future__ import annotations

import functools
import operator

import numpy as np
import pytest

from service.insight import comparison
from service.insight.shadow import figures
from service.insight.shadow.figures import Pair
from service.observability import families
from service.observability.metrics import Metrics
from service.observability.shared_memory import SharedNumbers
from service.signature import Head, Tensor

PAIR = Pair("m", "4", "3")
HEADS = {
    "number": Head("number", "regression", Tensor("number", "float32", (1,))),
    "label": Head("label", "binary", Tensor("label", "float32", (1,)), ("no", "yes"), 0.5),
    "text": Head("text", "tensor", Tensor("text", "string", (1,))),
}


def compared(head: str, answers: list, others: list) -> comparison.Comparison:
    """Return the comparison of some answers."""
    dtype = object if head == "text" else np.float32
    arrays = (np.array([[value] for value in side], dtype) for side in (answers, others))
    return comparison.tally(comparison.differences(HEADS[head], HEADS[head], *arrays))


def test_the_bins_are_those_of_the_metric():
    """A bin of the comparison is a bucket of the histogram, its upper bound included."""
    assert families.DIFFERENCES == comparison.EDGES


@pytest.mark.parametrize(
    ("head", "answers", "others"),
    [
        pytest.param("number", [0, 1, 2, 3], [0, 1.5, np.nan, 1e9], id="numbers"),
        pytest.param("label", [0.1, 0.9, 0.5, 0.2], [0.1, 0.4, 0.5, 0.7], id="labels"),
        pytest.param("text", ["a", "b"], ["a", "c"], id="texts"),
        pytest.param("number", [np.nan], [1], id="nothing finite"),
    ],
)
def test_what_is_added_is_read(head, answers, others):
    """The sums of several batches, of both processes, are one comparison."""
    shared = SharedNumbers(2)
    metrics = Metrics(shared, 0)
    shared.shadow.join()
    with shared.shadow.writing() as numbers:
        numbers[shared.shadow.place("shadow_since_timestamp_seconds", *PAIR)] = 5
    parts = [
        compared(head, answers[start : start + 2], others[start : start + 2])
        for start in range(0, len(answers), 2)
    ]
    for part in parts:
        figures.add(shared.shadow, PAIR, part.rows, {head: part})
    figures.add_seconds(shared.shadow, PAIR, 2, {figures.STABLE: 0.5, figures.CANDIDATE: 1.0})
    figures.count(shared.regions[0], PAIR, figures.DROPPED, 3)
    figures.count(shared.regions[1], PAIR, figures.DROPPED, 4)
    figures.add(shared.shadow, Pair("m", "5", "3"), 7, {})
    figures.add(shared.shadow, Pair("m", "4", "2"), 7, {})

    found = figures.read(metrics, PAIR)

    assert found.heads == {head: functools.reduce(operator.add, parts)}
    assert found.outcomes == {figures.COMPARED: len(answers), figures.DROPPED: 7}
    assert found.seconds[figures.CANDIDATE] == (2, 1.0)
    assert (found.since, found.stopped) == (5, "")


def test_a_pair_begins_anew_alone():
    """The figures of others stay."""
    shared = SharedNumbers(1)
    metrics, other = Metrics(shared), Pair("m", "5", "3")
    for pair in (PAIR, other):
        figures.count(metrics.region, pair, figures.DROPPED, 3)

    figures.restart(metrics.region, PAIR)

    assert figures.read(metrics, PAIR).outcomes == {figures.DROPPED: 0}
    assert figures.read(metrics, other).outcomes == {figures.DROPPED: 3}
