"""The reference in a signature: its JSON, and what is no reference."""

import json

import pytest
from onnx import load_model_from_string

from service import metadata, reference
from service.errors import ModelRefused
from service.inference.model import Model
from service.reference import Categories, Numbers, Reference
from tests.harness import small

REFERENCE = Reference(
    {
        "insurance": {
            "age": Numbers((18.0, 30.5, 70.0), (4, 5), 1),
            "smoker": Categories(("no", "yes"), (6, 4, 0)),
        },
        "digit": {"mean": Numbers((0.25, 0.25), (10,))},
    },
    {"risk": {"": Categories(("low", "high"), (3, 7, 0))}},
    {"inputs": "training", "heads": "held-out"},
)


def _loaded(note):
    """Return the signature of `three` with this JSON as its reference."""
    made = load_model_from_string(small.three())
    signature = json.loads(made.metadata_props[0].value) | {"reference": note}
    made.metadata_props[0].value = json.dumps(signature).replace('"huge"', "1e999")
    return Model.load(made.SerializeToString()).signature


def test_a_reference_is_read_as_it_was_written():
    """It passes through the metadata of a file; whole numbers have no decimals there."""
    note = reference.dump(REFERENCE)
    signature = _loaded(note)

    assert signature.reference == REFERENCE
    assert note["inputs"]["insurance"]["age"]["edges"] == [18, 30.5, 70]
    assert json.loads(metadata.dump(signature))["reference"] == note


def test_a_signature_without_a_reference_has_none():
    """Files of before are read and written as before."""
    signature = Model.load(small.three()).signature

    assert signature.reference is None
    assert "reference" not in json.loads(metadata.dump(signature))


def test_unknown_keys_of_a_reference_are_ignored():
    """A later version may say more, in the same format."""
    note = reference.dump(REFERENCE) | {"moments": 1}
    note["heads"]["risk"][""]["mean"] = 0.7

    assert _loaded(note).reference == REFERENCE


def test_a_view_has_the_reference_of_its_heads_and_their_inputs():
    """A view does not show what other heads and inputs are like."""
    signature = _loaded(reference.dump(REFERENCE)).restrict(["risk"])

    assert signature.reference.inputs == {"insurance": REFERENCE.inputs["insurance"]}
    assert signature.reference.heads == REFERENCE.heads
    assert signature.restrict([]).reference.heads == {}


@pytest.mark.parametrize(
    "one",
    [
        pytest.param({"edges": [1, 2]}, id="no-counts"),
        pytest.param({"counts": [1]}, id="neither-edges-nor-texts"),
        pytest.param({"edges": [1, 2], "counts": [1, 2]}, id="too-many-counts"),
        pytest.param({"edges": [], "counts": []}, id="no-edges"),
        pytest.param({"edges": [1], "counts": []}, id="no-bins"),
        pytest.param({"edges": [2, 1, 3], "counts": [1, 1]}, id="falling-edges"),
        pytest.param({"edges": [1, 1, 3], "counts": [1, 1]}, id="an-empty-bin"),
        pytest.param({"edges": [1, "huge"], "counts": [1]}, id="infinite"),
        pytest.param({"edges": [1, 2], "counts": [-1]}, id="negative"),
        pytest.param({"edges": [1, 2], "counts": [0]}, id="no-rows"),
        pytest.param({"edges": [1, 2], "counts": [1.5]}, id="half-a-row"),
        pytest.param({"edges": [1, 2], "counts": [True]}, id="a-boolean"),
        pytest.param({"edges": [1, 2], "counts": [2**60]}, id="more-rows-than-there-are"),
        pytest.param({"edges": [*range(66)], "counts": [1] * 65}, id="too-many-bins"),
        pytest.param({"texts": ["a"], "counts": [1]}, id="no-count-of-others"),
        pytest.param([1], id="a-list"),
    ],
)
def test_a_damaged_reference_is_refused(one):
    """Its counts would be of no use, or take any amount of memory."""
    note = {"inputs": {"insurance": {"age": one}}}

    with pytest.raises(ModelRefused, match="is damaged"):
        _loaded(note)
