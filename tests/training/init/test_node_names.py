"""Tests of the names for nodes of a spec."""

from training.init.node_names import node_names


def test_names_of_nodes_are_made_of_any_text():
    """A head is called as its column, as far as the rule for names allows."""
    texts = [
        "species",
        "body mass (g)",
        "Größe",
        "年齢",
        "2nd",
        "Species",
        "a" * 99,
        "-",
        "body.mass(g",
    ]

    assert node_names(texts, ["trunk"], "head") == [
        "species",
        "body_mass_g",
        "Groe",
        "head",
        "head_2nd",
        "Species_2",
        "a" * 60,
        "head_2",
        "body_mass_g_2",
    ]
