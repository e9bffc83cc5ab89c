"""The section about importance: for each head, what shuffling an input or a feature costs it."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from service.insight.report.bars import Bar, bars
from service.insight.report.document import more
from service.insight.report.elements import cut, element, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree import ElementTree as ET

    from training.importance import Importance, Rise

    Key = tuple[str, str]  # input and feature

MOST_HEADS = 12
# Of a head, and fewer of each of many heads.
MOST_FEATURES, LEAST_FEATURES, ALL_FEATURES = 20, 5, 100
_NAME = 40  # characters


def importances(measured: Importance) -> list[ET.Element]:
    """Return the section, with a table of bars for each head."""
    if not measured.features:
        few = f"{measured.rows} rows are too few: chance is larger than most features' importance."
        return [element("p", few)]
    repeats = f"in {measured.repeats} shuffles" if measured.repeats > 1 else "in one shuffle"
    how = (
        f"How much the loss of a head rises, {repeats} of a feature's values among"
        f" {measured.rows:,} {measured.side} rows: the mean"
    )
    if measured.repeats > 1:
        how += ", ± its standard deviation over the shuffles"
    grey = (
        "Grey is within chance. Features that say the same stand in for each other, so that each"
        " alone looks unimportant; an input of several is also shuffled as a whole."
    )
    parts = [element("p", f"{how}."), element("p", grey)]
    drawn = min(len(measured.features), MOST_HEADS)
    most = max(LEAST_FEATURES, min(MOST_FEATURES, ALL_FEATURES // drawn))
    for head, features in islice(measured.features.items(), MOST_HEADS):
        loss = measured.losses[head]
        if all(math.isnan(rise.mean) for rise in features.values()):
            parts.append(element("p", f"{cut(head, _NAME)}: too few rows have its target."))
            continue
        shown = sorted(features, key=lambda key: _order(features[key]))[:most]
        rows = list(_rows(measured.inputs[head], features, shown))
        parts.append(bars(rows, f"{cut(head, _NAME)}: loss {rounded(loss)}"))
        parts += more(len(features), most, "features")
    return [*parts, *more(len(measured.features), MOST_HEADS, "heads")]


def _rows(
    inputs: Mapping[str, Rise], features: Mapping[Key, Rise], shown: Sequence[Key]
) -> Iterator[Bar]:
    """Yield the inputs of the features, the most important first, each before its features."""
    for name in sorted({name for name, _ in shown}, key=lambda name: (_order(inputs[name]), name)):
        every = [feature for other, feature in features if other == name]
        if every == [""]:
            yield _bar(name, inputs[name], "whole")
            continue
        if len(every) == 1:
            yield _bar(f"{name}.{every[0]}", inputs[name], "whole")
            continue
        yield _bar(name, inputs[name], "whole")
        for other, feature in shown:
            if other == name:
                yield _bar(feature, features[name, feature], "part")


def _bar(name: str, rise: Rise, level: str) -> Bar:
    faint = not rise.clear
    return Bar(cut(name, _NAME), rise.mean, rise.spread, faint=faint, level=level)


def _order(rise: Rise) -> float:
    """Return the place of a rise: the largest first, and last what nothing can be said of."""
    return -rise.mean if math.isfinite(rise.mean) else math.inf
