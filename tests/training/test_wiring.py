"""The graph of a spec: names, shared layers, circles and dead ends."""

import pytest

from tests.training.spec_text import NODE, edit
from training import spec as specs
from training.errors import SpecError


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "[inputs.a]",
            "[inputs.c]",
            "heads.x.target: expected the name of an input (or input.column),"
            ' received "a"; inputs: c, b\n'
            'layers.h.after: expected the name of an input, layer or head, received "a"'
            "; known: c, b, h, x, y",
            id="unknown input in after and target",
        ),
        pytest.param(
            "[heads.y]",
            "[heads.h]",
            "heads.h: layers.h has that name too; rename one of them",
            id="layer and head of one name",
        ),
        pytest.param(
            "[heads.y]",
            "[heads.H]",
            "heads.H: differs from layers.h in case alone; rename one of them",
            id="names that differ in case",
        ),
        pytest.param(
            "[heads.x]",
            (
                '[layers.k]\nafter = "h"\nshare = "g"\n[heads.z]\nafter = "k"\n'
                'kind = "binary"\ntarget = "a"\n[heads.x]'
            ),
            'layers.k.share: expected the name of a layer, received "g"; layers: h',
            id="share of no layer",
        ),
        pytest.param(
            "[heads.x]",
            (
                '[layers.k]\nafter = "h"\nshare = "h"\n[layers.l]\nafter = "k"\n'
                'share = "k"\n[heads.z]\nafter = "l"\nkind = "binary"\ntarget = "a"\n[heads.x]'
            ),
            "layers.l.share: 'k' itself shares 'h'; name a layer with a class of its own",
            id="share of a share",
        ),
        pytest.param(
            'after = ["a", "b"]',
            "",
            f"layers.h.after: missing; expected {NODE}, or of an input's column"
            " (input.column), or an array of them",
            id="layer after nothing",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "hh"]',
            f"layers.h.after: expected {NODE}, received \"hh\" (did you mean 'h'?)",
            id="after names nothing",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "h.p"]',
            f'layers.h.after: expected {NODE}, received "h.p"; known: a, b, h, x, y',
            id="column of a layer",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b.0"]',
            "layers.h.after: 'b' is an image; it has no columns to take by name\n"
            "inputs.b: no head reads it; name it in an after, or remove it",
            id="column of an image",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = ["a", "b", "h"]',
            "layers.h.after: goes in a circle: h → h",
            id="layer after itself",
        ),
        pytest.param(
            "[heads.x]",
            (
                '[layers.k]\nafter = "l"\nFlatten = {}\n[layers.l]\nafter = "m"\n'
                'Flatten = {}\n[layers.m]\nafter = "k"\nFlatten = {}\n[heads.x]'
            ),
            "layers.k.after: goes in a circle: k → m → l → k",
            id="circle of three",
        ),
        pytest.param(
            'after = ["a", "b"]',
            'after = "b"',
            "inputs.a: no head reads it; name it in an after, or remove it",
            id="input that is a target alone",
        ),
        pytest.param(
            "[heads.x]",
            '[layers.k]\nafter = "h"\nFlatten = {}\n[heads.x]',
            "layers.k: leads to no head; name it in an after, or remove it",
            id="layer that leads nowhere",
        ),
    ],
)
def test_wrong_wiring_is_refused_with_its_key(problems_of, old, new, expected):
    """Every mistake is reported with its key, expected and received value, and the way out."""
    assert problems_of(edit(old, new)) == expected.splitlines()


@pytest.mark.parametrize("first", ["a", "n1999"])
def test_a_chain_may_be_long(tmp_path, first):
    """A chain of two thousand layers is read, and a circle of the same length is found."""
    after = [first, *(f"n{n}" for n in range(1999))]
    chain = "".join(
        f'[layers.n{n}]\nafter = "{name}"\nFlatten = {{}}\n' for n, name in enumerate(after)
    )
    path = tmp_path / "long.toml"
    path.write_text(
        f'name = "m"\n[inputs.a]\ncsv = "a.csv"\n{chain}'
        '[heads.h]\nafter = "n1999"\nkind = "binary"\ntarget = "a"\n'
    )

    if first == "a":
        assert len(specs.load(path).layers) == 2000
    else:
        with pytest.raises(SpecError, match=r"goes in a circle: n0 → n1 → .* → n1999 → n0"):
            specs.load(path)
