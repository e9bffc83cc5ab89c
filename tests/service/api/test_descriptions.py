"""The description of a model: its inputs, its heads, and an example that works."""

import json

import pytest

from service.api import descriptions
from service.inference.model import Model
from service.repository.loader import Servable
from service.signature import Feature, Golden, Head, Input, Signature, Statistics, Tensor, tabular
from service.wire.native import examples
from tests.harness import consoles, small


def _servable(content, name="m"):
    """Return a servable version of a model."""
    model = Model.load(content)
    return Servable(name, "7", model, model.signature)


def test_the_description_of_a_signed_model():
    """Features have defaults, vocabularies and statistics; heads have labels and inputs."""
    described = descriptions.describe(_servable(small.three(models={"risky": ["risk"]})))

    assert described == {
        "name": "m",
        "version": "7",
        "inputs": {
            "insurance": {
                "kind": "tabular",
                "features": [
                    {
                        "name": "age",
                        "dtype": "float32",
                        "default": 38,
                        "min": 18.0,
                        "max": 70.0,
                        "mean": 40.0,
                        "std": 12.0,
                    },
                    {
                        "name": "smoker",
                        "dtype": "string",
                        "default": "no",
                        "vocabulary": ["no", "yes"],
                        "unseen": "answer",
                    },
                    {
                        "name": "bmi",
                        "dtype": "float32",
                        "min": 17.0,
                        "max": 50.0,
                        "mean": 30.0,
                        "std": 6.0,
                    },
                ],
            },
            "fruit": {
                "kind": "tabular",
                "features": [
                    {"name": "weight", "dtype": "float32", "default": 1.5},
                    {"name": "length", "dtype": "float32", "default": 2},
                ],
            },
            "digit": {"kind": "image", "dtype": "float32", "shape": [4], "size": [2, 2]},
        },
        "heads": {
            "risk": {
                "kind": "binary",
                "dtype": "float32",
                "shape": [],
                "value": 'the probability of "high", the second label, whatever the label of the '
                "answer is",
                "labels": ["low", "high"],
                "threshold": 0.5,
                "inputs": ["insurance"],
            },
            "size": {
                "kind": "regression",
                "dtype": "float32",
                "shape": [],
                "value": "the number itself",
                "inputs": ["fruit"],
            },
            "digits": {
                "kind": "multiclass",
                "dtype": "float32",
                "shape": [3],
                "value": "the probability of each label, in the order of the labels; together "
                "they are 1",
                "labels": ["zero", "one", "two"],
                "inputs": ["digit"],
            },
            "tags": {
                "kind": "multilabel",
                "dtype": "float32",
                "shape": [2],
                "value": "the probability of each label by itself, in the order of the labels",
                "labels": ["heavy", "long"],
                "threshold": 0.5,
                "inputs": ["fruit"],
            },
        },
        "models": {"risky": ["risk"]},
        "example": {
            "instances": [
                {
                    "insurance": {"age": 30, "smoker": "no", "bmi": 30},
                    "fruit": {"weight": 1, "length": 1},
                    "digit": [0, 1, 0, 9],
                }
            ]
        },
    }


def test_a_regression_has_the_range_of_its_target():
    """A person can judge an answer by what training has seen; other heads have labels for that."""
    described = descriptions.describe(_servable(consoles.fields()))["heads"]

    assert {key: described["sum"][key] for key in ("min", "max", "mean", "std")} == vars(
        consoles.LEARNED
    )
    assert "min" not in described["light"]


def test_integers_of_an_example_have_no_decimal_point():
    """An example has integers without a decimal point."""
    signature = Model.load(small.three()).signature

    assert json.dumps(examples.example(signature)["instances"][0]["digit"]) == "[0, 1, 0, 9]"
    assert json.dumps(examples._plain([1.5, 2.0, "a", True])) == '[1.5, 2, "a", true]'


def test_the_description_of_a_foreign_model():
    """A foreign model has names, dtypes and shapes; a free axis is null."""
    assert descriptions.describe(_servable(small.ragged())) == {
        "name": "m",
        "version": "7",
        "inputs": {"x": {"kind": "tensor", "dtype": "float32", "shape": [None, 2]}},
        "heads": {
            "y": {
                "kind": "tensor",
                "dtype": "float32",
                "shape": [2],
                "value": "what the graph computes",
                "inputs": ["x"],
            }
        },
        "example": {"instances": [{"x": [[0, 0]]}]},
    }


