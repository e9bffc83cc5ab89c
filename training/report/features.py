"""The section about the data: a card for each feature, among training and other rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.insight.report.compared import bins, categories
from service.insight.report.document import more
from service.insight.report.elements import cut, element, rounded
from service.insight.report.picture import picture
from training.report.distributions import distributions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from xml.etree import ElementTree as ET

    from training.report.distributions import Distribution
    from training.rows import Data

MOST = 24
MOST_PICTURES = 4
_NAME, _LABEL = 40, 20  # characters


def features(sides: Mapping[str, Data]) -> list[ET.Element]:
    """Return the section; features whose distributions differ come first.

    Args:
        sides: the training rows, and held-out and test rows if there are any, by their name.
    """
    inputs = next(iter(sides.values())).inputs
    count = sum(len(entry.features) or 1 for entry in inputs.values())
    found = sorted(distributions(sides), key=lambda one: not one.differs)
    first, *others = sides
    what = f"Blue: {first} rows"
    if others:
        what += f"; orange: {others[-1]} rows"
    if others:
        marked = sum(one.differs for one in found) or "none"
        some = f"the first {len(found)}" if count > len(found) else f"{count}"
        what += f". Of {some} features, {marked} differ by more than chance explains"
    pictures = 0
    cards = []
    for one in found[:MOST]:
        pictures += bool(one.pictures)
        # The name of a single input would say nothing.
        name = one.name.partition(".")[2] if len(inputs) == 1 else one.name
        cards.append(_card(name or one.name, one, list(sides), drawn=pictures <= MOST_PICTURES))
    grid = element("div", *cards, class_="cards")
    return [element("p", f"{what}."), grid, *more(count, MOST, "features")]


def _card(name: str, one: Distribution, sides: list[str], *, drawn: bool) -> ET.Element:
    kind = f"{one.kind}, by mean brightness" if one.pictures else one.kind
    title = element("figcaption", element("span", cut(name, _NAME)), element("small", kind))
    if one.differs:
        title.append(element("strong", "differs"))
    if one.texts:
        body = [categories([cut(label, _LABEL) for label in one.labels], one.first, one.second)]
    else:
        ends = (element("span", end) for end in one.labels)
        body = [bins(one.first, one.second), element("div", *ends, class_="ends")]
    if drawn:
        body += [
            picture(pixels.tolist(), f"The mean image of {side} rows")
            for pixels, side in zip(one.pictures, (sides[0], sides[-1]), strict=False)
        ]
    shares = ", ".join(f"{rounded(100 * share)} % ({side})" for side, share in one.missing.items())
    if not one.pictures:
        body.append(element("small", f"missing: {shares or 'none'}"))
    return element("figure", title, *body)
