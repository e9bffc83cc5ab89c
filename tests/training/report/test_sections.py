"""Sections of the report of a run: the network of a spec, and the importance of its inputs."""

import math
from types import SimpleNamespace
from xml.etree import ElementTree as ET

from tests.training.report import made
from training import spec as specs
from training.report.features import features
from training.report.graph import graph
from training.report.importances import importances

SHARED = """
name = "shared"
[inputs.people]
csv = "people.csv"
[inputs.picture]
csv = "people.csv"
image = [4, 6]
[layers.first]
after = ["people.age", "picture"]
Dense = { units = 4 }
[layers.again]
after = "first"
share = "first"
[layers.own]
after = "first"
Dense = { units = 3 }
[heads.a]
after = "again"
kind = "binary"
target = "people"
[heads.b]
after = ["first", "own", "people.city"]
kind = "regression"
target = "people"
[models.half]
heads = ["a"]
"""


def _text(parts):
    return "\n".join(ET.tostring(part, encoding="unicode", method="text") for part in parts)


def test_a_network_shows_what_heads_share(tmp_path):
    """Nodes that several heads use and layers with the weights of another are marked."""
    (tmp_path / "shared.toml").write_text(SHARED)
    spec = specs.load(tmp_path / "shared.toml")
    shapes = {"first": (4,), "again": (4,), "own": (None, 3), "a": (1,), "b": (1,)}

    parts = graph(spec, made.data().inputs, shapes)

    boxes = {
        group.find("title").text: group.find("rect").get("class")
        for part in parts
        for group in part.iter("g")
        if group.find("title") is not None
    }
    assert boxes == {
        "people: table 2 features": "box input shared",
        "picture: image 4 × 6": "box input shared",  # noqa: RUF001  (a multiplication sign)
        "first: Dense 4": "box layer shared",
        "again: first, again 4": "box layer again",
        "own: Dense any × 3": "box layer",  # noqa: RUF001  (a multiplication sign)
        "a: binary 1": "box head",
        "b: regression 1": "box head",
    }
    assert "tinted: used by several heads; dashed: the weights of another layer" in _text(parts)
    assert "half is served with a" in _text(parts)


def test_a_large_network_is_a_list():
    """Beyond sixty nodes, each is a line, of which the first are there."""
    spec = made.spec(layers=100)
    shapes = dict.fromkeys((*spec.layers, *spec.heads), (64,))

    text = _text(graph(spec, made.data().inputs, shapes))

    assert "h1: Dense 64, after h0" in text
    assert "and 73 more lines" in text


def test_inputs_come_by_their_importance_and_have_their_features_below():
    """An input of one feature is one line, and chance is faint."""
    measured = made.importance({"training": made.data()})
    measured.inputs["o1"]["picture"] = made.rise(0.9)

    [_, _, table] = importances(measured)

    rows = [(row.get("class"), row.find("td").text) for row in table.findall("tr")]
    assert rows == [
        ("whole", "picture"),
        ("whole", "people"),
        ("part", "age"),
        ("part faint", "city"),
    ]
    assert table.find("caption").text == "o1: loss 0.3"


def test_of_heads_with_few_rows_no_importance_is_shown():
    """The section says why, for the head or for all."""
    measured = made.importance({"training": made.data()}, heads=("a", "b"))
    measured.features["a"] = dict.fromkeys(measured.features["a"], made.rise(math.nan))
    none = SimpleNamespace(side="training", rows=49, repeats=0, features={})

    text = _text(importances(measured))

    assert "a: too few rows have its target" in text
    assert "b: loss 0.3" in text
    assert "49 rows are too few" in _text(importances(none))


def test_features_that_differ_come_first():
    """They are marked, and the section says how many there are."""
    sides = {"training": made.data(), "held-out": made.data(80, 1, shift=2.0)}
    sides["training"].inputs.update(reversed(list(sides["training"].inputs.items())))

    [said, cards] = features(sides)

    assert said.text.endswith("Of 3 features, 1 differ by more than chance explains.")
    titles = [["".join(part.itertext()) for part in card.find("figcaption")] for card in cards]
    assert titles[0] == ["people.age", "number", "differs"]
    assert "missing: 10 % (training), 10 % (held-out)" in _text([cards])