def test_the_description_of_an_image_has_its_statistics():
    """All pixels of an image share one range."""
    tensor = Tensor("digit", "float32", (4,))
    entry = Input("digit", "image", (tensor,), (), (2, 2), Statistics(0, 255, 33.0, 78.0))

    assert descriptions.describe_input(entry) == {
        "kind": "image",
        "dtype": "float32",
        "shape": [4],
        "size": [2, 2],
        "min": 0,
        "max": 255,
        "mean": 33.0,
        "std": 78.0,
    }


def test_provenance_is_passed_on():
    """The provenance is what training wrote."""
    tensor = Tensor("x", "float32", (1,))
    heads = {"y": Head("y", "regression", tensor)}
    signature = Signature(
        {"x": Input("x", "tensor", (tensor,))}, heads, provenance={"rows": 14, "seed": 7}
    )

    described = descriptions.describe(Servable("m", "1", None, signature))

    assert described["provenance"] == {"rows": 14, "seed": 7}
    assert "warnings" not in described


def test_warnings_are_passed_on_to_the_heads_that_they_are_about():
    """A view has those about its own heads alone: others may name what it does not have."""
    tensor = Tensor("x", "float32", (1,))
    heads = {name: Head(name, "regression", tensor, inputs=("x",)) for name in ("y", "z")}
    warnings = (
        {"code": "below_baseline", "head": "z", "message": "z is no better"},
        {"code": "below_baseline", "head": "y", "message": "y is no better"},
        {"code": "losses_apart", "message": "the loss of head 'z' is 900, that of 'y' 0.1"},
    )
    inputs = {"x": Input("x", "tensor", (tensor,))}
    signature = Signature(inputs, heads, models={"one": ("y",)}, warnings=warnings)

    described = descriptions.describe(Servable("m", "1", None, signature))
    view = descriptions.describe(Servable("one", "1", None, signature.restrict(["y"])))

    assert described["warnings"] == list(warnings)
    assert view["warnings"] == [warnings[1]]


@pytest.mark.parametrize(
    ("dtype", "shape", "row"),
    [
        pytest.param("float32", (), 0, id="rank-one"),
        pytest.param("float32", (2, 3), [[0, 0, 0], [0, 0, 0]], id="nested"),
        pytest.param("int64", (None, 2), [[0, 0]], id="any-length"),
        pytest.param("bool", (2,), [False, False], id="bool"),
        pytest.param("string", (1,), [""], id="string"),
    ],
)
def test_without_golden_rows_the_example_is_zeros(dtype, shape, row):
    """The zeros have the graph's own shape and dtype."""
    entry = Input("x", "tensor", (Tensor("x", dtype, shape),))

    assert examples.example(Signature({"x": entry}, {})) == {"instances": [{"x": row}]}


def test_without_golden_rows_a_feature_is_its_default_or_its_first_category():
    """A default or a category says more than a zero."""
    features = [
        Feature("age", "", default=38.0),
        Feature("bmi", ""),
        Feature("smoker", "", default="no", vocabulary=("no", "yes")),
        Feature("town", "", vocabulary=("Ulm",)),
        Feature("note", "", vocabulary=()),
    ]
    signature = Signature({"person": tabular("person", features)}, {})

    assert examples.example(signature) == {
        "instances": [{"person": {"age": 38, "bmi": 0, "smoker": "no", "town": "Ulm", "note": ""}}]
    }


@pytest.mark.parametrize(
    "golden",
    [
        pytest.param(Golden({"a": [[1.5]]}, {}), id="of-some-inputs"),
        pytest.param(Golden({"a": [[1.5], [2]], "b": []}, {}), id="with-none-of-one"),
    ],
)
def test_golden_rows_need_not_hold_every_input(golden):
    """Golden rows may cover some heads only."""
    inputs = {n: Input(n, "tensor", (Tensor(n, "float32", (1,)),)) for n in ("a", "b")}

    assert examples.example(Signature(inputs, {}, golden=golden)) == {
        "instances": [{"a": [1.5], "b": [0]}]
    }
