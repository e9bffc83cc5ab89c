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


def test_a_name_is_kept_by_the_text_that_is_one():
    """Another text that becomes the same has a number, wherever it stands."""
    assert node_names(["y z", "y_z", "y-z", "y.z"], [], "head") == ["y_z_2", "y_z", "y-z", "y_z_3"]
