"""The drawing of a network: each node below what it follows, and none over another."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from service.insight.report.layout import GAP, WIDTH, arrange
from service.insight.report.network import MOST_NODES, Node, network

_NAMES = [f"n{number}" for number in range(14)]


@st.composite
def _graphs(draw):
    """Draw a graph without circles: each node follows some of those before it."""
    names = _NAMES[: draw(st.integers(1, len(_NAMES)))]
    return {
        name: tuple(draw(st.lists(st.sampled_from(names[:place]), max_size=4))) if place else ()
        for place, name in enumerate(names)
    }


@given(_graphs())
def test_nodes_are_below_those_that_they_follow_and_beside_the_others(after):
    """No two nodes of a row overlap, and all are inside of the drawing."""
    layout = arrange(after)

    for name, others in after.items():
        assert all(layout.y[name] > layout.y[other] for other in others)
        assert WIDTH / 2 - 1e-6 <= layout.x[name] <= layout.width - WIDTH / 2 + 1e-6
    for one, other in combinations(after, 2):
        if layout.y[one] == layout.y[other]:
            assert abs(layout.x[one] - layout.x[other]) >= WIDTH + GAP - 1e-6


@given(_graphs())
def test_edges_lead_from_row_to_row(after):
    """An edge over several rows has a place in each, so that it passes beside the nodes."""
    layout = arrange(after)

    assert all(layout.y[lower] == layout.y[upper] + 1 for upper, lower in layout.edges)
    ends = {lower for _, lower in layout.edges if isinstance(lower, str)}
    assert ends == {name for name, others in after.items() if others}


def test_chains_are_straight():
    """Two chains that meet at the end are drawn side by side, without a bend."""
    after = {"a": (), "b": (), "a1": ("a",), "a2": ("a1",), "b1": ("b",), "end": ("a2", "b1")}

    layout = arrange(after)

    assert layout.x["a"] == layout.x["a1"] == layout.x["a2"]
    assert layout.x["b"] == layout.x["b1"]
    assert layout.x["end"] == (layout.x["a"] + layout.x["b"]) / 2


def test_heads_are_in_the_last_row():
    """A node that none follows is at the bottom, however short the way to it is."""
    layout = arrange({"in": (), "h1": ("in",), "h2": ("h1",), "o1": ("h2",), "o2": ("in",)})

    assert layout.y["o1"] == layout.y["o2"] == 3


def _nodes(count, after=()):
    return [Node(f"n{number}", ("Dense", "4"), after, ("layer",)) for number in range(count)]


def test_a_network_is_drawn_up_to_a_size():
    """Beyond, there is no drawing, neither of many nodes nor of many edges."""
    dense = _nodes(30)
    names = tuple(node.name for node in dense)
    dense += [Node(f"m{number}", ("Add", "4"), names, ("layer",)) for number in range(30)]

    assert len(network(_nodes(MOST_NODES), "n").findall(".//rect")) == MOST_NODES
    assert network(_nodes(MOST_NODES + 1), "n") is None
    assert network(dense, "n") is None


def test_long_names_are_cut_and_told_in_full():
    """The title of a node, which shows under a pointer, has the whole name."""
    node = Node("a_very_long_name_of_a_layer", ("BatchNormalization", "5 × 5"), (), ("layer",))  # noqa: RUF001  (a multiplication sign)

    [_, title, name, *_] = [part.text for part in network([node], "n").iter() if part.text]

    assert title == "a_very_long_name_of_a_layer: BatchNormalization 5 × 5"  # noqa: RUF001  (as above)
    assert name == "a_very_long_name…"
